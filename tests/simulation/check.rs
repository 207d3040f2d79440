//! What holds whatever happens: after every step, and in the end.

use std::time::Duration;

use mainstay::{bulkhead, concurrency, load_shed, observe, retry::Snapshot as Retries, stack::Snapshot, time::Tick};

use crate::{
    caller::Held,
    ms,
    plan::Taken,
    run::{Wrong, wrong},
    service::{Attempt, Falling, How},
    setup::Allowance,
    stack::World,
};

/// So long a call may take in the end, when the service is well: longer than any wait that a plan has.
const PATIENCE_S: u64 = 60;

impl World<'_> {
    /// After each step.
    pub fn check(&mut self) -> Result<(), Wrong> {
        if let Some(what) = self.ground.wrong.take() {
            return wrong("the service is called as it asks", what);
        }
        let seen = self.snapshot();
        if let Some(bulkhead) = &seen.bulkhead {
            self.check_places(bulkhead)?;
        }
        if let Some(limit) = &seen.concurrency {
            self.check_limit(limit)?;
        }
        if let Some(shed) = &seen.load_shed {
            self.check_shed(shed)?;
        }
        if let Some(breaker) = &seen.breaker {
            self.check_circuit(breaker)?;
        }
        self.check_attempts(&seen)?;
        self.check_turns()?;
        self.check_time()
    }

    fn held(&self, which: impl Fn(&Held) -> bool) -> u32 {
        self.held.iter().filter(|held| which(held)).count() as u32
    }

    /// Places: as many as there are attempts, and never more than the limit.
    fn check_places(&mut self, seen: &bulkhead::Snapshot) -> Result<(), Wrong> {
        let known = self.ground.live.get() + self.held(|held| matches!(held, Held::Place(_)));
        self.ceiling = seen.limit.max(self.ceiling.min(seen.running));
        let is_right = if self.is_plain || self.is_quiet() { seen.running == known } else { seen.running >= known };
        if !is_right || seen.running > self.ceiling {
            return wrong(
                "places held are places in use",
                format!("{known} places are held, at most {} may be: {seen:?}", self.ceiling),
            );
        }
        if self.is_quiet() && seen.waiting > 0 {
            return wrong("nobody waits who is gone", format!("nobody waits: {seen:?}"));
        }
        Ok(())
    }

    fn check_limit(&self, seen: &concurrency::Snapshot) -> Result<(), Wrong> {
        let known = self.ground.live.get() + self.held(|held| matches!(held, Held::Limit(_)));
        let is_exact = self.is_plain || self.is_quiet();
        if if is_exact { seen.in_flight == known } else { seen.in_flight >= known } {
            Ok(())
        } else {
            wrong("calls in flight are those that run", format!("{known} are in flight: {seen:?}"))
        }
    }

    fn check_shed(&self, seen: &load_shed::Snapshot) -> Result<(), Wrong> {
        let held = self.held(|held| matches!(held, Held::Shed(_)));
        let most = held + self.callers.len() as u32;
        if seen.in_flight < held || seen.in_flight + seen.waiting > most {
            return wrong(
                "calls shed are those that run",
                format!("{held} are held, and {} callers are there: {seen:?}", self.callers.len()),
            );
        }
        Ok(())
    }

    /// Counts equal what happened: each attempt that was let in ends as one of these, and late ones as stale.
    fn check_circuit(&self, seen: &observe::Snapshot) -> Result<(), Wrong> {
        if seen.probes_running > self.ground.probes.get() {
            return wrong("probes are few", format!("too many probes: {seen:?}"));
        }
        if !self.is_plain || !self.always_counted {
            return Ok(());
        }
        let by_how = |counts: &[std::cell::Cell<u64>; 4]| {
            [How::Answered, How::Failed, How::Panicked, How::Dropped].map(|how| counts[how as usize].get())
        };
        let [counted, stale, overdue] = [&self.ground.counted, &self.ground.stale, &self.ground.overdue].map(by_how);
        let totals = &seen.totals;
        let good = totals.calls.success + totals.calls.slow_success;
        let bad = totals.calls.failure + totals.calls.slow_failure;
        // Who gave up had no result that could be late.
        let given_up = totals.cancelled + totals.ignored;
        let late = stale[0] + stale[1] + stale[2];
        let is_right = (counted[0]..=counted[0] + overdue[0]).contains(&good)
            && bad >= counted[1] + counted[2]
            && totals.stale >= late
            && good + bad + given_up + totals.stale == counted.iter().chain(&stale).chain(&overdue).sum::<u64>();
        if is_right {
            return Ok(());
        }
        let what = format!(
            "answered, failed, panicked, dropped: {counted:?}, stale {stale:?}, overdue {overdue:?}: {totals:?}"
        );
        wrong("counts equal what happened", what)
    }

    /// The service is not called more often than calls, retries and copies allow; limits of rate hold.
    fn check_attempts(&self, seen: &Snapshot) -> Result<(), Wrong> {
        let begun = self.ground.attempts.borrow().len() as u64;
        let first = self.ground.attempts.borrow().iter().filter(|attempt| attempt.number == 0).count() as u64;
        let (retries, hedges) = (seen.retry.as_ref(), seen.hedge.as_ref());
        let extra = retries.map_or(0, |retry| retry.retries) + hedges.map_or(0, |hedge| hedge.hedges);
        if begun > first + extra {
            return wrong(
                "attempts are calls, retries and copies",
                format!("{begun} attempts for {first} calls: {retries:?} {hedges:?}"),
            );
        }
        if let (Some(retry), Some(allowance)) = (retries, self.setup.retries) {
            self.check_budget(
                retry,
                allowance,
                hedges.filter(|_| self.setup.hedges.is_some()).map_or(0, |h| h.hedges),
            )?;
        }
        let since = Tick::now().since(self.start).as_secs_f64();
        if seen.rate_limit.is_some() && first as f64 > self.rates.0 as f64 + since * self.rates.1 + 1e-6 {
            return wrong(
                "calls are no more than the rate",
                format!("{first} calls in {since} s: {:?}", seen.rate_limit),
            );
        }
        Ok(())
    }

    fn check_budget(&self, retry: &Retries, allowance: Allowance, hedges: u64) -> Result<(), Wrong> {
        let seconds = Tick::now().since(self.start).as_secs_f64();
        let paid = retry.calls as f64 * allowance.ratio + (seconds + 1.0) * f64::from(allowance.floor);
        let sent = (retry.retries + hedges) as f64;
        let left = retry.budget_available.unwrap_or(0);
        if sent > paid + 1e-6 || left > u64::from(allowance.cap) {
            return wrong(
                "retries are paid for",
                format!("{sent} retries and copies, and {left} left, are paid for with {paid}: {retry:?}"),
            );
        }
        Ok(())
    }

    /// Whose time is up has been woken.
    fn check_time(&self) -> Result<(), Wrong> {
        let attempts = self.ground.attempts.borrow();
        let late = |since: Tick, limit: Duration| Tick::now().since(since) > limit + ms(2);
        let overdue = |attempt: &&Attempt| {
            attempt.ended.is_none() && self.longest_attempt.is_some_and(|limit| late(attempt.begun, limit))
        };
        if let Some(attempt) = attempts.iter().filter(|attempt| !self.is_woken(attempt.call)).find(overdue) {
            return wrong("time runs out on time", format!("nobody was woken for {attempt:?}"));
        }
        let Some(longest) = self.longest.filter(|_| self.fall.running.get() == 0) else { return Ok(()) };
        let first = |attempt: &&Attempt| attempt.number == 0 && late(attempt.begun, longest);
        match attempts.iter().filter(first).find(|attempt| self.waits(attempt.call)) {
            Some(attempt) => wrong("time runs out on time", format!("nobody was woken after {attempt:?}")),
            None => Ok(()),
        }
    }

    fn is_woken(&self, call: u32) -> bool {
        self.callers.iter().any(|caller| caller.call == Some(call) && caller.is_woken())
    }

    /// Whether a caller is there and was not woken.
    fn waits(&self, call: u32) -> bool {
        self.callers.iter().any(|caller| caller.call == Some(call) && !caller.is_woken())
    }

    /// Turns that were not used are there for others: no more is taken from the limit than what was used lately, and
    /// what those have who still wait.
    fn check_turns(&self) -> Result<(), Wrong> {
        let (Some(limit), Some(rate), Some(used)) = (&self.handles.rate_limit, &self.setup.rate, &self.used) else {
            return Ok(());
        };
        // Each turn moves the time by which all of the quota is there again; who still waits may have one by now.
        let now = Tick::now();
        let mut turns: Vec<Tick> = self.callers.iter().map(|caller| self.turn_of(caller)).chain(used.clone()).collect();
        turns.sort_unstable();
        let full_at = turns.into_iter().fold(Tick::default(), |full_at, turn| full_at.max(turn) + rate.every);
        let taken = full_at.since(now).as_nanos().div_ceil(rate.every.as_nanos()) as u64;
        let seen = limit.snapshot();
        if seen.available + taken >= u64::from(rate.burst) {
            return Ok(());
        }
        wrong("turns that were not used are given back", format!("{taken} of {} may be used: {seen:?}", rate.burst))
    }

    fn is_quiet(&self) -> bool {
        self.callers.is_empty() && !self.held.iter().any(|held| matches!(held, Held::Asked(_)))
    }

    /// A circuit lets somebody in sooner or later, whoever keeps its probes.
    async fn check_circuit_is_not_wedged(&mut self) -> Result<(), Wrong> {
        if self.handles.breaker.is_none() || self.is_shut() {
            return Ok(());
        }
        let before = self.held.len();
        for _ in 0..PATIENCE_S {
            self.take(Taken::Circuit);
            if self.held.len() > before {
                return Ok(());
            }
            tokio::time::advance(ms(1_000)).await;
        }
        wrong("no circuit is wedged", format!("nobody is let in: {:?}", self.snapshot()))
    }

    /// Everything ends: the service is well again, what is held is let go, and whoever still waits is waiting for an
    /// answer that never comes.
    pub async fn drain(&mut self) -> Result<(), Wrong> {
        self.check_circuit_is_not_wedged().await?;
        self.ground.set_ready(true);
        self.fall.how.set(Falling::Answers);
        for _ in 0..PATIENCE_S * 10 {
            self.settle().await?;
            self.release_all();
            self.check()?;
            if self.callers.is_empty() {
                break;
            }
            tokio::time::advance(ms(100)).await;
        }
        self.check_nobody_is_forgotten()?;
        self.all_give_up()?;
        self.check()?;
        self.check_nothing_is_left()
    }

    fn check_nobody_is_forgotten(&self) -> Result<(), Wrong> {
        let hangs = |call: u32| self.ground.of_call(call).iter().any(|attempt| attempt.ended.is_none());
        // A place may be kept from who waits for it by an attempt that hangs.
        let may_wait = self.fall.running.get() > 0 || self.ground.live.get() > 0 || self.is_shut();
        let forgotten = |caller: &&crate::caller::Caller| match caller.call {
            Some(call) => !hangs(call) && !may_wait,
            None => !may_wait,
        };
        match self.callers.iter().find(forgotten) {
            Some(caller) => {
                wrong("nobody waits for ever", format!("{:?} waits for ever: {:?}", caller.call, self.snapshot()))
            }
            None => Ok(()),
        }
    }

    /// Whether the circuit is kept open by hand: who asks for readiness waits then.
    fn is_shut(&self) -> bool {
        use mainstay::breaker::State::ForcedOpen;
        self.handles.breaker.as_ref().is_some_and(|breaker| breaker.state() == ForcedOpen)
    }

    fn check_nothing_is_left(&self) -> Result<(), Wrong> {
        let seen = self.snapshot();
        let places = seen.bulkhead.as_ref().map_or(0, |bulkhead| bulkhead.running + bulkhead.waiting);
        let limit = seen.concurrency.as_ref().map_or(0, |limit| limit.in_flight);
        let shed = seen.load_shed.as_ref().map_or(0, |shed| shed.in_flight + shed.waiting);
        let probes = seen.breaker.as_ref().map_or(0, |breaker| breaker.probes_running);
        if (places, limit, shed, probes, self.ground.live.get()) == (0, 0, 0, 0, 0) {
            Ok(())
        } else {
            wrong("nothing is left", format!("something is left: {seen:?}"))
        }
    }

    /// A service that is well is called again, however it was before; and every place can be had.
    pub async fn recover(&mut self) -> Result<(), Wrong> {
        if let Some(breaker) = self.handles.breaker.as_ref().filter(|_| !self.always_counted || self.is_shut()) {
            breaker.reset();
        }
        let mut well = 0;
        for _ in 0..10 * PATIENCE_S {
            let call = self.call_well();
            // Longer than a circuit is open: one that makes its callers wait until then is right.
            for _ in 0..PATIENCE_S * 10 {
                self.settle().await?;
                self.check()?;
                tokio::time::advance(ms(100)).await;
                if self.callers.is_empty() {
                    break;
                }
            }
            if !self.callers.is_empty() {
                return wrong(
                    "a service that is well is called",
                    format!("call {call} is not answered: {:?}", self.snapshot()),
                );
            }
            let answered = self.ground.of_call(call).iter().any(|attempt| attempt.ended == Some(How::Answered));
            well = if answered { well + 1 } else { 0 };
            if well == 20 {
                return self.check_all_can_be_had();
            }
        }
        wrong(
            "a service that is well is called",
            format!("the service is well, and is not called: {:?}", self.snapshot()),
        )
    }

    fn check_all_can_be_had(&self) -> Result<(), Wrong> {
        let Some(bulkhead) = &self.handles.bulkhead else { return Ok(()) };
        let urgent = bulkhead.with_priority(mainstay::Priority::High);
        let limit = bulkhead.snapshot().limit;
        let permits: Vec<_> = (0..=limit).filter_map(|_| urgent.try_acquire().ok()).collect();
        if permits.len() as u32 == limit {
            Ok(())
        } else {
            wrong("every place can be had", format!("{} of {limit} places can be had", permits.len()))
        }
    }
}
