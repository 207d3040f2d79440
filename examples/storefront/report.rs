//! What came of a run, as a table for people and as JSON for programs.

use std::{
    io::{self, Write},
    time::Duration,
};

use mainstay::observe::{Cause, CircuitState, Transition};
use serde_json::{Value, json};

use crate::load::{PATIENCE, Page, Visit};

/// A change of state of one of the breakers.
pub struct Change {
    pub at: Duration,
    pub breaker: String,
    pub from: CircuitState,
    pub to: CircuitState,
    pub cause: Cause,
}

/// What an upstream got, and how many pages wanted something of it.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub pages: u64,
    pub calls: u64,
}

impl Load {
    fn calls_per_page(self) -> f64 {
        if self.pages == 0 { 0.0 } else { self.calls as f64 / self.pages as f64 }
    }

    fn row(self) -> String {
        format!("{}/{} = {:.2}x", self.calls, self.pages, self.calls_per_page())
    }

    fn to_json(self) -> Value {
        json!({
            "pages": self.pages,
            "calls": self.calls,
            "extra_calls": i128::from(self.calls) - i128::from(self.pages),
            "calls_per_page": rounded(self.calls_per_page(), 3),
        })
    }
}

/// What the upstreams got in a run.
#[derive(Debug, Clone, Copy)]
pub struct Upstreams {
    /// How many calls orders got while it failed or hung.
    pub calls_in_outage: u64,
    /// What recommendations got while some of its calls failed, and while all did.
    pub flaky: Load,
    pub failing: Load,
}

/// What came of one run.
pub struct Outcome {
    whole: usize,
    degraded: usize,
    failed: usize,
    // Sorted.
    latencies: Vec<Duration>,
    upstreams: Upstreams,
    changes: Vec<Change>,
    wall: Duration,
}

impl Outcome {
    pub fn new(visits: &[Visit], upstreams: Upstreams, mut changes: Vec<Change>, wall: Duration) -> Self {
        let count = |page| visits.iter().filter(|visit| visit.page == page).count();
        let mut latencies: Vec<_> = visits.iter().map(|visit| visit.latency).collect();
        latencies.sort_unstable();
        // Two threads may tell of two breakers at the same time, in either order.
        changes.sort_by_key(|change| change.at);
        Self {
            whole: count(Page::Whole),
            degraded: count(Page::Degraded),
            failed: count(Page::Failed),
            latencies,
            upstreams,
            changes,
            wall,
        }
    }

    /// The latency that so many percent of the visitors did not exceed, in milliseconds to one decimal.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        let latency = self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        rounded(latency.as_secs_f64() * 1e3, 1)
    }

    fn rows(&self) -> Vec<(String, String)> {
        let latency =
            |percent| (format!("latency of a page, p{percent}"), format!("{:.1} ms", self.percentile(percent)));
        vec![
            ("pages asked for".into(), self.latencies.len().to_string()),
            ("  served whole".into(), self.whole.to_string()),
            ("  degraded: served with a part missing".into(), self.degraded.to_string()),
            (format!("  failed: error, or over {PATIENCE:?}"), self.failed.to_string()),
            latency(50),
            latency(95),
            latency(99),
            ("calls that orders got during its outage".into(), self.upstreams.calls_in_outage.to_string()),
            ("calls/pages, recommendations failing 30 %".into(), self.upstreams.flaky.row()),
            ("  failing 100 %".into(), self.upstreams.failing.row()),
            ("wall time".into(), format!("{:.1} s", self.wall.as_secs_f64())),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "requests": self.latencies.len(),
            "ok": self.whole + self.degraded,
            "failed": self.failed,
            "whole": self.whole,
            "degraded": self.degraded,
            "p50_ms": self.percentile(50),
            "p95_ms": self.percentile(95),
            "p99_ms": self.percentile(99),
            "upstream_calls_during_outage": self.upstreams.calls_in_outage,
            "retry_storm": {
                "flaky": self.upstreams.flaky.to_json(),
                "failing": self.upstreams.failing.to_json(),
            },
            "wall_s": rounded(self.wall.as_secs_f64(), 2),
            "transitions": self.changes.iter().map(Change::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Change {
    pub fn new(at: Duration, change: &Transition<'_>) -> Self {
        Self { at, breaker: change.policy.to_owned(), from: change.from, to: change.to, cause: change.cause }
    }

    fn to_json(&self) -> Value {
        json!({
            "at_s": rounded(self.at.as_secs_f64(), 3),
            "breaker": self.breaker,
            "from": self.from,
            "to": self.to,
            "cause": self.cause,
        })
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// The two runs on one line of JSON.
pub fn write_json(out: &mut impl Write, unprotected: &Outcome, protected: &Outcome) -> io::Result<()> {
    writeln!(out, "{}", json!({ "unprotected": unprotected.to_json(), "protected": protected.to_json() }))
}

/// The two runs side by side.
pub fn write_table(out: &mut impl Write, unprotected: &Outcome, protected: &Outcome) -> io::Result<()> {
    writeln!(out, "\n{:<44} {:>16} {:>16}", "", "unprotected", "protected")?;
    for ((label, without), (_, with)) in unprotected.rows().into_iter().zip(protected.rows()) {
        writeln!(out, "{label:<44} {without:>16} {with:>16}")?;
    }
    write_changes(out, &protected.changes)
}

fn write_changes(out: &mut impl Write, changes: &[Change]) -> io::Result<()> {
    writeln!(out, "\nWhat the circuit breakers of the protected run did:")?;
    for Change { at, breaker, from, to, cause } in changes {
        writeln!(out, "  {:>6.2} s  {breaker:<15} {from:>9} -> {to:<9}  {cause}", at.as_secs_f64())?;
    }
    Ok(())
}
