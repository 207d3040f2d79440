//! A layer calls the service only when it was ready, on that very clone.

use std::sync::atomic::AtomicBool;

use mainstay::{
    fallback::Fallback,
    stack::{ResponseFuture, StackService},
};
use tokio_test::{assert_pending, assert_ready, task};
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

#[tokio::test(start_paused = true)]
async fn a_stack_of_everything_does_too() {
    let stack = all().build();
    assert_contract(stack.breaker().unwrap(), stack.layer()).await;
    let (breaker, layer) = stack_of_one_breaker();
    assert_contract(&breaker, layer.clone()).await;
    let both = tower::ServiceBuilder::new().layer(stack.layer()).layer(layer);
    assert_contract(stack.breaker().unwrap(), both).await;
    let with_fallback = all().fallback(Fallback::service(Strict::new().0)).build();
    assert_contract(with_fallback.breaker().unwrap(), with_fallback.layer()).await;
}

fn stack_of_one_breaker() -> (Handle, StackLayer<Classified<OnError>, NoFallback, Once>) {
    let stack = Stack::builder("shop").breaker(consecutive(2)).build();
    (stack.breaker().unwrap().clone(), stack.layer())
}

/// Fails every other call, those that are first tried. The service inside insists on the contract.
#[derive(Clone)]
struct Flaky(Strict, Arc<AtomicBool>);

impl Service<u32> for Flaky {
    type Response = <Strict as Service<u32>>::Response;
    type Error = Error<Infallible>;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let answer = self.0.call(request);
        let fails = !self.1.fetch_xor(true, SeqCst);
        let failure = mainstay::Rejection::new(mainstay::Reason::NoInstance, mainstay::Name::new("inside").unwrap());
        if fails { ready(Err(Error::Rejected(failure))) } else { answer }
    }
}

#[tokio::test(start_paused = true)]
async fn further_attempts_are_made_with_a_service_that_was_asked() {
    let retry = retry::Config::new().retry_on([mainstay::Reason::NoInstance]);
    let stack = Stack::builder("shop").retry(retry).bulkhead(bulkhead::Config::new(1)).build();
    let (strict, calls) = Strict::new();
    let mut service = stack.layer().layer(Flaky(strict, Arc::default()));
    for n in 1..=4 {
        assert!(service.ready().await.unwrap().call(1).await.is_ok());
        assert_eq!(calls.load(SeqCst), 2 * n, "one fails, and one is made again");
    }
}

type Call = task::Spawn<ResponseFuture<Strict, u32, Classified<OnError>, NoFallback, Once>>;

#[tokio::test(start_paused = true)]
async fn calls_that_wait_take_the_readied_service_along() {
    let places = Stack::builder("shop").bulkhead(bulkhead::Config::new(1).max_queue(8).max_wait(ms(1_000))).build();
    let turns = Stack::builder("shop").rate_limit(rate_limit::Config::new(1, ms(10)).max_wait(ms(1_000))).build();
    for stack in [places, turns] {
        let (strict, calls) = Strict::new();
        let mut service: StackService<Strict, _, _, _> = stack.layer().layer(strict);
        let place = stack.bulkhead().map(|places| places.try_acquire().unwrap());
        let turn = stack.rate_limit().map(|turns| turns.try_acquire().unwrap());
        let mut waiting: Vec<Call> = Vec::new();
        for _ in 0..4 {
            waiting.push(task::spawn(service.ready().await.unwrap().call(1)));
        }
        waiting.iter_mut().for_each(|call| assert_pending!(call.poll().map(|_| ())));
        drop((place, turn, waiting.remove(1)));
        for call in &mut waiting {
            advance(ms(20)).await;
            assert!(assert_ready!(call.poll()).is_ok());
        }
        assert_eq!(calls.load(SeqCst), 3);
    }
}

#[test]
fn the_service_here_does_tell_a_layer_that_breaks_the_contract() {
    let (mut strict, _) = Strict::new();
    assert!(panics(move || drop(strict.call(1))));
}
