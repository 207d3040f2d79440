//! The members that calls are given to, at one moment: made when something changes, read by every call.

use std::sync::Arc;

use crate::{
    balance::{
        config::Config,
        member::{Entry, Member},
        ramp::SlowStart,
        tier::{Role, Standing, Tier},
        weights::Weights,
    },
    time::Tick,
};

/// An immutable set. A call works on the one it began with; a change makes another.
pub(super) struct Set<S> {
    /// Counts the changes.
    pub(super) version: u64,
    /// Those that are picked from.
    pub(super) pool: Box<[Entry<S>]>,
    /// Those that are taken when none of these can be called.
    pub(super) spare: Box<[Entry<S>]>,
    pub(super) weights: Weights,
    /// How members start slowly, and when the last of them has; none when nobody does.
    pub(super) slow: Option<(SlowStart, Tick)>,
    pub(super) tier: Tier,
}

impl<S> Entry<S> {
    pub(super) fn standing(&self) -> Standing {
        let vitals = &self.member.vitals;
        Standing {
            takes_calls: self.instance.takes_calls() && !vitals.is_out_by_hand(),
            health: self.instance.health().status(),
            ejected: vitals.ejected_until().is_some(),
        }
    }

    /// The share of its calls that it is given while it starts.
    pub(super) fn share(&self, slow: &SlowStart, now: Tick) -> f64 {
        slow.share(now.since(self.member.vitals.since()))
    }
}

impl<S> Set<S> {
    pub(super) fn new<'a>(
        version: u64,
        members: impl Iterator<Item = &'a Entry<S>> + Clone,
        config: &Config,
        now: Tick,
    ) -> Self
    where
        S: 'a,
    {
        let tier = Tier::of(members.clone().map(Entry::standing), config.panic_threshold);
        let (mut pool, mut spare) = (Vec::new(), Vec::new());
        for entry in members {
            match tier.role(entry.standing()) {
                Role::Chosen => pool.push(entry.clone()),
                Role::Spare => spare.push(entry.clone()),
                Role::Out => {}
            }
        }
        let weights: Vec<u32> = pool.iter().map(|entry| entry.instance.weight()).collect();
        let slow = config.slow_start.and_then(|slow| {
            let last = pool.iter().map(|entry| entry.member.vitals.since() + slow.window).max();
            last.filter(|last| *last > now).map(|last| (slow, last))
        });
        Self { version, pool: pool.into(), spare: spare.into(), weights: Weights::new(&weights), slow, tier }
    }

    pub(super) fn empty() -> Arc<Self> {
        Arc::new(Self {
            version: 0,
            pool: Box::default(),
            spare: Box::default(),
            weights: Weights::new(&[]),
            slow: None,
            tier: Tier::default(),
        })
    }

    /// Whether this member, and not just one with its id, may be given calls.
    pub(super) fn has(&self, member: &Member<S>) -> bool {
        // Both lists are in the order of the ids.
        [&self.pool, &self.spare].into_iter().any(|entries| {
            let found = entries.binary_search_by(|entry| entry.member.id.cmp(&member.id));
            found.is_ok_and(|at| entries[at].member.serial == member.serial)
        })
    }

    /// A member that is picked from, or else one of those that stand by, by its place.
    pub(super) fn entry(&self, at: usize) -> &Entry<S> {
        self.pool.get(at).unwrap_or_else(|| &self.spare[at - self.pool.len()])
    }
}
