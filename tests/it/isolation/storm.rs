//! Thousands of calls in flight while levels, fallbacks and health flip, and services come and go.

use mainstay::{
    Reason, bulkhead,
    contract::{Health, HealthStatus, Invocation},
    fallback::Fallback,
    isolation::{Config, Isolated, IsolationError, Level, Stats},
    retry,
};
use tower::service_fn;

use super::*;

const SERVICES: u32 = 8;

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        u32::try_from((self.0 >> 33) % u64::from(n)).unwrap()
    }
}

fn name(service: u32) -> String {
    format!("storm-{service}")
}

/// What happened, counted by those it happened to.
#[derive(Default)]
struct Seen {
    asked: AtomicU64,
    by_service: AtomicU64,
    by_fallback: AtomicU64,
    fell_back: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    dropped: AtomicU64,
}

fn up(counter: &AtomicU64) {
    counter.fetch_add(1, SeqCst);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(SeqCst)
}

#[derive(Clone)]
struct Storm {
    manager: Manager,
    seen: Arc<Seen>,
    // How long a call may take, in steps.
    sleeps: bool,
}

impl Storm {
    fn new(sleeps: bool) -> Self {
        Self { manager: Manager::new(), seen: Arc::default(), sleeps }
    }

    /// A request is for the service that its number says, and fails, hangs or takes long as its number says.
    fn register(&self, service: u32) -> std::result::Result<Isolated<u32, String, Error<Boom>>, IsolationError> {
        let storm = self.clone();
        let answers = service_fn(move |call: Invocation<u32>| {
            let (n, storm) = (call.request, storm.clone());
            assert_eq!(n % SERVICES, service, "the right service is asked");
            up(&storm.seen.asked);
            async move {
                match n / SERVICES % 10 {
                    0..=3 => {}
                    steps if storm.sleeps => tokio::time::sleep(ms(u64::from(steps) * 7)).await,
                    _ => tokio::task::yield_now().await,
                }
                match n / SERVICES % 7 {
                    0 | 1 => Err(Error::Inner(Boom)),
                    2 if storm.sleeps => pending().await,
                    _ => Ok(format!("{}:{n}", name(service))),
                }
            }
        });
        let config = Config::new()
            .timeout(ms(500))
            .attempt_timeout(ms(60))
            .retry(retry::Config::custom(|_| Duration::ZERO))
            .bulkhead(bulkhead::Config::new(64).max_queue(64).max_wait(ms(20)));
        self.manager.register_with(&name(service), answers, config, self.fallback(service))
    }

    /// A handle of the service as it is now, which is registered again if it is not there.
    fn anew(&self, service: u32) -> Isolated<u32, String, Error<Boom>> {
        loop {
            if let Ok(handle) = self.register(service).or_else(|_| self.manager.service(&name(service))) {
                return handle;
            }
        }
    }

    fn fallback(&self, service: u32) -> Fallbacks {
        let storm = self.clone();
        Fallbacks::new(Fallback::request(
            |call: &Invocation<u32>| call.request,
            move |n, _: std::result::Result<&String, &Error<Boom>>| {
                assert_eq!(n % SERVICES, service, "the right fallback is asked");
                let storm = storm.clone();
                async move {
                    tokio::task::yield_now().await;
                    up(&storm.seen.fell_back);
                    Ok(format!("fallback of {}:{n}", name(service)))
                }
            },
        ))
    }

    fn saw(&self, n: u32, answer: Result) {
        let service = name(n % SERVICES);
        match answer {
            Ok(text) if text == format!("{service}:{n}") => up(&self.seen.by_service),
            Ok(text) if text == format!("fallback of {service}:{n}") => up(&self.seen.by_fallback),
            Ok(text) => panic!("{n} was answered with {text}"),
            Err(Error::Rejected(rejection)) => {
                assert_eq!(rejection.policy(), service, "the right service turns it away");
                let unknown = rejection.reason() == Reason::UnknownService;
                up(if unknown { &self.seen.unknown } else { &self.seen.failed });
            }
            Err(Error::Inner(Boom)) => up(&self.seen.failed),
        }
    }

