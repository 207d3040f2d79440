//! Calls by tasks of a runtime, for what needs one: a service behind a buffer answers when the buffer's task has run.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, sync::Barrier};
use tower::{BoxError, Service, ServiceExt};

/// A sample, of one thread or of several.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Of the slowest.
    pub took: Duration,
    pub answered: u64,
    /// When the first began, and the last.
    from: (Instant, Instant),
    /// When the first ended, and the last.
    until: (Instant, Instant),
}

impl Done {
    /// Of a thread that began then, and ends now.
    pub fn now(begin: Instant, answered: u64) -> Self {
        let end = Instant::now();
        Self { took: end - begin, answered, from: (begin, begin), until: (end, end) }
    }

    pub fn and(self, other: Self) -> Self {
        Self {
            took: self.took.max(other.took),
            answered: self.answered + other.answered,
            from: (self.from.0.min(other.from.0), self.from.1.max(other.from.1)),
            until: (self.until.0.min(other.until.0), self.until.1.max(other.until.1)),
        }
    }

    /// For which share of the time all ran at once. It is small when one core was given to one after the other.
    pub fn at_once(self) -> f64 {
        self.until.0.saturating_duration_since(self.from.1).as_secs_f64() / self.took.as_secs_f64()
    }

    /// From the first beginning to the last end. It is longer than the slowest takes when threads wait for a core.
    pub fn whole(self) -> Duration {
        self.until.1 - self.from.0
    }
}

/// So many calls are made before those that are timed.
pub fn untimed(calls: u64) -> u64 {
    calls / 20 + 1
}

/// The time of `calls` calls by each of these services, each in a task of its own, and all at once.
pub fn run<S>(runtime: &Runtime, services: Vec<S>, calls: u64) -> Done
where
    S: Service<u64, Error = BoxError, Future: Send> + Send + 'static,
{
    runtime.block_on(async {
        let start = Arc::new(Barrier::new(services.len()));
        let spawn = |mut service: S| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                calls_of(&mut service, untimed(calls)).await;
                start.wait().await;
                let begin = Instant::now();
                let answered = calls_of(&mut service, calls).await;
                Done::now(begin, answered)
            })
        };
        let running: Vec<_> = services.into_iter().map(spawn).collect();
        let mut done = Vec::new();
        for task in running {
            done.push(task.await.expect("no panic"));
        }
        done.into_iter().reduce(Done::and).expect("at least one")
    })
}

async fn calls_of<S: Service<u64, Error = BoxError>>(service: &mut S, calls: u64) -> u64 {
    let mut answered = 0;
    for n in 0..calls {
        let Ok(ready) = service.ready().await else { continue };
        let answer = ready.call(black_box(n)).await;
        black_box(&answer);
        answered += u64::from(answer.is_ok());
    }
    answered
}
