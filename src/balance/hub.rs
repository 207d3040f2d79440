//! What the members of one balancer share, whatever their services are.

use std::time::Duration;

use crate::{
    balance::{config::Config, ewma::Pace, outlier_config::Mode},
    contract::InstanceId,
    lanes::{Lanes, Seat},
    name::Name,
    observe::Sink,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Tick, nanos},
    waiters::Waiters,
};

#[derive(Debug)]
pub(super) struct Hub {
    // Changes with every change of the set, under its lock.
    pub(super) version: AtomicU64,
    // When somebody has to look: a sweep, the end of an ejection, the end of a slow start.
    pub(super) due: AtomicU64,
    // Nothing has failed for so long that no sweep is due: the next failure begins a period.
    pub(super) unwatched: AtomicBool,
    pub(super) consecutive_failures: AtomicU32,
    decay: AtomicU64,
    penalty: AtomicU64,
    // Calls that began, and calls that are over: each thread counts on a line of its own.
    calls: Lanes<[AtomicU64; 2]>,
    pub(super) counts: Counters,
    pub(super) waiters: Waiters,
    pub(super) sink: Sink,
    pub(super) name: Name,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) no_instance: AtomicU64,
    pub(super) ejections: AtomicU64,
    pub(super) shadow_ejections: AtomicU64,
    pub(super) held_back: AtomicU64,
    pub(super) readmissions: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) picked_again: AtomicU64,
}

fn counters() -> [AtomicU64; 2] {
    [AtomicU64::new(0), AtomicU64::new(0)]
}

impl Hub {
    pub(super) fn new(name: Name, config: &Config) -> Self {
        let hub = Self {
            version: AtomicU64::new(0),
            due: AtomicU64::new(Tick::NEVER.as_nanos()),
            unwatched: AtomicBool::new(false),
            consecutive_failures: AtomicU32::new(0),
            decay: AtomicU64::new(0),
            penalty: AtomicU64::new(0),
            calls: Lanes::new(counters),
            counts: Counters::default(),
            waiters: Waiters::default(),
            sink: Sink::default(),
            name,
        };
        hub.set(config);
        hub
    }

    pub(super) fn set(&self, config: &Config) {
        let in_a_row = if config.outlier.mode == Mode::Off { 0 } else { config.outlier.consecutive_failures };
        self.consecutive_failures.store(in_a_row, Relaxed);
        let pace = config.pace();
        self.decay.store(nanos(pace.decay), Relaxed);
        self.penalty.store(nanos(pace.penalty), Relaxed);
    }

    /// The name of the breaker of a member.
    pub(super) fn name_of(&self, id: &InstanceId) -> Name {
        let id = id.policy_name();
        let both = format!("{}/{id}", self.name);
        // Too long for a name: cut, and told apart by a hash.
        Name::new(&both).ok().or_else(|| Some(InstanceId::new(&both).ok()?.policy_name())).unwrap_or(id)
    }

    #[inline]
    pub(super) fn pace(&self) -> Pace {
        let of = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        Pace { decay: of(&self.decay), penalty: of(&self.penalty) }
    }

    #[inline]
    pub(super) fn begun(&self) {
        let lane = self.calls.get(Seat::here(), counters);
        lane.writer.add(&lane.at[0], 1);
    }

    #[inline]
    pub(super) fn over(&self) {
        let lane = self.calls.get(Seat::here(), counters);
        lane.writer.add(&lane.at[1], 1);
    }

    /// Calls that were begun, and those of them that are not over.
    pub(super) fn calls(&self) -> (u64, u64) {
        let sum = |at: usize| self.calls.iter().fold(0_u64, |sum, lane| sum.wrapping_add(lane[at].load(Relaxed)));
        // The ends first: every end that is seen has its beginning counted by then, on whatever thread.
        let over = sum(1);
        let begun = sum(0);
        (begun, begun.saturating_sub(over))
    }
}
