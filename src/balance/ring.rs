//! A consistent-hash ring with bounded loads: the pure rule.
//!
//! Each member has many points on a circle of 2^64 places. A key goes to the first point at or after its own; when that
//! member has more than its share already, to the next one that has not. So about 1 of n keys moves when a member
//! comes or goes, and a hot key overflows to the neighbours instead of burning one member.

use std::{fmt, hash::Hasher};

/// The secret of a ring.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret(u64, u64);

impl Secret {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        let bits = u128::from_le_bytes(secret);
        Self(bits as u64, (bits >> 64) as u64)
    }
}

/// Points of a member of mean weight, while there are not too many members.
const POINTS: usize = 128;
/// About so many points there are at most.
const MOST_POINTS: usize = 1 << 17;
const FEWEST: usize = 8;

/// Takes in the key of a request, by [`Hash`](std::hash::Hash) or byte by byte.
///
/// Text and bytes hash the same in every process; numbers do on machines of one byte order.
// `SipHash` by name and not the standard library's default, because the hash must be the same in every process that has
// the secret, whatever it was built with.
#[allow(deprecated, reason = "the one way to a keyed hash in the standard library, and its algorithm is fixed")]
pub struct KeyHasher(std::hash::SipHasher);

#[allow(deprecated, reason = "as above")]
impl KeyHasher {
    pub(super) fn new(secret: Secret) -> Self {
        Self(std::hash::SipHasher::new_with_keys(secret.0, secret.1))
    }
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

fn hash_of(secret: Secret, id: &str, point: u32) -> u64 {
    let mut hasher = KeyHasher::new(secret);
    hasher.write(id.as_bytes());
    hasher.write(&point.to_le_bytes());
    hasher.finish()
}

/// The points of all members, in the order of the circle.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// A ring of members with their weights in relation to about the mean.
    pub(super) fn new<'a>(members: impl ExactSizeIterator<Item = (&'a str, f64)>, secret: Secret) -> Self {
        // Halved when the number of members doubles, so that it hardly ever changes: each change moves keys.
        let each = (MOST_POINTS / members.len().next_power_of_two()).clamp(FEWEST, POINTS) as f64;
        let mut points = Vec::with_capacity(members.len() * each as usize);
        for (member, (id, weight)) in members.enumerate() {
            let own = (each * weight).round().max(1.0) as u32;
            points.extend((0..own).map(|point| (hash_of(secret, id, point), member as u32)));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The members from the place of a key on, each as often as it has points.
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let first = self.points.partition_point(|(place, _)| *place < key);
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|(_, member)| *member as usize)
    }
}

/// How many calls a member may have at a time, when this is one more: `factor` times its share of all.
pub(super) fn capacity(running: u64, members: usize, (weight, factor): (f64, f64)) -> u64 {
    (factor * (running + 1) as f64 * weight / members.max(1) as f64).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = Secret(1, 2);

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("users-{i}")).collect()
    }

    fn ring(ids: &[String], secret: Secret) -> Ring {
        Ring::new(ids.iter().map(|id| (id.as_str(), 1.0)), secret)
    }

    fn key(n: u64) -> u64 {
        let mut hasher = KeyHasher::new(SECRET);
        hasher.write_u64(n);
        hasher.finish()
    }

    #[test]
    fn about_one_in_n_keys_moves_when_a_member_goes() {
        let all = ids(10);
        let (before, after) = (ring(&all, SECRET), ring(&all[..9], SECRET));
        let first = |ring: &Ring, n| ring.from(key(n)).next().unwrap();
        let (mut moved, mut orphans) = (0, 0);
        for n in 0..10_000 {
            let (from, to) = (first(&before, n), first(&after, n));
            moved += usize::from(from != to);
            orphans += usize::from(from == 9);
        }
        assert_eq!(moved, orphans, "only the keys of the member that went");
        assert!((700..1_300).contains(&moved), "{moved}");
    }

    #[test]
    fn the_ring_is_fixed_by_its_secret() {
        let all = ids(5);
        let (one, same, other) = (ring(&all, SECRET), ring(&all, SECRET), ring(&all, Secret(3, 4)));
        assert_eq!(one.points, same.points);
        let moved = (0..1_000).filter(|n| one.from(key(*n)).next() != other.from(key(*n)).next()).count();
        assert!(moved > 600, "{moved}");
    }

    #[test]
    fn the_hash_is_siphash_as_its_authors_published_it() {
        let mut hasher = KeyHasher::new(Secret::new(std::array::from_fn(|i| i as u8)));
        hasher.write(&std::array::from_fn::<u8, 15, _>(|i| i as u8));
        assert_eq!(hasher.finish(), 0xA129_CA61_49BE_45E5);
    }

    #[test]
    fn weights_and_sizes() {
        let heavy = Ring::new([("a", 0.5), ("b", 1.5)].into_iter(), SECRET);
        let of = |member: u32| heavy.points.iter().filter(|(_, at)| *at == member).count();
        assert_eq!((of(0), of(1)), (64, 192));
        assert_eq!(ring(&[], SECRET).from(5).next(), None);
        let many = ids(10_000);
        assert_eq!(ring(&many, SECRET).points.len(), 10_000 * FEWEST);
        assert!(ring(&ids(7), SECRET).from(u64::MAX).count() == 7 * POINTS);
    }

    #[test]
    fn nobody_has_more_than_its_bounded_share() {
        for (running, members, factor, most) in [(0, 4, 1.25, 1), (7, 4, 1.25, 3), (100, 10, 1.25, 13), (9, 0, 1.0, 10)]
        {
            assert_eq!(capacity(running, members, (1.0, factor)), most, "{running} at {members}");
        }
        assert_eq!(capacity(7, 4, (2.0, 1.25)), 5);
    }

    #[test]
    fn one_hot_key_spreads_within_the_bound() {
        let ring = ring(&ids(8), SECRET);
        let mut loads = [0_u64; 8];
        for running in 0..800 {
            let most = capacity(running, 8, (1.0, 1.25));
            let member = ring.from(42).find(|member| loads[*member] < most).unwrap();
            loads[member] += 1;
        }
        assert!(loads.iter().all(|load| *load <= 125), "{loads:?}");
    }
}
