//! The whole stack and the fleet, simulated: random settings, random services, callers that give up at random polls,
//! clocks that jump, settings that change under traffic, all in virtual time and all repeated by a seed.
//!
//! `MAINSTAY_SEEDS=1000 cargo test --release --test simulation` runs so many; `MAINSTAY_SEED=7 …` repeats one.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(unreachable_pub, reason = "modules of a test have nobody to be public for")]

mod caller;
mod check;
mod face;
mod plan;
mod random;
mod run;
mod service;
mod setup;
mod stack;

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
