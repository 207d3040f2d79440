//! What happens, told on stderr as it happens, and kept.

use std::sync::{Arc, Mutex};

use mainstay::observe::{CircuitState, Event};
use tokio::time::Instant;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Timeline {
    start: Instant,
    lines: Arc<Mutex<Vec<Line>>>,
}

/// One thing that happened.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Line {
    pub at_s: f64,
    pub what: String,
}

impl Timeline {
    pub fn begin(start: Instant) -> Self {
        Self { start, lines: Arc::default() }
    }

    pub fn tell(&self, what: impl Into<String>) {
        let line = Line { at_s: (self.start.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0, what: what.into() };
        eprintln!("{:>6.2} s  {}", line.at_s, line.what);
        self.lines.lock().expect("nobody panics while telling").push(line);
    }

    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().expect("nobody panics while telling").clone()
    }

    /// Tells what is worth telling of what policies tell.
    pub fn hear(&self, event: &Event<'_>) {
        match event {
            Event::Ejected(ejected) => {
                let time = ejected.ejected_for.map(|time| format!(" for {time:?}")).unwrap_or_default();
                self.tell(format!("  {} is ejected{time}: {}", ejected.instance, ejected.cause));
            }
            Event::Readmitted { instance, .. } => self.tell(format!("  {instance} is readmitted")),
            Event::Panic { policy, panics: true, usable, instances } => {
                self.tell(format!("  {policy} panics: {usable} of {instances} instances are usable, so all are used"));
            }
            Event::Transition(change) if change.to == CircuitState::Open => {
                self.tell(format!("  the circuit of {} opens: {}", change.policy, change.cause));
            }
            Event::Transition(change) if change.to == CircuitState::Closed => {
                self.tell(format!("  the circuit of {} closes", change.policy));
            }
            _ => {}
        }
    }
}
