//! What happens to a fleet: which settings it has, and what is done step by step.

use std::{sync::Arc, time::Duration};

use mainstay::{
    balance::{self, Outlier, SlowStart},
    client::{self, PickBy},
    contract::HealthStatus,
    isolation::{self, Level},
};

use crate::{
    ms,
    plan::jump,
    random::Random,
    service::{Behaviour, End, Weather},
    setup::{self, Setup},
};

#[derive(Debug, Clone)]
pub struct FleetSetup {
    pub client: client::Config,
    pub isolation: isolation::Config,
}

/// By what a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Client,
    /// As a task of its own.
    Task,
    Manager,
}

/// Instances are picked by numbers modulo how many there are, calls too.
#[derive(Debug, Clone)]
pub enum FleetStep {
    Call {
        via: Via,
        script: Arc<[Behaviour]>,
        patience: Option<u32>,
    },
    Poll(u64),
    Settle,
    Drop(u64),
    DropAll,
    Advance(Duration),
    /// One of eight instances, with a lease of so long.
    Join(u64, Duration),
    Leave(u64),
    Heartbeat(u64),
    Drain(u64, bool),
    Health(u64, HealthStatus),
    /// What an instance does with all calls from now on.
    Fate(u64, Option<End>),
    Eject(u64),
    Readmit(u64),
    Level(Level),
    /// Whether the fallback answers.
    Fallback(bool),
    ServiceHealth(HealthStatus),
    /// The service is unregistered from the manager, and registered again.
    Anew,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Call,
    Poll,
    Settle,
    Drop,
    DropAll,
    Advance,
    Join,
    Leave,
    Heartbeat,
    Drain,
    Health,
    Fate,
    Eject,
    Readmit,
    Level,
    Fallback,
    ServiceHealth,
    Anew,
}

const KINDS: [(u64, Kind); 18] = [
    (250, Kind::Call),
    (220, Kind::Poll),
    (90, Kind::Settle),
    (50, Kind::Drop),
    (6, Kind::DropAll),
    (150, Kind::Advance),
    (60, Kind::Join),
    (25, Kind::Leave),
    (25, Kind::Heartbeat),
    (15, Kind::Drain),
    (20, Kind::Health),
    (20, Kind::Fate),
    (8, Kind::Eject),
    (8, Kind::Readmit),
    (25, Kind::Level),
    (12, Kind::Fallback),
    (12, Kind::ServiceHealth),
    (4, Kind::Anew),
];

pub fn setup(random: &mut Random) -> FleetSetup {
    FleetSetup { client: client_config(random), isolation: isolation_config(random) }
}

/// The same with less in it.
pub fn simpler(setup: &FleetSetup) -> Vec<FleetSetup> {
    let (client, isolation) = (client::Config::new().stack(mainstay::stack::Config::new()), isolation::Config::new());
    let is_plain = |text: String, plain: String| text == plain;
    let mut simpler = Vec::new();
    if !is_plain(format!("{:?}", setup.client), format!("{client:?}")) {
        simpler.push(FleetSetup { client, ..setup.clone() });
    }
    if !is_plain(format!("{:?}", setup.isolation), format!("{isolation:?}")) {
        simpler.push(FleetSetup { isolation, ..setup.clone() });
    }
    simpler
}

fn client_config(random: &mut Random) -> client::Config {
    loop {
        let picks = [PickBy::LeastLoaded, PickBy::PeakEwma, PickBy::RoundRobin, PickBy::Random, PickBy::Weighted];
        let config = client::Config::new()
            .stack(Setup::drawn(random).policies)
            .balance(balance(random))
            .pick_by(random.one_of(&picks))
            .first_wait(random.time(500));
        if config.check().is_ok() {
            return config;
        }
    }
}

fn balance(random: &mut Random) -> balance::Config {
    let mut config = balance::Config::new().panic_threshold(random.share());
    if random.percent(50) {
        config = config.breaker(setup::circuit(random, false).config);
    }
    if random.percent(30) {
        config = config.slow_start(SlowStart::new(random.time(2_000)));
    }
    let outlier = Outlier::new()
        .consecutive_failures(random.small(1..6))
        .interval(random.time(1_000))
        .min_calls(random.within(1..10))
        .min_instances(random.small(1..4))
        .max_ejected(random.share());
    let time = random.time(1_000);
    config.outlier(if random.percent(70) { outlier.eject_cap(time * 4).eject_for(time) } else { Outlier::off() })
}

fn isolation_config(random: &mut Random) -> isolation::Config {
    loop {
        let (whole, attempt) = (ms(20) + random.time(2_000), random.time(300));
        let mut config = isolation::Config::new().timeout(whole.max(attempt)).attempt_timeout(attempt);
        config = config.level(random.one_of(&Level::ALL));
        if random.percent(60) {
            config = config.breaker(setup::circuit(random, false).config);
        }
        if random.percent(60) {
            config = config.bulkhead(setup::places(random).config);
        }
        if random.percent(40) {
            config = config.rate_limit(setup::rate(random).config);
        }
        if random.percent(40) {
            config = config.load_shed(setup::load_shed(random));
        }
        if config.check().is_ok() {
            return config;
        }
    }
}

pub fn drawn(random: &mut Random) -> Vec<FleetStep> {
    let mut weather = Weather::Fair;
    let count = random.within(20..250);
    let begin = (0..3).map(|n| FleetStep::Join(n, ms(60_000)));
    let step = |_| {
        if random.percent(4) {
            weather = random.one_of(&[Weather::Fair, Weather::Fair, Weather::Slow, Weather::Foul]);
        }
        step(random, weather)
    };
    begin.chain((0..count).map(step)).collect()
}

fn step(random: &mut Random, weather: Weather) -> FleetStep {
    use HealthStatus::{Degraded, Healthy, Unhealthy};
    let which = random.number();
    match random.weighted(&KINDS) {
        Kind::Call => {
            let attempts = random.within(1..5);
            FleetStep::Call {
                via: random.weighted(&[(4, Via::Client), (1, Via::Task), (4, Via::Manager)]),
                script: (0..attempts).map(|_| Behaviour::drawn(random, weather)).collect(),
                patience: random.maybe(15, |random| random.small(0..6)),
            }
        }
        Kind::Poll => FleetStep::Poll(which),
        Kind::Settle => FleetStep::Settle,
        Kind::Drop => FleetStep::Drop(which),
        Kind::DropAll => FleetStep::DropAll,
        Kind::Advance => FleetStep::Advance(jump(random)),
        Kind::Join => FleetStep::Join(which, random.time(20_000)),
        Kind::Leave => FleetStep::Leave(which),
        Kind::Heartbeat => FleetStep::Heartbeat(which),
        Kind::Drain => FleetStep::Drain(which, random.percent(60)),
        Kind::Health => FleetStep::Health(which, random.one_of(&[Healthy, Healthy, Degraded, Unhealthy])),
        Kind::Fate => FleetStep::Fate(which, fate(random)),
        Kind::Eject => FleetStep::Eject(which),
        Kind::Readmit => FleetStep::Readmit(which),
        Kind::Level => FleetStep::Level(random.one_of(&Level::ALL)),
        Kind::Fallback => FleetStep::Fallback(random.percent(70)),
        Kind::ServiceHealth => FleetStep::ServiceHealth(random.one_of(&[Healthy, Healthy, Degraded, Unhealthy])),
        Kind::Anew => FleetStep::Anew,
    }
}

fn fate(random: &mut Random) -> Option<End> {
    random.weighted(&[(4, None), (3, Some(End::Fails)), (1, Some(End::Hangs)), (1, Some(End::Panics))])
}
