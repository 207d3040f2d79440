//! Calls of one of several instances, and of services at levels.

use std::sync::Arc;

use mainstay::{
    balance::{Balance, Config, Handle, LeastLoaded},
    contract::Instance,
    fallback::Fallback,
    isolation::{self, FallbackConfig, IsolationManager, Level},
};

use super::{Case, Failure, Lab, Work, rooms::through, sweep_all};
use crate::support::*;

pub(super) fn instance(number: u32) -> Arc<Instance> {
    Arc::new(Instance::new("users", &format!("users-{number}"), "10.0.0.7", 8_000 + number as u16).unwrap())
}

pub(super) fn balanced(lab: &Lab) -> Handle<Lab> {
    let breaker = mainstay::breaker::Config::new().minimum_calls(1_000);
    let handle = Handle::new("users", Config::new().breaker(breaker));
    (0..3).for_each(|number| handle.insert(instance(number), lab.clone()));
    handle
}

pub(super) async fn balance() {
    sweep_all(async |work| {
        let lab = Lab::new(work);
        let handle = balanced(&lab);
        let (one, two, three) = (handle.clone(), handle.clone(), handle.clone());
        Case::new(&lab, through(Balance::new(&handle, LeastLoaded)))
            .gauge("pending", move || one.snapshot().members.iter().map(|member| member.pending).sum::<u32>())
            .gauge("probes", move || {
                let probes = |member: &mainstay::balance::MemberSnapshot| {
                    member.breaker.as_ref().map_or(0, |breaker| breaker.probes_running)
                };
                two.snapshot().members.iter().map(probes).sum::<u32>()
            })
            .check(move |end| {
                let members = three.snapshot().members;
                let sum = |of: fn(&mainstay::balance::MemberSnapshot) -> u64| members.iter().map(of).sum::<u64>();
                let (calls, failures) = (sum(|member| member.calls), sum(|member| member.failures));
                assert_eq!((calls - failures, failures), end.counted(), "{end:?}");
            })
    })
    .await;
}

type Manager = IsolationManager<(), u32, Failure>;

pub(super) async fn isolation() {
    for level in [Level::None, Level::Basic, Level::Enhanced, Level::Full] {
        for fallback in [false, true] {
            sweep_all(async |work| {
                let (lab, instead) = (Lab::new(work), Lab::new(Work::Later));
                let manager = Manager::new();
                let other = instead.clone();
                let covered = FallbackConfig::new(Fallback::run(move |_: &Failure| other.work_on()));
                let config = if fallback { covered } else { FallbackConfig::none() };
                let config = config.max_retries(1).retry_delay(ms(2)).timeout(ms(400));
                manager.register("users", lab.clone(), level, config).unwrap();
                let (mine, one, two) = (manager.clone(), manager.clone(), manager.clone());
                Case::new(&lab, move || mine.execute("users", "get", ()))
                    .gauge("running", move || one.bulkhead("users").unwrap().running())
                    .gauge("in flight", move || two.load_shed("users").unwrap().snapshot().in_flight)
                    .gauge("probes", {
                        let manager = manager.clone();
                        move || manager.breaker("users").unwrap().snapshot().probes_running
                    })
                    .gauge("fallbacks running", move || instead.running())
                    .check(move |end| of_stats(&manager.stats(), end, fallback && level > Level::None))
            })
            .await;
        }
    }
}

fn of_stats(stats: &isolation::Stats, end: super::End, covered: bool) {
    let answered = end.done && (end.work != Work::Fails || covered);
    let failed = end.done && !answered;
    // A call counts from its beginning, which is before the first poll.
    let expected = (u64::from(answered), u64::from(failed), u64::from(!end.done), 0);
    assert_eq!((stats.answered, stats.failed, stats.dropped, stats.in_flight), expected, "{end:?}");
    assert_eq!(stats.fallbacks_used, u64::from(answered && end.work == Work::Fails), "{end:?}");
}
