//! A fleet under its plan: discovery, a client that follows it, and an isolation manager in front of the client.

use std::sync::Arc;

use mainstay::{
    Error, Reason,
    client::Client,
    contract::{Health, HealthStatus, Instance, InstanceId, Invocation},
    discovery::{Discovery, InMemory},
    fallback::Fallback,
    isolation::{FallbackConfig, IsolationManager, Level},
    time::Tick,
};

use crate::{
    caller::{Caller, Got, Polled},
    fleet_plan::{FleetSetup, FleetStep, Via},
    ms,
    run::{Diary, Wrong, wrong},
    service::{Answer, Behaviour, Failure, How, Response},
    truth::{FleetRequest, Member, Truth},
};

type Fallbacks = FallbackConfig<FleetRequest, Response, Error<Failure>>;

const SERVICE: &str = "users";
const INSTANCES: u64 = 8;
const RESTLESS: u32 = 20_000;
/// In seconds: longer than any wait that a plan has.
const PATIENCE: u64 = 60;

struct FleetCaller {
    caller: Caller,
    via: Via,
}

pub struct Fleet<'a> {
    setup: FleetSetup,
    truth: Truth,
    discovery: InMemory,
    client: Client<FleetRequest, Response, Error<Failure>>,
    manager: IsolationManager<FleetRequest, Response, Error<Failure>>,
    callers: Vec<FleetCaller>,
    calls: u32,
    diary: &'a Diary,
}

impl<'a> Fleet<'a> {
    pub fn new(setup: &FleetSetup, diary: &'a Diary) -> Self {
        let (truth, discovery) = (Truth::default(), InMemory::new());
        truth.known().falls_back = true;
        let client = Client::builder(discovery.clone(), truth.clone()).config(setup.client.clone()).build();
        let manager = IsolationManager::new();
        let fleet =
            Self { setup: setup.clone(), truth, discovery, client, manager, callers: Vec::new(), calls: 0, diary };
        fleet.register();
        fleet
    }

    fn register(&self) {
        let caller = self.client.service(SERVICE).expect("a name is a name");
        let enabled = self.truth.known().falls_back;
        let fallback = self.fallback().enabled(enabled);
        let registered = self.manager.register_with(SERVICE, caller, self.setup.isolation.clone(), fallback);
        drop(registered.expect("the settings were checked"));
    }

    fn fallback(&self) -> Fallbacks {
        let truth = Arc::downgrade(&self.truth.0);
        Fallbacks::new(Fallback::request(
            |invocation: &Invocation<FleetRequest>| invocation.request.call,
            move |call, _: Result<&Response, &Error<Failure>>| {
                truth.upgrade().expect("calls end before the fleet does").lock().fallbacks += 1;
                async move { Ok(Response { call, attempt: None }) }
            },
        ))
    }

    pub async fn step(&mut self, step: &FleetStep) -> Result<(), Wrong> {
        match step {
            FleetStep::Call { via, script, patience } => self.call(*via, script, *patience),
            FleetStep::Poll(which) => self.poll_one(*which)?,
            FleetStep::Settle => self.settle().await?,
            FleetStep::Drop(which) if !self.callers.is_empty() => {
                drop(self.callers.swap_remove((*which % self.callers.len() as u64) as usize));
            }
            FleetStep::Drop(_) => {}
            FleetStep::DropAll => self.callers.clear(),
            FleetStep::Advance(time) => tokio::time::advance(*time).await,
            FleetStep::Level(level) => drop(self.manager.set_level(SERVICE, *level).expect("it is registered")),
            FleetStep::Fallback(enabled) => {
                self.truth.known().falls_back = *enabled;
                let fallback = self.fallback().enabled(*enabled);
                self.manager.update_fallback(SERVICE, fallback).expect("it is registered");
            }
            FleetStep::ServiceHealth(status) => {
                self.manager.update_health(SERVICE, *status).expect("it is registered");
            }
            FleetStep::Anew => {
                self.manager.unregister(SERVICE).expect("it is registered");
                self.register();
            }
            _ => self.change(step).await,
        }
        // What follows discovery hears of it.
        breathe().await;
        self.truth.known().hear();
        Ok(())
    }

