//! A layer calls the service only when it was ready, on that very clone.

use tower::{Service, util::BoxCloneSyncService};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_breaker_calls_the_clone_that_was_ready() {
    let (breaker, layer) = breaker();
    assert_contract(&breaker, layer).await;
}

#[tokio::test(start_paused = true)]
async fn a_breaker_over_a_breaker_does_too() {
    let (breaker, layer) = breaker();
    let both = tower::ServiceBuilder::new().layer(layer.clone()).layer(layer);
    assert_contract(&breaker, both).await;
}

#[tokio::test(start_paused = true)]
async fn a_breaker_in_a_box_does_too() {
    let (breaker, layer) = breaker();
    assert_contract(&breaker, tower::layer::layer_fn(move |strict| BoxCloneSyncService::new(layer.layer(strict))))
        .await;
}

#[test]
fn the_service_here_does_tell_a_layer_that_breaks_the_contract() {
    let (mut strict, _) = Strict::new();
    assert!(panics(move || drop(strict.call(1))));
}
