//! A policy for each tenant, who is found by name: a breaker, and a rate limit.
//!
//! Only governor has one ready made. For the others there is what users write: a map of services or breakers, sharded
//! (`dashmap`) or behind a mutex. It grows with every name that comes, where ours is bounded.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dashmap::DashMap;
use failsafe::futures::CircuitBreaker as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, state::keyed::HashMapStateStore};
use mainstay::{
    breaker,
    keyed::{Config, KeyedLayer, Tenants, str_key_fn},
    rate_limit,
};
use tower::Layer;

use crate::{
    case::{Case, Side, future, operation, service, thread_of},
    peers::{MINIMUM_CALLS, PLENTY, failsafe as fs, mainstay as ours, recloser as rc, resilience},
    upstream::{Answered, Down, Manner, Upstream, drive},
};

pub fn cases() -> Vec<Case> {
    let names = names(100);
    let sides = |keyed: Vec<Keyed>| keyed.into_iter().map(|it| it.side).collect();
    let mut breakers: Vec<Side> = sides(breakers(names));
    breakers.push(circuits("mainstay-own", names, own, ours::circuit()).side);
    vec![Case::answered("keyed", breakers), Case::answered("keyed_rate_limit", sides(rate_limits(names)))]
}

/// All tenants there are, for the rest of the run.
pub type Names = &'static [String];

pub fn names(count: usize) -> Names {
    (0..count).map(|n| format!("tenant-{n:07}")).collect::<Vec<_>>().leak()
}

/// The tenant of a request. Those of requests in turn lie far apart, and twice as many requests as there are tenants
/// meet nearly all of them.
pub fn tenant(names: Names, request: u64) -> &'static String {
    let part = request.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    &names[((u128::from(part) * names.len() as u128) >> 64) as usize]
}

/// The tenant of a request, where each thread has one of its own in a sample.
pub fn own(names: Names, request: u64) -> &'static String {
    &names[thread_of(request) as usize % names.len()]
}

/// Whose request it is.
pub type WhoseIs = fn(Names, u64) -> &'static String;

/// An implementation, and what makes a policy for every tenant without a call.
pub struct Keyed {
    pub side: Side,
    pub fill: Box<dyn Fn()>,
}

fn keyed(side: Side, fill: impl Fn() + 'static) -> Keyed {
    Keyed { side, fill: Box::new(fill) }
}

/// The look-up of a name, and no policy.
pub fn bare(names: Names) -> Keyed {
    let call = |names: &Names, n| {
        std::hint::black_box(tenant(names, n));
        Answered::<Down>::new(Manner::AtOnce, n)
    };
    keyed(future("bare", names, call), || ())
}

pub fn breakers(names: Names) -> Vec<Keyed> {
    vec![
        bare(names),
        circuits("mainstay", names, tenant, ours::circuit()),
        circuits("mainstay-no-latency", names, tenant, ours::circuit().measure_latency(false)),
        services_in_map(names),
        mapped("failsafe", names, Sharded::new(failsafe), |breaker, n| breaker.call(answered(n))),
        mapped("failsafe-mutex", names, Locked::new(failsafe), |breaker, n| breaker.call(answered(n))),
        mapped("recloser", names, Sharded::new(rc::breaker), |breaker, n| breaker.call(answered(n))),
        mapped("recloser-mutex", names, Locked::new(rc::breaker), |breaker, n| breaker.call(answered(n))),
    ]
}

fn circuits(name: &'static str, names: Names, whose: WhoseIs, circuit: breaker::Config) -> Keyed {
    let config = Config::new(circuit).max_keys(names.len().max(10_000)).idle_for(DAY);
    let tenants = Tenants::<breaker::Handle>::new("tenants", config);
    let layer = KeyedLayer::new(tenants.by(str_key_fn(move |n: &u64| Some(whose(names, *n).as_str()))));
    let fill = move || names.iter().for_each(|name| drop(tenants.get(name.as_str())));
    keyed(service(name, ours::behind(layer, Manner::AtOnce)), fill)
}

const DAY: Duration = Duration::from_secs(86_400);

