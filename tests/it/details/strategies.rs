//! Fallbacks for some failures only, around strategies that remember.

use std::{future::ready, sync::Arc};

use mainstay::{
    Error, Name, Reason, Rejection,
    fallback::{CacheConfig, Fallback, FallbackLayer, Handle, LastGood, Store, Strategy},
};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

fn full() -> Answer {
    Err(Error::Rejected(Rejection::new(Reason::BulkheadFull, Name::new("below").unwrap())))
}

async fn ask(strategy: impl Strategy<u32, u32, Error<Boom>>, answer: Answer) -> Answer {
    FallbackLayer::new(Handle::new("x"), strategy)
        .layer(service_fn(move |_: u32| ready(answer.clone())))
        .oneshot(1)
        .await
}

#[tokio::test(start_paused = true)]
async fn a_cache_behind_a_condition_hears_of_good_answers() {
    let store = Arc::new(LastGood::new(CacheConfig::new()));
    let cached = || Fallback::stored(Arc::clone(&store), |key: &u32| Some(*key));
    assert_eq!(ask(cached().on([Reason::BulkheadFull]), Ok(7)).await, Ok(7));
    assert_eq!(Store::get(&store, &1), Some(7), "through the condition and the shared pointer");
    assert_eq!(ask(cached().on([Reason::BulkheadFull]), full()).await, Ok(7));
    assert_eq!(ask(cached().on([Reason::TimedOut]), full()).await, full(), "for another reason");
    advance(ms(1_000)).await;
    assert_eq!(ask(cached().when(|error: &Error<Boom>| matches!(error, Error::Inner(_))), Ok(8)).await, Ok(8));
    assert_eq!(Store::get(&store, &1), Some(8));
    let own = || cached().when(|error: &Error<Boom>| matches!(error, Error::Inner(_)));
    assert_eq!(ask(own(), Err(Error::Inner(Boom))).await, Ok(8));
    assert_eq!(ask(own(), full()).await, full());
    advance(ms(1_000)).await;
    Store::put(&store, &1, &9);
    assert_eq!((store.len(), store.is_empty()), (1, false));
    assert_eq!(ask(own(), Err(Error::Inner(Boom))).await, Ok(9));
    store.clear();
    assert_eq!((store.len(), store.is_empty()), (0, true));
}

#[tokio::test]
async fn chains_behind_a_condition_go_on() {
    let never = || Fallback::run(|_: &Error<Boom>| ready(Err::<u32, _>(Error::Inner(Boom))));
    let chain = || never().or(Fallback::value(5));
    assert_eq!(ask(chain(), full()).await, Ok(5));
    assert_eq!(ask(chain().on([Reason::BulkheadFull]), full()).await, Ok(5));
    assert_eq!(ask(chain().when(|_: &Error<Boom>| true), full()).await, Ok(5));
    assert_eq!(ask(never().on([Reason::BulkheadFull]).or(Fallback::value(6)), full()).await, Ok(6));
    assert_eq!(ask(chain().when(|_: &Error<Boom>| false), full()).await, full());
}

#[tokio::test]
async fn what_was_kept_has_the_settings_it_was_given() {
    let config = CacheConfig::new().max_entries(64).max_age(ms(5)).refresh(ms(1));
    let store: LastGood<u32, u32> = LastGood::new(config);
    assert_eq!(store.config(), config);
    for key in 0..1_000 {
        Store::put(&store, &key, &key);
    }
    assert!((1..=64).contains(&store.len()), "{}", store.len());
}
