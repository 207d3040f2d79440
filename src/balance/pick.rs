//! What a picker is, and what it sees.

use std::{cell::Cell, collections::HashSet, sync::Arc};

use crate::{
    balance::{hub::Hub, set::Set, steer::Steer},
    contract::Instance,
    time::{Moment, Tick, random},
};

/// Something that picks instances: what it makes of a set, once for each change.
///
/// The pick itself is [`Pick`], which may look at the request. The pickers of this crate are
/// [`RoundRobin`](super::RoundRobin), [`Random`](super::Random), [`LeastLoaded`](super::LeastLoaded),
/// [`PeakEwma`](super::PeakEwma), [`Weighted`](super::Weighted) and [`ConsistentHash`](super::ConsistentHash); one of
/// yours is any type with these two traits:
///
/// ```
/// use std::sync::Arc;
/// use mainstay::{balance::{Candidates, Pick, Picker}, contract::Instance};
///
/// /// The first that can be called: the others stand by.
/// #[derive(Clone)]
/// struct First;
///
/// impl Picker for First {
///     type Plan = ();
///     fn plan(&self, _: &[Arc<Instance>]) {}
/// }
///
/// impl<Req> Pick<Req> for First {
///     fn pick(&self, _: &Req, (): &(), candidates: &impl Candidates) -> Option<usize> {
///         (0..candidates.len()).find(|at| candidates.is_free(*at))
///     }
/// }
/// ```
pub trait Picker: Send + Sync + 'static {
    /// What it makes of a set: a ring, a table, or nothing.
    type Plan: Send + Sync + 'static;

    /// Whether it asks for [latencies](Candidates::latency): only then calls are timed. Default `false`.
    const MEASURES: bool = false;

    /// Prepares for picks from these instances, by their places in this order.
    fn plan(&self, instances: &[Arc<Instance>]) -> Self::Plan;
}

/// Picks an instance for a request.
pub trait Pick<Req>: Picker {
    /// The place of one of the candidates, or none when it finds none that [is free](Candidates::is_free). The balancer
    /// then looks for one itself, as it does when the place is not one that is free.
    fn pick(&self, request: &Req, plan: &Self::Plan, candidates: &impl Candidates) -> Option<usize>;
}

/// The instances that a call may be given to, by their places from 0 on.
pub trait Candidates {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The instance at this place.
    fn instance(&self, at: usize) -> &Arc<Instance>;

    /// Whether this one can be picked for this call: it was not tried yet, is not to be avoided, and its circuit lets
    /// calls in.
    fn is_free(&self, at: usize) -> bool;

    /// Calls to this one that run, through this balancer.
    fn pending(&self, at: usize) -> u32;

    /// Calls to all that run, through this balancer.
    fn running(&self) -> u64;

    /// How many calls the failures of this one weigh, which fade with the decay of the settings.
    fn doubt(&self, at: usize) -> f64;

    /// Seconds that a call to this one takes lately: the peak, which fades, with what failures add. Only where
    /// [`Picker::MEASURES`].
    fn latency(&self, at: usize) -> f64;

    /// Its weight in relation to the mean, less while it starts slowly.
    fn weight(&self, at: usize) -> f64;

    /// Whether it may be given this call: always, unless it starts slowly, and then as often as its share is.
    fn is_warm(&self, at: usize) -> bool;

    /// The candidate at this place, from 0 up to but not including 1, of the line on which each has a piece as long as
    /// its weight.
    fn draw(&self, place: f64) -> usize;

    /// The same on a line on which one of them has no piece. Two candidates there must be.
    fn draw_other(&self, place: f64, than: usize) -> usize;
}

/// The members that were tried for one call. Most calls try one.
#[derive(Debug, Default)]
#[allow(clippy::box_collection, reason = "most calls try one, and a future that is smaller is moved for less")]
pub(super) struct Tried(Option<Box<HashSet<u64>>>);

impl Tried {
    #[cold]
    pub(super) fn add(&mut self, serial: u64) {
        self.0.get_or_insert_default().insert(serial);
    }

    /// As if it had not been tried.
    #[cold]
    pub(super) fn forget(&mut self, serial: u64) {
        if let Some(tried) = &mut self.0 {
            tried.remove(&serial);
        }
    }

    #[inline]
    fn has(&self, serial: u64) -> bool {
        self.0.as_ref().is_some_and(|tried| tried.contains(&serial))
    }
}

