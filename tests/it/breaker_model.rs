//! Overlapping calls, the clock, the switch and new settings in any order, compared with a model after each step.
//!
//! The model is the rules of the breaker in words as plain as they go: it keeps every call in a list, knows one thread
//! and no lock, and looks at all thresholds after every call. `MODEL_CASES=20000 cargo test --test it breaker_model`
//! runs it for longer.

use std::{
    collections::BTreeMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    time::Duration,
};

use mainstay::{
    Error, Outcome, Reason,
    breaker::{CircuitBreakerLayer, Config, Handle, Permit, Saved, State},
    observe::Totals,
    time::Tick,
    window::Counts,
};
use proptest::prelude::*;
use tokio::sync::oneshot;
use tower::{Layer, Service, service_fn};

use crate::support::*;

const MS: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Ok,
    Fail,
    FailAndAsk(u64),
    Ignore,
    Drop,
    Panic,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Start,
    Finish(usize, End),
    Pass(u64),
    ToDeadline,
    By(State),
    OpenFor(u64),
    Reset,
    Configure(Settings),
    Save,
    Restore,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Frame {
    Calls(usize),
    /// Milliseconds in a bucket, and buckets.
    Time(u64, u32),
}

/// What differs between two configurations, beside the window. Times are milliseconds, rates quarters.
#[derive(Debug, Clone, Copy)]
struct Settings {
    failure_rate: Option<u64>,
    minimum: u64,
    row: Option<u64>,
    /// After so long, and the rate.
    slow: Option<(u64, u64)>,
    cancelled: Option<u64>,
    open: u64,
    grows: bool,
    honors: Option<u64>,
    probes: u32,
    close_after: Option<u32>,
    probe_rate: Option<u64>,
    lease: u64,
    measures: bool,
}

const CAP: u64 = 1_000;

impl Settings {
    fn config(&self, frame: Frame) -> Config {
        let rate = |quarters: u64| quarters as f64 / 4.0;
        let mut config = Config::new()
            .minimum_calls(self.minimum)
            .open_for(ms(self.open))
            .probes(self.probes)
            .half_open_for(ms(self.lease))
            .measure_latency(self.measures);
        config = match frame {
            Frame::Calls(calls) => config.count_window(calls),
            Frame::Time(width, buckets) => config.time_window(ms(width * u64::from(buckets))).buckets(buckets),
        };
        config = match self.failure_rate {
            Some(quarters) => config.failure_rate(rate(quarters)),
            None => config.no_failure_rate(),
        };
        config = if self.grows { config.open_growth(2.0, ms(CAP)) } else { config };
        config = self.row.into_iter().fold(config, Config::consecutive_failures);
        config = self.slow.into_iter().fold(config, |config, (after, share)| config.slow_calls(ms(after), rate(share)));
        config = self.cancelled.into_iter().fold(config, |config, after| config.count_cancelled_after(ms(after)));
        config = self.honors.into_iter().fold(config, |config, cap| config.honor_retry_after(ms(cap)));
        config = self.close_after.into_iter().fold(config, Config::close_after);
        self.probe_rate.into_iter().fold(config, |config, share| config.probe_failure_rate(rate(share)))
    }
}

#[derive(Debug, Clone, Copy)]
struct Call {
    generation: u64,
    began: Option<u64>,
    probe: bool,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    state: State,
    left: u64,
    failed_probings: u32,
    row: u64,
    window: Counts,
    totals: Totals,
}

/// The breaker as DESIGN has it.
struct Model {
    frame: Frame,
    set: Settings,
    now: u64,
    state: State,
    generation: u64,
    until: u64,
    /// Counted calls of this generation: when, failed, slow.
    counted: Vec<(u64, bool, bool)>,
    row: u64,
    asked: u64,
    /// Probes that hold a place: which call, since when.
    places: Vec<(usize, u64)>,
    results: Vec<(bool, bool)>,
    failed_probings: u32,
    at_opening: Counts,
    open_since: Option<u64>,
    time_open: u64,
    totals: Totals,
    calls: BTreeMap<usize, Call>,
    kept: Option<Kept>,
}

fn count(counts: &mut Counts, failed: bool, slow: bool) {
    *match (failed, slow) {
        (false, false) => &mut counts.success,
        (true, false) => &mut counts.failure,
        (false, true) => &mut counts.slow_success,
        (true, true) => &mut counts.slow_failure,
    } += 1;
}

fn tally(results: impl IntoIterator<Item = (bool, bool)>) -> Counts {
    let mut counts = Counts::default();
    results.into_iter().for_each(|(failed, slow)| count(&mut counts, failed, slow));
    counts
}

