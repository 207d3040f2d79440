//! The changing set behind its lock. Calls come here only after something has changed, or when they find nobody.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use crate::{
    balance::{
        config::Config,
        hub::Hub,
        member::{Entry, Member, Vitals},
        notice::Notice,
        set::Set,
        tier::Tier,
    },
    breaker,
    contract::{Instance, InstanceId},
    error::{Reason, Rejection},
    name::Name,
    observe::Event,
    settings::ConfigError,
    sync::{
        Mutex,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
    time::{Moment, Tick},
};

pub(super) struct Core<S> {
    pub(super) hub: Arc<Hub>,
    state: Mutex<State<S>>,
    me: Weak<Self>,
}

pub(super) struct State<S> {
    pub(super) config: Config,
    // In the order of their ids, so that a set looks the same however it came to be.
    pub(super) members: BTreeMap<InstanceId, Entry<S>>,
    set: Arc<Set<S>>,
    pub(super) last_sweep: Tick,
    // Something has failed of late: sweeps are made.
    pub(super) watching: bool,
    next_serial: u64,
    changed: bool,
    pub(super) notices: Vec<Notice>,
    // Services, and with them the user's code, are dropped after the lock.
    garbage: Vec<Garbage<S>>,
}

#[allow(dead_code, reason = "kept to be dropped")]
enum Garbage<S> {
    Set(Arc<Set<S>>),
    Member(Entry<S>),
    Service(S),
}

impl<S> State<S> {
    /// The set is made anew when it is next needed, so that a thousand changes make one.
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    /// What the set says of its members, as long as nothing has changed since it was made.
    pub(super) fn known_tier(&self, hub: &Hub) -> Option<Tier> {
        let is_new = !self.changed && self.set.version == hub.version.load(Acquire);
        is_new.then_some(self.set.tier)
    }

    /// Once the last has started, nobody asks any more.
    pub(super) fn end_slow_start(&mut self, now: Tick) {
        if self.set.slow.is_some_and(|(_, last)| last <= now) {
            self.change();
        }
    }
}

impl<S> Core<S> {
    pub(super) fn new(name: Name, config: Config) -> Arc<Self> {
        let now = Tick::now();
        let hub = Arc::new(Hub::new(name, &config));
        let core = Arc::new_cyclic(|me| Self {
            hub,
            state: Mutex::new(State {
                config,
                members: BTreeMap::new(),
                set: Set::empty(),
                last_sweep: now,
                watching: false,
                next_serial: 0,
                changed: true,
                notices: Vec::new(),
                garbage: Vec::new(),
            }),
            me: Weak::clone(me),
        });
        core.locked(|state| core.arm(state));
        core
    }

    /// Looks at the set, or changes it, and tells afterwards what came of it.
    pub(super) fn locked<R>(&self, change: impl FnOnce(&mut State<S>) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let changed = std::mem::take(&mut state.changed);
        if changed {
            self.hub.version.fetch_add(1, Release);
        }
        let (notices, _garbage) = (std::mem::take(&mut state.notices), std::mem::take(&mut state.garbage));
        drop(state);
        if changed {
            self.hub.waiters.wake_all();
        }
        notices.iter().for_each(|notice| notice.publish(&self.hub));
        result
    }

    /// The set as it is now.
    pub(super) fn current(&self, now: &mut Moment) -> Arc<Set<S>> {
        self.locked(|state| {
            // Under the lock, under which it changes.
            let version = self.hub.version.load(Acquire);
            if state.set.version != version {
                self.rebuild(state, version, now.tick());
            }
            Arc::clone(&state.set)
        })
    }

    /// Makes the set anew from what is known of the members.
    fn rebuild(&self, state: &mut State<S>, version: u64, now: Tick) {
        let set = Set::new(version, state.members.values(), &state.config, now);
        if set.tier.panics != state.set.tier.panics {
            state.notices.push(Notice::Panic(set.tier));
        }
        let before = std::mem::replace(&mut state.set, Arc::new(set));
        state.garbage.push(Garbage::Set(before));
        self.arm(state);
    }

    /// Sets the time at which a call looks at the clock for more than itself.
    pub(super) fn arm(&self, state: &State<S>) {
        let outs = state.members.values().filter_map(|entry| entry.member.vitals.ejected_until());
        let sweeps = state.config.outlier.sweeps();
        let sweep = (sweeps && state.watching).then(|| state.next_sweep());
        let slow = state.set.slow.map(|(_, last)| last);
        let due = outs.chain(sweep).chain(slow).min().unwrap_or(Tick::NEVER);
        self.hub.due.store(due.as_nanos(), Release);
        self.hub.unwatched.store(sweeps && !state.watching, Release);
    }

