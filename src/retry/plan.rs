//! Whether a failed call may be tried again, and after how long. Pure: the settings, where the call stands and a random
//! number go in, a wait or a reason comes out.

use std::time::Duration;

use crate::{observe::GiveUp, retry::config::Config, settings::LONGEST, time::Tick};

/// Where a call stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// The attempt that runs, or ran last: 1 is the first.
    pub(super) attempt: u32,
    /// The wait of the backoff before it.
    pub(super) waited: Duration,
    /// When the caller stops waiting.
    pub(super) deadline: Tick,
}

/// The waits before the next attempt: the backoff's, and the one that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) backoff: Duration,
    pub(super) kept: Duration,
}

pub(super) fn plan(config: &Config, course: &Course, asked: Option<Duration>, random: f64) -> Result<Waits, GiveUp> {
    if course.attempt >= config.attempts {
        return Err(GiveUp::Attempts);
    }
    let asked = asked.unwrap_or_default();
    if asked > config.max_retry_after {
        return Err(GiveUp::RetryAfter);
    }
    let backoff = config.backoff.jittered(config.jitter, course.attempt, course.waited, random).min(LONGEST);
    Ok(Waits { backoff, kept: backoff.max(asked) })
}

impl Course {
    #[inline]
    pub(crate) const fn new(deadline: Tick) -> Self {
        Self { attempt: 1, waited: Duration::ZERO, deadline }
    }

    /// Whether no attempt but the first has begun.
    #[inline]
    pub(crate) const fn is_at_first(&self) -> bool {
        self.attempt == 1
    }

    /// Whether a wait that begins now leaves time for an attempt.
    pub(super) fn has_time_for(&self, wait: Duration, now: impl FnOnce() -> Tick) -> bool {
        self.deadline == Tick::NEVER || now() + wait < self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::{Backoff, Jitter};

    const MS: Duration = Duration::from_millis(1);

    fn at(attempt: u32) -> Course {
        Course { attempt, waited: Duration::ZERO, deadline: Tick::from_nanos(1_000_000_000) }
    }

    #[test]
    fn attempts_and_the_wait_that_was_asked_for_decide() {
        let config = Config::new().attempts(3).backoff(Backoff::linear(MS * 100)).jitter(Jitter::None);
        let config = config.max_retry_after(MS * 5_000);
        let wait = |backoff, kept| Ok(Waits { backoff: MS * backoff, kept: MS * kept });
        for (attempt, asked, planned) in [
            (1, None, wait(100, 100)),
            (2, None, wait(200, 200)),
            (3, None, Err(GiveUp::Attempts)),
            (4, None, Err(GiveUp::Attempts)),
            (1, Some(0), wait(100, 100)),
            (1, Some(123), wait(100, 123)),
            (2, Some(123), wait(200, 200)),
            (2, Some(5_000), wait(200, 5_000)),
            (2, Some(5_001), Err(GiveUp::RetryAfter)),
            (3, Some(5_001), Err(GiveUp::Attempts)),
        ] {
            let asked = asked.map(|asked| MS * asked);
            assert_eq!(plan(&config, &at(attempt), asked, 0.5), planned, "{attempt}, {asked:?}");
        }
    }

    #[test]
    fn a_wait_has_to_end_before_the_deadline() {
        let now = || Tick::from_nanos(900_000_000);
        assert!(at(1).has_time_for(MS * 99, now));
        assert!(!at(1).has_time_for(MS * 100, now));
        assert!(!at(1).has_time_for(Duration::MAX, now));
        let ever = Course { deadline: Tick::NEVER, ..at(1) };
        assert!(ever.has_time_for(Duration::MAX, || unreachable!("no clock is read without a deadline")));
    }
}
