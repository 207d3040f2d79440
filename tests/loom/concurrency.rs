//! The tallies of an adaptive limit.

use loom::{sync::Arc, thread};
use mainstay::{
    concurrency::{Sum, Tallies},
    window::Seat,
};

use crate::support::{OWNER, model};

fn close(tallies: &Tallies) -> Vec<u64> {
    let mut sum = Sum::default();
    tallies.close(&mut sum);
    assert!(sum.latencies.len() <= sum.calls as usize && sum.dropped <= sum.calls);
    assert!(sum.calls == 0 || (1..=9).contains(&sum.in_flight), "{sum:?}");
    sum.latencies
}

#[test]
fn tallies_a_closer_sees_latencies_that_were_and_none_twice() {
    for seats in [[OWNER, Seat::SHARED], [Seat::SHARED, Seat::SHARED]] {
        model(move || {
            let tallies = Arc::new(Tallies::with_seats(1));
            // What is left of a window before.
            for seat in seats {
                (0..2).for_each(|_| tallies.add_in(seat, Some(8), 9));
            }
            close(&tallies);
            // The closer is a thread of its own, because loom tries its reads against what was written before, and
            // not a write against what was read before.
            let (closing, writing) = (Arc::clone(&tallies), Arc::clone(&tallies));
            let closer = thread::spawn(move || close(&closing));
            let writer = thread::spawn(move || writing.add_in(seats[1], Some(3), 9));
            tallies.add_in(seats[0], Some(1), 9);
            tallies.add_in(seats[0], Some(2), 9);
            writer.join().unwrap();
            let mut seen = closer.join().unwrap();
            seen.extend(close(&tallies));
            seen.sort_unstable();
            assert!(seen.iter().all(|latency| (1..=3).contains(latency)), "{seen:?}");
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
            // Nothing is on its way any more: a window that is closed leaves nothing to the next.
            assert_eq!(close(&tallies), []);
            tallies.add_in(OWNER, Some(5), 1);
            assert_eq!(close(&tallies), [5]);
        });
    }
}

#[test]
fn tallies_without_a_closer_an_owner_loses_nothing() {
    model(|| {
        let tallies = Arc::new(Tallies::with_seats(1));
        let other = Arc::clone(&tallies);
        let thread = thread::spawn(move || other.add_in(Seat::SHARED, Some(3), 9));
        tallies.add_in(OWNER, Some(1), 2);
        tallies.add_in(OWNER, None, 3);
        thread.join().unwrap();
        let mut sum = Sum::default();
        tallies.close(&mut sum);
        assert_eq!((sum.calls, sum.dropped, sum.in_flight, sum.latencies), (3, 1, 9, vec![1, 3]));
    });
}