fn reached(quarters: Option<u64>, part: u64, whole: u64) -> bool {
    quarters.is_some_and(|quarters| whole > 0 && part * 4 >= whole * quarters)
}

impl Model {
    fn new(frame: Frame, set: Settings, now: u64) -> Self {
        Self {
            frame,
            set,
            now,
            state: State::Closed,
            generation: 0,
            until: 0,
            counted: Vec::new(),
            row: 0,
            asked: 0,
            places: Vec::new(),
            results: Vec::new(),
            failed_probings: 0,
            at_opening: Counts::default(),
            open_since: None,
            time_open: 0,
            totals: Totals::default(),
            calls: BTreeMap::new(),
            kept: None,
        }
    }

    fn window(&self) -> Counts {
        let kinds = |calls: &[(u64, bool, bool)]| tally(calls.iter().map(|(_, failed, slow)| (*failed, *slow)));
        match self.frame {
            Frame::Calls(size) => kinds(&self.counted[self.counted.len().saturating_sub(size)..]),
            Frame::Time(width, buckets) => {
                let bucket = |at: u64| at / (width * MS);
                let oldest = (bucket(self.now) + 1).saturating_sub(buckets.into());
                let first = self.counted.partition_point(|(at, ..)| bucket(*at) < oldest);
                kinds(&self.counted[first..])
            }
        }
    }

    /// What a snapshot shows as the window.
    fn known(&self) -> Counts {
        match self.state {
            State::Open | State::ForcedOpen => self.at_opening,
            State::HalfOpen => tally(self.results.iter().copied()),
            _ => self.window(),
        }
    }

    fn switch(&mut self, to: State, counts: Counts, open_for: u64) {
        self.time_open += self.open_since.take().map_or(0, |since| self.now - since);
        if matches!(to, State::Open | State::ForcedOpen) {
            self.open_since = Some(self.now);
            self.at_opening = counts;
        } else if to != State::HalfOpen {
            self.failed_probings = 0;
        }
        self.state = to;
        self.generation += 1;
        self.until = self.now + open_for;
        (self.row, self.asked) = (0, 0);
        self.counted.clear();
        self.places.clear();
        self.results.clear();
    }

    /// An open period that is over is over, whoever looks.
    fn look(&mut self) {
        if self.state == State::Open && self.now >= self.until {
            self.switch(State::HalfOpen, self.at_opening, 0);
        }
    }

    fn period(&self) -> u64 {
        let asked = self.asked.saturating_sub(self.now);
        match self.set.honors {
            Some(cap) if asked > 0 => asked.min(cap * MS),
            _ if self.set.grows => (self.set.open << self.failed_probings.min(20)).min(CAP) * MS,
            _ => self.set.open * MS,
        }
    }

    fn start(&mut self, id: usize) -> Result<(), (Reason, Option<Duration>)> {
        self.look();
        match self.state {
            State::Open => {
                return Err((Reason::CircuitOpen, Some(Duration::from_nanos(self.until - self.now))));
            }
            State::ForcedOpen => return Err((Reason::CircuitOpen, None)),
            State::HalfOpen => {
                let (now, lease) = (self.now, self.set.lease * MS);
                let running = self.places.iter().filter(|(_, since)| now < since + lease).count() as u32;
                let results = self.results.len() as u32;
                let needed = self.needed();
                if running >= self.set.probes || running + results >= needed {
                    return Err((Reason::CircuitProbing, None));
                }
                self.places.retain(|(_, since)| now < since + lease);
                self.places.push((id, now));
            }
            _ => {}
        }
        let probe = self.state == State::HalfOpen;
        let timed = probe || self.set.measures || self.set.slow.is_some() || self.set.cancelled.is_some();
        self.calls.insert(id, Call { generation: self.generation, began: timed.then_some(self.now), probe });
        Ok(())
    }

    fn needed(&self) -> u32 {
        match self.set.probe_rate {
            Some(_) => self.set.probes,
            None => self.set.close_after.unwrap_or(self.set.probes),
        }
    }