    /// A new member in the place of whoever had its id.
    pub(super) fn put(&self, state: &mut State<S>, instance: Arc<Instance>, service: S, now: Tick) {
        let (id, config) = (instance.id().clone(), &state.config);
        let breaker = config.breaker.as_ref().map(|config| {
            let name = self.hub.name_of(&id);
            let breaker = breaker::Handle::of_checked(name, config.clone());
            let hub = Arc::clone(&self.hub);
            breaker.observe(move |event: &Event<'_>| hub.sink.tell(&hub.name, || event.clone()));
            breaker
        });
        let member = Arc::new(Member {
            vitals: Vitals::new(config.initial_latency, now),
            breaker,
            service,
            id: id.clone(),
            serial: state.next_serial,
            hub: Arc::clone(&self.hub),
            core: Weak::clone(&self.me),
        });
        state.next_serial += 1;
        let before = state.members.insert(id, Entry { instance, member });
        state.garbage.extend(before.map(Garbage::Member));
        state.change();
    }

    /// What is said of a member anew; whether there is one, at the same address. It keeps its service and
    /// all that is known of it.
    pub(super) fn restate(state: &mut State<S>, instance: &Arc<Instance>) -> bool {
        let Some(entry) = state.members.get_mut(instance.id()) else { return false };
        // Its service calls the old address, whatever were written here.
        if entry.instance.authority() != instance.authority() {
            return false;
        }
        let same = entry.instance.says_the_same(instance);
        // Also when it says the same: it was seen later.
        entry.instance = Arc::clone(instance);
        if !same {
            state.change();
        }
        true
    }

    pub(super) fn take_out(state: &mut State<S>, id: &InstanceId) -> bool {
        let Some(entry) = state.members.remove(id) else { return false };
        state.garbage.push(Garbage::Member(entry));
        state.change();
        true
    }

    /// A service that was made for a member which came in another way meanwhile.
    pub(super) fn discard(state: &mut State<S>, service: S) {
        state.garbage.push(Garbage::Service(service));
    }

    /// Takes over settings, or none of them.
    pub(super) fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        // The old predicate of a breaker is the user's code, and its end too: not under the lock.
        let (breakers, before) = self.locked(|state| {
            if config.breaker.is_some() != state.config.breaker.is_some() {
                let value = if config.breaker.is_some() { "on" } else { "off" };
                return Err(ConfigError::new("breaker", value, "members keep what they were made with"));
            }
            let breakers = || state.members.values().filter_map(|entry| entry.member.breaker.clone());
            if let Some(settings) = &config.breaker {
                let accepts = |breaker: breaker::Handle| breaker.accepts(settings);
                breakers().try_for_each(accepts).map_err(|error| error.within("breaker"))?;
            }
            let breakers: Vec<breaker::Handle> = breakers().collect();
            // Before the new rules are seen by calls that end now.
            if !state.config.outlier.sweeps() {
                state.begin_to_look(Tick::now());
            }
            self.hub.set(&config);
            // Whether there is something to sweep, the next sweep finds out.
            state.watching = true;
            state.change();
            let before = std::mem::replace(&mut state.config, config);
            // A sweep may be due before the next call, which looks at the clock before the set.
            self.arm(state);
            Ok((breakers, before))
        })?;
        let settings = self.locked(|state| state.config.breaker.clone());
        for breaker in breakers {
            settings.iter().try_for_each(|settings| breaker.reconfigure(settings.clone()))?;
        }
        drop(before);
        Ok(())
    }

    /// There is nobody to call: a rejection with the time at which an ejection or an open circuit is over.
    #[cold]
    pub(super) fn nobody(&self, now: &mut Moment) -> Rejection {
        let mut back = Tick::NEVER;
        self.locked(|state| {
            for entry in state.members.values().filter(|entry| entry.standing().takes_calls) {
                let ejected = entry.member.vitals.ejected_until();
                let shut = entry.member.shut_until(now);
                back = back.min(ejected.into_iter().chain(shut).max().unwrap_or(Tick::NEVER));
            }
        });
        self.hub.counts.no_instance.fetch_add(1, Relaxed);
        let rejection = Rejection::new(Reason::NoInstance, self.hub.name.clone());
        let rejection = match back {
            Tick::NEVER => rejection,
            back => rejection.with_retry_nanos(back.nanos_since(now.tick())),
        };
        self.hub.sink.tell(&self.hub.name, || Event::Rejected(&rejection));
        rejection
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        admission::{Admitted, Verdict},
        balance::{Handle, Outlier, SlowStart, member::Tracked},
        contract::Health,
    };

    pub(in crate::balance) const SECOND: Duration = Duration::from_secs(1);
    pub(in crate::balance) const FAILURE: Verdict = Verdict::Failure { retry_after: None };

    pub(in crate::balance) fn instance(number: u16) -> Instance {
        Instance::new("users", &format!("users-{number}"), "10.0.0.7", 8_000 + number).unwrap()
    }

    /// Members without services: the tests begin and end their calls.
    pub(in crate::balance) fn handle(config: Config, count: u16) -> Handle<()> {
        let handle = Handle::new("users", config);
        (0..count).for_each(|number| handle.insert(Arc::new(instance(number)), ()));
        look(&handle);
        handle
    }

