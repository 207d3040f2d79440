//! Watches: who is woken and when, cancellation, lag, and the end.

use super::*;
use mainstay::time::Tick;

fn poll(watch: &mut Watch, waker: &Waker) -> Poll<Option<String>> {
    watch.poll_next(&mut Context::from_waker(waker)).map(|update| update.as_ref().map(say))
}

#[tokio::test(start_paused = true)]
async fn every_watcher_that_waits_is_woken_once_for_a_change_and_never_by_itself() {
    let backend = InMemory::new();
    let mut watchers: Vec<_> = (0..5).map(|_| (watch(&backend), Woken::new())).collect();
    for (watch, (_, waker)) in &mut watchers {
        assert_eq!(poll(watch, waker), Poll::Ready(Some("[]".into())));
        assert!(poll(watch, waker).is_pending());
        assert!(poll(watch, waker).is_pending(), "twice is one place");
    }
    let times = |watchers: &[(Watch, (Arc<Woken>, Waker))]| -> Vec<usize> {
        watchers.iter().map(|(_, (woken, _))| woken.times()).collect()
    };
    let lease = register(&backend, "a", ms(10));
    now(backend.heartbeat(&lease)).unwrap();
    assert_eq!(times(&watchers), [1; 5]);
    register(&backend, "b", ms(30));
    assert_eq!(times(&watchers), [1; 5], "those have not read yet");
    for (watch, (_, waker)) in &mut watchers {
        assert_eq!(poll(watch, waker), Poll::Ready(Some("+a".into())));
        assert_eq!(poll(watch, waker), Poll::Ready(Some("+b".into())));
        assert!(poll(watch, waker).is_pending());
    }
    // Nothing has changed: nobody hears of it.
    now(backend.update(&lease, user("a"))).unwrap();
    assert_eq!((known(&backend).as_str(), times(&watchers)), ("a b", vec![1; 5]));

    // A lease runs out: each has an alarm of its own. Who comes first takes it out, which does not wake itself.
    advance(ms(10)).await;
    assert_eq!(times(&watchers), [2; 5]);
    for (watch, (_, waker)) in &mut watchers {
        assert_eq!(poll(watch, waker), Poll::Ready(Some("-a expired".into())));
    }
    assert_eq!(times(&watchers)[0], 2);
    for (watch, (_, waker)) in &mut watchers {
        assert!(poll(watch, waker).is_pending());
    }
    let before = times(&watchers);
    advance(ms(19)).await;
    assert_eq!(times(&watchers), before);
    drop(backend);
    for ((watch, (woken, waker)), before) in watchers.iter_mut().zip(before) {
        assert_eq!(woken.times(), before + 1, "the end wakes each");
        assert_eq!(poll(watch, waker), Poll::Ready(None));
        assert_eq!(poll(watch, waker), Poll::Ready(None));
        assert_eq!(woken.times(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_alarm_follows_the_lease_that_runs_out_first() {
    let backend = InMemory::new();
    let mut watch = watch(&backend);
    let (woken, waker) = Woken::new();
    let lease = register(&backend, "a", ms(100));
    assert_eq!(poll(&mut watch, &waker), Poll::Ready(Some("[a]".into())));
    assert!(poll(&mut watch, &waker).is_pending());
    // Renewed while it waits: at the old time nothing is to be told.
    advance(ms(60)).await;
    now(backend.heartbeat(&lease)).unwrap();
    advance(ms(40)).await;
    assert!(poll(&mut watch, &waker).is_pending());
    let before = woken.times();
    advance(ms(59)).await;
    assert_eq!(woken.times(), before);
    assert!(poll(&mut watch, &waker).is_pending());
    advance(ms(1)).await;
    assert_eq!(woken.times(), before + 1);
    assert_eq!(poll(&mut watch, &waker), Poll::Ready(Some("-a expired".into())));
    // An earlier end than the one it waits for.
    register(&backend, "long", ms(1_000));
    assert_eq!(poll(&mut watch, &waker), Poll::Ready(Some("+long".into())));
    assert!(poll(&mut watch, &waker).is_pending());
    register(&backend, "short", ms(10));
    assert_eq!(poll(&mut watch, &waker), Poll::Ready(Some("+short".into())));
    assert!(poll(&mut watch, &waker).is_pending());
    advance(ms(10)).await;
    assert_eq!(poll(&mut watch, &waker), Poll::Ready(Some("-short expired".into())));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_waits_hears_of_the_end_of_a_lease_where_nobody_asks() {
    let backend = InMemory::new();
    register(&backend, "a", ms(30_000));
    let mut watch = watch(&backend);
    assert_eq!(watch.next().await.as_ref().map(say).unwrap(), "[a]");
    let begin = Tick::now();
    assert_eq!(watch.next().await.as_ref().map(say).unwrap(), "-a expired");
    assert_eq!(Tick::now().since(begin), ms(30_000));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_at_any_point_has_taken_nothing() {
    for polls in 0..4 {
        let backend = InMemory::new();
        let mut watch = watch(&backend);
        assert_eq!(news(&mut watch), "[]");
        let (woken, waker) = Woken::new();
        let mut next = watch.next();
        for _ in 0..polls {
            let polled = std::pin::Pin::new(&mut next).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(next);
        register(&backend, "a", ms(10));
        assert_eq!(woken.times(), 0, "nobody waits any more");
        register(&backend, "b", ms(10));
        drop(watch.next());
        assert_eq!(news(&mut watch), "+a, +b");
        drop(watch);
        assert_eq!(backend.snapshot().watchers, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fell_behind_reads_a_fresh_snapshot_and_then_goes_on() {
    crate::log::listen();
    let backend = InMemory::with(Config::new().events(3));
    let service = name("lagging");
    let instance = |id: &str| Instance::new("lagging", id, "10.0.0.1", 80).unwrap();
    let (mut slow, mut quick) = (now(backend.watch(&service)).unwrap(), now(backend.watch(&service)).unwrap());
    assert_eq!((news(&mut slow), news(&mut quick)), ("[]".into(), "[]".into()));
    for id in ["a", "b", "c", "d"] {
        now(backend.register(instance(id), ms(10))).unwrap();
        assert_eq!(news(&mut quick), format!("+{id}"));
    }
    assert_eq!(news(&mut slow), "[a b c d] missed 4");
    advance(ms(10)).await;
    assert_eq!(news(&mut slow), "[] missed 4", "all at once is more than is kept");
    now(backend.register(instance("e"), ms(10))).unwrap();
    assert_eq!(news(&mut slow), "+e");
    let lines = crate::log::lines("service", "lagging");
    let told = |message: &str| lines.iter().filter(|(_, fields)| fields["message"].contains(message)).count();
    assert_eq!(told("a watcher fell behind"), 2);
    assert_eq!(told("the lease of an instance ran out"), 4);
}

#[tokio::test(start_paused = true)]
async fn with_the_last_handle_a_watch_reads_what_there_is_and_ends() {
    let backend = InMemory::new();
    let clone = backend.clone();
    let (mut early, mut late) = (watch(&backend), watch(&backend));
    assert_eq!(news(&mut early), "[]");
    register(&backend, "a", ms(10));
    drop(backend);
    assert_eq!(known(&clone), "a", "all clones are one");
    drop(clone);
    assert_eq!(early.next().await.as_ref().map(say).as_deref(), Some("+a"));
    assert_eq!(early.next().await, None);
    assert_eq!(late.next().await.as_ref().map(say).as_deref(), Some("[a]"));
    advance(ms(20)).await;
    assert_eq!((late.next().await, late.next().await, late.try_next()), (None, None, None));
    assert!(format!("{late:?}").contains("users") && late.service() == &users());
}

#[test]
fn a_watch_outlives_the_runtime_it_waited_on() {
    let backend = InMemory::new();
    register(&backend, "a", ms(60_000));
    let mut watch = watch(&backend);
    assert_eq!(news(&mut watch), "[a]");
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { assert!(poll(&mut watch, Waker::noop()).is_pending()) });
        drop(runtime);
        assert!(poll(&mut watch, Waker::noop()).is_pending(), "without one");
    }
    register(&backend, "b", ms(60_000));
    assert_eq!(news(&mut watch), "+b");
}

#[test]
fn it_may_go_to_another_thread() {
    fn is<T: Send + Sync + Unpin + 'static>() {}
    is::<Watch>();
    is::<InMemory>();
    is::<Publisher>();
    is::<Update>();
    is::<DiscoveryError>();
}
