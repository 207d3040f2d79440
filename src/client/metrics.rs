use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use crate::{
    contract::{Method, ServiceName},
    lanes::Seat,
    observe::{Latency, Meter, Sum, Tally},
    sync::{
        Mutex, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Tick,
    window::{Counts, Kind, TimeWindow},
};

/// What is counted of one service or one of its methods.
///
/// Totals are since the client first called it; rates and latencies are of the last minute or so. An error is what the
/// caller got an error for, rejections among it, and a response that the client's classifier calls a failure. What the
/// fallback answered is a success.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Calls that have ended, the cancelled ones too.
    pub requests: u64,
    /// Calls that run.
    pub in_flight: u64,
    /// Calls with a good answer.
    pub successes: u64,
    /// Calls with none.
    pub errors: u64,
    /// Calls that were given up by the caller.
    pub cancelled: u64,
    /// Good answers that were the fallback's.
    pub fallbacks: u64,
    /// The share of successes among the answered calls of the last minute; none when there were none.
    pub success_rate: Option<f64>,
    /// The share of errors.
    pub error_rate: Option<f64>,
    /// Answered calls a second, over the last minute.
    pub requests_per_second: f64,
    /// How many errors there were of each kind: the [reason](crate::Reason) of a rejection, what the
    /// [kind hook](super::Client::error_kind) says, else `error` or `failed_response`.
    pub error_kinds: BTreeMap<Cow<'static, str>, u64>,
    /// How long calls took, the failed ones too; not those that panicked or were cancelled.
    pub latency: Option<Latency>,
}

/// What is counted of a service.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceMetrics {
    /// The service.
    pub service: ServiceName,
    /// All its methods together.
    #[serde(flatten)]
    pub total: Metrics,
    /// Each method. Beyond the [most there may be](super::Config::max_methods), methods are counted together as
    /// `_other`.
    pub methods: BTreeMap<String, Metrics>,
}

/// How long calls count into the rates.
const RECENT: Duration = Duration::from_secs(60);
const BUCKETS: u32 = 12;
/// So many kinds of errors are told apart; further ones are `other`.
const KINDS: usize = 64;
/// Methods that have no meter of their own, and any that is called so.
const OTHER: &str = "_other";

/// Counts the calls of one method.
#[derive(Debug)]
pub(super) struct MethodMeter {
    meter: Meter,
    recent: TimeWindow,
    running: AtomicU64,
    fallbacks: AtomicU64,
    kinds: Mutex<BTreeMap<Cow<'static, str>, u64>>,
}

/// How a call ended, for its meter.
pub(super) enum End {
    Good { fallback: bool },
    Bad(Cow<'static, str>),
}

impl MethodMeter {
    fn new() -> Self {
        Self {
            meter: Meter::new(),
            recent: TimeWindow::new(RECENT, BUCKETS),
            running: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            kinds: Mutex::new(BTreeMap::new()),
        }
    }

    fn end(&self, end: End, now: Tick) {
        let seat = Seat::here();
        let kind = match end {
            End::Good { fallback } => {
                self.fallbacks.fetch_add(fallback.into(), Relaxed);
                Kind::Success
            }
            End::Bad(kind) => {
                self.count_kind(kind);
                Kind::Failure
            }
        };
        self.meter.count(seat, kind);
        self.recent.record_in(seat, now, 0, kind);
    }

    fn count_kind(&self, kind: Cow<'static, str>) {
        let mut kinds = self.kinds.lock();
        let full = kinds.len() >= KINDS && !kinds.contains_key(&kind);
        *kinds.entry(if full { Cow::Borrowed("other") } else { kind }).or_default() += 1;
    }

    fn add_to(&self, sum: &mut Metered, now: Tick) {
        let totals = self.meter.totals();
        sum.metrics.successes += totals.calls.successes();
        sum.metrics.errors += totals.calls.failures();
        sum.metrics.cancelled += totals.cancelled;
        sum.metrics.in_flight += self.running.load(Relaxed);
        sum.metrics.fallbacks += self.fallbacks.load(Relaxed);
        for (kind, count) in self.kinds.lock().iter() {
            *sum.metrics.error_kinds.entry(kind.clone()).or_default() += count;
        }
        sum.recent += self.recent.counts(now);
        self.meter.add_latencies(&mut sum.latencies, now);
    }
}

/// A sum of methods.
struct Metered {
    metrics: Metrics,
    recent: Counts,
    latencies: Sum,
}

impl Metered {
    fn new() -> Self {
        Self { metrics: Metrics::default(), recent: Counts::default(), latencies: Sum::new() }
    }

