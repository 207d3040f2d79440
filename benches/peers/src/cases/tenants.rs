//! More of what each tenant has: places, also on three levels; what a look-up by itself takes; and what a stranger
//! costs when all room is taken.
//!
//! Tokio's semaphores are in the map that users write, as the breakers are in `keyed`.

use std::{hint::black_box, sync::Arc};

use mainstay::{
    bulkhead::{self, BulkheadLayer},
    keyed::{Config, Handle, KeyedLayer, Levels, LevelsConfig, Operation, Tenants, key_fn, str_key_fn},
};
use tokio::sync::Semaphore;

use super::keyed::{Map, Names, Sharded, WhoseIs, bare, names, own, tenant};
use crate::{
    case::{Case, Side, operation, service},
    peers::{PLACES, mainstay as ours},
    upstream::Manner,
};

pub fn cases() -> Vec<Case> {
    let names = names(100);
    vec![
        Case::answered("keyed_bulkhead", bulkheads(names)),
        Case::answered("keyed_get", look_ups(names)),
        Case::answered("keyed_stranger", strangers()),
    ]
}

fn places() -> bulkhead::Config {
    bulkhead::Config::new(PLACES)
}

fn tenants() -> Tenants<bulkhead::Handle> {
    Tenants::new("tenants", Config::new(places()))
}

/// The same tenant for all threads.
fn same(names: Names, _: u64) -> &'static String {
    &names[0]
}

fn bulkheads(names: Names) -> Vec<Side> {
    let permit = move |it: &Tenants<bulkhead::Handle>, n| it.get(tenant(names, n).as_str()).try_acquire().is_ok();
    let semaphores = Sharded::new(|| Arc::new(Semaphore::new(PLACES as usize)));
    vec![
        bare(names).side,
        operation("mainstay", tenants(), permit),
        by_tenant("mainstay-service", names, tenant),
        by_tenant("mainstay-service-own", names, own),
        by_tenant("mainstay-service-same", names, same),
        service("mainstay-unkeyed", ours::behind(BulkheadLayer::new(ours::bulkhead(PLACES)), Manner::AtOnce)),
        levels(names),
        operation("tokio", semaphores, move |it, n| it.get(tenant(names, n)).try_acquire().is_ok()),
    ]
}

fn by_tenant(name: &'static str, names: Names, whose: WhoseIs) -> Side {
    let layer = KeyedLayer::new(tenants().by(str_key_fn(move |n: &u64| Some(whose(names, *n).as_str()))));
    service(name, ours::behind(layer, Manner::AtOnce))
}

/// Places of the tenant, who is the thread's own, of operations that have no name, and of all.
fn levels(names: Names) -> Side {
    let levels = Levels::new("levels", LevelsConfig::new(bulkhead::Config::new(PLACES * 2)).tenant_default(places()));
    let tenant_of = str_key_fn(move |n: &u64| Some(own(names, *n).as_str()));
    let layer = KeyedLayer::new(levels.by(tenant_of, key_fn(|_: &u64| None::<Operation>)));
    service("mainstay-levels", ours::behind(layer, Manner::AtOnce))
}

fn look_ups(names: Names) -> Vec<Side> {
    let sharded = Sharded::new(|| ours::bulkhead(PLACES));
    vec![
        bare(names).side,
        operation("mainstay", tenants(), move |it, n| done(it.get(tenant(names, n).as_str()))),
        operation("dashmap", sharded, move |it, n| done(it.get(tenant(names, n)))),
    ]
}

/// Each request is of a key that nobody has seen. A map without bounds has no such case.
fn strangers() -> Vec<Side> {
    const ROOM: u64 = 10_000;
    let full = Handle::<u64, _>::new("full", Config::new(places()).max_keys(ROOM as usize));
    (0..ROOM).for_each(|n| drop(full.get(u64::MAX - n)));
    vec![operation("bare", (), |(), n| done(n)), operation("mainstay", full, |it, n| done(it.get(n)))]
}

fn done<T>(with: T) -> bool {
    black_box(with);
    true
}
