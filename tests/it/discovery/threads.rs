//! Real threads: some register and deregister, others watch, and in the end all see the same.

use std::{collections::BTreeSet, thread};

use super::*;

/// Follows a watch to its end: what it says is there, and that no number was left out.
fn follow(mut watch: Watch) -> BTreeSet<String> {
    let (mut view, mut sequence) = (BTreeSet::new(), None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        while let Some(update) = watch.next().await {
            match update {
                Update::Snapshot(all) => {
                    assert_eq!(all.missed, sequence.map_or(0, |before: u64| all.sequence - before));
                    view = all.iter().map(|instance| instance.id().to_string()).collect();
                    sequence = Some(all.sequence);
                }
                Update::Event(event) => {
                    assert_eq!(sequence, Some(event.sequence - 1));
                    sequence = Some(event.sequence);
                    match event.change {
                        Change::Added(new) => assert!(view.insert(new.id().to_string())),
                        Change::Removed(old, _) => assert!(view.remove(old.id().as_str())),
                        Change::Updated(new) => assert!(view.contains(new.id().as_str())),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    });
    view
}

#[test]
fn watchers_on_other_threads_see_what_was_true_in_the_end() {
    for events in [1, 8, 100_000] {
        let backend = InMemory::with(Config::new().events(events));
        let followers: Vec<_> = (0..3).map(|_| watch(&backend)).map(|watch| thread::spawn(|| follow(watch))).collect();
        let writers: Vec<_> = (0..4_u32)
            .map(|writer| {
                let backend = backend.clone();
                thread::spawn(move || {
                    for round in 0..300_u32 {
                        let id = format!("{}-{}", writer, round % 7);
                        let lease = register(&backend, &id, ms(600_000));
                        now(backend.heartbeat(&lease)).unwrap();
                        now(backend.update(&lease, user(&id).with_weight(round).unwrap())).unwrap();
                        if round < 293 {
                            now(backend.deregister(lease)).unwrap();
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let all = now(backend.instances(&users())).unwrap();
        let truth: BTreeSet<String> = all.iter().map(|instance| instance.id().to_string()).collect();
        assert_eq!((truth.len(), all.sequence), (28, 4 * (300 + 299 + 293)), "a weight of 100 is no change");
        drop(backend);
        for follower in followers {
            assert_eq!(follower.join().unwrap(), truth);
        }
    }
}

#[test]
fn names_come_and_go_on_many_threads_and_none_is_lost() {
    let backend = InMemory::new();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let backend = backend.clone();
            thread::spawn(move || {
                for n in 0..2_000 {
                    let service = format!("s{}", (n + thread) % 300);
                    let instance = Instance::new(&service, &format!("t{thread}"), "10.0.0.1", 80).unwrap();
                    let lease = now(backend.register(instance, ms(600_000))).unwrap();
                    let known = now(backend.instances(lease.service())).unwrap();
                    assert!(known.get(lease.id()).is_some(), "what was registered is there");
                    now(backend.deregister(lease)).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((backend.snapshot().instances, backend.snapshot().leases), (0, 0));
}