    /// Something happens to an instance.
    async fn change(&self, step: &FleetStep) {
        match step {
            FleetStep::Join(which, ttl) => self.join(&name(*which), *ttl).await,
            FleetStep::Leave(which) => self.leave(&name(*which)).await,
            FleetStep::Heartbeat(which) => self.renew(&name(*which)).await,
            FleetStep::Drain(which, on) => self.update(&name(*which), |i| i.with_draining(*on)).await,
            FleetStep::Health(which, status) => {
                self.update(&name(*which), |instance| instance.with_health(health(*status))).await;
            }
            FleetStep::Fate(which, fate) => {
                let mut known = self.truth.known();
                match fate {
                    Some(end) => drop(known.fates.insert(name(*which), *end)),
                    None => drop(known.fates.remove(&name(*which))),
                }
            }
            FleetStep::Eject(which) => drop(self.caller().eject(&id(&name(*which)))),
            FleetStep::Readmit(which) => drop(self.caller().readmit(&id(&name(*which)))),
            _ => {}
        }
    }

    fn caller(&self) -> mainstay::client::Caller<FleetRequest, Response, Error<Failure>> {
        self.client.service(SERVICE).expect("a name is a name")
    }

    async fn join(&self, name: &str, ttl: std::time::Duration) {
        let instance = Instance::new(SERVICE, name, name, 80).expect("a name is a name");
        let until = Tick::now() + ttl;
        match self.discovery.register(instance.clone(), ttl).await {
            Ok(lease) => {
                let member = Member { lease, instance, until };
                self.truth.known().members.insert(name.to_owned(), member);
            }
            Err(_) => {
                let mut known = self.truth.known();
                if !known.is_there(name) {
                    known.wrong = Some(format!("{name} is refused, and is not there"));
                }
            }
        }
    }

    async fn leave(&self, name: &str) {
        let Some(member) = self.truth.known().members.remove(name) else { return };
        let was_there = Tick::now() < member.until;
        self.held_to_it(was_there, self.discovery.deregister(member.lease).await.is_ok());
    }

    async fn renew(&self, name: &str) {
        let Some(member) = self.truth.known().members.get(name).cloned() else { return };
        let was_there = Tick::now() < member.until;
        let renewed = self.discovery.heartbeat(&member.lease).await.is_ok();
        self.held_to_it(was_there, renewed);
        if let Some(member) = self.truth.known().members.get_mut(name).filter(|_| renewed) {
            member.until = Tick::now() + member.lease.ttl();
        }
    }

    async fn update(&self, name: &str, change: impl FnOnce(Instance) -> Instance) {
        let Some(member) = self.truth.known().members.get(name).cloned() else { return };
        let changed = change(member.instance);
        let was_there = Tick::now() < member.until;
        self.held_to_it(was_there, self.discovery.update(&member.lease, changed.clone()).await.is_ok());
        if let Some(member) = self.truth.known().members.get_mut(name) {
            member.instance = changed;
        }
    }

    /// A lease holds until its end, and no longer.
    fn held_to_it(&self, was_there: bool, worked: bool) {
        if was_there != worked {
            let what = format!("a lease {}", if was_there { "is lost before its end" } else { "outlives its end" });
            self.truth.known().wrong = Some(what);
        }
    }

    fn call(&mut self, via: Via, script: &Arc<[Behaviour]>, patience: Option<u32>) {
        let call = self.calls;
        self.calls += 1;
        let request = FleetRequest { call, script: Arc::clone(script) };
        let caller =
            match via {
                Via::Client => {
                    let answer = self.client.call(SERVICE, "get", request);
                    Caller::new(Some(call), patience, async move { Got::Answer(answer.await) })
                }
                Via::Manager => {
                    let answer = self.manager.execute(SERVICE, "get", request);
                    Caller::new(Some(call), patience, async move { Got::Answer(answer.await) })
                }
                Via::Task => {
                    let pending = self.client.call_async(SERVICE, "get", request).expect("a name is a name");
                    Caller::new(Some(call), patience, async move {
                        Got::Answer(pending.await.map(|answer| answer.response))
                    })
                }
            };
        self.callers.push(FleetCaller { caller, via });
    }

    fn poll_one(&mut self, which: u64) -> Result<(), Wrong> {
        let woken: Vec<usize> = (0..self.callers.len()).filter(|&at| self.callers[at].caller.is_woken()).collect();
        match woken.len() as u64 {
            0 => Ok(()),
            count => self.poll(woken[(which % count) as usize]),
        }
    }

