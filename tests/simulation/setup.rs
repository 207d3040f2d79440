//! What a stack is made of: any policies, with any settings that can be.

use std::time::Duration;

use mainstay::{
    Reason,
    admission::Readiness,
    breaker, bulkhead, concurrency, hedge, load_shed, rate_limit,
    retry::{self, Backoff, BudgetConfig, Jitter},
    stack,
};

use crate::{ms, random::Random};

/// Settings of a bulkhead, and what of them the checks have to know.
#[derive(Debug, Clone)]
pub struct Places {
    pub config: bulkhead::Config,
    /// Whether calls may wait for a place, or for readiness.
    pub waits: bool,
}

#[derive(Debug, Clone)]
pub struct Circuit {
    pub config: breaker::Config,
    pub probes: u32,
    pub half_open_for: Duration,
    pub waits: bool,
}

#[derive(Debug, Clone)]
pub struct Rate {
    pub config: rate_limit::Config,
    pub burst: u32,
    /// From one call to the next.
    pub every: Duration,
}

/// So much of a retry for each call, so many in a second for nothing, and so many saved at most.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub ratio: f64,
    pub floor: u32,
    pub cap: u32,
}

#[derive(Debug, Clone)]
pub struct Setup {
    pub policies: stack::Config,
    pub places: Option<Places>,
    pub circuit: Option<Circuit>,
    pub rate: Option<Rate>,
    pub retries: Option<Allowance>,
    pub hedges: Option<Allowance>,
    pub falls_back: bool,
    /// Every time is a whole number of milliseconds, so that timers end when they say and not up to one later.
    pub exact: bool,
}

impl Setup {
    pub fn drawn(random: &mut Random) -> Self {
        let exact = random.percent(60);
        loop {
            let mut policies = stack::Config::new();
            let (places, circuit) = (random.maybe(70, places), random.maybe(70, |random| circuit(random, exact)));
            let rate = random.maybe(30, rate);
            let (retries, hedges) = (random.maybe(70, Allowance::drawn), random.maybe(50, Allowance::drawn));
            policies.load_shed = random.maybe(30, load_shed);
            policies.rate_limit = rate.as_ref().map(|rate| rate.config);
            policies.timeout = random.maybe(60, |random| ms(20) + random.time(2_000));
            policies.retry = random.maybe(60, |random| retry(random, exact, retries));
            policies.hedge = random.maybe(30, |random| hedge(random, exact, hedges));
            policies.breaker = circuit.as_ref().map(|circuit| circuit.config.clone());
            policies.concurrency = random.maybe(25, concurrency);
            policies.bulkhead = places.as_ref().map(|places| places.config.clone());
            policies.attempt_timeout = random.maybe(50, |random| random.time(300));
            if policies.check().is_ok() {
                let falls_back = random.percent(40);
                return Self { policies, places, circuit, rate, retries, hedges, falls_back, exact };
            }
        }
    }

    /// The same with less in it, for a failure that is to be told in short.
    pub fn simpler(&self) -> Vec<Self> {
        let without = |remove: &dyn Fn(&mut Self)| {
            let mut setup = self.clone();
            remove(&mut setup);
            setup
        };
        let policies = &self.policies;
        let mut simpler = Vec::new();
        let mut push = |there: bool, remove: &dyn Fn(&mut Self)| {
            if there {
                simpler.push(without(remove));
            }
        };
        push(policies.load_shed.is_some(), &|setup| setup.policies.load_shed = None);
        push(policies.rate_limit.is_some(), &|setup| setup.policies.rate_limit = None);
        push(policies.timeout.is_some(), &|setup| setup.policies.timeout = None);
        push(policies.retry.is_some(), &|setup| setup.policies.retry = None);
        push(policies.hedge.is_some(), &|setup| setup.policies.hedge = None);
        push(policies.breaker.is_some(), &|setup| setup.policies.breaker = None);
        push(policies.concurrency.is_some(), &|setup| setup.policies.concurrency = None);
        push(policies.bulkhead.is_some(), &|setup| setup.policies.bulkhead = None);
        push(policies.attempt_timeout.is_some(), &|setup| setup.policies.attempt_timeout = None);
        push(self.falls_back, &|setup| setup.falls_back = false);
        simpler
    }

    /// Whether calls begin as soon as they are let in, and idle clones hold nothing: then what is held can be reckoned
    /// to the last place.
    pub fn is_plain(&self) -> bool {
        let waits = |waits: Option<bool>, there: bool| there && waits == Some(true);
        !waits(self.places.as_ref().map(|places| places.waits), self.policies.bulkhead.is_some())
            && !waits(self.circuit.as_ref().map(|circuit| circuit.waits), self.policies.breaker.is_some())
    }
}

impl Allowance {
    fn drawn(random: &mut Random) -> Self {
        let floor = if random.percent(50) { 0 } else { random.small(1..20) };
        Self { ratio: random.share(), floor, cap: random.small(1..60) }
    }

    fn config(self) -> BudgetConfig {
        BudgetConfig::new().ratio(self.ratio).min_per_second(self.floor).cap(self.cap)
    }
}

fn readiness(random: &mut Random) -> Readiness {
    if random.percent(12) { Readiness::Unready } else { Readiness::Reject }
}

