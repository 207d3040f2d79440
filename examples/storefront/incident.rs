//! What happens to the orders service, and when.

use std::{fmt, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How an upstream behaves at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Answers in its usual time.
    Healthy,
    /// Answers at once, with status 503.
    Failing,
    /// Takes calls and does not answer them. Each holds one of the workers until the phase is over.
    Hanging,
    /// Healthy again, with whatever has piled up meanwhile still in its queue.
    Recovered,
}

impl Phase {
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Failing | Self::Hanging)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing (503)",
            Self::Hanging => "hanging",
            Self::Recovered => "recovered",
        })
    }
}

/// When each phase begins, in ninths of the run: seconds, in a run of the usual length.
const SCRIPT: [(f64, Phase); 3] = [(2.0, Phase::Failing), (2.5, Phase::Hanging), (5.5, Phase::Recovered)];

/// Plays the incident once.
pub async fn play(start: Instant, length: Duration, orders: &watch::Sender<Phase>) {
    for (ninths, phase) in SCRIPT {
        sleep_until(start + length.mul_f64(ninths / 9.0)).await;
        orders.send_replace(phase);
    }
}

/// The script in words.
pub fn describe(length: Duration) -> String {
    let step = |(ninths, phase): (f64, Phase)| format!("{phase} from {:.1} s on", length.as_secs_f64() * ninths / 9.0);
    format!("orders is {}", SCRIPT.map(step).join(", "))
}