    fn poll(&mut self, at: usize) -> Result<(), Wrong> {
        let FleetCaller { caller, via } = &mut self.callers[at];
        let (call, via) = (caller.call.expect("who is here has called"), *via);
        let good = |truth: &Truth| {
            truth.known().of_call(call).iter().filter(|attempt| attempt.ended == Some(How::Answered)).count()
        };
        let before = good(&self.truth);
        let polled = caller.poll();
        let gives_up = caller.patience.is_some_and(|patience| caller.polls > patience);
        let answered = good(&self.truth) - before;
        match polled {
            Polled::Pending if answered > 0 && via != Via::Task => {
                wrong("a good answer is given on", format!("call {call} waits, and an instance has answered it"))
            }
            Polled::Pending => {
                if gives_up {
                    self.callers.swap_remove(at);
                }
                Ok(())
            }
            Polled::Got(Got::Answer(answer)) => {
                self.callers.swap_remove(at);
                self.diary.note(|| format!("{call} gets {answer:?}"));
                self.judge(call, via, &answer, answered)
            }
            _ => {
                self.callers.swap_remove(at);
                Ok(())
            }
        }
    }

    /// Whether an answer is one that the call may get.
    fn judge(&self, call: u32, via: Via, answer: &Answer, answered: usize) -> Result<(), Wrong> {
        let known = self.truth.known();
        let attempts = known.of_call(call);
        let ended = |number: u32, how| attempts.get(number as usize).is_some_and(|a| a.ended == Some(how));
        let is_right = match answer {
            Ok(response) => {
                let is_its_own = response.attempt.map_or(via == Via::Manager, |number| ended(number, How::Answered));
                response.call == call && is_its_own
            }
            Err(Error::Inner(failure)) => failure.call == call && ended(failure.attempt, How::Failed) && answered == 0,
            Err(Error::Rejected(rejection)) => match rejection.reason() {
                Reason::UnknownService | Reason::UnknownMethod => false,
                // A task in which the instance panicked.
                Reason::Aborted => via == Via::Task,
                _ => answered == 0,
            },
        };
        if is_right {
            Ok(())
        } else {
            wrong("answers are one's own", format!("call {call} gets {answer:?}: {attempts:?}"))
        }
    }

    async fn settle(&mut self) -> Result<(), Wrong> {
        let mut polls = 0;
        loop {
            while let Some(at) = self.callers.iter().position(|caller| caller.caller.is_woken()) {
                self.poll(at)?;
                polls += 1;
                if polls > RESTLESS {
                    return wrong("nobody wakes himself", format!("{polls} polls, and no time went by"));
                }
            }
            breathe().await;
            if !self.callers.iter().any(|caller| caller.caller.is_woken()) {
                return Ok(());
            }
        }
    }

    /// After each step.
    pub fn check(&self) -> Result<(), Wrong> {
        if let Some(what) = self.truth.known().wrong.take() {
            return wrong("instances are called as discovery knows them", what);
        }
        let stats = self.manager.stats();
        let ended = stats.answered + stats.failed + stats.dropped;
        let managed = self.callers.iter().filter(|caller| caller.via == Via::Manager).count() as u64;
        if stats.calls != ended + stats.in_flight || stats.in_flight > managed || stats.unknown > 0 {
            return wrong("counts equal what happened", format!("{managed} calls are managed: {stats:?}"));
        }
        if stats.fallbacks_used > self.truth.known().fallbacks {
            return wrong("counts equal what happened", format!("more fallbacks than there were: {stats:?}"));
        }
        let Some(seen) = self.client.snapshot(SERVICE) else { return Ok(()) };
        for member in &seen.balance.members {
            let known = self.truth.known();
            let running = |a: &&crate::truth::Attempt| a.member == member.id.as_str() && a.ended.is_none();
            let running = known.attempts.iter().filter(running).count() as u32;
            if member.pending > running {
                return wrong("calls that pend are those that run", format!("{running} run: {member:?}"));
            }
        }
        if self.truth.known().running() == 0 && self.callers.is_empty() && seen.metrics.total.in_flight > 0 {
            return wrong("nothing is left", format!("nobody calls: {:?}", seen.metrics));
        }
        Ok(())
    }