/// The candidates of one call.
pub(super) struct Choice<'a, S, T, Req> {
    pub(super) set: &'a Set<S>,
    pub(super) hub: &'a Hub,
    pub(super) tried: &'a Tried,
    // None when nobody is to be avoided.
    pub(super) steer: Option<(&'a T, &'a Req)>,
    pub(super) now: Cell<Moment>,
}

impl<S, T: Steer<Req>, Req> Choice<'_, S, T, Req> {
    fn now(&self) -> Tick {
        let mut now = self.now.get();
        let tick = now.tick();
        self.now.set(now);
        tick
    }

    /// The first that is free, from any place on; then of those that stand by.
    #[cold]
    pub(super) fn any(&self) -> Option<usize> {
        let pool = self.set.pool.len();
        let free = |from: usize, count: usize| {
            let start = (random() * count as f64) as usize;
            (0..count).map(|i| from + (start + i) % count).find(|at| self.is_free(*at))
        };
        free(0, pool).or_else(|| free(pool, self.set.spare.len()))
    }
}

impl<S, T: Steer<Req>, Req> Candidates for Choice<'_, S, T, Req> {
    #[inline]
    fn len(&self) -> usize {
        self.set.pool.len()
    }

    #[inline]
    fn instance(&self, at: usize) -> &Arc<Instance> {
        &self.set.entry(at).instance
    }

    #[inline]
    fn is_free(&self, at: usize) -> bool {
        let entry = self.set.entry(at);
        let member = &*entry.member;
        if self.tried.has(member.serial) {
            return false;
        }
        if member.breaker.is_some() {
            let mut now = self.now.get();
            let shut = member.shut_until(&mut now).is_some();
            self.now.set(now);
            if shut {
                return false;
            }
        }
        !self.steer.is_some_and(|(steer, request)| steer.avoids(request, &entry.instance))
    }

    #[inline]
    fn pending(&self, at: usize) -> u32 {
        self.set.entry(at).member.vitals.pending()
    }

    fn running(&self) -> u64 {
        self.hub.calls().1
    }

    #[inline]
    fn doubt(&self, at: usize) -> f64 {
        self.set.entry(at).member.vitals.doubt(|| self.now(), self.hub.pace().decay)
    }

    #[inline]
    fn latency(&self, at: usize) -> f64 {
        self.set.entry(at).member.vitals.cost(self.now(), self.hub.pace().decay)
    }

    #[inline]
    fn weight(&self, at: usize) -> f64 {
        let entry = self.set.entry(at);
        let weight = self.set.weights.relative(entry.instance.weight());
        match &self.set.slow {
            None => weight,
            Some((slow, _)) => weight * entry.share(slow, self.now()),
        }
    }

    #[inline]
    fn is_warm(&self, at: usize) -> bool {
        match &self.set.slow {
            None => true,
            Some((slow, _)) => {
                let share = self.set.entry(at).share(slow, self.now());
                share >= 1.0 || random() < share
            }
        }
    }

    #[inline]
    fn draw(&self, place: f64) -> usize {
        self.set.weights.draw(place)
    }

    #[inline]
    fn draw_other(&self, place: f64, than: usize) -> usize {
        self.set.weights.draw_other(place, than)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{
        Config, Handle, NoSteer, SlowStart,
        core::tests::{SECOND, instance},
    };

    #[tokio::test(start_paused = true)]
    async fn a_member_that_starts_weighs_its_share_of_its_weight() {
        let handle = Handle::new("users", Config::new().slow_start(SlowStart::new(SECOND * 60)));
        for (number, weight) in [(0, 10), (1, 30), (2, 20)] {
            handle.insert(Arc::new(instance(number).with_weight(weight).unwrap()), ());
        }
        let weights = |seconds| {
            let (handle, now) = (&handle, Moment::from(Tick::now() + SECOND * seconds));
            let (set, tried) = (handle.core.current(&mut Moment::new()), Tried::default());
            let steer: Option<(&NoSteer, &u32)> = None;
            let choice = Choice { set: &set, hub: &handle.core.hub, tried: &tried, steer, now: Cell::new(now) };
            let others = [(0.0, 0), (0.99, 0), (0.0, 1), (0.99, 1)].map(|(place, than)| choice.draw_other(place, than));
            assert_eq!(others, [1, 2, 0, 2]);
            [0, 1, 2].map(|at| choice.weight(at))
        };
        assert_eq!(weights(15), [0.125, 0.375, 0.25]);
        assert_eq!(weights(45), [0.375, 1.125, 0.75]);
        tokio::time::advance(SECOND * 60).await;
        assert_eq!(weights(0), [0.5, 1.5, 1.0]);
    }
}