    fn finish(&mut self, id: usize, end: End) {
        let call = self.calls.remove(&id).unwrap();
        let took = call.began.map_or(0, |began| self.now - began);
        let place = self.places.iter().position(|(probe, _)| *probe == id);
        let in_time = call.generation == self.generation && (!call.probe || place.is_some());
        let cancelled_after = self.set.cancelled.or(self.set.slow.map(|(after, _)| after));
        let gave_up_late = cancelled_after.is_some_and(|after| took > after * MS);
        let failed = match end {
            End::Ok => false,
            End::Fail | End::FailAndAsk(_) | End::Panic => true,
            End::Drop if gave_up_late => true,
            End::Drop | End::Ignore => {
                self.places.retain(|(probe, _)| *probe != id);
                match end {
                    End::Ignore if !in_time => self.totals.stale += 1,
                    _ if self.state == State::Disabled => {}
                    End::Ignore => self.totals.ignored += 1,
                    _ => self.totals.cancelled += 1,
                }
                return;
            }
        };
        if !in_time {
            self.totals.stale += 1;
            return;
        }
        if let End::FailAndAsk(wait) = end {
            self.asked = self.set.honors.map_or(self.asked, |_| self.asked.max(self.now + wait * MS));
        }
        let slow = self.set.slow.is_some_and(|(after, _)| took > after * MS);
        match self.state {
            State::Closed | State::MetricsOnly => self.count(failed, slow),
            State::HalfOpen => {
                self.places.remove(place.unwrap());
                self.results.push((failed, slow));
                count(&mut self.totals.calls, failed, slow);
                self.decide();
            }
            _ => {}
        }
    }

    fn count(&mut self, failed: bool, slow: bool) {
        count(&mut self.totals.calls, failed, slow);
        self.counted.push((self.now, failed, slow));
        self.row = if failed { self.row + 1 } else { 0 };
        let counts = self.window();
        let enough = counts.calls() >= self.set.minimum;
        let opens = self.set.row.is_some_and(|row| self.row >= row)
            || enough && reached(self.set.failure_rate, counts.failures(), counts.calls())
            || enough && reached(self.set.slow.map(|(_, share)| share), counts.slow(), counts.calls());
        if opens && self.state == State::Closed {
            self.switch(State::Open, counts, self.period());
        }
    }

    fn decide(&mut self) {
        let results = tally(self.results.iter().copied());
        let too_many = |share, part| reached(share, part, results.calls());
        let slow_share = self.set.slow.map(|(_, share)| share);
        if self.set.probe_rate.is_none() && results.failures() > 0 {
            self.reopen(results);
        } else if results.calls() >= u64::from(self.needed()) {
            match too_many(self.set.probe_rate, results.failures()) || too_many(slow_share, results.slow()) {
                true => self.reopen(results),
                false => self.switch(State::Closed, results, 0),
            }
        }
    }

    fn reopen(&mut self, results: Counts) {
        self.failed_probings += 1;
        self.switch(State::Open, results, self.period());
    }

    fn by_hand(&mut self, to: State, period: Option<u64>) {
        self.look();
        let even_if_there = period.is_some() || to == State::Closed;
        if to == State::HalfOpen && self.state != State::Open || to == self.state && !even_if_there {
            return;
        }
        self.failed_probings = 0;
        let usual = self.set.open * MS;
        self.switch(to, self.known(), period.map_or(usual, |period| period * MS));
    }

    fn configure(&mut self, set: Settings) {
        self.set = set;
        if self.state == State::HalfOpen {
            self.decide();
        }
    }

    fn save(&mut self) {
        self.look();
        let left = if self.state == State::Open { (self.until - self.now).div_ceil(MS) } else { 0 };
        let state = if self.state == State::HalfOpen { State::Open } else { self.state };
        let (failed_probings, row) = (self.failed_probings, self.row);
        self.kept = Some(Kept { state, left, failed_probings, row, window: self.known(), totals: self.totals });
    }

    fn restore(&mut self) {
        let Some(kept) = self.kept else { return };
        self.switch(kept.state, kept.window, kept.left * MS);
        self.failed_probings = kept.failed_probings;
        if matches!(kept.state, State::Closed | State::MetricsOnly) {
            self.row = kept.row;
            let Counts { success, failure, slow_success, slow_failure } = kept.window;
            for (calls, failed, slow) in [
                (success, false, false),
                (failure, true, false),
                (slow_success, false, true),
                (slow_failure, true, true),
            ] {
                self.counted.extend((0..calls).map(|_| (self.now, failed, slow)));
            }
        }
        let (now, then) = (&mut self.totals, kept.totals);
        now.calls += then.calls;
        now.ignored += then.ignored;
        now.cancelled += then.cancelled;
        now.stale += then.stale;
        now.rejected += then.rejected;
    }
}

/// A call of the real breaker: a permit, or a future through the layer and the way to end it.
enum Running {
    Permit(Permit),
    Future(Pin<Box<dyn Future<Output = Answer>>>, oneshot::Sender<End>),
}

