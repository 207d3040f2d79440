//! The task that checks the instances of one service.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use tokio::{
    task::{AbortHandle, JoinError, JoinSet},
    time::{Sleep, sleep_until},
};

use crate::{
    contract::{Health, Instance, InstanceId},
    discovery::{
        health::{
            check,
            checked::{Common, Room},
            rule::Standing,
        },
        update::{Change, Gone, Snapshot, Update},
        watch::Watch,
    },
    time::{Tick, random},
};

pub(super) struct Actor {
    common: Arc<Common>,
    room: Arc<Room>,
    watch: Watch,
    patients: BTreeMap<InstanceId, Patient>,
    // When who is to be checked next; who is being checked is not in it.
    plan: BTreeSet<(Tick, InstanceId)>,
    // Aborts what runs when it is dropped.
    running: JoinSet<Found>,
    alarm: Option<(Tick, Pin<Box<Sleep>>)>,
    // When to see whether anybody still wants to know.
    look_again: Tick,
    next_round: u64,
}

struct Patient {
    // As the backend says.
    own: Arc<Instance>,
    standing: Standing,
    // A result of an earlier round is of an instance that was elsewhere.
    round: u64,
    due: Tick,
    task: Option<AbortHandle>,
}

/// The result of a check; none where it could not even begin.
struct Found {
    id: InstanceId,
    round: u64,
    health: Option<Health>,
}

enum Step {
    Update(Option<Update>),
    Found(Found),
    Due,
}

impl Actor {
    pub(super) fn new(common: Arc<Common>, room: Arc<Room>, watch: Watch) -> Self {
        Self {
            common,
            room,
            watch,
            patients: BTreeMap::new(),
            plan: BTreeSet::new(),
            running: JoinSet::new(),
            alarm: None,
            look_again: Tick::default(),
            next_round: 0,
        }
    }

    /// Until the backend is gone, or nobody wants to know any more.
    pub(super) async fn run(mut self) {
        loop {
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Update(Some(update)) => self.learn(update),
                Step::Update(None) => break,
                Step::Found(found) => self.record(found),
                Step::Due => {}
            }
            let now = Tick::now();
            let idle_for = self.common.config.idle_for;
            if self.room.close_if_idle(now, idle_for) {
                break;
            }
            self.look_again = self.room.idle_at(idle_for).max(now + idle_for);
            self.check_due(now);
            // With updates without end, the other tasks of this thread want to run too.
            tokio::task::consume_budget().await;
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        // Results first: there is one for each interval at most, but there may always be another update.
        while let Poll::Ready(Some(result)) = self.running.poll_join_next(cx) {
            if let Some(found) = result.map_or_else(|error| self.lost(&error), Some) {
                return Poll::Ready(Step::Found(found));
            }
        }
        if let Poll::Ready(update) = self.watch.poll_next(cx) {
            return Poll::Ready(Step::Update(update));
        }
        self.poll_alarm(cx).map(|()| Step::Due)
    }

    /// A check that came to no result: its own drop panicked, or its instance is gone and it was aborted.
    fn lost(&self, error: &JoinError) -> Option<Found> {
        let is_its = |task: &AbortHandle| task.id() == error.id();
        let (id, patient) = self.patients.iter().find(|(_, patient)| patient.task.as_ref().is_some_and(is_its))?;
        Some(Found { id: id.clone(), round: patient.round, health: Some(check::panicked()) })
    }

