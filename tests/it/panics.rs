//! Panics in whatever is not ours: at every hook, in every layer and through a stack. State stays right, permits come
//! back, no lock stays held, nothing aborts, later calls go through; and where a hook is only asked for an opinion, the
//! result of the call still reaches its caller.
//!
//! The hooks that are traits stand in a list, which `tests/architecture.rs` compares with the public face.

mod again;
mod fleet;
mod hooks;
mod keys;
mod list;
mod reentrancy;
mod services;
mod strategies;
mod wakers;

use std::{
    fmt::Debug,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
};

use crate::{harness::Work, support::*};

/// Where a panic is planned. It is told to nobody's hook.
#[derive(Clone, Default)]
pub(crate) struct Fuse(Arc<Inner>);

#[derive(Default)]
struct Inner {
    armed: AtomicBool,
    blown: AtomicU32,
}

/// What a planned panic carries.
struct Planned;

impl Fuse {
    /// Panics if it is armed, though never while something else panics.
    pub(crate) fn here(&self) {
        if self.0.armed.load(SeqCst) && !std::thread::panicking() {
            self.0.blown.fetch_add(1, SeqCst);
            resume_unwind(Box::new(Planned));
        }
    }

    pub(crate) fn arm(&self, armed: bool) {
        self.0.armed.store(armed, SeqCst);
    }

    pub(crate) fn times(&self) -> u32 {
        self.0.blown.load(SeqCst)
    }
}

pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<u32, String>>>>;

/// Runs a call to its end, or to its panic.
pub(crate) async fn caught(call: Answering) -> Option<Result<u32, String>> {
    let mut call = Some(call);
    let ended = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().expect("one call").as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(Some),
            Err(payload) if payload.is::<Planned>() => Poll::Ready(None),
            Err(payload) => resume_unwind(payload),
        }
    });
    let ended = ended.await;
    // Its end may be a plan as well.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(call.take()))) {
        assert!(payload.is::<Planned>());
        return None;
    }
    ended
}

/// Whether the result of the call reaches its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    GetsTheResult,
    GetsThePanic,
}

pub(crate) use Caller::{GetsThePanic, GetsTheResult};

/// One hook at one place.
pub(crate) struct Trial {
    pub(crate) name: String,
    pub(crate) fuse: Fuse,
    pub(crate) work: Work,
    pub(crate) call: Box<dyn Fn() -> Answering>,
    /// What is held, which has to be nothing.
    pub(crate) held: Box<dyn Fn() -> u64>,
    pub(crate) caller: Caller,
    pub(crate) set: Box<dyn Fn(Work)>,
}

pub(crate) fn text<T: Into<u32>, E: Debug>(result: Result<T, E>) -> Result<u32, String> {
    result.map(Into::into).map_err(|error| format!("{error:?}"))
}

impl Trial {
    /// Makes the call, with the panic and without.
    pub(crate) async fn run(self) {
        let Self { name, fuse, work, call, held, caller, set } = self;
        set(work);
        fuse.arm(true);
        let answer = caught(call()).await;
        fuse.arm(false);
        crate::harness::settle().await;
        assert!(fuse.times() > 0, "{name}: nobody has asked the hook");
        match caller {
            GetsTheResult if work == Work::Fails => {
                assert_eq!(answer, Some(Err("Inner(Boom)".to_owned())), "{name}: the failure reaches the caller");
            }
            GetsTheResult => assert_eq!(answer, Some(Ok(1)), "{name}: the answer reaches the caller"),
            GetsThePanic => assert_eq!(answer, None, "{name}: the panic is the caller's"),
        }
        assert_eq!(held(), 0, "{name}: something is held");
        set(Work::Ok);
        for _ in 0..2 {
            assert_eq!(caught(call()).await, Some(Ok(1)), "{name}: later calls go through");
        }
        crate::harness::settle().await;
        assert_eq!(held(), 0, "{name}: something is held later");
    }
}

pub(crate) type Entry = fn() -> Pin<Box<dyn Future<Output = ()>>>;

fn run_all(list: &[(&str, Entry)]) {
    let goes_wrong = |entry: &Entry| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(entry()))).is_err()
    };
    let wrong: Vec<&str> = list.iter().filter(|(_, entry)| goes_wrong(entry)).map(|(path, _)| *path).collect();
    assert!(wrong.is_empty(), "wrong: {wrong:#?}");
}

#[test]
fn a_panic_in_a_trait_of_the_users_does_no_harm() {
    run_all(list::TRAITS);
}

#[test]
fn so_does_none_in_what_is_no_trait_of_ours() {
    run_all(list::OTHERS);
}

#[test]
#[should_panic(expected = "a trial that fails")]
fn a_trial_that_goes_wrong_is_told() {
    async fn leaks() {
        let fuse = Fuse::default();
        let here = fuse.clone();
        let call = move || -> Answering {
            let fuse = here.clone();
            Box::pin(async move {
                fuse.here();
                Ok(1)
            })
        };
        let (held, times) = (Box::new(|| 0), fuse.clone());
        let name = "leaks".to_owned();
        let caller = GetsTheResult;
        Trial { name, fuse, work: Work::Ok, call: Box::new(call), held, caller, set: Box::new(|_| {}) }.run().await;
        assert_eq!(times.times(), 1);
    }
    run_all(&[("a trial that fails", || Box::pin(leaks()))]);
}

/// Polls with a waker that does nothing.
pub(crate) fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

/// Whether it panics as planned.
pub(crate) fn blows<R>(run: impl FnOnce() -> R) -> bool {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(_) => false,
        Err(payload) if payload.is::<Planned>() => true,
        Err(payload) => resume_unwind(payload),
    }
}

pub(crate) async fn after(time: u64) {
    advance(ms(time)).await;
}
