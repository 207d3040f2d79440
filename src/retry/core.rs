//! One retry: where calls begin, and what follows from their results.

use std::{fmt, time::Duration};

use crate::{
    budget::{Budget, Reservation},
    guarded::guarded,
    lanes::Seat,
    name::Name,
    observe::{Event, GiveUp, Retry, Sink},
    retry::{
        config::Config,
        meter::{Count, Meter},
        plan::{Course, Waits, plan},
        rule::{Exhausted, Judgement, Rule},
    },
    time::{Moment, Tick, random},
};

#[derive(Debug)]
pub(crate) struct Core {
    pub(super) meter: Meter,
    pub(super) budget: Option<Budget>,
    pub(super) config: Config,
    // Whether the calls are counted here: the budget is shared, or there is none.
    pub(super) counts_calls: bool,
    pub(super) sink: Sink,
    pub(super) name: Name,
}

/// What follows from a result.
#[derive(Debug)]
pub(crate) enum Step<Q> {
    /// It is the answer.
    Final,
    /// It is the answer, for want of another attempt.
    GiveUp(Exhausted),
    /// The call is tried again.
    Again(Next<Q>),
}

/// The next attempt, while it waits. Dropping it gives the budget back what it took.
#[derive(Debug)]
pub(crate) struct Next<Q> {
    pub(crate) wait: Duration,
    pub(super) request: Q,
    reservation: Reservation,
}

impl Core {
    /// A call begins, for a caller who stops waiting at `deadline`. Gives back when a retry has to be begun.
    ///
    /// It gives back one word and no [`Course`]: to copy what was just written field by field stalls the processor for
    /// as long as all the rest takes.
    #[inline]
    pub(crate) fn begin(&self, deadline: Tick) -> Tick {
        let seat = Seat::here();
        // A budget of its own counts the same calls.
        if self.counts_calls {
            self.meter.count(seat, Count::Calls);
        }
        if let Some(budget) = &self.budget {
            budget.deposit_in(seat);
        }
        match self.config.deadline {
            Some(after) => deadline.min(after_now(after)),
            None => deadline,
        }
    }

    pub(crate) fn budget(&self) -> Option<&Budget> {
        self.budget.as_ref()
    }

    /// Whether a call that fails may be made again.
    #[inline]
    pub(crate) fn tries_again(&self) -> bool {
        self.config.attempts > 1
    }

    /// What a result means for the retry. A rule that panics decides nothing, and the caller gets the result.
    #[inline(always)]
    pub(crate) fn judge<T, E, C: Rule<T, E>>(rule: &C, result: Result<&T, &E>) -> Judgement {
        let mut judgement = Judgement::Final;
        if result.is_ok() && rule.takes_any_ok() {
            return judgement;
        }
        guarded("classifier", || judgement = rule.judge(result));
        judgement
    }

    /// An attempt ended. `replay` makes the request for the attempt with that number.
    #[inline(always)]
    pub(crate) fn step<T, E, C: Rule<T, E>, Q>(
        &self,
        rule: &C,
        course: &mut Course,
        result: Result<&T, &E>,
        replay: impl FnOnce(u32) -> Option<Q>,
    ) -> Step<Q> {
        self.follow(Self::judge(rule, result), course, (rule, result), replay)
    }

    /// What follows from a result that was judged.
    #[inline(always)]
    pub(crate) fn follow<T, E, C: Rule<T, E>, Q>(
        &self,
        judgement: Judgement,
        course: &mut Course,
        (rule, result): (&C, Result<&T, &E>),
        replay: impl FnOnce(u32) -> Option<Q>,
    ) -> Step<Q> {
        let asked = match judgement {
            Judgement::Failed { retry_after } => retry_after,
            Judgement::Rejected { reason, retry_after } if self.config.retries(reason) => retry_after,
            Judgement::Rejected { .. } => return Step::Final,
            Judgement::Final => {
                if course.attempt > 1 && result.is_ok() {
                    self.meter.count(Seat::here(), Count::Recovered);
                }
                return Step::Final;
            }
        };
        self.after_failure(course, asked, replay, |tell| match result.err().and_then(|error| rule.describe(error)) {
            Some(error) => tell(format_args!("{error}")),
            None if result.is_ok() => tell(format_args!("a result that counts as a failure")),
            None => tell(format_args!("an error that does not say more")),
        })
    }

    #[cold]
    fn after_failure<Q>(
        &self,
        course: &mut Course,
        asked: Option<Duration>,
        replay: impl FnOnce(u32) -> Option<Q>,
        describe: impl FnOnce(&dyn Fn(fmt::Arguments<'_>)),
    ) -> Step<Q> {
        let Some(planned) = guarded("backoff", || plan(&self.config, course, asked, random())) else {
            return Step::Final;
        };
        match planned.and_then(|waits| Ok((waits, self.prepare(course, waits, replay)?))) {
            Ok((waits, next)) => {
                guarded("error's text", || describe(&|error| self.announce(course.attempt, waits.kept, error)));
                course.attempt += 1;
                course.waited = waits.backoff;
                Step::Again(next)
            }
            Err(why) => {
                let how = Exhausted::new(course.attempt, why);
                self.give_up(how);
                Step::GiveUp(how)
            }
        }
    }

    /// The budget comes last: what another reason forbids costs nothing.
    fn prepare<Q>(
        &self,
        course: &Course,
        waits: Waits,
        replay: impl FnOnce(u32) -> Option<Q>,
    ) -> Result<Next<Q>, GiveUp> {
        let mut now = Moment::new();
        if !course.has_time_for(waits.kept, || now.tick()) {
            return Err(GiveUp::Deadline);
        }
        let request = guarded("replay hook", || replay(course.attempt + 1)).flatten().ok_or(GiveUp::Request)?;
        let reservation = match &self.budget {
            Some(budget) => budget.reserve_at(&mut now).ok_or(GiveUp::Budget)?,
            None => Reservation::free(),
        };
        Ok(Next { wait: waits.kept, request, reservation })
    }

    fn announce(&self, attempt: u32, wait: Duration, error: fmt::Arguments<'_>) {
        let operation = self.name.as_str();
        tracing::info!(operation, attempt, %error, next_delay = ?wait, "a call failed and will be tried again");
        self.sink.tell(&self.name, || Event::Retry(Retry::new(operation, attempt, wait, error)));
    }

    fn give_up(&self, how: Exhausted) {
        self.meter.count(Seat::here(), how.why.into());
        let Exhausted { attempts, why } = how;
        tracing::debug!(operation = self.name.as_str(), attempts, %why, "a call failed and is not tried again");
        self.sink.tell(&self.name, || Event::GaveUp { policy: self.name.as_str(), attempts, why });
    }

    /// The next attempt begins: it is counted and paid for.
    pub(crate) fn attempt<Q>(&self, next: Next<Q>) -> Q {
        self.meter.count(Seat::here(), Count::Retries);
        next.reservation.spend();
        next.request
    }
}

#[cold]
fn after_now(after: Duration) -> Tick {
    Tick::now() + after
}
