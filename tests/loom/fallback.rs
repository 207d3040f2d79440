//! The last good answers, in their bounded map.

use loom::thread;
use mainstay::fallback::{CacheConfig, LastGood, Store};

use crate::support::{NEVER, model};

fn answers(most: u32) -> LastGood<u8, (u8, u8)> {
    LastGood::new(CacheConfig::new().max_entries(most).max_age(NEVER))
}

#[test]
fn fallback_an_answer_is_of_its_key_and_whole() {
    model(|| {
        let answers = answers(2);
        answers.put(&1, &(1, 1));
        let other = answers.clone();
        let thread = thread::spawn(move || {
            other.put(&1, &(2, 2));
            other.put(&2, &(3, 3));
        });
        let seen = answers.get(&1).unwrap();
        assert!(seen == (1, 1) || seen == (2, 2));
        thread.join().unwrap();
        assert_eq!((answers.get(&2), answers.len()), (Some((3, 3)), 2));
    });
}

#[test]
fn fallback_no_more_answers_than_may_be_and_none_wedges_the_map() {
    model(|| {
        let answers = answers(1);
        let other = answers.clone();
        let thread = thread::spawn(move || {
            other.put(&1, &(1, 1));
            other.forget(&2);
        });
        answers.put(&2, &(2, 2));
        assert!(answers.len() <= 1);
        thread.join().unwrap();
        assert!(answers.len() <= 1);
        answers.put(&3, &(3, 3));
        assert_eq!((answers.get(&3), answers.len()), (Some((3, 3)), 1));
    });
}
