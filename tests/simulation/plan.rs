//! What happens to a stack, step by step.

use std::{rc::Rc, time::Duration};

use mainstay::{concurrency, load_shed};

use crate::{
    ms,
    random::Random,
    service::{Behaviour, Falling, Weather},
    setup::{self, Circuit, Places, Rate, Setup},
};

/// How a call is made.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// Through a clone of the service that lives until the answer.
    Service,
    /// Through one that is dropped once it was called.
    Passing,
    /// By an operation without a request.
    Run,
}

/// What is taken by hand.
#[derive(Debug, Clone, Copy)]
pub enum Taken {
    Circuit,
    Place,
    PlaceInTime,
    Shed,
    ShedInTime,
    Limit,
    TurnInTime,
    Readiness,
}

#[derive(Debug, Clone, Copy)]
pub enum Switch {
    ForceOpen,
    Disable,
    OnlyMeasure,
    Reset,
    OpenFor(Duration),
    SaveAndRestore,
}

/// Numbers that pick one of many are taken modulo how many there are, so that a plan with steps left out is a plan.
#[derive(Debug, Clone)]
pub enum Step {
    Call {
        by: By,
        script: Rc<[Behaviour]>,
        clones: bool,
        patience: Option<u32>,
    },
    Take(Taken),
    Release(u64, u32),
    /// One of those that were woken.
    Poll(u64),
    /// One that was not woken.
    PollIdle(u64),
    /// Polls until nobody is woken.
    Settle,
    Drop(u64),
    DropAll,
    Advance(Duration),
    Ready(bool),
    Fall(Falling),
    Observers(bool),
    Switch(Switch),
    Bulkhead(Places),
    Breaker(Circuit),
    RateLimit(Rate),
    LoadShed(load_shed::Config),
    Concurrency(concurrency::Config),
    Timeouts(Duration, Duration),
}

/// The kinds of steps, to be drawn.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Call,
    Take,
    Release,
    Poll,
    PollIdle,
    Settle,
    Drop,
    DropAll,
    Advance,
    Ready,
    Fall,
    Observers,
    Switch,
    Reconfigure,
}

const KINDS: [(u64, Kind); 14] = [
    (220, Kind::Call),
    (30, Kind::Take),
    (45, Kind::Release),
    (260, Kind::Poll),
    (60, Kind::PollIdle),
    (90, Kind::Settle),
    (60, Kind::Drop),
    (6, Kind::DropAll),
    (180, Kind::Advance),
    (12, Kind::Ready),
    (12, Kind::Fall),
    (4, Kind::Observers),
    (8, Kind::Switch),
    (12, Kind::Reconfigure),
];

pub fn drawn(random: &mut Random, setup: &Setup) -> Vec<Step> {
    let mut weather = Weather::Fair;
    let count = random.within(20..300);
    let step = |_| {
        if random.percent(4) {
            weather = random.one_of(&[Weather::Fair, Weather::Fair, Weather::Slow, Weather::Foul]);
        }
        step(random, setup, weather)
    };
    (0..count).map(step).collect()
}

fn step(random: &mut Random, setup: &Setup, weather: Weather) -> Step {
    match random.weighted(&KINDS) {
        Kind::Call => {
            let attempts = random.within(1..5);
            Step::Call {
                by: random.weighted(&[(5, By::Service), (2, By::Passing), (3, By::Run)]),
                script: (0..attempts).map(|_| Behaviour::drawn(random, weather)).collect(),
                clones: random.percent(99),
                patience: random.maybe(15, |random| random.small(0..6)),
            }
        }
        Kind::Take => Step::Take(random.one_of(&[
            Taken::Circuit,
            Taken::Place,
            Taken::PlaceInTime,
            Taken::Shed,
            Taken::ShedInTime,
            Taken::Limit,
            Taken::TurnInTime,
            Taken::Readiness,
        ])),
        Kind::Release => Step::Release(random.number(), random.small(0..3)),
        Kind::Poll => Step::Poll(random.number()),
        Kind::PollIdle => Step::PollIdle(random.number()),
        Kind::Settle => Step::Settle,
        Kind::Drop => Step::Drop(random.number()),
        Kind::DropAll => Step::DropAll,
        Kind::Advance => Step::Advance(jump(random)),
        Kind::Ready => Step::Ready(random.percent(70)),
        Kind::Fall => Step::Fall(falling(random)),
        Kind::Observers => Step::Observers(random.percent(50)),
        Kind::Switch => Step::Switch(switch(random)),
        Kind::Reconfigure => reconfigure(random, setup),
    }
}

/// Mostly short, at times long, and once in a while for hours: a machine that was suspended.
pub fn jump(random: &mut Random) -> Duration {
    match random.within(0..100) {
        0..60 => ms(random.within(1..20)),
        60..90 => random.time(300),
        90..99 => random.time(5_000),
        _ => ms(6 * 3_600_000) + random.time(100_000),
    }
}

fn falling(random: &mut Random) -> Falling {
    let waits = Falling::Waits(random.time(50));
    random.one_of(&[
        Falling::Answers,
        Falling::Answers,
        Falling::Fails,
        waits,
        Falling::Panics,
        Falling::PanicsLater,
        Falling::Hangs,
    ])
}

fn switch(random: &mut Random) -> Switch {
    let period = random.time(500);
    random.weighted(&[
        (2, Switch::ForceOpen),
        (1, Switch::Disable),
        (1, Switch::OnlyMeasure),
        (4, Switch::Reset),
        (2, Switch::OpenFor(period)),
        (2, Switch::SaveAndRestore),
    ])
}

fn reconfigure(random: &mut Random, setup: &Setup) -> Step {
    match random.within(0..6) {
        0 => Step::Bulkhead(setup::places(random)),
        1 => Step::Breaker(setup::circuit(random, setup.exact)),
        2 => Step::RateLimit(setup::rate(random)),
        3 => Step::LoadShed(setup::load_shed(random)),
        4 => Step::Concurrency(setup::concurrency(random)),
        _ => {
            let attempt = random.time(300);
            Step::Timeouts(attempt + ms(20) + random.time(2_000), attempt)
        }
    }
}
