//! Ejections and readmissions: by the rules, by the clock and by hand.
//!
//! There is no task. A call that finds that something is due does it, and one of them only.

use crate::{
    balance::{
        core::{Core, State},
        hub::Hub,
        member::{Entry, Member},
        notice::Notice,
        outlier::{Period, may_eject, next_sweep},
        outlier_config::Mode,
        tier::Tier,
    },
    contract::{HealthStatus, InstanceId},
    observe::EjectionCause,
    sync::atomic::Ordering::{AcqRel, Acquire, Relaxed},
    time::{Moment, Tick, random},
};

impl<S> State<S> {
    pub(super) fn next_sweep(&self) -> Tick {
        next_sweep(self.last_sweep, self.config.outlier.interval)
    }

    fn tier(&self) -> Tier {
        Tier::of(self.members.values().map(Entry::standing), self.config.panic_threshold)
    }

    /// Ejects outliers, as many of them as may be.
    fn eject(&mut self, outliers: &[(Entry<S>, EjectionCause)], hub: &Hub, now: Tick) {
        // Where all fail, this is asked at every fifth call under the lock: a large set is not counted each time.
        let mut tier = self.known_tier(hub).unwrap_or_else(|| self.tier());
        let outlier = self.config.outlier;
        for (Entry { instance, member }, cause) in outliers {
            let (vitals, id, cause) = (&member.vitals, instance.id().clone(), *cause);
            let ejections = vitals.ejections() + 1;
            if outlier.mode == Mode::Shadow {
                self.notices.push(Notice::Ejected { id, cause, ejections, ejected_for: None, enforced: false });
                continue;
            }
            let usable = instance.health().status() != HealthStatus::Unhealthy;
            let one_stays = tier.usable > usize::from(usable);
            if !one_stays || !may_eject(tier.taking, tier.ejected, outlier.max_ejected) {
                hub.counts.held_back.fetch_add(1, Relaxed);
                continue;
            }
            let ejections = vitals.count_ejection();
            let time = outlier.terms().time(ejections, random());
            vitals.eject(now + time);
            tier.ejected += 1;
            tier.usable -= usize::from(usable);
            self.notices.push(Notice::Ejected { id, cause, ejections, ejected_for: Some(time), enforced: true });
            self.change();
        }
    }

    fn readmit_due(&mut self, now: Tick) {
        let due = |entry: &&Entry<S>| entry.member.vitals.ejected_until().is_some_and(|until| until <= now);
        let back: Vec<InstanceId> = self.members.values().filter(due).map(|entry| entry.member.id.clone()).collect();
        for id in back {
            if self.members.get(&id).is_some_and(|entry| entry.member.vitals.end_ejection(now)) {
                self.notices.push(Notice::Readmitted(id));
            }
            self.change();
        }
    }

    /// Compares all that are not ejected, and lets those that did well be forgiven.
    fn sweep(&mut self, hub: &Hub, now: Tick) {
        self.last_sweep = now;
        let judged: Vec<Entry<S>> =
            self.members.values().filter(|entry| entry.member.vitals.ejected_until().is_none()).cloned().collect();
        let periods: Vec<Period> = judged.iter().map(|entry| entry.member.vitals.take_period()).collect();
        let outliers: Vec<(Entry<S>, EjectionCause)> = self
            .config
            .outlier
            .rules()
            .outliers(&periods)
            .into_iter()
            .map(|(at, cause)| (judged[at].clone(), cause))
            .filter(|(entry, _)| entry.standing().takes_calls)
            .collect();
        self.eject(&outliers, hub, now);
        let failed = periods.iter().any(|period| period.failures > 0);
        let fine = judged.iter().filter(|entry| entry.member.vitals.ejected_until().is_none());
        fine.for_each(|entry| entry.member.vitals.forgive());
        // Where nothing has failed and nothing is to be forgiven, no call need look at the clock.
        // One that is out has something to be forgiven: its ejection was counted.
        self.watching = failed || self.members.values().any(|entry| entry.member.vitals.ejections() > 0);
    }

    /// A period begins with the first failure after a while without any. What went well before that is not to hide it.
    pub(super) fn begin_watch(&mut self, now: Tick) {
        if self.next_sweep() <= now {
            self.last_sweep = now;
            for entry in self.members.values() {
                entry.member.vitals.take_period();
            }
        }
        self.watching = true;
    }

    /// Nobody has looked until now. What happened meanwhile, however short a time ago, is held against nobody.
    pub(super) fn begin_to_look(&mut self, now: Tick) {
        self.last_sweep = now;
        self.members.values().for_each(|entry| entry.member.vitals.begin_anew());
    }
}

