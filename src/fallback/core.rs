//! One fallback: what follows from a result, and from the fallback's own.

use std::fmt;

use crate::{
    fallback::{
        meter::{Count, Meter},
        strategy::Strategy,
    },
    guarded::guarded,
    name::Name,
    observe::{Event, Sink},
    outcome::{Classify, Outcome},
};

#[derive(Debug)]
pub(crate) struct Core {
    pub(super) meter: Meter,
    pub(super) sink: Sink,
    pub(super) name: Name,
}

impl Core {
    pub(crate) fn new(name: Name) -> Self {
        Self { meter: Meter::new(), sink: Sink::default(), name }
    }

    /// Before a call: what the strategy keeps of the request, `None` where it panicked.
    #[inline]
    pub(crate) fn keep<Req, T, E, S>(&self, strategy: &S, request: &mut Req) -> Option<S::Kept>
    where
        S: Strategy<Req, T, E>,
    {
        if S::PLAIN { Some(strategy.keep(request)) } else { guarded("fallback", || strategy.keep(request)) }
    }

    /// A call ended. `Some` when a fallback is to answer in its place; [`Falling`](super::falling::Falling) runs it.
    #[inline]
    pub(crate) fn step<Req, T, E, S, C>(
        &self,
        strategy: &S,
        classify: &C,
        kept: &mut Option<S::Kept>,
        result: Result<&T, &E>,
    ) -> Option<S::Future>
    where
        S: Strategy<Req, T, E>,
        C: Classify<T, E>,
        E: fmt::Display,
    {
        if S::NONE {
            return None;
        }
        // A classifier that panics decides nothing, and the caller gets the result.
        let mut outcome = Outcome::Ignored;
        if S::PLAIN && result.is_ok() && classify.takes_any_ok() {
            return None;
        }
        guarded("classifier or a fallback", || {
            outcome = classify.classify(result);
            if let (false, Outcome::Success, Some(kept), Ok(response)) = (S::PLAIN, outcome, kept.as_ref(), result) {
                strategy.succeeded(kept, response);
            }
        });
        match outcome {
            Outcome::Success => None,
            Outcome::Failure => self.begin(strategy, kept, result),
            Outcome::Ignored => {
                if result.is_err() {
                    self.meter.count(Count::NotCovered);
                }
                None
            }
        }
    }

    #[cold]
    fn begin<Req, T, E, S>(&self, strategy: &S, kept: &mut Option<S::Kept>, failed: Result<&T, &E>) -> Option<S::Future>
    where
        S: Strategy<Req, T, E>,
        E: fmt::Display,
    {
        if guarded("fallback", || strategy.covers(failed)) != Some(true) {
            self.meter.count(Count::NotCovered);
            return None;
        }
        let Some(kept) = kept else {
            self.meter.count(Count::Nothing);
            return None;
        };
        match guarded("fallback", || strategy.fall_back(kept, failed)) {
            Some(Some(future)) => Some(future),
            Some(None) => {
                self.meter.count(Count::Nothing);
                None
            }
            None => self.after_failure(strategy, kept, failed, None),
        }
    }

    /// A fallback failed too, with an error or, without one, by a panic. `Some` when there is another.
    #[cold]
    pub(crate) fn after_failure<Req, T, E, S>(
        &self,
        strategy: &S,
        kept: &mut S::Kept,
        failed: Result<&T, &E>,
        second: Option<&E>,
    ) -> Option<S::Future>
    where
        S: Strategy<Req, T, E>,
        E: fmt::Display,
    {
        guarded("error's text", || {
            describe(failed, |error| match second {
                Some(second) => self.tell_failed(error, format_args!("{second}")),
                None => self.tell_failed(error, format_args!("it panicked")),
            });
        });
        let next = guarded("fallback", || strategy.next(kept, failed)).flatten();
        if next.is_none() {
            self.meter.count(Count::Failed);
        }
        next
    }

    /// A fallback answered.
    #[cold]
    pub(crate) fn answered<T, E: fmt::Display>(&self, failed: Result<&T, &E>) {
        self.meter.count(Count::Used);
        guarded("error's text", || {
            describe(failed, |error| {
                let operation = self.name.as_str();
                tracing::info!(operation, %error, "a call failed and was answered by its fallback");
                self.sink.tell(&self.name, || Event::Fallback { policy: operation, error });
            });
        });
    }

    fn tell_failed(&self, error: fmt::Arguments<'_>, second: fmt::Arguments<'_>) {
        let operation = self.name.as_str();
        tracing::info!(operation, %error, %second, "a call failed and its fallback failed too");
        self.sink.tell(&self.name, || Event::FallbackFailed { policy: operation, error, second });
    }
}

fn describe<T, E: fmt::Display>(failed: Result<&T, &E>, tell: impl FnOnce(fmt::Arguments<'_>)) {
    match failed {
        Ok(_) => tell(format_args!("a result that counts as a failure")),
        Err(error) => tell(format_args!("{error}")),
    }
}