    /// One random switch.
    fn flip(&self, dice: &mut Dice, held: &mut Vec<Isolated<u32, String, Error<Boom>>>) {
        let service = dice.below(SERVICES);
        let (manager, name) = (&self.manager, name(service));
        let result = match dice.below(12) {
            0..=4 => manager.set_level(&name, Level::ALL[dice.below(4) as usize]).map(drop),
            5 => manager.update_fallback(&name, self.fallback(service)).map(drop),
            6 => manager.update_fallback(&name, none().timeout(ms(30)).circuit_breaker(false)).map(drop),
            7 => manager
                .update_fallback(&name, self.fallback(service).max_retries(1).circuit_breaker(consecutive(5)))
                .map(drop),
            8 => manager.update_health(&name, Health::unhealthy("by chance")).map(drop),
            9 => manager.update_health(&name, HealthStatus::Healthy).map(drop),
            10 => manager.unregister(&name),
            _ => self.register(service).map(|handle| held.push(handle)),
        };
        match result {
            Ok(()) | Err(IsolationError::Unknown { .. } | IsolationError::Duplicate { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// All that was begun has ended, and is counted as what it was.
    fn check(&self, calls: u64) -> Stats {
        let (stats, seen) = (self.manager.stats(), &*self.seen);
        assert_eq!(stats.in_flight, 0);
        assert_eq!(stats.calls + stats.unknown, calls, "every call is one call");
        assert_eq!(stats.answered, read(&seen.by_service) + read(&seen.by_fallback));
        assert_eq!((stats.failed, stats.dropped), (read(&seen.failed), read(&seen.dropped)));
        assert_eq!(stats.unknown, read(&seen.unknown));
        assert_eq!(stats.fallbacks_used, read(&seen.by_fallback));
        assert!(read(&seen.fell_back) >= stats.fallbacks_used);
        for info in self.manager.list() {
            assert_eq!(info.in_flight, 0);
            assert_eq!(self.manager.bulkhead(info.service.as_str()).unwrap().running(), 0);
            assert_eq!(self.manager.load_shed(info.service.as_str()).unwrap().snapshot().in_flight, 0);
            assert_eq!(info.fallbacks_used, info.policies.fallback.used);
        }
        stats
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_is_answered_once_by_the_right_one_while_everything_flips() {
    for seed in 1..=4 {
        let (storm, mut dice, mut held) = (Storm::new(true), Dice(seed), Vec::new());
        (0..SERVICES).for_each(|service| held.push(storm.register(service).unwrap()));
        let (mut tasks, mut most) = (tokio::task::JoinSet::new(), 0);
        for n in 0..6_000_u32 {
            let (own, patience) = (storm.clone(), dice.below(400));
            let handle = held[dice.below(u32::try_from(held.len()).unwrap()) as usize].clone();
            let by_handle = handle.name().as_str() == name(n % SERVICES) && handle.is_registered();
            tasks.spawn(async move {
                let mut handle = handle;
                let answer = match by_handle {
                    true => handle.call(Invocation::new(get(), n)),
                    false => own.manager.execute(&name(n % SERVICES), get(), n),
                };
                if n % 5 != 0 {
                    return own.saw(n, answer.await);
                }
                match tokio::time::timeout(ms(u64::from(patience)), answer).await {
                    Ok(answer) => own.saw(n, answer),
                    Err(_) => up(&own.seen.dropped),
                }
            });
            if n % 3 == 0 {
                storm.flip(&mut dice, &mut held);
            }
            if n % 40 == 0 {
                tokio::task::yield_now().await;
                most = most.max(storm.manager.stats().in_flight);
            }
            if n % 2_000 == 1_999 {
                advance(ms(17)).await;
            }
        }
        tokio::task::yield_now().await;
        most = most.max(storm.manager.stats().in_flight);
        assert!(most >= 1_000, "{most} in flight");
        // At level none a service that hangs is waited for: give up on those.
        tokio::time::sleep(ms(60_000)).await;
        let mut ended = 0;
        while let Some(task) = tasks.try_join_next() {
            task.unwrap();
            ended += 1;
        }
        tasks.abort_all();
        while let Some(task) = tasks.join_next().await {
            assert!(task.unwrap_err().is_cancelled());
            up(&storm.seen.dropped);
            ended += 1;
        }
        assert_eq!(ended, 6_000);
        let stats = storm.check(6_000);
        for count in [stats.answered, stats.failed, stats.dropped, stats.unknown, stats.fallbacks_used] {
            assert!(count > 50, "the storm saw all of it: {stats:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_call_and_flip_without_losing_or_doubling_a_call() {
    let storm = Storm::new(false);
    let mut held: Vec<_> = (0..SERVICES).map(|service| storm.register(service).unwrap()).collect();
    let calls = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4_u32 {
        let (storm, calls, mut handles) = (storm.clone(), Arc::clone(&calls), held.clone());
        tasks.spawn(async move {
            for n in (0..8_000).map(|n| n * 4 + task) {
                up(&calls);
                let service = n % SERVICES;
                // Some calls of a handle that leads nowhere, and then a new one.
                if n % 5 == 0 && !handles[service as usize].is_registered() {
                    handles[service as usize] = storm.anew(service);
                }
                let answer = match n % 3 {
                    0 => storm.manager.execute(&name(service), get(), n),
                    _ => handles[service as usize].call(Invocation::new(get(), n)),
                };
                match n % 11 {
                    0 => {
                        drop(answer);
                        up(&storm.seen.dropped);
                    }
                    _ => storm.saw(n, answer.await),
                }
            }
        });
    }
    for seed in 0..2 {
        let (storm, mut held) = (storm.clone(), held.split_off(held.len() / 2));
        tasks.spawn(async move {
            let mut dice = Dice(seed);
            for _ in 0..3_000 {
                storm.flip(&mut dice, &mut held);
                held.truncate(SERVICES as usize);
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    // What was dropped although it was unknown is counted as unknown only.
    let unknown_drops = storm.manager.stats().unknown - read(&storm.seen.unknown);
    storm.seen.unknown.fetch_add(unknown_drops, SeqCst);
    storm.seen.dropped.fetch_sub(unknown_drops, SeqCst);
    let stats = storm.check(read(&calls));
    assert!(stats.calls > 1_000 && stats.fallbacks_used > 0 && stats.failed > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_of_many_switches_is_the_one_in_force() {
    let manager = Manager::new();
    let mut service = manager.register("x", Lab::new("x"), Level::Full, none()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4_u64 {
        let manager = manager.clone();
        tasks.spawn_blocking(move || {
            for n in 0..500 {
                match task {
                    0 => drop(manager.set_level("x", Level::ALL[n % 4]).unwrap()),
                    1 => drop(manager.update_health("x", HealthStatus::Degraded).unwrap()),
                    _ => {
                        let breaker = consecutive(1 + task + u64::try_from(n).unwrap());
                        drop(manager.update_fallback("x", none().circuit_breaker(breaker)).unwrap());
                    }
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(manager.level("x"), Ok(Level::Full), "no switch undoes another");
    assert_eq!(manager.health("x").unwrap().status(), HealthStatus::Degraded);
    let mainstay::isolation::CircuitBreaker::With(wanted) = manager.fallback("x").unwrap().breaker_settings().clone()
    else {
        panic!("it has settings");
    };
    assert_eq!(format!("{:?}", manager.breaker("x").unwrap().config()), format!("{wanted:?}"));
    assert_eq!(service.call(Invocation::new(get(), 1)).await, Ok("x:get:1".into()));
}
