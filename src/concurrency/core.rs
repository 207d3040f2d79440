//! One adaptive limit: calls are counted in one word, what they have shown in a lane of each thread, and once a window
//! somebody asks the algorithm.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    admission::Verdict,
    concurrency::{
        Algorithm, Sample,
        config::{Config, Drops},
        tally::{Sum, Tallies},
    },
    error::{Reason, Rejection},
    lanes::Seat,
    name::Name,
    observe::{Event, Sink},
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::{Moment, Tick, random},
};

#[derive(Debug)]
pub(super) struct Core {
    // Side by side, because every call reads both.
    in_flight: AtomicU32,
    limit: AtomicU32,
    // When the window may close; 0 while something is measured, when every call may close it.
    due: AtomicU64,
    // Calls that began before this are not counted: the limit was another one.
    since: AtomicU64,
    // A failure that took longer is a drop.
    usual: AtomicU64,
    every_failure: AtomicBool,
    tallies: Tallies,
    // Locked once a window, by whoever closes it; others do not wait for it.
    learner: Mutex<Learner>,
    rejected: AtomicU64,
    dropped: AtomicU64,
    pub(super) sink: Sink,
    pub(super) name: Name,
}

/// What a call holds while it runs.
#[derive(Debug)]
pub struct Ticket {
    began: Tick,
    // How many ran when it began, itself among them.
    in_flight: u32,
}

/// What the end of a window needs.
struct Learner {
    config: Config,
    // Exact: the limit that calls are compared with is rounded down.
    limit: f64,
    // Away while it is asked, because it may be anybody's code, which never runs under a lock.
    algorithm: Option<Box<dyn Algorithm>>,
    // Counts the algorithms, so that the answer of one that was replaced meanwhile is known.
    generation: u64,
    opened: Tick,
    // How many were turned away before that.
    rejected: u64,
    measures: Option<u32>,
    sum: Sum,
    base: Option<Duration>,
    latency: Option<Duration>,
}

/// An algorithm and what it is asked.
struct Question {
    algorithm: Box<dyn Algorithm>,
    generation: u64,
    limit: f64,
    sample: Sample,
}

/// An algorithm that has learnt nothing yet.
struct Fresh {
    algorithm: Box<dyn Algorithm>,
    limit: f64,
    measures: Option<u32>,
}

/// What a limit has learnt, for a snapshot.
pub(super) struct Learnt {
    pub(super) algorithm: &'static str,
    pub(super) base: Option<Duration>,
    pub(super) latency: Option<Duration>,
}

/// After so many times its length a window that has not enough calls is forgotten.
const TOO_OLD: u32 = 100;

/// What a time-out takes longer than: this share of the successes.
const USUAL: f64 = 0.95;

/// The limit after an answer: a number, between floor and ceiling, and not above one that was not used.
fn bounded(answer: f64, before: f64, idle: bool, config: &Config) -> f64 {
    let answer = if answer.is_nan() { before } else { answer };
    let answer = if idle { answer.min(before) } else { answer };
    answer.max(config.floor.into()).min(config.ceiling.into())
}

impl Fresh {
    fn new(config: &Config, limit: f64) -> Self {
        let mut algorithm = config.rule.build();
        let limit = bounded(algorithm.first_limit(limit), limit, false, config);
        let measures = algorithm.measures();
        Self { algorithm, limit, measures }
    }
}

