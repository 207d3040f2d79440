//! Balance: who gets a call, what becomes of those that cannot take it, and what is known of the instances.

mod cancel;
mod churn;
mod conformance;
mod eject;
mod health;
mod pickers;
mod readiness;
mod settings;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use mainstay::{
    Error, Reason,
    balance::{Balance, Config, Handle, NoSteer, Outlier, Pick, Picker, RoundRobin, Steer},
    contract::{Instance, InstanceId},
    observe::Event,
};
use tower::Service;

pub(crate) use conformance::LEFT_OUT;

use crate::support::{Boom, ms};

type Answer = Result<u32, Error<Boom>>;

/// How a node becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Now,
    Later,
    Fails,
}

/// An instance's service: it answers with its number.
#[derive(Clone)]
struct Node(Arc<Inner>);

struct Inner {
    number: u32,
    ready: Mutex<(Ready, Vec<Waker>)>,
    fails: AtomicBool,
    takes: Mutex<Duration>,
    calls: AtomicUsize,
    // Clones that were asked whether they are ready.
    asked: AtomicUsize,
}

impl Node {
    fn new(number: u32) -> Self {
        Self(Arc::new(Inner {
            number,
            ready: Mutex::new((Ready::Now, Vec::new())),
            fails: AtomicBool::new(false),
            takes: Mutex::default(),
            calls: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        }))
    }

