//! A stack under its plan: what is done to it, step by step, and what must hold after each step.

use std::{cell::Cell, rc::Rc, task::Waker, time::Duration};

use mainstay::{Error, Reason, breaker::State, observe::Event, time::Tick};

use crate::{
    caller::{Caller, Got, Held, Polled},
    face::{Face, Fall, Handles, open},
    plan::{By, Step, Switch, Taken},
    run::{Diary, Wrong, wrong},
    service::{Answer, Behaviour, Falling, Ground, How, Request, inject},
    setup::Setup,
};

/// More polls than any step takes without time going by: somebody wakes himself.
const RESTLESS: u32 = 20_000;

pub struct World<'a> {
    pub setup: Setup,
    pub ground: Rc<Ground>,
    pub fall: Rc<Fall>,
    face: Box<dyn Face>,
    pub handles: Handles,
    pub callers: Vec<Caller>,
    pub held: Vec<Held>,
    pub start: Tick,
    calls: u32,
    /// Whether what is held can be reckoned to the last place; not from a moment on when calls may wait for one.
    pub is_plain: bool,
    /// Whether the circuit has always counted, and never been restored.
    pub always_counted: bool,
    pub ceiling: u32,
    pub rates: (u64, f64),
    /// The longest that a call and an attempt may take, of all limits there have been.
    pub longest: Option<Duration>,
    pub longest_attempt: Option<Duration>,
    /// When turns of the rate limit may have been used, at the latest; none once its settings have changed.
    pub used: Option<Vec<Tick>>,
    pub diary: &'a Diary,
}

