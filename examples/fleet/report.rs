//! What it came to: a table, and JSON.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use mainstay::BoxError;
use serde::Serialize;
use serde_json::json;

use crate::{callers::Seen, fleet::Fleet, timeline::Line};

pub struct Report {
    services: Vec<Service>,
    wall: Duration,
}

#[derive(Debug, Serialize)]
struct Service {
    service: &'static str,
    calls: u32,
    /// Calls whose callers got an error.
    failures: u32,
    /// Calls that the fallback answered.
    fallbacks: u32,
    p50_ms: f64,
    p99_ms: f64,
    /// How often an instance was left alone because it failed.
    ejections: u64,
    /// Calls that reached each instance, retries among them.
    instances: BTreeMap<String, u64>,
    /// What the client counted of errors, by kind.
    error_kinds: BTreeMap<String, u64>,
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

impl Report {
    pub async fn of(fleet: &mut Fleet, seen: [Seen; 2], wall: Duration) -> Result<Self, BoxError> {
        // The manager counts for itself: the two have to agree.
        let isolated = fleet.isolated()?;
        let mut services = Vec::new();
        for seen in seen {
            let snapshot = fleet.snapshot(seen.service).ok_or("the service was never called")?;
            let kinds = snapshot.metrics.total.error_kinds;
            if seen.service == "orders" && u64::from(seen.fallbacks) != isolated.fallbacks_used {
                return Err(
                    format!("{} fallbacks were seen, {} counted", seen.fallbacks, isolated.fallbacks_used).into()
                );
            }
            services.push(Service {
                service: seen.service,
                calls: seen.calls,
                failures: seen.failed,
                fallbacks: seen.fallbacks,
                p50_ms: millis(seen.percentile(50)),
                p99_ms: millis(seen.percentile(99)),
                ejections: snapshot.balance.ejections,
                instances: fleet.calls(seen.service),
                error_kinds: kinds.into_iter().map(|(kind, count)| (kind.into_owned(), count)).collect(),
            });
        }
        Ok(Self { services, wall })
    }

    pub fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let head = ["service", "calls", "failed", "fallback", "p50 ms", "p99 ms", "ejections"];
        writeln!(
            out,
            "\n{:<8} {:>7} {:>7} {:>9} {:>8} {:>8} {:>10}",
            head[0], head[1], head[2], head[3], head[4], head[5], head[6]
        )?;
        for of in &self.services {
            writeln!(
                out,
                "{:<8} {:>7} {:>7} {:>9} {:>8.1} {:>8.1} {:>10}",
                of.service, of.calls, of.failures, of.fallbacks, of.p50_ms, of.p99_ms, of.ejections
            )?;
        }
        writeln!(out, "\n{:<10} {:>7} {:>7}", "instance", "calls", "share")?;
        for of in &self.services {
            let all: u64 = of.instances.values().sum();
            for (id, calls) in &of.instances {
                writeln!(out, "{id:<10} {calls:>7} {:>6.1} %", *calls as f64 * 100.0 / all.max(1) as f64)?;
            }
        }
        writeln!(out, "\nan instance's calls are those that reached it, retries among them")
    }

    pub fn write_json(&self, out: &mut impl Write, timeline: &[Line]) -> io::Result<()> {
        let services: BTreeMap<&str, &Service> = self.services.iter().map(|of| (of.service, of)).collect();
        let wall = (self.wall.as_secs_f64() * 10.0).round() / 10.0;
        writeln!(out, "{}", json!({ "services": services, "timeline": timeline, "wall_s": wall }))
    }
}
