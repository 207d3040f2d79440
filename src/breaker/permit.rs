use std::{fmt, time::Duration};

use crate::{
    admission::Verdict,
    breaker::{Handle, core::Ticket},
    outcome::Outcome,
    time::Moment,
};

/// The leave to make one call, for callers without Tower.
///
/// Tell it how the call ended; dropping it says that the call was cancelled. A permit that was given while the circuit
/// was in another state counts for nothing.
///
/// ```
/// use mainstay::breaker::{Config, Handle};
///
/// let breaker = Handle::new("cache", Config::basic());
/// match breaker.acquire() {
///     Ok(permit) => permit.record_result(&"42".parse::<u32>()),
///     Err(rejection) => eprintln!("{rejection}"),
/// }
/// assert_eq!(breaker.snapshot().window.success, 1);
/// ```
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit {
    handle: Handle,
    ticket: Option<Ticket>,
}

impl Permit {
    pub(super) const fn new(handle: Handle, ticket: Ticket) -> Self {
        Self { handle, ticket: Some(ticket) }
    }

    /// The call ended like this.
    pub fn record(self, outcome: Outcome) {
        self.settle(match outcome {
            Outcome::Success => Verdict::Success,
            Outcome::Failure => Verdict::Failure { retry_after: None },
            Outcome::Ignored => Verdict::Ignored,
        });
    }

    /// The service did its work.
    pub fn success(self) {
        self.record(Outcome::Success);
    }

    /// The service failed.
    pub fn failure(self) {
        self.record(Outcome::Failure);
    }

    /// The service failed and asked to be left alone for so long.
    pub fn failure_with_retry_after(self, wait: Duration) {
        self.settle(Verdict::Failure { retry_after: Some(wait) });
    }

    /// `Ok` is a success, `Err` a failure.
    pub fn record_result<T, E>(self, result: &Result<T, E>) {
        self.record(if result.is_ok() { Outcome::Success } else { Outcome::Failure });
    }

    fn settle(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            self.handle.core.settle(&ticket, verdict, &mut Moment::new());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            // The panic of the code between `acquire` and here: without Tower this is the one place that can see it.
            let verdict =
                if std::thread::panicking() { Verdict::Failure { retry_after: None } } else { Verdict::Cancelled };
            self.handle.core.settle(&ticket, verdict, &mut Moment::new());
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("breaker", self.handle.name()).finish_non_exhaustive()
    }
}
