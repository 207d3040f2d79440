//! Fallbacks, and where they keep their answers.

use mainstay::{
    Error, Stack, bulkhead,
    fallback::{self, CacheConfig, Fallback, FallbackLayer, LastGood, Store, Strategy},
};
use tower::Layer;

use super::{
    Fuse, GetsTheResult, blows,
    hooks::{Failure, Try, through},
    keys::{Vicious, Wire},
};
use crate::{
    harness::{Lab, Work},
    support::*,
};

/// A strategy that panics where it is told to.
#[derive(Clone)]
struct Second(Fuse, u32);

impl Second {
    fn here(&self, at: u32) {
        if self.1 == at {
            self.0.here();
        }
    }
}

impl Strategy<(), u32, Failure> for Second {
    type Kept = ();
    type Future = Answering2;

    fn keep(&self, (): &mut ()) {
        self.here(0);
    }

    fn succeeded(&self, (): &(), _: &u32) {
        self.here(1);
    }

    fn covers(&self, _: Result<&u32, &Failure>) -> bool {
        self.here(2);
        true
    }

    fn fall_back(&self, (): &mut (), _: Result<&u32, &Failure>) -> Option<Answering2> {
        self.here(3);
        let fuse = self.clone();
        Some(Box::pin(async move {
            fuse.here(4);
            Err(Error::Inner(Boom))
        }))
    }

    fn next(&self, (): &mut (), _: Result<&u32, &Failure>) -> Option<Answering2> {
        self.here(5);
        None
    }
}

type Answering2 = std::pin::Pin<Box<dyn Future<Output = Answer>>>;

pub(super) async fn strategy() {
    for at in 0..6 {
        let work = if at == 1 { Work::Ok } else { Work::Fails };
        let (fuse, lab) = (Fuse::default(), Lab::new(work));
        let name = format!("fallback at {at}");
        let it = Try { name: &name, fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let layer = FallbackLayer::new(fallback::Handle::new("x"), Second(fuse.clone(), at));
        it.run(work, through(layer.layer(lab.clone()), || ()), || 0).await;

        let (fuse, lab) = (Fuse::default(), Lab::new(work));
        let it = Try { name: &name, fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let strategy = Fallback::by(Second(fuse.clone(), at)).or(Fallback::by(Second(Fuse::default(), 9)));
        let stack = Stack::builder("x").bulkhead(bulkhead::Config::new(1)).fallback(strategy).build();
        let known = stack.clone();
        let held = move || known.bulkhead().unwrap().running().into();
        it.run(work, through(stack.service(lab.clone()), || ()), held).await;
    }
}

pub(super) async fn fallback_closures() {
    for at in 0..3 {
        let (fuse, lab) = (Fuse::default(), Lab::new(Work::Fails));
        let mine = fuse.clone();
        let here = move |now: u32| {
            if now == at {
                mine.here();
            }
        };
        let (one, two, three) = (here.clone(), here.clone(), here);
        let strategy = Fallback::run(move |_: &Failure| {
            one(0);
            let two = two.clone();
            async move {
                two(1);
                Err::<u32, _>(Error::Inner(Boom))
            }
        })
        .when(move |_: &Failure| {
            three(2);
            true
        });
        let it = Try { name: "fallback", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let layer = FallbackLayer::new(fallback::Handle::new("x"), strategy);
        it.run(Work::Fails, through(layer.layer(lab.clone()), || ()), || 0).await;
    }
}

/// Keeps nothing, and panics.
#[derive(Clone)]
struct Broken(Fuse);

impl Store<u8, u32> for Broken {
    fn get(&self, _: &u8) -> Option<u32> {
        self.0.here();
        None
    }

    fn put(&self, _: &u8, _: &u32) {
        self.0.here();
    }
}

pub(super) async fn store() {
    for work in [Work::Ok, Work::Fails] {
        let (fuse, lab) = (Fuse::default(), Lab::new(work));
        let strategy = Fallback::stored(Broken(fuse.clone()), |(): &()| Some(7_u8));
        let it = Try { name: "fallback", fuse: &fuse, lab: &lab, caller: GetsTheResult };
        let layer = FallbackLayer::new(fallback::Handle::new("x"), strategy);
        it.run(work, through(layer.layer(lab.clone()), || ()), || 0).await;
    }
    // Keys and answers that panic when they are hashed, compared, cloned or dropped leave the store as it was.
    let fuse = Fuse::default();
    for at_equality in [false, true] {
        let store = LastGood::new(CacheConfig::new());
        let key = Vicious(Wire(fuse.clone()), at_equality);
        store.put(&key, &1_u32);
        fuse.arm(true);
        assert!(blows(|| store.get(&key)));
        if !at_equality {
            assert!(blows(|| store.put(&key, &2)));
        }
        fuse.arm(false);
        assert_eq!((store.get(&key), store.len()), (Some(1), 1));
    }
}
