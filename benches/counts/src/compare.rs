//! Counts, as they are committed, and whether those of now are still as good.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    str::FromStr,
};

/// A path fails when it is dearer by more than this part and by more than so many instructions: of a call of twenty
/// instructions, two more are no news.
const PART: f64 = 0.10;
const FEW: u64 = 5;

/// Instructions of a call on each path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Begins with the architecture.
    pub taken_with: String,
    pub paths: BTreeMap<String, u64>,
}

const TAKEN_WITH: &str = "# Taken with ";
const COLUMNS: &str = "path,instructions";

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `benches/counts/run --accept`.\n{TAKEN_WITH}{}\n{COLUMNS}", self.taken_with)?;
        self.paths.iter().try_for_each(|(path, count)| writeln!(f, "{path},{count}"))
    }
}

impl FromStr for Counts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let taken_with = text.lines().find_map(|line| line.strip_prefix(TAKEN_WITH)).unwrap_or_default().to_owned();
        let rows = text.lines().filter(|line| !line.starts_with('#') && *line != COLUMNS);
        let row = |line: &str| {
            let (path, count) = line.split_once(',')?;
            Some((path.to_owned(), count.parse().ok()?))
        };
        let paths = rows.map(|line| row(line).ok_or_else(|| format!("counts.csv: not a path and a count: {line}")));
        Ok(Self { taken_with, paths: paths.collect::<Result<_, _>>()? })
    }
}

/// What there is to say, and whether it is a failure.
pub struct Report {
    pub text: String,
    pub fails: bool,
}

pub fn report(committed: &Counts, now: &Counts) -> Report {
    let mut text = format!("{:<28} {:>9} {:>9} {:>9}\n", "instructions of a call", "committed", "now", "");
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    for path in committed.paths.keys().chain(now.paths.keys()).collect::<BTreeSet<_>>() {
        let (was, is) = (committed.paths.get(path).copied(), now.paths.get(path).copied());
        let shown = |count: Option<u64>| count.map_or("–".to_owned(), |count| count.to_string());
        let change = was.zip(is).map_or(String::new(), |(was, is)| format!("{:+.1} %", change(was, is) * 100.0));
        let _ = writeln!(text, "{path:<28} {:>9} {:>9} {change:>9}", shown(was), shown(is));
        match judge(was, is) {
            Verdict::Same => {}
            Verdict::Better => better.push(path.as_str()),
            Verdict::Worse(why) => worse.push(format!("FAILED {path}: {why}\n")),
        }
    }
    let elsewhere = elsewhere(committed, now);
    if elsewhere {
        let _ = writeln!(
            text,
            "The counts were taken with {}\nand this is                {}",
            committed.taken_with, now.taken_with
        );
    }
    let other_processor = architecture(committed) != architecture(now);
    if other_processor {
        text.push_str("Those of another architecture say nothing: nothing is compared.\n");
        return Report { text, fails: false };
    }
    if !better.is_empty() {
        let _ = writeln!(text, "Cheaper by more than {:.0} %: {}.", PART * 100.0, better.join(", "));
        text.push_str("Please take the new counts over, so that they are kept: benches/counts/run --accept\n");
    }
    text.extend(worse.iter().map(String::as_str));
    if !worse.is_empty() {
        text.push_str("Where it is meant, take the new counts over: benches/counts/run --accept\n");
    }
    Report { text, fails: !worse.is_empty() }
}

fn elsewhere(committed: &Counts, now: &Counts) -> bool {
    committed.taken_with != now.taken_with
}

fn architecture(counts: &Counts) -> Option<&str> {
    counts.taken_with.split(',').next()
}

fn change(was: u64, is: u64) -> f64 {
    is as f64 / was.max(1) as f64 - 1.0
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Better,
    Worse(String),
}

fn judge(was: Option<u64>, is: Option<u64>) -> Verdict {
    match (was, is) {
        (Some(was), Some(is)) if was.abs_diff(is) <= FEW || change(was, is).abs() <= PART => Verdict::Same,
        (Some(was), Some(is)) if is < was => Verdict::Better,
        (Some(was), Some(is)) => Verdict::Worse(format!("{was} instructions a call became {is}")),
        (None, _) => Verdict::Worse("has no committed count".to_owned()),
        (_, None) => Verdict::Worse("is committed, and is no path".to_owned()),
    }
}