    /// What a call does before it picks; the moment it has read.
    pub(in crate::balance) fn look(handle: &Handle<()>) -> Moment {
        let mut now = Moment::new();
        handle.core.look_at_clock(&mut now);
        let read = now;
        handle.core.current(&mut now);
        read
    }

    pub(in crate::balance) fn member(handle: &Handle<()>, number: u16) -> Tracked<()> {
        handle.core.locked(|state| Tracked(Arc::clone(&state.members[instance(number).id()].member)))
    }

    pub(in crate::balance) fn begin(handle: &Handle<()>, number: u16) -> Admitted<Tracked<()>> {
        member(handle, number).begin(false, &mut Moment::new()).unwrap()
    }

    pub(in crate::balance) fn fail(handle: &Handle<()>, number: u16, times: usize) {
        (0..times).for_each(|_| begin(handle, number).settle(FAILURE));
    }

    pub(in crate::balance) fn is_ejected(handle: &Handle<()>, number: u16) -> bool {
        member(handle, number).0.vitals.ejected_until().is_some()
    }

    pub(in crate::balance) fn ejections(handle: &Handle<()>) -> (u64, u64) {
        let counts = &handle.core.hub.counts;
        (counts.ejections.load(Relaxed), counts.held_back.load(Relaxed))
    }

    /// Whether calls go by without a look at the clock.
    pub(in crate::balance) fn is_quiet(handle: &Handle<()>) -> bool {
        look(handle);
        format!("{:?}", look(handle)) == "Moment(None)" && handle.core.hub.due.load(Relaxed) == Tick::NEVER.as_nanos()
    }

    /// A sweep every ten seconds ejects who fails every other call; failures in a row do nothing.
    pub(in crate::balance) fn sweeps() -> Outlier {
        Outlier::new().consecutive_failures(0).deviations(0.0).failure_rate(0.5).min_instances(1).min_calls(1)
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_reads_the_clock_unless_something_has_failed() {
        let quiet = handle(Config::new(), 2);
        begin(&quiet, 0).settle(Verdict::Success);
        assert!(is_quiet(&quiet));
        assert!(quiet.core.hub.unwatched.load(Relaxed));
        fail(&quiet, 0, 1);
        assert!(!quiet.core.hub.unwatched.load(Relaxed), "further failures need not say so");
        assert!(!is_quiet(&quiet));

        let off = handle(Config::new().outlier(Outlier::off()), 2);
        assert!(!off.core.hub.unwatched.load(Relaxed), "nobody looks");
        fail(&off, 0, 9);
        assert!(is_quiet(&off));
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_reads_the_clock_any_more_once_the_last_member_has_started() {
        let handle = handle(Config::new().slow_start(SlowStart::new(SECOND * 60)), 2);
        let starts = || handle.core.current(&mut Moment::new()).slow.is_some();
        tokio::time::advance(SECOND * 59).await;
        look(&handle);
        assert!(starts() && !is_quiet(&handle));
        tokio::time::advance(SECOND).await;
        look(&handle);
        assert!(!starts() && is_quiet(&handle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_that_has_changed_since_the_last_call_is_counted_anew_before_an_ejection() {
        let most = Outlier::new().consecutive_failures(1).max_ejected(1.0);
        let last = handle(Config::new().outlier(most).panic_threshold(0.0), 2);
        let mut running = begin(&last, 0);
        assert!(last.remove(instance(1).id()));
        running.settle(FAILURE);
        assert_eq!(ejections(&last), (0, 1), "it is the last one now");

        let one_more = handle(Config::new().outlier(most.max_ejected(0.2)).panic_threshold(0.0), 9);
        fail(&one_more, 0, 1);
        one_more.insert(Arc::new(instance(9)), ());
        fail(&one_more, 1, 1);
        assert_eq!(ejections(&one_more), (2, 0), "two of ten may be out");

        let healthy = handle(Config::new().outlier(most).panic_threshold(0.0), 3);
        let unhealthy = |number| Arc::new(instance(number).with_health(Health::unhealthy("down")));
        assert!(healthy.update(&unhealthy(2)) && healthy.update(&unhealthy(1)));
        fail(&healthy, 0, 1);
        assert_eq!(ejections(&healthy), (0, 1), "nobody else is usable");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_makes_room_for_another_ejection_at_the_same_moment() {
        let one = sweeps().max_ejected(0.0).eject_for(SECOND * 10);
        let handle = handle(Config::new().outlier(one), 5);
        fail(&handle, 0, 1);
        tokio::time::advance(SECOND * 10).await;
        look(&handle);
        assert!(is_ejected(&handle, 0));
        fail(&handle, 1, 1);
        tokio::time::advance(SECOND * 10).await;
        look(&handle);
        assert!(!is_ejected(&handle, 0) && is_ejected(&handle, 1));
        assert_eq!(ejections(&handle), (2, 0));
    }
}