fn failsafe() -> fs::Breaker {
    fs::breaker(MINIMUM_CALLS as u32)
}

fn answered(n: u64) -> Answered<Down> {
    Answered::new(Manner::AtOnce, n)
}

/// A map from names to what shares its state with its clones.
pub trait Map: Send + Sync + 'static {
    type Value;

    fn get(&self, name: &str) -> Self::Value;
}

pub struct Sharded<V> {
    map: DashMap<String, V>,
    make: fn() -> V,
}

impl<V> Sharded<V> {
    pub fn new(make: fn() -> V) -> Arc<Self> {
        Arc::new(Self { map: DashMap::new(), make })
    }
}

impl<V: Clone + Send + Sync + 'static> Map for Sharded<V> {
    type Value = V;

    fn get(&self, name: &str) -> V {
        if let Some(found) = self.map.get(name) {
            return found.clone();
        }
        self.map.entry(name.to_owned()).or_insert_with(self.make).clone()
    }
}

struct Locked<V> {
    map: Mutex<HashMap<String, V>>,
    make: fn() -> V,
}

impl<V> Locked<V> {
    fn new(make: fn() -> V) -> Arc<Self> {
        Arc::new(Self { map: Mutex::default(), make })
    }
}

impl<V: Clone + Send + 'static> Map for Locked<V> {
    type Value = V;

    fn get(&self, name: &str) -> V {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = map.get(name) {
            return found.clone();
        }
        map.entry(name.to_owned()).or_insert_with(self.make).clone()
    }
}

fn mapped<M, F, E>(
    name: &'static str,
    names: Names,
    map: Arc<M>,
    call: impl Fn(M::Value, u64) -> F + Copy + Send + 'static,
) -> Keyed
where
    M: Map,
    F: Future<Output = Result<u64, E>>,
{
    let side = future(name, Arc::clone(&map), move |map, n| call(map.get(tenant(names, n)), n));
    keyed(side, move || names.iter().for_each(|name| drop(map.get(name))))
}

/// A service with a breaker for each tenant, of which each call takes a clone.
fn services_in_map(names: Names) -> Keyed {
    let make = || resilience::closed().layer(Upstream::<Down>::new(Manner::AtOnce));
    let map = Sharded::<resilience::Breaker>::new(make);
    let call = move |map: &Arc<Sharded<_>>, n| drive(&mut map.get(tenant(names, n)), n);
    let side = operation("tower-resilience", Arc::clone(&map), call);
    keyed(side, move || names.iter().for_each(|name| drop(map.get(name))))
}

pub fn rate_limits(names: Names) -> Vec<Keyed> {
    let quotas = Config::new(rate_limit::Config::per_second(PLENTY)).max_keys(names.len().max(10_000)).idle_for(DAY);
    let tenants = || Tenants::<rate_limit::Handle>::new("tenants", quotas.clone());
    let (of_permit, of_service) = (tenants(), tenants());
    let layer = KeyedLayer::new(of_service.by(str_key_fn(move |n: &u64| Some(tenant(names, *n).as_str()))));
    let quota = Quota::per_second(NonZeroU32::new(PLENTY).expect("not 0"));
    let sharded = Arc::new(DefaultKeyedRateLimiter::dashmap(quota));
    let locked = Arc::new(RateLimiter::<String, HashMapStateStore<String>, _>::hashmap(quota));
    let fill =
        |tenants: Tenants<rate_limit::Handle>| move || names.iter().for_each(|name| drop(tenants.get(name.as_str())));
    let permit = move |it: &Tenants<rate_limit::Handle>, n| it.get(tenant(names, n).as_str()).try_acquire().is_ok();
    vec![
        bare(names),
        keyed(operation("mainstay", of_permit.clone(), permit), fill(of_permit)),
        keyed(service("mainstay-service", ours::behind(layer, Manner::AtOnce)), fill(of_service)),
        keyed(operation("governor", sharded, move |it, n| it.check_key(tenant(names, n)).is_ok()), || ()),
        keyed(operation("governor-hashmap", locked, move |it, n| it.check_key(tenant(names, n)).is_ok()), || ()),
    ]
}
