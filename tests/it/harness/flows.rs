//! Streams: what is watched, and given up after any number of pieces.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
};

use futures_core::Stream;
use mainstay::{
    contract::Instance,
    discovery::{Changes, Discovery, InMemory},
};

use super::discovery::users;
use crate::support::*;

fn user(number: u32) -> Instance {
    Instance::new("users", &format!("users-{number}"), "10.0.0.7", 80).unwrap()
}

/// Polls a stream so often, while instances come, and drops it; nobody watches then.
async fn dropped_after_every_piece<S: Stream + Unpin>(make: impl Fn(mainstay::discovery::Watch) -> S) {
    for polls in 0..6 {
        let memory = InMemory::new();
        memory.register(user(0), ms(3_600_000)).await.unwrap();
        let mut stream = make(memory.watch(&users()).await.unwrap());
        for number in 1..=polls {
            let mut next = Box::pin(poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)));
            let polled = next.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            drop(next);
            if polled.is_pending() {
                memory.register(user(number), ms(3_600_000)).await.unwrap();
            }
        }
        assert_eq!(memory.snapshot().watchers, 1, "{polls}");
        drop(stream);
        assert_eq!(memory.snapshot().watchers, 0, "{polls}");
        // Changes go on, and the next who watches hears of them.
        memory.register(user(99), ms(3_600_000)).await.unwrap();
        let mut next = make(memory.watch(&users()).await.unwrap());
        assert!(poll_fn(|cx| Pin::new(&mut next).poll_next(cx)).await.is_some(), "{polls}: at once");
    }
}

pub(super) async fn watch() {
    dropped_after_every_piece(|watch| watch).await;
}

pub(super) async fn changes() {
    dropped_after_every_piece(|watch| Changes::new(watch, |instance| instance)).await;
}
