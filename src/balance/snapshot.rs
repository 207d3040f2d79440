use std::time::Duration;

use serde::Serialize;

use crate::{
    balance::{core::Core, member::Entry, ramp::SlowStart},
    contract::{HealthStatus, InstanceId},
    name::Name,
    observe::{self, optional_millis},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Moment, Tick},
};

/// A balancer at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The name of the balancer.
    pub policy: Name,
    /// What it is: `"balance"`.
    pub kind: &'static str,
    /// Its members, in the order of their ids.
    pub members: Vec<MemberSnapshot>,
    /// Members that are neither unhealthy nor ejected, and take calls.
    pub usable: usize,
    /// Whether so few are usable that all are used.
    pub panics: bool,
    /// Members that were picked for a call.
    pub picks: u64,
    /// Picks of another member because one was not ready, or could not become so.
    pub picked_again: u64,
    /// Calls for which there was no instance.
    pub no_instance: u64,
    /// Ejections, those by hand among them.
    pub ejections: u64,
    /// Ejections that were only told, in shadow mode.
    pub shadow_ejections: u64,
    /// Ejections that would have been too many at a time.
    pub held_back: u64,
    /// Ejections that are over.
    pub readmissions: u64,
    /// How often it began to panic.
    pub panics_begun: u64,
}

/// What a member is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Calls, according to its health.
    Active,
    /// No new calls: it is about to go, or has no weight.
    Draining,
    /// No calls for a while, because it did worse than the others, or until somebody says otherwise.
    Ejected,
}

/// A member at one moment.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberSnapshot {
    /// The instance.
    pub id: InstanceId,
    /// Host and port.
    pub address: String,
    /// Its weight.
    pub weight: u32,
    /// What it says of its health, or what others found.
    pub health: HealthStatus,
    /// What it is given.
    pub state: MemberState,
    /// How long an ejection will last; none when it is not ejected, or until somebody says otherwise.
    #[serde(rename = "ejected_for_ms", serialize_with = "optional_millis")]
    pub ejected_for: Option<Duration>,
    /// How often it was ejected, less what was forgiven since.
    pub ejections: u32,
    /// The share of its calls that it is given; less than 1 while it starts slowly.
    pub share: f64,
    /// Calls that run, through this balancer.
    pub pending: u32,
    /// Calls that ended and count.
    pub calls: u64,
    /// Of those, the failed ones.
    pub failures: u64,
    /// Calls that said nothing about it.
    pub ignored: u64,
    /// Calls that were given up before they ended.
    pub cancelled: u64,
    /// Results of calls that began before it was ejected or readmitted, and count for nothing.
    pub late: u64,
    /// Seconds that a call is expected to take: the peak of late, which fades, with what failures add, times the calls
    /// that run and one. Says something where the picker is [`PeakEwma`](super::PeakEwma).
    pub load: f64,
    /// Its breaker, if it has one.
    pub breaker: Option<observe::Snapshot>,
}

impl<S> Entry<S> {
    fn snapshot(&self, slow: Option<&SlowStart>, now: Tick) -> MemberSnapshot {
        let (instance, vitals) = (&self.instance, &self.member.vitals);
        let counts = vitals.counts();
        let until = vitals.ejected_until();
        let by_hand = vitals.is_out_by_hand();
        let state = match () {
            () if by_hand || until.is_some() => MemberState::Ejected,
            () if !instance.takes_calls() => MemberState::Draining,
            () => MemberState::Active,
        };
        MemberSnapshot {
            id: instance.id().clone(),
            address: instance.authority(),
            weight: instance.weight(),
            health: instance.health().status(),
            state,
            ejected_for: until.filter(|_| !by_hand).map(|until| until.since(now)),
            ejections: vitals.ejections(),
            share: slow.map_or(1.0, |slow| self.share(slow, now)),
            pending: counts.pending,
            calls: counts.ended,
            failures: counts.failures.min(counts.ended),
            ignored: counts.ignored,
            cancelled: counts.cancelled,
            late: counts.late,
            load: vitals.cost(now, self.member.hub.pace().decay) * f64::from(counts.pending + 1),
            breaker: None,
        }
    }
}

impl<S> Core<S> {
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut now = Moment::new();
        // What is over is over, without any traffic.
        self.look_at_clock(&mut now);
        let set = self.current(&mut now);
        let (slow, entries) = self.locked(|state| {
            let entries: Vec<Entry<S>> = state.members.values().cloned().collect();
            (state.config.slow_start, entries)
        });
        let now = now.tick();
        let members = entries.iter().map(|entry| MemberSnapshot {
            breaker: entry.member.breaker.as_ref().map(crate::breaker::Handle::snapshot),
            ..entry.snapshot(slow.as_ref(), now)
        });
        let (hub, read) = (&self.hub, |counter: &AtomicU64| counter.load(Relaxed));
        Snapshot {
            policy: hub.name.clone(),
            kind: "balance",
            members: members.collect(),
            usable: set.tier.usable,
            panics: set.tier.panics,
            picks: hub.calls().0,
            picked_again: read(&hub.counts.picked_again),
            no_instance: read(&hub.counts.no_instance),
            ejections: read(&hub.counts.ejections),
            shadow_ejections: read(&hub.counts.shadow_ejections),
            held_back: read(&hub.counts.held_back),
            readmissions: read(&hub.counts.readmissions),
            panics_begun: read(&hub.counts.panics),
        }
    }
}
