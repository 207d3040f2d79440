//! The whole stack and the fleet, simulated: random settings, random services, callers that give up at random polls,
//! clocks that jump, settings that change under traffic, all in virtual time and all repeated by a seed.
//!
//! `MAINSTAY_SEEDS=1000 cargo test --release --test simulation` runs so many; `MAINSTAY_SEED=7 …` repeats one.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(unreachable_pub, reason = "modules of a test have nobody to be public for")]

mod caller;
mod check;
mod face;
mod fleet;
mod fleet_plan;
mod plan;
mod random;
mod run;
mod service;
mod setup;
mod stack;
mod truth;

use std::time::Duration;

use run::{Diary, Simulation, Wrong};

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One stack, all its policies, and many callers.
struct Stacks;

impl Simulation for Stacks {
    const NAME: &'static str = "stacks";
    type Setup = setup::Setup;
    type Step = plan::Step;

    fn drawn(random: &mut random::Random) -> (setup::Setup, Vec<plan::Step>) {
        let setup = setup::Setup::drawn(random);
        let steps = plan::drawn(random, &setup);
        (setup, steps)
    }

    fn simpler(setup: &setup::Setup) -> Vec<setup::Setup> {
        setup.simpler()
    }

    async fn run(setup: &setup::Setup, steps: &[plan::Step], diary: &Diary) -> Result<(), Wrong> {
        let mut world = stack::World::new(setup, diary);
        for step in steps {
            diary.note(|| format!("{step:?}"));
            world.step(step).await?;
            world.check()?;
        }
        world.drain().await?;
        world.recover().await
    }
}

#[test]
fn stacks_keep_their_word() {
    run::seeds::<Stacks>();
}

/// A service with instances that come and go, called through a client and an isolation manager.
struct Fleets;

impl Simulation for Fleets {
    const NAME: &'static str = "fleets";
    type Setup = fleet_plan::FleetSetup;
    type Step = fleet_plan::FleetStep;

    fn drawn(random: &mut random::Random) -> (fleet_plan::FleetSetup, Vec<fleet_plan::FleetStep>) {
        (fleet_plan::setup(random), fleet_plan::drawn(random))
    }

    fn simpler(setup: &fleet_plan::FleetSetup) -> Vec<fleet_plan::FleetSetup> {
        fleet_plan::simpler(setup)
    }

    async fn run(setup: &fleet_plan::FleetSetup, steps: &[fleet_plan::FleetStep], diary: &Diary) -> Result<(), Wrong> {
        let mut fleet = fleet::Fleet::new(setup, diary);
        for step in steps {
            diary.note(|| format!("{step:?}"));
            fleet.step(step).await?;
            fleet.check()?;
        }
        fleet.drain().await?;
        fleet.recover().await?;
        fleet.end().await
    }
}

#[test]
fn fleets_keep_their_word() {
    run::seeds::<Fleets>();
}