impl Running {
    fn start(breaker: &Handle, by_future: bool) -> Result<Self, mainstay::Rejection> {
        if !by_future {
            return breaker.acquire().map(Self::Permit);
        }
        let (end, ended) = oneshot::channel();
        let ended = std::cell::Cell::new(Some(ended));
        let classify = mainstay::classify_fn(|result: Result<&u32, &Error<Boom>>| match result {
            Ok(0) => Outcome::Ignored,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        });
        let service = service_fn(move |_: u32| {
            let ended = ended.take().unwrap();
            async move {
                match ended.await.unwrap() {
                    End::Ok => Ok(1),
                    End::Ignore => Ok(0),
                    End::Panic => resume_unwind(Box::new(())),
                    _ => Err(Error::Inner(Boom)),
                }
            }
        });
        let mut call = Box::pin(CircuitBreakerLayer::new(breaker.clone()).classify(classify).layer(service).call(0));
        match poll_once(&mut call) {
            std::task::Poll::Ready(Err(Error::Rejected(rejection))) => Err(rejection),
            _ => Ok(Self::Future(call, end)),
        }
    }

    fn finish(self, end: End) {
        match (self, end) {
            (Self::Permit(permit), End::Ok) => permit.success(),
            (Self::Permit(permit), End::Fail) => permit.failure(),
            (Self::Permit(permit), End::FailAndAsk(wait)) => permit.failure_with_retry_after(ms(wait)),
            (Self::Permit(permit), End::Ignore) => permit.record(Outcome::Ignored),
            (Self::Permit(permit), End::Panic) => {
                let _ = catch_unwind(AssertUnwindSafe(move || {
                    let _permit = permit;
                    resume_unwind(Box::new(()));
                }));
            }
            (running, End::Drop) => drop(running),
            (Self::Future(mut call, sender), end) => {
                sender.send(end).unwrap();
                let _ = catch_unwind(AssertUnwindSafe(|| assert!(poll_once(&mut call).is_ready())));
            }
        }
    }
}

struct Run {
    breaker: Handle,
    model: Model,
    running: BTreeMap<usize, Running>,
    saved: Option<Saved>,
    next: usize,
}

impl Run {
    fn new(frame: Frame, set: Settings) -> Self {
        let breaker = Handle::try_new("x", set.config(frame)).unwrap();
        let model = Model::new(frame, set, Tick::now().as_nanos());
        Self { breaker, model, running: BTreeMap::new(), saved: None, next: 0 }
    }

    fn start(&mut self) {
        self.next += 1;
        let expected = self.model.start(self.next);
        match Running::start(&self.breaker, self.next % 3 == 0) {
            Ok(call) => {
                assert_eq!(expected, Ok(()));
                self.running.insert(self.next, call);
            }
            Err(rejection) => {
                self.model.totals.rejected += 1;
                assert_eq!(expected, Err((rejection.reason(), rejection.retry_after())));
            }
        }
    }

    fn finish(&mut self, which: usize, end: End) {
        let Some(id) = self.running.keys().copied().nth(which % self.running.len().max(1)) else { return };
        let call = self.running.remove(&id).unwrap();
        let end = match (&call, end) {
            (Running::Future(..), End::FailAndAsk(_)) => End::Fail,
            _ => end,
        };
        call.finish(end);
        self.model.finish(id, end);
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Start => self.start(),
            Step::Finish(which, end) => self.finish(which, end),
            Step::Pass(millis) => advance(ms(millis)).await,
            Step::ToDeadline => advance(self.breaker.snapshot().open_remaining.unwrap_or_default()).await,
            Step::By(State::Closed) | Step::Reset => {
                self.breaker.reset();
                self.model.by_hand(State::Closed, None);
            }
            Step::By(to) => {
                let _ = self.breaker.transition_to(to);
                self.model.by_hand(to, None);
            }
            Step::OpenFor(millis) => {
                self.breaker.open_for(ms(millis));
                self.model.by_hand(State::Open, Some(millis));
            }
            Step::Configure(set) => {
                let set = Settings { minimum: set.minimum.min(minimum_most(self.model.frame)), ..set };
                self.breaker.reconfigure(set.config(self.model.frame)).unwrap();
                self.model.configure(set);
            }
            Step::Save => {
                self.saved = Some(self.breaker.save());
                self.model.save();
            }
            Step::Restore => {
                self.saved.iter().for_each(|saved| self.breaker.restore(saved));
                self.model.restore();
            }
        }
    }

    fn compare(&mut self, step: Step) {
        let (snapshot, model) = (self.breaker.snapshot(), &mut self.model);
        model.now = Tick::now().as_nanos();
        model.look();
        assert_eq!((snapshot.state, snapshot.generation), (model.state, model.generation), "after {step:?}");
        assert_eq!(snapshot.window, model.known(), "after {step:?}");
        assert_eq!(snapshot.totals, model.totals, "after {step:?}");
        assert_eq!(snapshot.consecutive_failures, model.row, "after {step:?}");
        assert_eq!(snapshot.probes_running as usize, model.places.len(), "after {step:?}");
        let left = (model.state == State::Open).then(|| Duration::from_nanos(model.until - model.now));
        assert_eq!(snapshot.open_remaining, left, "after {step:?}");
        let open_now = model.open_since.map_or(0, |since| model.now - since);
        assert_eq!(snapshot.time_open, Duration::from_nanos(model.time_open + open_now), "after {step:?}");
    }
}

