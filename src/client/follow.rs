//! Keeps the members of a balancer what discovery says they are.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::task::{AbortHandle, JoinSet, consume_budget};
use tower::Service;

use crate::{
    balance,
    client::{
        call::Reached,
        following::{Following, Running},
    },
    contract::{Instance, InstanceId},
    discovery::{Change, Discovery, Snapshot, Update, Watch},
    guarded::guarded_future,
    time::{Tick, random},
};

/// How long to wait after a failure: twice as long after each further one.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Wait after so many failures in a row, less up to a half of it, so that many clients do not come at once.
fn backoff(failures: u32) -> Duration {
    let wait = SHORTEST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT);
    wait.mul_f64(1.0 - random() / 2.0)
}

/// Runs until it is dropped.
pub(super) async fn follow<D, M>(
    discovery: Arc<D>,
    make: M,
    members: balance::Handle<Reached<M::Response>>,
    running: Running,
) where
    D: Discovery,
    M: Service<Instance> + Clone + Send + 'static,
    M::Response: Clone + Send + Sync + 'static,
    M::Error: fmt::Display + Send,
    M::Future: Send,
{
    let following = running.following();
    let mut crew = Crew { make, members, wanted: HashMap::new(), makers: JoinSet::new() };
    let mut failures: u32 = 0;
    loop {
        // Asked in the guard too: not every backend is an async function, of which nothing runs before it is polled.
        let watching = async { discovery.watch(following.service()).await };
        match guarded_future("discovery backend", watching).await {
            Some(Ok(watch)) => {
                let begun = Tick::now();
                crew.watch(watch, following).await;
                following.lost("the watch has ended");
                // One that ends at once, again and again, is as good as none.
                if Tick::now().since(begun) >= LONGEST_WAIT {
                    failures = 0;
                }
            }
            Some(Err(error)) => {
                tracing::warn!(service = %following.service(), %error, "the instances of a service cannot be watched");
                following.lost(&error.to_string());
            }
            None => following.lost("the backend has panicked"),
        }
        let until = pin!(tokio::time::sleep(backoff(failures)));
        failures = failures.saturating_add(1);
        until.await;
    }
}

/// The members, and those on their way to be one.
struct Crew<M: Service<Instance>> {
    make: M,
    members: balance::Handle<Reached<M::Response>>,
    wanted: HashMap<InstanceId, Wanted>,
    makers: JoinSet<Made<M::Response>>,
}

/// An instance as it was last heard of.
struct Wanted {
    instance: Arc<Instance>,
    // None once it is a member.
    maker: Option<AbortHandle>,
    // As which it is a member now: while the transport to a new address is made, still by the old one.
    member: Option<Arc<Instance>>,
}

struct Made<S> {
    instance: Arc<Instance>,
    transport: S,
}

impl<M> Crew<M>
where
    M: Service<Instance> + Clone + Send + 'static,
    M::Response: Clone + Send + Sync + 'static,
    M::Error: fmt::Display + Send,
    M::Future: Send,
{
    /// Until the watch ends.
    async fn watch(&mut self, mut watch: Watch, following: &Following) {
        loop {
            // Changes without end are not to keep the thread.
            consume_budget().await;
            match poll_fn(|cx| self.poll_next(&mut watch, cx)).await {
                Next::Update(Update::Snapshot(snapshot)) => {
                    following.found(&snapshot);
                    self.sync(&snapshot);
                }
                Next::Update(Update::Event(event)) => self.change(event.change, following),
                Next::Made(made) => self.add(made),
                Next::NotMade => {}
                Next::End => return,
            }
            // The first callers wait for members, not for all of them: one maker that hangs is not to hold them up.
            if following.has_found() && (self.makers.is_empty() || !self.members.is_empty()) {
                following.open();
            }
        }
    }

    fn poll_next(&mut self, watch: &mut Watch, cx: &mut Context<'_>) -> Poll<Next<M::Response>> {
        if let Poll::Ready(Some(joined)) = self.makers.poll_join_next(cx) {
            let next = joined.map(Next::Made).unwrap_or_else(|error| {
                if error.is_panic() {
                    tracing::error!("a transport panicked while it was made; its instance is not called");
                }
                Next::NotMade
            });
            return Poll::Ready(next);
        }
        watch.poll_next(cx).map(|update| update.map_or(Next::End, Next::Update))
    }

    fn sync(&mut self, snapshot: &Snapshot) {
        // Also what an earlier crew has left, whose runtime went: nobody else takes out what went meanwhile.
        let members = self.members.instances();
        let known = self.wanted.keys().chain(members.iter().map(|instance| instance.id()));
        let gone: Vec<InstanceId> = known.filter(|id| snapshot.get(id).is_none()).cloned().collect();
        gone.iter().for_each(|id| self.remove(id));
        snapshot.iter().for_each(|instance| self.want(instance));
    }

    fn change(&mut self, change: Change, following: &Following) {
        match change {
            Change::Added(instance) | Change::Updated(instance) => self.want(&instance),
            Change::Removed(instance, _) => self.remove(instance.id()),
            other => following.told(&other),
        }
    }

    /// The instance is there, or has changed.
    fn want(&mut self, instance: &Arc<Instance>) {
        let mut member = None;
        if let Some(known) = self.wanted.get_mut(instance.id()) {
            let before = std::mem::replace(&mut known.instance, Arc::clone(instance));
            // Also one that moved: it may drain, or be ill, and its transport may take long.
            if let Some(member) = &mut known.member {
                *member = meanwhile(member, instance);
                self.members.update(member);
            }
            if is_reached_alike(&before, instance) {
                return;
            }
            member = known.member.take();
        }
        let maker = Some(self.makers.spawn(made(self.make.clone(), Arc::clone(instance))));
        let wanted = Wanted { instance: Arc::clone(instance), maker, member };
        if let Some(before) = self.wanted.insert(instance.id().clone(), wanted) {
            before.maker.iter().for_each(AbortHandle::abort);
        }
    }

    fn remove(&mut self, id: &InstanceId) {
        if let Some(wanted) = self.wanted.remove(id) {
            wanted.maker.iter().for_each(AbortHandle::abort);
        }
        self.members.remove(id);
    }

    fn add(&mut self, Made { instance, transport }: Made<M::Response>) {
        // It may have gone, or moved, while its transport was made.
        let Some(wanted) = self.wanted.get_mut(instance.id()) else { return };
        if is_reached_alike(&wanted.instance, &instance) {
            wanted.maker = None;
            let instance = Arc::clone(&wanted.instance);
            wanted.member = Some(Arc::clone(&instance));
            self.members.insert(Arc::clone(&instance), Reached { transport, instance });
        }
    }
}