impl<S> Core<S> {
    /// Does what is due by the clock. Cheap when nothing is.
    #[inline]
    pub(super) fn look_at_clock(&self, now: &mut Moment) {
        let due = self.hub.due.load(Relaxed);
        if due != Tick::NEVER.as_nanos() && now.tick().as_nanos() >= due {
            self.do_what_is_due(due, now);
        }
    }

    #[cold]
    fn do_what_is_due(&self, due: u64, now: &mut Moment) {
        // One call does it; the others go on with the set they have.
        if self.hub.due.compare_exchange(due, Tick::NEVER.as_nanos(), AcqRel, Acquire).is_err() {
            return;
        }
        let now = now.tick();
        self.locked(|state| {
            state.readmit_due(now);
            if state.config.outlier.sweeps() && state.watching && state.next_sweep() <= now {
                state.sweep(&self.hub, now);
            }
            state.end_slow_start(now);
            self.arm(state);
        });
    }

    pub(super) fn begin_watch(&self, now: Tick) {
        self.locked(|state| {
            if state.config.outlier.sweeps() && !state.watching {
                state.begin_watch(now);
                self.arm(state);
            }
        });
    }

    /// A member has failed too often in a row.
    pub(super) fn eject_outlier(&self, member: &Member<S>, cause: EjectionCause, now: Tick) {
        self.locked(|state| {
            let entry = state.members.get(&member.id).filter(|entry| entry.member.serial == member.serial).cloned();
            // One that is ejected already is not ejected twice, and one that was removed is none of ours.
            let in_place = |entry: &Entry<S>| entry.member.vitals.ejected_until().is_none();
            if let Some(entry) = entry.filter(|entry| in_place(entry) && entry.standing().takes_calls) {
                state.eject(&[(entry, cause)], &self.hub, now);
                // The next call may come after the end of the ejection only, and looks at the clock before the set.
                if member.vitals.ejected_until().is_some() {
                    self.arm(state);
                }
            }
        });
    }

    pub(super) fn eject_by_hand(&self, id: &InstanceId) -> bool {
        self.locked(|state| {
            let Some(entry) = state.members.get(id).cloned() else { return false };
            if !entry.member.vitals.eject_by_hand() {
                return false;
            }
            let (cause, ejections) = (EjectionCause::Manual, entry.member.vitals.ejections());
            let id = id.clone();
            state.notices.push(Notice::Ejected { id, cause, ejections, ejected_for: None, enforced: true });
            state.change();
            true
        })
    }