thread_local! {
    static OBSERVERS_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Observers hear everything, and panic for a while: nothing may come of it.
fn told(_: &Event<'_>) {
    if OBSERVERS_PANIC.get() {
        inject();
    }
}

impl<'a> World<'a> {
    pub fn new(setup: &Setup, diary: &'a Diary) -> Self {
        let ground = Rc::new(Ground::default());
        ground.ready.set(true);
        let fall = Rc::new(Fall { how: Cell::new(Falling::Answers), answered: Cell::new(0), running: Cell::new(0) });
        let face = open(setup, &ground, &fall);
        let handles = face.handles();
        OBSERVERS_PANIC.set(false);
        face.observe(told);
        ground.breaker.borrow_mut().clone_from(&handles.breaker);
        let mut world = Self {
            setup: setup.clone(),
            ground,
            fall,
            face,
            handles,
            callers: Vec::new(),
            held: Vec::new(),
            start: Tick::now(),
            calls: 0,
            is_plain: setup.is_plain(),
            always_counted: true,
            ceiling: 0,
            rates: (0, 0.0),
            longest: setup.policies.timeout,
            longest_attempt: setup.policies.attempt_timeout,
            used: Some(Vec::new()),
            diary,
        };
        world.learn_settings();
        world
    }

    /// What the settings allow from now on.
    fn learn_settings(&mut self) {
        self.is_plain &= self.setup.is_plain();
        self.ground.at_once.set(self.is_plain);
        if let Some(bulkhead) = &self.handles.bulkhead {
            self.ceiling = bulkhead.snapshot().limit.max(bulkhead.running());
        }
        if let Some(circuit) = self.setup.circuit.as_ref().filter(|_| self.handles.breaker.is_some()) {
            self.ground.probes.set(circuit.probes.max(self.ground.probes.get()));
            let shortest = if self.calls == 0 { Duration::MAX } else { self.ground.half_open_for.get() };
            self.ground.half_open_for.set(circuit.half_open_for.min(shortest));
        }
        if let Some(rate) = self.setup.rate.as_ref().filter(|_| self.handles.rate_limit.is_some()) {
            self.rates = (self.rates.0 + u64::from(rate.burst), self.rates.1.max(1.0 / rate.every.as_secs_f64()));
        }
    }

    pub async fn step(&mut self, step: &Step) -> Result<(), Wrong> {
        match step {
            Step::Call { by, script, clones, patience } => self.call(*by, script, *clones, *patience),
            Step::Take(what) => self.take(*what),
            Step::Release(which, how) => self.release(*which, *how),
            Step::Poll(which) => self.poll_one(*which, true)?,
            Step::PollIdle(which) => self.poll_one(*which, false)?,
            Step::Settle => self.settle().await?,
            Step::Drop(which) if !self.callers.is_empty() => {
                let caller = self.callers.swap_remove((*which % self.callers.len() as u64) as usize);
                self.gives_up(caller)?;
            }
            Step::Drop(_) => {}
            Step::DropAll => self.all_give_up()?,
            Step::Advance(time) => tokio::time::advance(*time).await,
            Step::Ready(ready) => self.ground.set_ready(*ready),
            Step::Fall(how) => self.fall.how.set(*how),
            Step::Observers(panic) => OBSERVERS_PANIC.set(*panic),
            Step::Switch(switch) => self.switch(*switch),
            _ => self.reconfigure(step),
        }
        Ok(())
    }

    fn call(&mut self, by: By, script: &Rc<[Behaviour]>, clones: bool, patience: Option<u32>) {
        let call = self.calls;
        self.calls += 1;
        let answering = match by {
            By::Service | By::Passing => {
                let request = Request { call, script: Rc::clone(script), clones };
                self.face.call(request, matches!(by, By::Passing))
            }
            By::Run => self.face.run(call, Rc::clone(script)),
        };
        self.callers.push(Caller::new(Some(call), patience, async move { Got::Answer(answering.await) }));
    }

    pub fn take(&mut self, what: Taken) {
        let handles = &self.handles;
        let held = match what {
            Taken::Circuit => handles.breaker.as_ref().and_then(|breaker| {
                let permit = breaker.acquire().ok()?;
                Some(Held::Circuit(permit, self.ground.beginning(u32::MAX)))
            }),
            Taken::Place => handles.bulkhead.as_ref().and_then(|bulkhead| bulkhead.try_acquire().ok()).map(Held::Place),
            Taken::Shed => handles.load_shed.as_ref().and_then(|shed| shed.try_acquire().ok()).map(Held::Shed),
            Taken::Limit => handles.concurrency.as_ref().and_then(|limit| limit.try_acquire().ok()).map(Held::Limit),
            Taken::PlaceInTime => {
                return self
                    .wait(self.handles.bulkhead.clone(), async |bulkhead| bulkhead.acquire().await.map(Held::Place));
            }
            Taken::ShedInTime => {
                return self.wait(self.handles.load_shed.clone(), async |shed| shed.acquire().await.map(Held::Shed));
            }
            Taken::TurnInTime => {
                return self
                    .wait(self.handles.rate_limit.clone(), async |limit| limit.acquire().await.map(|()| Held::Turn));
            }
            Taken::Readiness => Some(Held::Asked(self.face.asked(&mut std::task::Context::from_waker(Waker::noop())))),
        };
        self.held.extend(held);
    }

    fn wait<H: 'static>(
        &mut self,
        handle: Option<H>,
        acquire: impl AsyncFnOnce(H) -> Result<Held, mainstay::Rejection> + 'static,
    ) {
        if let Some(handle) = handle {
            self.callers.push(Caller::new(None, None, async move { Got::Held(acquire(handle).await) }));
        }
    }

    pub fn release_all(&mut self) {
        while !self.held.is_empty() {
            self.release(0, 2);
        }
    }

    fn release(&mut self, which: u64, how: u32) {
        if self.held.is_empty() {
            return;
        }
        match self.held.swap_remove((which % self.held.len() as u64) as usize) {
            Held::Circuit(permit, attempt) => {
                let how = [How::Answered, How::Failed, How::Dropped][how as usize];
                self.ground.count(how, &attempt);
                match how {
                    How::Answered => permit.success(),
                    How::Failed => permit.failure(),
                    _ => drop(permit),
                }
            }
            Held::Shed(permit) if how == 0 => permit.success(),
            Held::Limit(permit) if how == 0 => permit.success(),
            Held::Shed(permit) if how == 1 => permit.failure(),
            Held::Limit(permit) if how == 1 => permit.dropped(),
            _ => {}
        }
    }

    fn poll_one(&mut self, which: u64, woken: bool) -> Result<(), Wrong> {
        let those: Vec<usize> = (0..self.callers.len()).filter(|&at| self.callers[at].is_woken() == woken).collect();
        if those.is_empty() {
            return Ok(());
        }
        self.poll(those[(which % those.len() as u64) as usize], woken)
    }

    fn poll(&mut self, at: usize, woken: bool) -> Result<(), Wrong> {
        let turns = turns_given(&self.handles);
        let caller = &mut self.callers[at];
        let call = caller.call;
        self.ground.polling.set(call.unwrap_or(u32::MAX));
        let good =
            |ground: &Ground, call| ground.of_call(call).iter().filter(|a| a.ended == Some(How::Answered)).count();
        let before = call.map_or(0, |call| good(&self.ground, call));
        let polled = caller.poll();
        caller.has_turn = (caller.has_turn && !woken) || turns_given(&self.handles) > turns;
        let gives_up = caller.patience.is_some_and(|patience| caller.polls > patience);
        let answered = call.map_or(0, |call| good(&self.ground, call)) - before;
        if matches!(polled, Polled::Pending) {
            if answered > 0 {
                return wrong(
                    "a good answer is given on",
                    format!("call {call:?} waits, and the service has answered it"),
                );
            }
            if gives_up {
                let caller = self.callers.swap_remove(at);
                self.gives_up(caller)?;
            }
            return Ok(());
        }
        let caller = self.callers.swap_remove(at);
        self.may_have_used_a_turn(&caller, &polled);
        if !woken && self.setup.exact && !self.may_be_asked(&polled) {
            return wrong("who can go on is woken", format!("call {call:?} could go on, and nobody woke it"));
        }
        match polled {
            Polled::Got(Got::Answer(answer)) => {
                self.diary.note(|| format!("{call:?} gets {answer:?}"));
                self.judge(&caller, &answer, answered)?;
            }
            Polled::Got(Got::Held(Ok(held))) => self.held.push(held),
            _ => {}
        }
        Ok(())
    }

    pub fn all_give_up(&mut self) -> Result<(), Wrong> {
        std::mem::take(&mut self.callers).into_iter().try_for_each(|caller| self.gives_up(caller))
    }

    fn gives_up(&mut self, caller: Caller) -> Result<(), Wrong> {
        self.diary.note(|| format!("{:?} is given up", caller.call));
        self.may_have_used_a_turn(&caller, &Polled::Pending);
        let gives_back = caller.has_turn && !caller.is_woken() && self.setup.exact && self.used.is_some();
        let before = if gives_back { self.next_turn() } else { None };
        let call = caller.call;
        drop(caller);
        let (Some(before), Some(rate)) = (before, &self.setup.rate) else { return Ok(()) };
        let right = before.checked_sub(rate.every).filter(|wait| !wait.is_zero());
        let after = self.next_turn();
        if after == right {
            return Ok(());
        }
        wrong(
            "turns that were not used are given back",
            format!("the next turn came in {before:?} before {call:?} gave up, and comes in {after:?} after it"),
        )
    }

    /// In what time a call would get the next turn, for which it does not wait; takes it when that is now.
    fn next_turn(&mut self) -> Option<Duration> {
        let refused = self.handles.rate_limit.as_ref()?.try_acquire().err();
        if let (None, Some(used)) = (&refused, &mut self.used) {
            used.push(Tick::now());
        }
        refused?.retry_after()
    }

    /// A caller is gone. Who only waited for its turn has used none.
    fn may_have_used_a_turn(&mut self, caller: &Caller, end: &Polled) {
        let policies = &self.setup.policies;
        let turned_away = policies.breaker.is_some() || policies.concurrency.is_some() || policies.bulkhead.is_some();
        // It may also have been turned away further in, and wait to try again, or for the fallback.
        let goes_on = turned_away && (policies.retry.is_some() || self.setup.falls_back);
        let waits_elsewhere = !self.is_plain || policies.load_shed.is_some() || goes_on;
        let has_used = match end {
            Polled::Got(Got::Answer(Err(Error::Rejected(rejection)))) => rejection.reason() != Reason::RateLimited,
            Polled::Got(Got::Held(held)) => matches!(held, Ok(Held::Turn)),
            Polled::Got(_) | Polled::Panicked => true,
            Polled::Pending => caller
                .call
                .is_some_and(|call| waits_elsewhere || self.setup.falls_back || !self.ground.of_call(call).is_empty()),
        };
        let turn = self.turn_of(caller);
        if let Some(used) = self.used.as_mut().filter(|_| has_used) {
            used.push(turn);
        }
    }

    /// When a caller used its turn at the latest.
    pub fn turn_of(&self, caller: &Caller) -> Tick {
        let first = caller.call.and_then(|call| self.ground.of_call(call).first().map(|attempt| attempt.begun));
        first.unwrap_or_else(Tick::now)
    }

    /// Polls until nobody is woken any more.
    pub async fn settle(&mut self) -> Result<(), Wrong> {
        let mut polls = 0;
        loop {
            while let Some(at) = self.callers.iter().position(Caller::is_woken) {
                self.poll(at, true)?;
                polls += 1;
                if polls > RESTLESS {
                    return wrong("nobody wakes himself", format!("{polls} polls, and no time went by"));
                }
            }
            // What was put off to the next turn of the runtime wakes now.
            tokio::task::yield_now().await;
            if !self.callers.iter().any(Caller::is_woken) {
                return Ok(());
            }
        }
    }

    /// Whether an answer is one that the call may get.
    fn judge(&self, caller: &Caller, answer: &Answer, answered: usize) -> Result<(), Wrong> {
        let call = caller.call.expect("who gets an answer has called");
        let attempts = self.ground.of_call(call);
        let ended = |number: u32, how| attempts.get(number as usize).is_some_and(|a| a.ended == Some(how));
        let policies = &self.setup.policies;
        let is_right = match answer {
            Ok(response) => {
                let is_its_own = response.attempt.map_or(self.setup.falls_back, |n| ended(n, How::Answered));
                response.call == call && is_its_own && (answered == 0 || response.attempt.is_some())
            }
            Err(Error::Inner(failure)) => {
                let last = policies.hedge.is_some() || failure.attempt as usize + 1 == attempts.len();
                answered == 0 && failure.call == call && ended(failure.attempt, How::Failed) && last
            }
            Err(Error::Rejected(rejection)) => {
                let there = match rejection.reason() {
                    Reason::BulkheadFull => policies.bulkhead.is_some(),
                    Reason::CircuitOpen | Reason::CircuitProbing => policies.breaker.is_some(),
                    Reason::Overloaded => policies.load_shed.is_some() || policies.concurrency.is_some(),
                    Reason::RateLimited => policies.rate_limit.is_some(),
                    Reason::TimedOut => self.is_timed_out(caller),
                    _ => false,
                };
                answered == 0 && there && rejection.policy() == "sim"
            }
        };
        if is_right {
            Ok(())
        } else {
            wrong("answers are one's own", format!("call {call} gets {answer:?} after {attempts:?}"))
        }
    }

    /// Whether it is right that nobody was woken for this. Who waits for a service that is not ready is woken when the
    /// circuit changes its state, and not each time when the last probe begins, for that place is free again soon.
    fn may_be_asked(&self, polled: &Polled) -> bool {
        let is_probing = || self.handles.breaker.as_ref().is_some_and(|breaker| breaker.state() == State::HalfOpen);
        !matches!(polled, Polled::Got(_)) || (!self.ground.ready.get() && is_probing())
    }

    /// Whether a limit of time can have run out: the settings keep the shortest there has been.
    fn is_timed_out(&self, caller: &Caller) -> bool {
        let policies = &self.setup.policies;
        let shortest = policies.timeout.into_iter().chain(policies.attempt_timeout).min();
        shortest.is_some_and(|shortest| Tick::now().since(caller.since) >= shortest)
    }

    fn switch(&mut self, switch: Switch) {
        let Some(breaker) = &self.handles.breaker else { return };
        match switch {
            Switch::ForceOpen => breaker.force_open(),
            Switch::Disable => {
                self.always_counted = false;
                breaker.disable();
            }
            Switch::OnlyMeasure => breaker.only_measure(),
            Switch::Reset => breaker.reset(),
            Switch::OpenFor(period) => breaker.open_for(period),
            Switch::SaveAndRestore => {
                // What was counted before is counted again.
                self.always_counted = false;
                breaker.restore(&breaker.save());
            }
        }
    }

    fn reconfigure(&mut self, step: &Step) {
        let (handles, setup) = (&self.handles, &mut self.setup);
        match step {
            Step::Bulkhead(places) => {
                let done = handles.bulkhead.as_ref().is_some_and(|h| h.reconfigure(places.config.clone()).is_ok());
                setup.places = if done { Some(places.clone()) } else { setup.places.take() };
            }
            Step::Breaker(circuit) => {
                let done = handles.breaker.as_ref().is_some_and(|h| h.reconfigure(circuit.config.clone()).is_ok());
                setup.circuit = if done { Some(circuit.clone()) } else { setup.circuit.take() };
            }
            Step::RateLimit(rate) => {
                self.used = None;
                let done = handles.rate_limit.as_ref().is_some_and(|h| h.reconfigure(rate.config).is_ok());
                setup.rate = if done { Some(rate.clone()) } else { setup.rate.take() };
            }
            Step::LoadShed(config) => {
                let _ = handles.load_shed.as_ref().map(|handle| handle.reconfigure(*config));
            }
            Step::Concurrency(config) => {
                let _ = handles.concurrency.as_ref().map(|handle| handle.reconfigure(config.clone()));
            }
            Step::Timeouts(whole, attempt) => {
                let _ = handles.timeout.as_ref().map(|handle| handle.set_limit(*whole));
                let _ = handles.attempt_timeout.as_ref().map(|handle| handle.set_limit(*attempt));
                let policies = &mut setup.policies;
                self.longest = self.longest.map(|longest| longest.max(*whole));
                self.longest_attempt = self.longest_attempt.map(|longest| longest.max(*attempt));
                policies.timeout = policies.timeout.map(|limit| limit.min(*whole));
                policies.attempt_timeout = policies.attempt_timeout.map(|limit| limit.min(*attempt));
            }
            _ => {}
        }
        self.learn_settings();
    }

    pub fn snapshot(&self) -> mainstay::stack::Snapshot {
        self.face.snapshot()
    }

    /// A call to a service that is well.
    pub fn call_well(&mut self) -> u32 {
        self.call(By::Service, &Rc::from([Behaviour::WELL]), true, None);
        self.calls - 1
    }
}

/// How many calls the rate limit has let wait for their turn.
fn turns_given(handles: &Handles) -> u64 {
    handles.rate_limit.as_ref().map_or(0, |limit| limit.snapshot().waited)
}
