//! The cases.

use crate::{
    case::{Case, Side, service},
    upstream::{Down, Manner, Upstream},
};

mod breaker;
mod clock;
pub mod keyed;
mod limits;
mod pick;
mod retry;
mod stack;
mod tenants;
pub mod window;

/// All that are measured in each run, in the order of the table.
pub fn all() -> Vec<Case> {
    [
        clock::cases(),
        breaker::cases(),
        limits::cases(),
        retry::cases(),
        window::cases(),
        stack::cases(),
        keyed::cases(),
        tenants::cases(),
        pick::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn bare(manner: Manner) -> Side {
    service("bare", Upstream::<Down>::new(manner))
}
