use std::{fmt, hash::Hasher, sync::Arc};

use crate::{
    balance::{
        pick::{Candidates, Pick, Picker},
        ring::{KeyHasher, Ring, Secret, capacity},
    },
    contract::Instance,
};

/// How much more than its share of the calls that run one instance may have.
const FACTOR: f64 = 1.25;

/// The same instance for the same key, as long as it is there and has no more than 1.25 times its share of the calls
/// that run. When an instance comes or goes, about 1 of n keys moves.
///
/// One that [starts slowly](super::SlowStart) has its keys from the beginning, since keys that wander warm no cache;
/// what grows is its share of the calls that run.
///
/// The secret decides which key goes where: give all processes that must agree the same one, and nobody else, so that
/// nobody can make up keys which all meet on one instance.
///
/// ```
/// use std::hash::Hash;
/// use mainstay::balance::{ConsistentHash, KeyHasher};
///
/// struct Request { user: String }
///
/// let by_user = ConsistentHash::new([7; 16], |request: &Request, key: &mut KeyHasher| request.user.hash(key));
/// ```
pub struct ConsistentHash<F> {
    secret: Secret,
    key: F,
}

/// Finds the key of a request. A closure is one.
pub trait HashKey<Req> {
    /// Hashes the key. Nothing at all is a key as well, the same for all such requests: where a request has none, hash
    /// something random.
    fn hash_key(&self, request: &Req, key: &mut KeyHasher);
}

impl<Req, F: Fn(&Req, &mut KeyHasher)> HashKey<Req> for F {
    fn hash_key(&self, request: &Req, key: &mut KeyHasher) {
        self(request, key);
    }
}

impl<F> ConsistentHash<F> {
    /// A picker with this secret, by this key.
    #[must_use]
    pub fn new(secret: [u8; 16], key: F) -> Self {
        Self { secret: Secret::new(secret), key }
    }
}

/// What [`ConsistentHash`] makes of a set.
#[derive(Debug)]
pub struct RingPlan(Ring);

impl<F: Send + Sync + 'static> Picker for ConsistentHash<F> {
    type Plan = RingPlan;

    fn plan(&self, instances: &[Arc<Instance>]) -> RingPlan {
        let total: u64 = instances.iter().map(|instance| u64::from(instance.weight())).sum();
        let mean = (total as f64 / instances.len().max(1) as f64).max(f64::MIN_POSITIVE);
        // To the mean itself they would all change when one comes or goes, and keys that live elsewhere would move.
        let unit = mean.log2().round().exp2();
        let weighted = |instance: &Arc<Instance>| f64::from(instance.weight()) / unit;
        let members = instances.iter().map(|instance| (instance.id().as_str(), weighted(instance)));
        RingPlan(Ring::new(members, self.secret))
    }
}

impl<Req, F: HashKey<Req> + Send + Sync + 'static> Pick<Req> for ConsistentHash<F> {
    fn pick(&self, request: &Req, plan: &RingPlan, candidates: &impl Candidates) -> Option<usize> {
        let mut key = KeyHasher::new(self.secret);
        self.key.hash_key(request, &mut key);
        let (running, count) = (candidates.running(), candidates.len());
        let has_room = |at: usize| {
            let most = capacity(running, count, (candidates.weight(at), FACTOR));
            u64::from(candidates.pending(at)) < most
        };
        let mut seen = usize::MAX;
        let mut free = plan.0.from(key.finish()).filter(|at| {
            let again = std::mem::replace(&mut seen, *at) == *at;
            !again && candidates.is_free(*at)
        });
        let first = free.next()?;
        if has_room(first) { Some(first) } else { free.find(|at| has_room(*at)).or(Some(first)) }
    }
}

impl<F: Clone> Clone for ConsistentHash<F> {
    fn clone(&self) -> Self {
        Self { secret: self.secret, key: self.key.clone() }
    }
}

impl<F> fmt::Debug for ConsistentHash<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsistentHash").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::core::tests::instance;

    #[test]
    fn who_weighs_three_times_as_much_has_three_times_the_keys() {
        let by_key = ConsistentHash::new([7; 16], |key: &u32, hasher: &mut KeyHasher| hasher.write_u32(*key));
        for weight in [1, 10, 100] {
            let weighted = |(number, weight)| Arc::new(instance(number).with_weight(weight).unwrap());
            let plan = by_key.plan(&[(0, weight), (1, weight * 3)].map(weighted));
            let mut points = [0_u32; 2];
            plan.0.from(0).for_each(|member| points[member] += 1);
            assert_eq!(points[1], points[0] * 3, "{points:?} at {weight}");
            assert!((100..500).contains(&(points[0] + points[1])), "some 128 for each: {points:?} at {weight}");
        }
    }
}