    /// The fleet is well again, and everything ends.
    pub async fn drain(&mut self) -> Result<(), Wrong> {
        self.truth.known().fates.clear();
        for n in 0..INSTANCES {
            self.leave(&name(n)).await;
            self.join(&name(n), ms(86_400_000)).await;
        }
        self.manager.update_health(SERVICE, HealthStatus::Healthy).expect("it is registered");
        breathe().await;
        for _ in 0..PATIENCE * 10 {
            self.settle().await?;
            self.check()?;
            if self.callers.is_empty() {
                break;
            }
            tokio::time::advance(ms(100)).await;
        }
        self.check_nobody_is_forgotten()?;
        self.callers.clear();
        breathe().await;
        self.check()?;
        self.check_nothing_is_left()
    }

    fn check_nobody_is_forgotten(&self) -> Result<(), Wrong> {
        let known = self.truth.known();
        // A place may be kept from who waits for it by an attempt that hangs.
        match self.callers.iter().find_map(|caller| caller.caller.call).filter(|_| known.running() == 0) {
            Some(call) => wrong("nobody waits for ever", format!("call {call}: {:?}", self.client.snapshot(SERVICE))),
            None => Ok(()),
        }
    }

    fn check_nothing_is_left(&self) -> Result<(), Wrong> {
        let running = self.truth.known().running();
        let stacks = [
            self.client.snapshot(SERVICE).map(|seen| seen.stack),
            self.manager.info(SERVICE).ok().map(|info| info.policies),
        ];
        for seen in stacks.iter().flatten() {
            let places = seen.bulkhead.as_ref().map_or(0, |bulkhead| bulkhead.running + bulkhead.waiting);
            let limit = seen.concurrency.as_ref().map_or(0, |limit| limit.in_flight);
            let shed = seen.load_shed.as_ref().map_or(0, |shed| shed.in_flight + shed.waiting);
            let probes = seen.breaker.as_ref().map_or(0, |breaker| breaker.probes_running);
            if (places, limit, shed, probes, running) != (0, 0, 0, 0, 0) {
                return wrong("nothing is left", format!("{running} run: {seen:?}"));
            }
        }
        Ok(())
    }

    /// A fleet that is well is called again, at every level.
    pub async fn recover(&mut self) -> Result<(), Wrong> {
        for level in Level::ALL {
            self.manager.set_level(SERVICE, level).expect("it is registered");
            self.is_called(Via::Manager).await?;
        }
        self.is_called(Via::Client).await
    }

    /// Ten calls in a row are answered, sooner or later.
    async fn is_called(&mut self, via: Via) -> Result<(), Wrong> {
        let mut well = 0;
        for _ in 0..10 * PATIENCE {
            self.call(via, &Arc::from([Behaviour::WELL]), None);
            let call = self.calls - 1;
            for _ in 0..PATIENCE * 10 {
                self.settle().await?;
                tokio::time::advance(ms(100)).await;
                if self.callers.is_empty() {
                    break;
                }
            }
            self.check()?;
            let answered = self.truth.known().of_call(call).iter().any(|attempt| attempt.ended == Some(How::Answered));
            well = if answered { well + 1 } else { 0 };
            if well == 10 {
                return Ok(());
            }
        }
        wrong("a fleet that is well is called", format!("{via:?}: {:?}", self.client.snapshot(SERVICE)))
    }

    /// When the client and the manager are gone, nothing runs on that knows the instances.
    pub async fn end(self) -> Result<(), Wrong> {
        let truth = Arc::downgrade(&self.truth.0);
        drop(self);
        breathe().await;
        match truth.strong_count() {
            0 => Ok(()),
            left => wrong("nothing is left", format!("{left} still know the instances")),
        }
    }
}

fn name(which: u64) -> String {
    format!("users-{}", which % INSTANCES)
}

fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a name is a name")
}

fn health(status: HealthStatus) -> Health {
    match status {
        HealthStatus::Healthy => Health::healthy(),
        HealthStatus::Degraded => Health::degraded("by plan"),
        HealthStatus::Unhealthy => Health::unhealthy("by plan"),
    }
}

/// Lets all tasks run as far as they get.
async fn breathe() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
