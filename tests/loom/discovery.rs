//! What is known of a service, and who waits for changes of it.

use loom::thread;
use mainstay::{
    contract::{Instance, ServiceName},
    discovery::{Config, Discovery, InMemory, Publisher, Update, Watch},
};

use crate::support::{NEVER, block_on, model, poll_once};

fn users() -> ServiceName {
    ServiceName::new("users").unwrap()
}

fn instance(id: u16) -> Instance {
    Instance::new("users", &format!("users-{id}"), "10.0.0.1", id).unwrap()
}

/// A publisher, and a watch that has read the snapshot.
fn watched() -> (Publisher, Watch) {
    let publisher = Publisher::new(users(), Config::default());
    let mut watch = publisher.watch();
    assert!(matches!(watch.try_next(), Some(Update::Snapshot(_))));
    (publisher, watch)
}

/// Reads so many events, each the one after the last; fewer where there are no more.
fn read(watch: &mut Watch, most: usize) -> Vec<u64> {
    let mut sequences = Vec::new();
    while sequences.len() < most {
        match block_on(watch.next()) {
            Some(Update::Event(event)) => sequences.push(event.sequence),
            Some(Update::Snapshot(_)) => panic!("it never fell behind"),
            None => break,
        }
    }
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
    sequences
}

#[test]
fn discovery_a_watch_that_waits_is_woken_by_every_change() {
    model(|| {
        let (publisher, mut watch) = watched();
        let thread = thread::spawn(move || read(&mut watch, 2).len());
        publisher.put(instance(1));
        publisher.remove(instance(1).id());
        assert_eq!(thread.join().unwrap(), 2);
    });
}

#[test]
fn discovery_two_publishers_and_a_watch_agree_on_the_order() {
    model(|| {
        let (publisher, mut watch) = watched();
        let other = publisher.clone();
        let putting = thread::spawn(move || other.put(instance(1)));
        let reading = thread::spawn(move || read(&mut watch, 2).len());
        publisher.put(instance(2));
        putting.join().unwrap();
        assert_eq!((reading.join().unwrap(), publisher.snapshot().instances.len()), (2, 2));
    });
}

#[test]
fn discovery_a_watch_that_comes_meanwhile_misses_nothing() {
    model(|| {
        let publisher = Publisher::new(users(), Config::default());
        let other = publisher.clone();
        let thread = thread::spawn(move || {
            let mut watch = other.watch();
            let Some(Update::Snapshot(snapshot)) = block_on(watch.next()) else { unreachable!("first the snapshot") };
            snapshot.instances.len() + read(&mut watch, 2 - snapshot.instances.len()).len()
        });
        publisher.put(instance(1));
        publisher.put(instance(2));
        assert_eq!(thread.join().unwrap(), 2);
    });
}

#[test]
fn discovery_the_end_of_a_publisher_ends_a_watch_that_waits() {
    model(|| {
        let (publisher, mut watch) = watched();
        let thread = thread::spawn(move || read(&mut watch, usize::MAX).len());
        publisher.put(instance(1));
        drop(publisher);
        assert_eq!(thread.join().unwrap(), 1, "what there was, and then the end");
    });
}

#[test]
fn discovery_a_watch_that_goes_takes_no_wake_up_along() {
    model(|| {
        let (publisher, mut watch) = watched();
        let mut leaves = publisher.watch();
        assert!(poll_once(&mut leaves.next()).is_ready());
        let mut next = Box::pin(async move { leaves.next().await.is_some() });
        assert!(poll_once(&mut next).is_pending());
        let leaving = thread::spawn(move || drop(next));
        let waiting = thread::spawn(move || read(&mut watch, 1).len());
        publisher.put(instance(1));
        leaving.join().unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
        assert_eq!(publisher.watchers(), 0);
    });
}

#[test]
fn discovery_of_two_with_one_id_one_has_the_lease() {
    model(|| {
        let fleet = InMemory::new();
        let other = fleet.clone();
        let thread = thread::spawn(move || block_on(other.register(instance(1), NEVER)));
        let leases = [block_on(fleet.register(instance(1), NEVER)), thread.join().unwrap()];
        let [lease] = leases.into_iter().flatten().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(fleet.snapshot().leases, 1);
        block_on(fleet.deregister(lease)).unwrap();
        assert_eq!((fleet.snapshot().leases, fleet.snapshot().instances), (0, 0));
    });
}
