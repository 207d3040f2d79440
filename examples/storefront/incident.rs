//! What happens to two of the services, and when.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How an upstream behaves at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Answers in its usual time.
    Healthy,
    /// Answers some calls at once, with status 503.
    Flaky,
    /// Answers all calls at once, with status 503.
    Failing,
    /// Takes calls and does not answer them. Each holds one of the workers until the phase is over.
    Hanging,
    /// Healthy again, with whatever has piled up meanwhile still in its queue.
    Recovered,
}

/// How many of the calls fail in the flaky phase.
pub const FLAKY: f64 = 0.3;

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Flaky => "flaky (30 % 503)",
            Self::Failing => "failing (503)",
            Self::Hanging => "hanging",
            Self::Recovered => "recovered",
        })
    }
}

/// Whom something happens to. Two, so that one incident does not colour the figures of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Orders,
    Recommendations,
}

/// When each phase begins, in twelfths of the run: seconds, in a run of the usual length.
const SCRIPT: [(f64, Victim, Phase); 6] = [
    (2.0, Victim::Orders, Phase::Failing),
    (2.5, Victim::Orders, Phase::Hanging),
    (5.5, Victim::Orders, Phase::Recovered),
    // A retry storm, if the gateway makes one.
    (8.0, Victim::Recommendations, Phase::Flaky),
    (9.0, Victim::Recommendations, Phase::Failing),
    (10.5, Victim::Recommendations, Phase::Recovered),
];

/// How the two behave.
pub struct Stage {
    pub orders: watch::Sender<Phase>,
    pub recommendations: watch::Sender<Phase>,
}

impl Stage {
    pub fn new() -> Self {
        Self { orders: watch::Sender::new(Phase::Healthy), recommendations: watch::Sender::new(Phase::Healthy) }
    }

    /// Plays the incident once.
    pub async fn play(&self, start: Instant, length: Duration) {
        for (twelfths, victim, phase) in SCRIPT {
            sleep_until(start + length.mul_f64(twelfths / 12.0)).await;
            match victim {
                Victim::Orders => self.orders.send_replace(phase),
                Victim::Recommendations => self.recommendations.send_replace(phase),
            };
        }
    }
}

/// The script in words.
pub fn describe(length: Duration) -> String {
    let steps = |whom: Victim| {
        let step = |(twelfths, _, phase): &(f64, Victim, Phase)| {
            format!("{phase} from {:.1} s on", length.as_secs_f64() * twelfths / 12.0)
        };
        SCRIPT.iter().filter(|(_, victim, _)| *victim == whom).map(step).collect::<Vec<_>>().join(", ")
    };
    format!("orders is {};\nrecommendations is {}", steps(Victim::Orders), steps(Victim::Recommendations))
}

/// Counts something for each phase in which it happens.
pub struct Tally {
    phase: watch::Receiver<Phase>,
    counts: [AtomicU64; 5],
}

impl Tally {
    pub fn new(phase: watch::Receiver<Phase>) -> Self {
        Self { phase, counts: Default::default() }
    }

    /// It happens now, in this phase.
    pub fn count(&self) -> Phase {
        let phase = *self.phase.borrow();
        self.counts[phase as usize].fetch_add(1, Relaxed);
        phase
    }

    /// How often it has happened in a phase.
    pub fn of(&self, phase: Phase) -> u64 {
        self.counts[phase as usize].load(Relaxed)
    }
}
