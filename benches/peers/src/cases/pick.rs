//! A call through a balancer over ten instances: power of two choices on the calls that run, and on latency; and by
//! whatever else picks. All sides run in tasks of a runtime, because tower's balancer needs a buffer to be shared, and
//! the buffer a task.

use std::{hash::Hash, sync::Arc};

use mainstay::{
    balance::{
        Balance, Config, ConsistentHash, Handle, KeyHasher, LeastLoaded, Outlier, PeakEwma, Pick, Random, RoundRobin,
        Weighted,
    },
    contract::Instance,
};
use tower::{
    BoxError, Service,
    balance::p2c,
    buffer::Buffer,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwmaDiscover, PendingRequestsDiscover},
    util::BoxService,
};

use crate::{
    case::{Case, SECOND, Side, in_one_task, in_tasks},
    peers::mainstay as ours,
    upstream::{Manner, Upstream},
};

const INSTANCES: u16 = 10;

pub fn cases() -> Vec<Case> {
    let by_key = ConsistentHash::new([7; 16], |request: &u64, key: &mut KeyHasher| request.hash(key));
    let sides = vec![
        in_tasks("bare", upstream),
        among_ten("mainstay", Config::new(), LeastLoaded),
        among_ten("mainstay-peak-ewma", Config::new(), PeakEwma),
        among_ten("mainstay-round-robin", Config::new(), RoundRobin::new()),
        among_ten("mainstay-random", Config::new(), Random),
        among_ten("mainstay-weighted", Config::new(), Weighted::new()),
        among_ten("mainstay-consistent-hash", Config::new(), by_key),
        among_ten("mainstay-no-outlier", Config::new().outlier(Outlier::off()), LeastLoaded),
        among_ten("mainstay-breakers", Config::new().breaker(ours::circuit()), LeastLoaded),
        balanced("mainstay-of-10000", Config::new(), LeastLoaded, 10_000),
        in_tasks("tower", || buffered(by_pending())),
        in_tasks("tower-peak-ewma", || buffered(by_latency())),
        in_one_task("tower-unshared", by_pending),
    ];
    vec![Case::answered("pick", sides)]
}

fn upstream() -> Upstream<BoxError> {
    Upstream::new(Manner::AtOnce)
}

fn among_ten<K: Pick<u64> + Clone + Send + 'static>(name: &'static str, config: Config, picker: K) -> Side {
    balanced(name, config, picker, INSTANCES)
}

fn balanced<K>(name: &'static str, config: Config, picker: K, instances: u16) -> Side
where
    K: Pick<u64> + Clone + Send + 'static,
{
    let handle = Handle::new("upstream", config);
    for n in 1..=instances {
        let instance = Instance::new("upstream", &format!("upstream-{n}"), "10.0.0.7", n).expect("an instance");
        handle.insert(Arc::new(instance), upstream());
    }
    let balance = Balance::new(&handle, picker);
    in_tasks(name, move || balance.clone())
}

fn list() -> ServiceList<Vec<Upstream<BoxError>>> {
    ServiceList::new(vec![upstream(); INSTANCES.into()])
}

fn by_pending() -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Send + 'static {
    let list = PendingRequestsDiscover::new::<u64>(list(), CompleteOnResponse::default());
    p2c::Balance::new(list)
}

fn by_latency() -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Send + 'static {
    let list = PeakEwmaDiscover::new::<u64>(list(), SECOND / 10, SECOND * 10, CompleteOnResponse::default());
    p2c::Balance::new(list)
}

type Buffered = Buffer<u64, <BoxService<u64, u64, BoxError> as Service<u64>>::Future>;

fn buffered<S>(service: S) -> Buffered
where
    S: Service<u64, Response = u64, Error = BoxError, Future: Send> + Send + 'static,
{
    Buffer::new(BoxService::new(service), 1_024)
}