enum Next<S> {
    Update(Update),
    Made(Made<S>),
    // A maker has ended otherwise: the first callers may have waited for it alone.
    NotMade,
    End,
}

fn is_reached_alike(one: &Instance, other: &Instance) -> bool {
    let address = |of: &Instance| (of.port(), of.protocol());
    one.host() == other.host() && address(one) == address(other)
}

/// A member as it is to be called until the transport to where it is now is made: where it was, and as well as it is.
fn meanwhile(member: &Instance, now: &Arc<Instance>) -> Arc<Instance> {
    if is_reached_alike(member, now) {
        return Arc::clone(now);
    }
    let there = member.clone().with_health(now.health().clone()).with_draining(now.is_draining() || now.weight() == 0);
    Arc::new(there)
}

/// The transport to an instance, however often it takes.
async fn made<M>(make: M, instance: Arc<Instance>) -> Made<M::Response>
where
    M: Service<Instance> + Clone,
    M::Error: fmt::Display,
{
    let mut failures = 0;
    loop {
        // An error of its readiness is a maker's last word: another clone is asked the next time.
        let mut make = make.clone();
        let ready = poll_fn(|cx| make.poll_ready(cx)).await;
        let transport = match ready {
            Ok(()) => make.call(Instance::clone(&instance)).await,
            Err(error) => Err(error),
        };
        match transport {
            Ok(transport) => return Made { instance, transport },
            Err(error) => {
                let (service, id) = (instance.service(), instance.id());
                tracing::warn!(%service, instance = %id, %error, "there is no way to an instance yet");
            }
        }
        tokio::time::sleep(backoff(failures)).await;
        failures = failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_half_a_minute_and_is_cut_by_half_at_most() {
        crate::time::seed(1);
        for (failures, longest) in [(0, 100), (1, 200), (5, 3_200), (8, 25_600), (9, 30_000), (u32::MAX, 30_000)] {
            let waits = [(); 200].map(|()| backoff(failures));
            let longest = Duration::from_millis(longest);
            assert!(waits.iter().all(|wait| longest / 2 <= *wait && *wait <= longest), "{failures}: {waits:?}");
            let (least, most) = (waits.iter().min(), waits.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| *most - *least > longest / 4), "they come apart");
        }
    }

    #[test]
    fn an_instance_that_moves_is_called_where_it_was_as_long_as_it_takes_calls() {
        let at = |host| Instance::new("users", "a", host, 80).unwrap();
        let takes = |now: Instance| {
            let instance = meanwhile(&at("10.0.0.1"), &Arc::new(now));
            (instance.host().to_owned(), instance.takes_calls())
        };
        let old = |takes_calls| ("10.0.0.1".to_owned(), takes_calls);
        assert_eq!(takes(at("10.0.0.2")), old(true));
        assert_eq!(takes(at("10.0.0.2").with_draining(true)), old(false));
        assert_eq!(takes(at("10.0.0.2").with_weight(0).unwrap()), old(false));
        assert_eq!(takes(at("10.0.0.2").with_weight(0).unwrap().with_draining(true)), old(false));
        assert_eq!(takes(at("10.0.0.1").with_weight(0).unwrap()), old(false));
    }
}