    fn finish(self) -> Metrics {
        let error_rate = self.recent.failure_rate();
        Metrics {
            requests: self.metrics.successes + self.metrics.errors + self.metrics.cancelled,
            success_rate: error_rate.map(|rate| 1.0 - rate),
            error_rate,
            requests_per_second: self.recent.calls() as f64 / RECENT.as_secs_f64(),
            latency: self.latencies.latency(),
            ..self.metrics
        }
    }
}

/// A call that is counted: as cancelled if nobody says how it ended.
pub(super) struct Counting {
    meter: Option<Arc<MethodMeter>>,
    // The call's own code runs: a panic that comes by now is its own. Any other is its caller's, who goes.
    runs: bool,
}

impl Counting {
    pub(super) fn watch<R>(&mut self, run: impl FnOnce() -> R) -> R {
        self.runs = true;
        let ran = run();
        self.runs = false;
        ran
    }

    pub(super) fn end(mut self, end: End, now: Tick, nanos: u64) {
        if let Some(meter) = self.meter.take() {
            meter.running.fetch_sub(1, Relaxed);
            meter.end(end, now);
            meter.meter.latency(Seat::here(), now, nanos);
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some(meter) = self.meter.take() {
            meter.running.fetch_sub(1, Relaxed);
            match self.runs {
                true => meter.end(End::Bad(Cow::Borrowed("panic")), Tick::now()),
                false => meter.meter.tally(Tally::Cancelled),
            }
        }
    }
}

/// The meters of all methods of a service.
#[derive(Debug)]
pub(super) struct Meters {
    methods: RwLock<HashMap<Method, Arc<MethodMeter>>>,
    other: Arc<MethodMeter>,
    most: usize,
}

impl Meters {
    pub(super) fn new(most: usize) -> Self {
        Self { methods: RwLock::default(), other: Arc::new(MethodMeter::new()), most }
    }

    pub(super) fn begin(&self, method: &Method) -> Counting {
        let meter = self.known(method).unwrap_or_else(|| self.add(method));
        meter.running.fetch_add(1, Relaxed);
        Counting { meter: Some(meter), runs: false }
    }

    /// The meter of a method that has one. No method leaves, so when there is room for none, the others' is its own:
    /// made-up names are not to take the lock for writing from those that are known.
    fn known(&self, method: &Method) -> Option<Arc<MethodMeter>> {
        let methods = self.methods.read();
        let others = || (methods.len() >= self.most).then(|| Arc::clone(&self.other));
        methods.get(method).cloned().or_else(others)
    }

    #[cold]
    fn add(&self, method: &Method) -> Arc<MethodMeter> {
        let mut methods = self.methods.write();
        let none_left = methods.len() >= self.most && !methods.contains_key(method);
        if none_left || method.as_str() == OTHER {
            return Arc::clone(&self.other);
        }
        Arc::clone(methods.entry(method.clone()).or_insert_with(|| Arc::new(MethodMeter::new())))
    }

    pub(super) fn snapshot(&self, service: &ServiceName) -> ServiceMetrics {
        let known: Vec<_> = self.methods.read().iter().map(|(name, meter)| (name.clone(), Arc::clone(meter))).collect();
        let (now, mut total) = (Tick::now(), Metered::new());
        let mut one = |meter: &MethodMeter| {
            let mut metered = Metered::new();
            meter.add_to(&mut metered, now);
            meter.add_to(&mut total, now);
            metered.finish()
        };
        let mut methods: BTreeMap<String, Metrics> =
            known.iter().map(|(name, meter)| (name.as_str().to_owned(), one(meter))).collect();
        let other = one(&self.other);
        if other.requests + other.in_flight > 0 {
            methods.insert(OTHER.to_owned(), other);
        }
        ServiceMetrics { service: service.clone(), total: total.finish(), methods }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_another_thread_was_the_first_to_add_has_its_own_meter_though_there_is_room_for_no_more() {
        let meters = Meters::new(1);
        let method = |name| Method::new(name).expect("a name");
        let own = meters.add(&method("get"));
        assert!(Arc::ptr_eq(&meters.add(&method("get")), &own));
        assert!(Arc::ptr_eq(&meters.add(&method("put")), &meters.other));
        assert!(Arc::ptr_eq(&meters.add(&method(OTHER)), &meters.other));
    }
}