fn minimum_most(frame: Frame) -> u64 {
    match frame {
        Frame::Calls(calls) => calls as u64,
        Frame::Time(..) => u64::MAX,
    }
}

fn run(frame: Frame, set: Settings, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let set = Settings { minimum: set.minimum.min(minimum_most(frame)), ..set };
        let mut run = Run::new(frame, set);
        for step in steps {
            run.step(*step).await;
            run.compare(*step);
        }
        // Whatever happened, nothing wedges: a service that is well again is let through in the end.
        run.breaker.transition_to(State::Open).unwrap_or_else(|_| unreachable!("always allowed"));
        for _ in 0..100 {
            advance(ms(CAP)).await;
            let _ = run.breaker.acquire().map(Permit::success);
        }
        assert_eq!(run.breaker.state(), State::Closed, "a circuit whose probes succeed closes");
    });
}

fn settings() -> impl Strategy<Value = Settings> {
    use proptest::option::of;
    let trips = (of(1..=4_u64), 1..8_u64, of(1..5_u64), of((1..40_u64, 1..=4_u64)), of(1..60_u64));
    let opens = (1..100_u64, any::<bool>(), of(1..300_u64));
    let probing = (1..5_u32, of(1..7_u32), of(1..=4_u64), 1..100_u64);
    (trips, opens, probing, any::<bool>()).prop_map(|(trips, opens, probing, measures)| {
        let (failure_rate, minimum, row, slow, cancelled) = trips;
        let (open, grows, honors) = opens;
        let (probes, close_after, probe_rate, lease) = probing;
        let failing = Settings { failure_rate, minimum, row, slow, cancelled, open, grows, honors, ..LIKE };
        Settings { probes, close_after, probe_rate, lease, measures, ..failing }
    })
}

const LIKE: Settings = Settings {
    failure_rate: None,
    minimum: 1,
    row: None,
    slow: None,
    cancelled: None,
    open: 1,
    grows: false,
    honors: None,
    probes: 1,
    close_after: None,
    probe_rate: None,
    lease: 1,
    measures: true,
};

fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![(1..40_usize).prop_map(Frame::Calls), (1..30_u64, 1..12_u32).prop_map(|(w, n)| Frame::Time(w, n))]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        6 => Just(End::Ok),
        6 => Just(End::Fail),
        2 => (0..400_u64).prop_map(End::FailAndAsk),
        2 => Just(End::Ignore),
        2 => Just(End::Drop),
        1 => Just(End::Panic),
    ];
    let by_hand = prop_oneof![
        Just(State::Open),
        Just(State::HalfOpen),
        Just(State::ForcedOpen),
        Just(State::Disabled),
        Just(State::MetricsOnly),
        Just(State::Closed),
    ];
    let step = prop_oneof![
        30 => Just(Step::Start),
        30 => (any::<usize>(), end).prop_map(|(which, end)| Step::Finish(which, end)),
        10 => (0..30_u64).prop_map(Step::Pass),
        2 => (30..2_000_u64).prop_map(Step::Pass),
        4 => Just(Step::ToDeadline),
        2 => by_hand.prop_map(Step::By),
        1 => (0..200_u64).prop_map(Step::OpenFor),
        2 => Just(Step::Reset),
        2 => settings().prop_map(Step::Configure),
        1 => Just(Step::Save),
        1 => Just(Step::Restore),
    ];
    proptest::collection::vec(step, 1..150)
}

fn cases() -> u32 {
    std::env::var("MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_breaker_does_what_the_model_does(frame in frames(), set in settings(), steps in steps()) {
        run(frame, set, &steps);
    }
}