    pub(super) fn readmit(&self, id: &InstanceId) -> bool {
        let now = Tick::now();
        self.locked(|state| {
            let readmitted = state.members.get(id).is_some_and(|entry| entry.member.vitals.readmit(now));
            if readmitted {
                state.notices.push(Notice::Readmitted(id.clone()));
                state.change();
            }
            readmitted
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::{
        admission::Verdict,
        balance::{
            Config, Outlier,
            core::tests::{
                FAILURE, SECOND, begin, ejections, fail, handle, instance, is_ejected, is_quiet, look, member, sweeps,
            },
        },
        contract::Health,
        observe::Event,
    };

    fn in_a_row(failures: u32) -> Config {
        let outlier = Outlier::new().consecutive_failures(failures).max_ejected(1.0).eject_for(SECOND);
        Config::new().outlier(outlier).panic_threshold(0.0)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_usable_one_stays_whoever_else_there_is() {
        let handle = handle(in_a_row(1), 4);
        for number in [2, 3] {
            assert!(handle.update(&Arc::new(instance(number).with_health(Health::unhealthy("down")))));
        }
        look(&handle);
        fail(&handle, 0, 1);
        assert_eq!(ejections(&handle), (1, 0));
        fail(&handle, 1, 1);
        assert_eq!(ejections(&handle), (1, 1), "the others are no use");
        fail(&handle, 2, 1);
        assert_eq!(ejections(&handle), (2, 1), "one that is of no use is not the last that is");
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_one_sweep_finds_as_many_are_ejected_as_may_be() {
        let config = |most| Config::new().outlier(sweeps().max_ejected(most)).panic_threshold(0.0);
        let two = handle(config(0.2), 10);
        (5..9).for_each(|number| fail(&two, number, 1));
        begin(&two, 5).settle(Verdict::Success);
        begin(&two, 8).settle(Verdict::Success);
        tokio::time::advance(SECOND * 10).await;
        look(&two);
        assert_eq!(ejections(&two), (2, 2));
        assert!(is_ejected(&two, 6) && is_ejected(&two, 7), "the worst");

        let usable = handle(config(1.0), 4);
        for number in [2, 3] {
            assert!(usable.update(&Arc::new(instance(number).with_health(Health::unhealthy("down")))));
        }
        look(&usable);
        (0..2).for_each(|number| fail(&usable, number, 1));
        tokio::time::advance(SECOND * 10).await;
        look(&usable);
        assert_eq!(ejections(&usable), (1, 1), "one that is usable stays");
    }

    #[tokio::test(start_paused = true)]
    async fn sweeps_go_on_as_long_as_something_fails() {
        let handle = handle(Config::new(), 3);
        fail(&handle, 0, 1);
        tokio::time::advance(SECOND * 10).await;
        assert!(!is_quiet(&handle), "the sweep found a failure");
        tokio::time::advance(SECOND * 10).await;
        assert!(is_quiet(&handle), "and the next one found none");
        (0..3).for_each(|number| fail(&handle, number, 1));
        tokio::time::advance(SECOND * 10).await;
        assert!(!is_quiet(&handle), "where all fail as well");
    }

    #[tokio::test(start_paused = true)]
    async fn sweeps_go_on_until_all_is_forgiven() {
        let handle = handle(in_a_row(1), 2);
        for seconds in [1, 2] {
            fail(&handle, 0, 1);
            look(&handle);
            assert!(is_ejected(&handle, 0));
            tokio::time::advance(SECOND * seconds).await;
            look(&handle);
            assert!(!is_ejected(&handle, 0));
        }
        tokio::time::advance(SECOND * 7).await;
        look(&handle);
        assert_eq!((member(&handle, 0).0.vitals.ejections(), is_quiet(&handle)), (1, false));
        tokio::time::advance(SECOND * 10).await;
        look(&handle);
        assert_eq!((member(&handle, 0).0.vitals.ejections(), is_quiet(&handle)), (0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_call_after_an_ejection_finds_it_over_though_none_came_meanwhile() {
        let handle = handle(in_a_row(1), 2);
        fail(&handle, 0, 1);
        tokio::time::advance(SECOND).await;
        look(&handle);
        assert!(!is_ejected(&handle, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_call_after_a_sweep_of_new_settings_is_due_makes_it_though_none_came_meanwhile() {
        let handle = handle(Config::new().outlier(sweeps().interval(SECOND * 3_600)), 2);
        fail(&handle, 0, 1);
        tokio::time::advance(SECOND * 5).await;
        handle.reconfigure(Config::new().outlier(sweeps())).unwrap();
        tokio::time::advance(SECOND * 5).await;
        look(&handle);
        assert!(is_ejected(&handle, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_before_anybody_looked_is_held_against_nobody_however_short_a_time_ago() {
        let handle = handle(Config::new().outlier(sweeps().mode(Mode::Off)), 2);
        fail(&handle, 0, 9);
        tokio::time::advance(SECOND).await;
        handle.reconfigure(Config::new().outlier(sweeps())).unwrap();
        tokio::time::advance(SECOND * 9).await;
        look(&handle);
        assert!(!is_ejected(&handle, 0));
        fail(&handle, 0, 1);
        tokio::time::advance(SECOND).await;
        look(&handle);
        assert!(is_ejected(&handle, 0), "and what failed since is");
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_of_failures_begins_when_somebody_looks() {
        let handle = handle(Config::new().outlier(Outlier::off()), 2);
        fail(&handle, 0, 2);
        handle.reconfigure(in_a_row(3)).unwrap();
        fail(&handle, 0, 2);
        assert!(!is_ejected(&handle, 0));
        fail(&handle, 0, 1);
        assert!(is_ejected(&handle, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_begun_is_not_begun_anew() {
        let handle = handle(Config::new().outlier(sweeps()), 2);
        fail(&handle, 0, 1);
        tokio::time::advance(SECOND * 15).await;
        // Another thread, which has failed as well and was late to say so.
        handle.core.begin_watch(Tick::now());
        look(&handle);
        assert!(is_ejected(&handle, 0), "what was counted is not forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_out_already_or_is_about_to_go_is_not_ejected() {
        let handle = handle(in_a_row(1), 4);
        let eject = |number| {
            let outlier = member(&handle, number);
            handle.core.eject_outlier(&outlier.0, EjectionCause::ConsecutiveFailures, Tick::now());
        };
        eject(0);
        eject(0);
        assert_eq!((ejections(&handle), member(&handle, 0).0.vitals.ejections()), ((1, 0), 1));
        assert!(handle.update(&Arc::new(instance(1).with_draining(true))));
        eject(1);
        assert!(!is_ejected(&handle, 1));
        assert_eq!(ejections(&handle), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejection_says_how_long_it_lasts() {
        let (handle, told) = (handle(in_a_row(1), 3), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&told);
        handle.observe(move |event: &Event<'_>| {
            if let Event::Ejected(ejection) = event {
                log.lock().push((ejection.instance.to_owned(), ejection.ejected_for));
            }
        });
        begin(&handle, 0).settle(FAILURE);
        assert!(handle.eject(instance(1).id()));
        let by_hand = ("users-1".to_owned(), None);
        assert_eq!(*told.lock(), [("users-0".to_owned(), Some(SECOND)), by_hand]);
    }
}