impl Core {
    pub(super) fn new(name: Name, config: Config) -> Self {
        let now = Tick::now();
        let fresh = Fresh::new(&config, config.initial.into());
        let every_failure = config.drops == Drops::Every;
        let core = Self {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            due: AtomicU64::new(0),
            since: AtomicU64::new(0),
            usual: AtomicU64::new(0),
            every_failure: AtomicBool::new(every_failure),
            tallies: Tallies::default(),
            learner: Mutex::new(Learner::new(config, fresh.algorithm, now)),
            rejected: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            sink: Sink::default(),
            name,
        };
        core.open(&mut core.learner.lock(), fresh.limit, fresh.measures, now);
        core
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Acquire)
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) fn config(&self) -> Config {
        self.learner.lock().config.clone()
    }

    pub(super) fn learnt(&self) -> Learnt {
        let learner = self.learner.lock();
        Learnt { algorithm: learner.config.rule.0.name(), base: learner.base, latency: learner.latency }
    }

    /// Takes a place if there is one.
    #[inline]
    pub(super) fn take(&self, now: &mut Moment) -> Result<Ticket, Rejection> {
        self.take_free(now).ok_or_else(|| self.refuse())
    }

    /// Takes a place if one is free.
    #[inline]
    pub(super) fn take_free(&self, now: &mut Moment) -> Option<Ticket> {
        let mut running = self.in_flight.load(Relaxed);
        // Not an addition that is taken back when it was one too many: others would be turned away for it meanwhile.
        while running < self.limit.load(Relaxed) {
            match self.in_flight.compare_exchange_weak(running, running + 1, AcqRel, Relaxed) {
                Ok(_) => return Some(Ticket { began: now.tick(), in_flight: running + 1 }),
                Err(other) => running = other,
            }
        }
        None
    }

    #[cold]
    fn refuse(&self) -> Rejection {
        self.rejected.fetch_add(1, Relaxed);
        let rejection = Rejection::new(Reason::Overloaded, self.name.clone());
        self.sink.tell(&self.name, || Event::Rejected(&rejection));
        rejection
    }

    /// Gives the place back, and learns from the end of the call if that says something about capacity.
    #[inline]
    pub(super) fn settle(&self, ticket: &Ticket, verdict: Verdict, now: &mut Moment) {
        // The most it saw: those that ran when it began, and those that came since.
        let in_flight = self.in_flight.fetch_sub(1, Release).max(ticket.in_flight);
        let end = Ticket { in_flight, ..*ticket };
        match verdict {
            Verdict::Success => self.note(&end, Some(now.tick().nanos_since(ticket.began)), now),
            Verdict::Failure { retry_after } if retry_after.is_some() || self.is_drop(ticket, now) => {
                self.note(&end, None, now);
            }
            Verdict::Failure { .. }
            | Verdict::Ignored
            | Verdict::Cancelled
            | Verdict::BrokenOff { .. }
            | Verdict::Unused => {}
        }
    }

    fn is_drop(&self, ticket: &Ticket, now: &mut Moment) -> bool {
        self.every_failure.load(Relaxed) || now.tick().nanos_since(ticket.began) > self.usual.load(Relaxed)
    }

    #[inline]
    fn note(&self, ticket: &Ticket, latency: Option<u64>, now: &mut Moment) {
        if ticket.began.as_nanos() < self.since.load(Relaxed) {
            return;
        }
        if latency.is_none() {
            self.dropped.fetch_add(1, Relaxed);
        }
        self.tallies.add_in(Seat::here(), latency, ticket.in_flight);
        if now.tick().as_nanos() >= self.due.load(Relaxed) {
            self.close(now.tick());
        }
    }

    /// Closes the window, if nobody else does and it has enough calls.
    #[cold]
    fn close(&self, now: Tick) {
        let Some(mut question) = self.collect(now) else { return };
        let Question { algorithm, limit, sample, .. } = &mut question;
        let answer = catch_unwind(AssertUnwindSafe(|| {
            (algorithm.next_limit(*limit, sample), algorithm.base_latency(), algorithm.measures())
        }));
        if answer.is_err() {
            tracing::error!(policy = self.name.as_str(), "the algorithm panicked; the limit stays as it is");
        }
        let mut learner = self.learner.lock();
        if learner.generation != question.generation {
            // Its end is its own code too.
            drop(learner);
            drop(question);
            return;
        }
        learner.algorithm = Some(question.algorithm);
        let Ok((answer, base, measures)) = answer else { return };
        // What a measurement was made under is no use of the limit that comes after.
        let idle = question.sample.is_idle(question.limit) && learner.measures.is_none();
        let limit = bounded(answer, question.limit, idle, &learner.config);
        learner.base = base;
        self.open(&mut learner, limit, measures, now);
    }

    /// What the window has shown, and who is to be asked about it.
    fn collect(&self, now: Tick) -> Option<Question> {
        let mut learner = self.learner.try_lock()?;
        if learner.algorithm.is_none() || now.as_nanos() < self.due.load(Relaxed) {
            return None;
        }
        if self.tallies.calls() < learner.measures.unwrap_or(learner.config.min_calls) {
            self.go_on(&mut learner, now);
            return None;
        }
        let Learner { sum, config, .. } = &mut *learner;
        self.tallies.close(sum);
        let latency = sum.percentile(config.percentile).map(Duration::from_nanos);
        if let Some(usual) = sum.percentile(USUAL) {
            self.usual.store(usual, Relaxed);
        }
        let overloaded = f64::from(sum.dropped) > f64::from(sum.calls) * config.tolerated_drops;
        let sample = Sample {
            at: now,
            latency,
            in_flight: sum.in_flight,
            calls: sum.calls,
            dropped: sum.dropped,
            overloaded,
            random: random(),
        };
        learner.latency = latency.or(learner.latency);
        self.begin(&mut learner, now);
        let algorithm = learner.algorithm.take()?;
        Some(Question { algorithm, generation: learner.generation, limit: learner.limit, sample })
    }

    /// The window has not enough calls yet. The next call looks again: where calls are that rare, it may. They are not
    /// rare where some were turned away: then the limit itself keeps the window from being full, and what it holds is
    /// never too old, or a low limit on a slow service would stay where it is for ever.
    fn go_on(&self, learner: &mut Learner, now: Tick) {
        let too_old = now.since(learner.opened) > learner.config.window.saturating_mul(TOO_OLD);
        if too_old && learner.measures.is_none() && self.rejected() == learner.rejected {
            self.tallies.forget();
            self.begin(learner, now);
        }
    }

    fn begin(&self, learner: &mut Learner, now: Tick) {
        learner.opened = now;
        learner.rejected = self.rejected();
        let due = if learner.measures.is_some() { 0 } else { (now + learner.config.window).as_nanos() };
        self.due.store(due, Relaxed);
    }

    /// A window begins with this limit, or a measurement.
    fn open(&self, learner: &mut Learner, limit: f64, measures: Option<u32>, now: Tick) {
        if measures.is_some() && learner.measures.is_none() {
            // Calls that run already came in under another limit.
            self.since.store(now.as_nanos(), Relaxed);
            self.tallies.forget();
        }
        learner.limit = limit;
        learner.measures = measures;
        self.limit.store(limit as u32, Relaxed);
        self.begin(learner, now);
    }

    /// Takes over settings. What the algorithm has learnt is kept, unless it is another one. Calls that run go on.
    pub(super) fn set(&self, config: Config) {
        let limit = bounded(self.learner.lock().limit, config.initial.into(), false, &config);
        let fresh = Fresh::new(&config, limit);
        let mut learner = self.learner.lock();
        self.every_failure.store(config.drops == Drops::Every, Relaxed);
        let (stays, now) = (learner.config.rule == config.rule, Tick::now());
        let before = std::mem::replace(&mut learner.config, config);
        let algorithm = if stays {
            let limit = bounded(learner.limit, learner.limit, false, &learner.config);
            let measures = learner.measures;
            self.open(&mut learner, limit, measures, now);
            Some(fresh.algorithm)
        } else {
            learner.generation += 1;
            learner.base = None;
            let replaced = learner.algorithm.replace(fresh.algorithm);
            self.open(&mut learner, fresh.limit, fresh.measures, now);
            replaced
        };
        drop(learner);
        // Both may be anybody's code.
        drop((before, algorithm));
    }
}

impl Learner {
    fn new(config: Config, algorithm: Box<dyn Algorithm>, opened: Tick) -> Self {
        Self {
            limit: config.initial.into(),
            config,
            algorithm: Some(algorithm),
            generation: 0,
            opened,
            rejected: 0,
            measures: None,
            sum: Sum::default(),
            base: None,
            latency: None,
        }
    }
}

impl fmt::Debug for Learner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learner").field("config", &self.config).field("limit", &self.limit).finish_non_exhaustive()
    }
}