    fn becomes(&self, ready: Ready) {
        let mut state = self.0.ready.lock().unwrap();
        state.0 = ready;
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn fails(&self, fails: bool) {
        self.0.fails.store(fails, SeqCst);
    }

    fn takes(&self, time: Duration) {
        *self.0.takes.lock().unwrap() = time;
    }

    fn calls(&self) -> usize {
        self.0.calls.load(SeqCst)
    }
}

impl Service<u32> for Node {
    type Response = u32;
    type Error = Error<Boom>;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Boom>>> {
        self.0.asked.fetch_add(1, SeqCst);
        let mut state = self.0.ready.lock().unwrap();
        match state.0 {
            Ready::Now => Poll::Ready(Ok(())),
            Ready::Fails => Poll::Ready(Err(Error::Inner(Boom))),
            Ready::Later => {
                state.1.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn call(&mut self, _: u32) -> Self::Future {
        let inner = Arc::clone(&self.0);
        inner.calls.fetch_add(1, SeqCst);
        Box::pin(async move {
            let takes = *inner.takes.lock().unwrap();
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            if inner.fails.load(SeqCst) { Err(Error::Inner(Boom)) } else { Ok(inner.number) }
        })
    }
}

fn instance(number: u32) -> Instance {
    Instance::new("users", &format!("users-{number:02}"), "10.0.0.7", 8_000 + number as u16).unwrap()
}

fn id(number: u32) -> InstanceId {
    instance(number).id().clone()
}

/// A set of healthy nodes.
fn set(config: Config, count: u32) -> (Handle<Node>, Vec<Node>) {
    let (handle, nodes) = (Handle::new("users", config), (0..count).map(Node::new).collect::<Vec<_>>());
    nodes.iter().for_each(|node| handle.insert(Arc::new(instance(node.0.number)), node.clone()));
    (handle, nodes)
}

/// Nobody is ejected, so that a test of something else sees nothing of it.
fn calm() -> Config {
    Config::new().outlier(Outlier::off())
}

/// Updates a member as `change` says.
fn restate(handle: &Handle<Node>, number: u32, change: impl FnOnce(Instance) -> Instance) {
    assert!(handle.update(&Arc::new(change(instance(number)))));
}

async fn call<K, T>(balance: &mut Balance<Node, K, T>) -> Answer
where
    K: Pick<u32>,
    T: Steer<u32>,
{
    balance.call(7).await
}

/// Who answers so many calls, one after the other.
async fn answers<K: Pick<u32>>(balance: &mut Balance<Node, K>, calls: usize) -> Vec<u32> {
    let mut answers = Vec::new();
    for _ in 0..calls {
        answers.push(call(balance).await.unwrap());
    }
    answers
}

/// How many of so many calls each of the first nodes answers.
async fn shares<K: Pick<u32>>(balance: &mut Balance<Node, K>, calls: usize, nodes: usize) -> Vec<usize> {
    let mut shares = vec![0; nodes];
    answers(balance, calls).await.into_iter().for_each(|node| shares[node as usize] += 1);
    shares
}

fn reason(answer: &Answer) -> Option<Reason> {
    match answer {
        Err(Error::Rejected(rejection)) => Some(rejection.reason()),
        _ => None,
    }
}

/// What is told, as text.
fn events(handle: &Handle<Node>) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    handle.observe(move |event: &Event<'_>| {
        let told = match event {
            Event::Ejected(ejection) => format!(
                "ejected {} {} {}{}",
                ejection.instance,
                ejection.cause,
                ejection.ejections,
                if ejection.enforced { "" } else { " in shadow" }
            ),
            Event::Readmitted { instance, .. } => format!("readmitted {instance}"),
            Event::Panic { panics, usable, instances, .. } => format!("panics {panics} {usable}/{instances}"),
            Event::Rejected(rejection) => format!("rejected {}", rejection.reason()),
            _ => "something else".to_owned(),
        };
        assert_eq!(event.policy(), "users");
        log.lock().unwrap().push(told);
    });
    seen
}

fn told(events: &Arc<Mutex<Vec<String>>>) -> Vec<String> {
    std::mem::take(&mut *events.lock().unwrap())
}

fn pending(handle: &Handle<Node>) -> u32 {
    handle.snapshot().members.iter().map(|member| member.pending).sum()
}

#[tokio::test(start_paused = true)]
async fn calls_go_to_the_instances_that_are_there() {
    let (handle, _) = set(calm(), 0);
    let events = events(&handle);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    let mut clone = balance.clone();
    assert_eq!(reason(&call(&mut balance).await), Some(Reason::NoInstance));
    assert_eq!(told(&events), ["rejected no_instance"]);
    let rejection = call(&mut balance).await.unwrap_err();
    assert_eq!(rejection.to_string(), "\"users\" has no instance to call");
    assert_eq!(rejection.retry_after(), None);

    handle.insert(Arc::new(instance(0)), Node::new(0));
    assert_eq!(call(&mut balance).await, Ok(0));
    handle.insert(Arc::new(instance(1)), Node::new(1));
    let mut both = answers(&mut clone, 2).await;
    both.sort_unstable();
    assert_eq!(both, [0, 1]);
    assert!(handle.remove(&id(0)));
    assert!(!handle.remove(&id(0)));
    assert_eq!(answers(&mut balance, 3).await, [1, 1, 1]);
    assert!(handle.remove(&id(1)));
    assert_eq!(reason(&call(&mut clone).await), Some(Reason::NoInstance));

    let snapshot = handle.snapshot();
    assert_eq!((snapshot.picks, snapshot.no_instance, snapshot.members.len()), (6, 3, 0));
    assert_eq!((handle.len(), handle.is_empty()), (0, true));
}

#[tokio::test(start_paused = true)]
async fn an_update_keeps_what_is_known_and_a_new_instance_knows_nothing() {
    let (handle, nodes) = set(calm(), 1);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    nodes[0].fails(true);
    assert_eq!(call(&mut balance).await, Err(Error::Inner(Boom)));
    restate(&handle, 0, |instance| instance.with_metadata("zone", "eu-1").unwrap());
    let member = handle.snapshot().members.remove(0);
    assert_eq!((member.calls, member.failures), (1, 1));
    assert_eq!(handle.instances()[0].metadata()["zone"], "eu-1");
    assert!(!handle.update(&Arc::new(instance(5))), "nobody of this name");

    let new = Node::new(9);
    handle.insert(Arc::new(instance(0)), new.clone());
    assert_eq!(handle.snapshot().members[0].calls, 0);
    assert_eq!(call(&mut balance).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn a_whole_set_is_taken_over_at_once() {
    let (handle, nodes) = set(calm(), 3);
    let mut balance = Balance::new(&handle, RoundRobin::new());
    answers(&mut balance, 3).await;
    let mut made = Vec::new();
    let moved = Instance::new("users", "users-02", "10.9.9.9", 8_002).unwrap();
    let wanted = [instance(1).with_weight(7).unwrap(), moved, instance(3)].map(Arc::new);
    handle.sync(wanted.clone(), |instance| {
        made.push(instance.id().to_string());
        // No lock is held: whoever makes services may look at the set.
        Node::new(10 + handle.len() as u32)
    });
    assert_eq!(made, ["users-02", "users-03"], "one that is known keeps its service, unless it has moved");
    assert_eq!(handle.instances(), wanted);
    let calls: Vec<u64> = handle.snapshot().members.iter().map(|member| member.calls).collect();
    assert_eq!(calls, [1, 0, 0]);
    let mut all = answers(&mut balance, 3).await;
    all.sort_unstable();
    assert_eq!(all, [1, 13, 13]);
    assert_eq!(nodes[0].calls(), 1);
    handle.sync([], |_| unreachable!("nobody is new"));
    assert!(handle.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_another_instance_when_there_is_one() {
    #[derive(Clone, Default)]
    struct Once(Arc<Mutex<Vec<String>>>);

    impl Steer<u32> for Once {
        fn avoids(&self, request: &u32, instance: &Instance) -> bool {
            assert_eq!(*request, 7);
            self.0.lock().unwrap().iter().any(|tried| tried == instance.id().as_str())
        }

        fn picked(&self, _: &u32, instance: &Arc<Instance>) {
            self.0.lock().unwrap().push(instance.id().to_string());
        }
    }

    let (handle, nodes) = set(calm(), 4);
    let once = Once::default();
    let mut balance = Balance::new(&handle, RoundRobin::new()).steer(once.clone());
    for _ in 0..4 {
        call(&mut balance).await.unwrap();
    }
    assert!(nodes.iter().all(|node| node.calls() == 1));
    let mut tried = once.0.lock().unwrap().clone();
    tried.sort_unstable();
    assert_eq!(tried, ["users-00", "users-01", "users-02", "users-03"]);
    call(&mut balance).await.unwrap();
    assert_eq!(once.0.lock().unwrap().len(), 5, "when all are to be avoided, one of them is taken");
}

#[tokio::test(start_paused = true)]
async fn a_picker_of_ones_own_that_picks_badly_does_no_harm() {
    #[derive(Clone)]
    struct Wild(Option<usize>);

    impl Picker for Wild {
        type Plan = usize;

        fn plan(&self, instances: &[Arc<Instance>]) -> usize {
            instances.len()
        }
    }

    impl Pick<u32> for Wild {
        fn pick(&self, _: &u32, plan: &usize, candidates: &impl mainstay::balance::Candidates) -> Option<usize> {
            assert_eq!(*plan, candidates.len());
            assert_eq!(candidates.is_empty(), *plan == 0);
            self.0
        }
    }

    let (handle, nodes) = set(calm(), 3);
    for wild in [None, Some(1), Some(3), Some(usize::MAX)] {
        let mut balance = Balance::new(&handle, Wild(wild));
        nodes[1].becomes(Ready::Fails);
        assert!(call(&mut balance).await.is_ok());
        nodes[1].becomes(Ready::Now);
    }
    assert_eq!(pending(&handle), 0);
}

#[test]
fn what_is_public_is_send_and_sync_and_says_what_it_is() {
    fn is<T: Send + Sync + Clone + 'static>(_: &T) {}

    let (handle, _) = set(calm(), 2);
    let balance: Balance<Node, RoundRobin, NoSteer> = Balance::new(&handle, RoundRobin::new());
    is(&handle);
    is(&balance);
    assert!(format!("{handle:?}").contains("members: 2"));
    assert!(format!("{balance:?}").contains("RoundRobin"));
    assert!(balance.handle().is_same(&handle));
    let mut balance = balance;
    let future = balance.call(1);
    assert!(format!("{future:?}").contains("waiting"));
    drop(future);
    let json = serde_json::to_value(handle.snapshot()).unwrap();
    assert_eq!((json["kind"].as_str(), json["policy"].as_str()), (Some("balance"), Some("users")));
    assert_eq!(json["members"][0]["state"], "active");
    assert_eq!(json["members"][0]["address"], "10.0.0.7:8000");
}

#[test]
fn one_that_moved_is_not_updated_because_its_service_calls_the_old_address() {
    let (handle, _) = set(calm(), 1);
    let moved = Arc::new(Instance::new("users", "users-00", "10.0.0.8", 9_000).unwrap());
    assert!(!handle.update(&moved));
    assert_eq!(handle.snapshot().members[0].address, "10.0.0.7:8000");
    handle.sync([moved], |_| Node::new(5));
    assert_eq!(handle.snapshot().members[0].address, "10.0.0.8:9000");
}
