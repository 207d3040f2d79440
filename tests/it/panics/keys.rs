//! Hooks that see the request: its key, its priority, its deadline, its tenant.

use std::hash::Hash;

use mainstay::{
    Deadline, DeadlineOf, Priority, PriorityOf, bulkhead,
    keyed::{self, HasOperation, HasTenant, KeyOf, KeyedLayer, Levels, LevelsConfig, Lookup},
    load_shed,
    timeout::TimeoutLayer,
};
use tower::Layer;

use super::{
    Fuse, GetsTheResult, blows,
    hooks::{Try, through},
};
use crate::{
    harness::{Lab, Work},
    support::*,
};

/// Hooks that see the request.
#[derive(Clone)]
struct Sees(Fuse);

impl DeadlineOf<()> for Sees {
    fn deadline(&self, (): &()) -> Option<Deadline> {
        self.0.here();
        None
    }
}

impl PriorityOf<()> for Sees {
    fn priority(&self, (): &()) -> Option<Priority> {
        self.0.here();
        Some(Priority::High)
    }
}

impl KeyOf<(), u32> for Sees {
    type Key<'a> = u32;

    fn key<'a>(&'a self, (): &'a ()) -> Option<u32> {
        self.0.here();
        Some(7)
    }
}

pub(super) async fn deadline_of() {
    let (fuse, lab) = (Fuse::default(), Lab::new(Work::Ok));
    let layer = TimeoutLayer::new(ms(100)).deadline(Sees(fuse.clone()));
    let it = Try { name: "timeout", fuse: &fuse, lab: &lab, caller: GetsTheResult };
    it.run(Work::Ok, through(layer.layer(lab.clone()), || ()), || 0).await;
}

pub(super) async fn priority_of() {
    for queued in [false, true] {
        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Ok));
        let shedder = load_shed::Handle::new("x", load_shed::Config::new().in_flight(1));
        let known = shedder.clone();
        let layer = load_shed::LoadShedLayer::new(shedder);
        let it = Try { name: "load shed", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let call = if queued {
            through(layer.queued().priority_of(Sees(fuse.clone())).layer(lab.clone()), || ())
        } else {
            through(layer.priority_of(Sees(fuse.clone())).layer(lab.clone()), || ())
        };
        it.run(Work::Ok, call, move || known.snapshot().in_flight.into()).await;
    }
}

pub(super) async fn key_of() {
    for queued in [false, true] {
        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Ok));
        let keys = keyed::Handle::new("x", keyed::Config::new(bulkhead::Config::new(1)));
        let (others, seven) = (keys.others(), keys.get(7));
        let layer = KeyedLayer::new(keys.by(Sees(fuse.clone())));
        let it = Try { name: "keyed", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let call = if queued {
            through(layer.queued().layer(lab.clone()), || ())
        } else {
            through(layer.layer(lab.clone()), || ())
        };
        it.run(Work::Ok, call, move || (others.running() + seven.running()).into()).await;
    }
}

/// A key whose hash or whose equality panics.
#[derive(Debug, Clone)]
pub(super) struct Vicious(pub(super) Wire, pub(super) bool);

#[derive(Clone)]
pub(super) struct Wire(pub(super) Fuse);

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Hash for Vicious {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        if !self.1 {
            self.0.0.here();
        }
        state.write_u8(1);
    }
}

impl PartialEq for Vicious {
    fn eq(&self, _: &Self) -> bool {
        self.0.0.here();
        true
    }
}

impl Eq for Vicious {}

pub(super) async fn key() {
    for at_equality in [false, true] {
        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Ok));
        let key = Vicious(Wire(fuse.clone()), at_equality);
        let keys = keyed::Handle::new("x", keyed::Config::new(bulkhead::Config::new(1)).max_keys(4));
        let one = keys.get(key.clone());
        fuse.arm(true);
        assert!(blows(|| keys.get(key.clone())), "by hand it is the caller's");
        fuse.arm(false);
        let layer = KeyedLayer::new(keys.by(keyed::key_fn(move |(): &()| Some(key.clone()))));
        let others = keys.others();
        let it = Try { name: "keyed", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let held = move || (one.running() + others.running()).into();
        it.run(Work::Ok, through(layer.layer(lab.clone()), || ()), held).await;
        assert_eq!(keys.snapshot().keys, 1);
    }
}

/// A key that is looked up by something else.
pub(super) async fn lookup() {
    struct By<'a>(&'a Fuse);

    impl Hash for By<'_> {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            7_u32.hash(state);
        }
    }

    impl Lookup<u32> for By<'_> {
        fn is(&self, known: &u32) -> bool {
            self.0.here();
            *known == 7
        }

        fn into_key(self) -> Result<u32, mainstay::ConfigError> {
            self.0.here();
            Ok(7)
        }
    }

    let fuse = Fuse::default();
    let keys = keyed::Handle::new("x", keyed::Config::new(bulkhead::Config::new(1)));
    for _ in 0..2 {
        fuse.arm(true);
        assert!(blows(|| keys.get(By(&fuse))));
        fuse.arm(false);
        drop(keys.get(By(&fuse)).try_acquire().unwrap());
    }
    assert_eq!((keys.keys(), fuse.times()), (vec![7], 2), "while it was made, and while it was found");
}

/// A request that knows its tenant and its operation.
struct Known(Fuse, bool);

impl HasTenant for Known {
    fn tenant(&self) -> Option<&str> {
        if self.1 {
            self.0.here();
        }
        Some("a")
    }
}

impl HasOperation for Known {
    fn operation(&self) -> Option<&str> {
        if !self.1 {
            self.0.here();
        }
        Some("get")
    }
}

pub(super) async fn has_tenant() {
    for of_tenant in [false, true] {
        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Ok));
        let levels = Levels::new("x", LevelsConfig::new(bulkhead::Config::new(64)));
        let (known, mine) = (levels.clone(), fuse.clone());
        let it = Try { name: "levels", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let held = move || {
            let (tenants, operations) = (known.tenants(), known.operations());
            let others = tenants.others().running() + operations.others().running();
            let listed = |running: Vec<u32>| running.into_iter().sum::<u32>();
            let of_tenants = listed(tenants.listing().iter().map(|of| of.snapshot.running).collect());
            let of_operations = listed(operations.listing().iter().map(|of| of.snapshot.running).collect());
            (known.global().running() + others + of_tenants + of_operations).into()
        };
        it.run(Work::Ok, through(levels.layer().layer(lab.clone()), move || Known(mine.clone(), of_tenant)), held)
            .await;
    }
}
