//! One shard of the table: entries in a row, so that a look for one to leave can go on where the last one stopped, and
//! where the entries of each hash are. It knows no keys.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::{keyed::table::Entry, sync::Counted};

/// The hash is the key.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Where in a shard the entries of one hash are: hardly ever more than one.
#[derive(Debug)]
enum Places {
    One(usize),
    Many(Vec<usize>),
}

pub(super) type Shared<K, P> = Counted<Entry<K, P>>;

pub(super) struct Shard<K, P> {
    pub(super) entries: Vec<Shared<K, P>>,
    places: HashMap<u64, Places, BuildHasherDefault<Given>>,
}

impl<K, P> Shard<K, P> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), places: HashMap::default() }
    }

    pub(super) fn places(&self, hash: u64) -> &[usize] {
        match self.places.get(&hash) {
            None => &[],
            Some(Places::One(at)) => std::slice::from_ref(at),
            Some(Places::Many(at)) => at,
        }
    }

    pub(super) fn of_hash(&self, hash: u64) -> impl Iterator<Item = &Shared<K, P>> {
        self.places(hash).iter().map(|at| &self.entries[*at])
    }

    pub(super) fn push(&mut self, entry: Shared<K, P>) {
        let at = self.entries.len();
        let places = self.places.entry(entry.hash);
        places
            .and_modify(|places| match places {
                Places::One(first) => *places = Places::Many(vec![*first, at]),
                Places::Many(all) => all.push(at),
            })
            .or_insert(Places::One(at));
        self.entries.push(entry);
    }

    pub(super) fn take(&mut self, at: usize) -> Shared<K, P> {
        let entry = self.entries.swap_remove(at);
        if let Some(Places::Many(mut places)) = self.places.remove(&entry.hash) {
            places.retain(|place| *place != at);
            if !places.is_empty() {
                self.places.insert(entry.hash, Places::Many(places));
            }
        }
        // The last one has moved into the gap.
        let from = self.entries.len();
        if let Some(moved) = self.entries.get(at) {
            let place = match self.places.get_mut(&moved.hash) {
                Some(Places::One(place)) => Some(place),
                Some(Places::Many(all)) => all.iter_mut().find(|place| **place == from),
                None => None,
            };
            place.into_iter().for_each(|place| *place = at);
        }
        entry
    }

    /// Bytes on the heap, without keys and policies.
    pub(super) fn heap_size(&self) -> usize {
        let entry = size_of::<Entry<K, P>>() + 2 * size_of::<usize>();
        let place = size_of::<(u64, Places)>() + 1;
        // The map keeps an eighth of its room free.
        let room = self.entries.capacity() * size_of::<usize>() + self.places.capacity() * 8 / 7 * place;
        self.entries.len() * entry + room
    }
}