    /// Rings when the next check is due, or when nobody may want to know any more.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let next = self.plan.first().map_or(Tick::NEVER, |(due, _)| *due);
        let at = next.min(self.look_again);
        let Some(instant) = at.to_instant() else { return Poll::Pending };
        if self.alarm.as_ref().is_none_or(|(set, _)| *set != at) {
            self.alarm = Some((at, Box::pin(sleep_until(instant))));
        }
        let Some((_, alarm)) = &mut self.alarm else { return Poll::Pending };
        let rang = alarm.as_mut().poll(cx);
        if rang.is_ready() {
            self.alarm = None;
        }
        rang
    }

    pub(super) fn learn(&mut self, update: Update) {
        let now = Tick::now();
        match update {
            Update::Snapshot(snapshot) => self.learn_all(&snapshot, now),
            Update::Event(event) => match event.change {
                Change::Added(instance) | Change::Updated(instance) => {
                    let merged = self.admit(instance, now);
                    self.room.topic.with(now, |state| state.log.put(merged));
                }
                Change::Removed(instance, why) => {
                    self.dismiss(instance.id());
                    self.room.topic.with(now, |state| state.take(instance.id(), why, now));
                }
                Change::Stale(stale) => {
                    self.room.topic.with(now, |state| state.log.set_stale(stale));
                }
                Change::Fresh => self.room.topic.with(now, |state| state.log.set_fresh()),
            },
        }
    }

    fn learn_all(&mut self, snapshot: &Snapshot, now: Tick) {
        let gone: Vec<InstanceId> = self.patients.keys().filter(|id| snapshot.get(id).is_none()).cloned().collect();
        gone.iter().for_each(|id| self.dismiss(id));
        let admitted = snapshot.iter().map(|instance| self.admit(Arc::clone(instance), now));
        let set: BTreeMap<_, _> = admitted.map(|instance| (instance.id().clone(), instance)).collect();
        self.room.topic.with(now, |state| {
            state.log.replace(&set, Gone::Left);
            match snapshot.stale.clone() {
                Some(stale) => _ = state.log.set_stale(stale),
                None => state.log.set_fresh(),
            }
        });
    }

    /// An instance came, or is another. One that is elsewhere now begins anew. How it is shown.
    fn admit(&mut self, own: Arc<Instance>, now: Tick) -> Arc<Instance> {
        let place = |of: &Instance| (of.port(), of.protocol());
        let known = self.patients.get(own.id());
        let moved = known.is_some_and(|known| place(&known.own) != place(&own) || known.own.host() != own.host());
        if moved {
            self.dismiss(own.id());
        }
        let Self { patients, plan, common, next_round, .. } = self;
        let patient = patients.entry(own.id().clone()).or_insert_with(|| {
            *next_round += 1;
            plan.insert((now, own.id().clone()));
            let standing = Standing::new(&common.config);
            Patient { own: Arc::clone(&own), standing, round: *next_round, due: now, task: None }
        });
        patient.own = own;
        patient.merged()
    }

    fn dismiss(&mut self, id: &InstanceId) {
        if let Some(patient) = self.patients.remove(id) {
            self.plan.remove(&(patient.due, id.clone()));
            patient.task.iter().for_each(AbortHandle::abort);
        }
    }

    fn record(&mut self, found: Found) {
        let Found { id, round, health } = found;
        let Some(patient) = self.patients.get_mut(&id).filter(|patient| patient.round == round) else { return };
        let now = Tick::now();
        patient.task = None;
        patient.due = now + self.common.config.pause(random());
        self.plan.insert((patient.due, id.clone()));
        let Some(health) = health else { return };
        self.common.counts.count(&health);
        if let Some(before) = patient.standing.record(health, &self.common.config) {
            self.common.counts.changes.fetch_add(1, Relaxed);
            let (service, to) = (self.room.topic.service().as_str(), patient.standing.status());
            tracing::info!(service, instance = id.as_str(), from = before.as_str(), to = to.as_str(), "health changed");
        }
        let merged = patient.merged();
        self.room.topic.with(now, |state| state.log.put(merged));
    }

    fn check_due(&mut self, now: Tick) {
        while self.plan.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, id)) = self.plan.pop_first() else { return };
            let Some(patient) = self.patients.get_mut(&id) else { continue };
            let (common, instance, round) = (Arc::clone(&self.common), Arc::clone(&patient.own), patient.round);
            patient.task = Some(self.running.spawn(async move {
                // The time limit is that of the check alone, not of the wait for a place.
                let place = common.places.acquire().await;
                let health = match place {
                    Ok(_place) => Some(check::run(Arc::clone(&common.check), instance, common.config.timeout).await),
                    Err(_) => None,
                };
                Found { id, round, health }
            }));
        }
    }
}

/// Also where the runtime drops the task: the topic would else stay for ever as it was, for whoever asks or watches on
/// another runtime.
impl Drop for Actor {
    fn drop(&mut self) {
        self.room.topic.close();
    }
}

impl Patient {
    /// How the instance is shown. The very one of the backend where the checks have nothing to add.
    fn merged(&self) -> Arc<Instance> {
        if self.standing.status() > self.own.health().status() {
            return Arc::new(self.standing.merged(&self.own));
        }
        Arc::clone(&self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::HealthStatus::{Degraded, Healthy, Unhealthy},
        discovery::{
            InMemory,
            health::{Checked, Config},
        },
    };

    async fn actor() -> Actor {
        let check = tower::service_fn(async |_: Arc<Instance>| Ok::<_, &str>(()));
        let checked = Checked::new(InMemory::new(), check, Config::new());
        checked.actor(&"users".parse().expect("a name")).await
    }

    fn instance(host: &str, health: Health) -> Arc<Instance> {
        Arc::new(Instance::new("users", "a", host, 80).expect("it can be").with_health(health))
    }

    #[tokio::test]
    async fn what_was_found_where_an_instance_was_before_says_nothing_of_where_it_is() {
        let mut actor = actor().await;
        let own = instance("10.0.0.1", Health::healthy());
        let id = own.id().clone();
        actor.admit(Arc::clone(&own), Tick::now());
        let found = |round| Found { id: id.clone(), round, health: Some(Health::unhealthy("boom")) };
        let (before, down_after) = (actor.patients[&id].round, 10);
        actor.admit(instance("10.0.0.2", Health::healthy()), Tick::now());
        (0..down_after).for_each(|_| actor.record(found(before)));
        assert_eq!(actor.patients[&id].merged().health().status(), Healthy);
        let now = actor.patients[&id].round;
        (0..down_after).for_each(|_| actor.record(found(now)));
        assert_eq!(actor.patients[&id].merged().health().status(), Unhealthy);
    }

    #[tokio::test]
    async fn where_the_checks_say_no_worse_the_instance_is_shown_as_it_says_itself() {
        let mut actor = actor().await;
        let own = instance("10.0.0.1", Health::degraded("by itself"));
        assert!(Arc::ptr_eq(&actor.admit(Arc::clone(&own), Tick::now()), &own));
        let round = actor.patients[own.id()].round;
        for _ in 0..10 {
            actor.record(Found { id: own.id().clone(), round, health: Some(Health::degraded("slow")) });
        }
        assert_eq!(actor.patients[own.id()].standing.status(), Degraded);
        assert!(Arc::ptr_eq(&actor.patients[own.id()].merged(), &own));
    }
}