pub fn places(random: &mut Random) -> Places {
    let limit = if random.percent(20) { random.small(16..48) } else { random.small(1..8) };
    let (queues, readiness) = (random.percent(50), readiness(random));
    let mut config = bulkhead::Config::new(limit).readiness(readiness);
    if queues {
        config = config.max_queue(random.small(1..6));
    }
    if random.percent(40) {
        config = config.max_wait(random.time(200));
    }
    if limit > 1 && random.percent(20) {
        config = config.reserve(random.small(1..limit));
    }
    Places { config, waits: queues || readiness == Readiness::Unready }
}

pub fn circuit(random: &mut Random, exact: bool) -> Circuit {
    let (probes, readiness) = (random.small(1..4), readiness(random));
    let mut config = breaker::Config::new().minimum_calls(random.within(1..10)).open_for(random.time(2_000));
    config = if random.percent(50) {
        config.count_window(random.within(10..30) as usize)
    } else {
        config.time_window(ms(10 * random.within(1..200))).buckets(random.one_of(&[1, 2, 5, 10]))
    };
    config = match random.maybe(80, Random::share) {
        Some(rate) => config.failure_rate(rate),
        None => config.no_failure_rate(),
    };
    if random.percent(30) {
        config = config.slow_calls(random.time(100), random.share());
    }
    if random.percent(40) {
        config = config.consecutive_failures(random.within(1..6));
    }
    if random.percent(20) {
        config = config.open_growth(2.0, ms(5_000));
    }
    if !exact && random.percent(50) {
        config = config.open_jitter(random.share());
    }
    config = config.probes(probes).readiness(readiness).wake_up(random.percent(30));
    if random.percent(40) {
        config = config.close_after(random.small(1..5));
    }
    if random.percent(30) {
        config = config.probe_failure_rate(random.share());
    }
    let half_open_for = ms(50) + random.time(1_000);
    config = config.half_open_for(half_open_for);
    if random.percent(20) {
        config = config.count_cancelled_after(random.time(200));
    }
    let config = config.measure_latency(random.percent(50));
    Circuit { config, probes, half_open_for, waits: readiness == Readiness::Unready }
}

pub fn rate(random: &mut Random) -> Rate {
    // Whole milliseconds from one call to the next.
    let (calls, every, burst) = (random.one_of(&[1, 2, 4]), ms(random.within(1..50)), random.small(1..10));
    let config = rate_limit::Config::new(calls, every * calls).burst(burst);
    let config = if random.percent(60) { config.max_wait(random.time(200)) } else { config };
    Rate { config, burst, every }
}

fn retry(random: &mut Random, exact: bool, budget: Option<Allowance>) -> retry::Config {
    let wait = if random.percent(20) { Duration::ZERO } else { random.time(100) };
    let backoff = match random.small(0..3) {
        0 => Backoff::fixed(wait),
        1 => Backoff::linear(wait),
        _ => Backoff::exponential(wait, 2.0),
    };
    let jitter = if exact { Jitter::None } else { random.one_of(&[Jitter::Full, Jitter::Equal, Jitter::Decorrelated]) };
    let mut config = retry::Config::new().attempts(random.small(1..5)).backoff(backoff).jitter(jitter);
    config = match budget {
        Some(budget) => config.budget(budget.config()),
        None => config.no_budget(),
    };
    if random.percent(30) {
        config = config.retry_on([Reason::BulkheadFull, Reason::CircuitOpen, Reason::TimedOut]);
    }
    if random.percent(20) { config.deadline(ms(5) + random.time(500)) } else { config }
}

fn hedge(random: &mut Random, exact: bool, budget: Option<Allowance>) -> hedge::Config {
    let config = hedge::Config::new().attempts(random.small(2..4));
    let config = if exact || random.percent(50) {
        config.delay(ms(random.within(0..60)))
    } else {
        config.percentile(random.one_of(&[50.0, 90.0])).min_samples(random.small(1..10)).min_delay(random.time(20))
    };
    match budget {
        Some(budget) => config.budget(budget.config()),
        None => config.no_budget(),
    }
}

pub fn load_shed(random: &mut Random) -> load_shed::Config {
    let limit = random.small(1..12);
    let mut config = load_shed::Config::new().in_flight(limit);
    if random.percent(50) {
        let target = random.within(1..20);
        let queue = load_shed::QueueDelay::new().target(ms(target)).interval(ms(target + random.within(1..100)));
        config = config.queue_delay(queue.max_queue(random.small(1..8)));
    }
    if random.percent(30) {
        let throttle = load_shed::Throttle::new().k(1.5 + random.share()).min_requests(random.within(1..10));
        config = config.throttle(throttle.window(ms(1_000), 10));
    }
    config
}

pub fn concurrency(random: &mut Random) -> concurrency::Config {
    let config = match random.small(0..3) {
        0 => concurrency::Config::aimd(),
        1 => concurrency::Config::vegas(),
        _ => concurrency::Config::new(),
    };
    let floor = random.small(1..6);
    let ceiling = floor + random.small(0..10);
    let config = config.floor(floor).ceiling(ceiling).initial(random.small(floor..ceiling + 1));
    config.window(random.time(200)).min_calls(random.small(1..10))
}
