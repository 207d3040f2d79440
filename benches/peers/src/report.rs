//! Rows as Markdown and as CSV, and tables in a file.

use std::{fs, io::Error, path::Path, process::Command, thread};

use crate::{measure::Row, scale::Grown};

pub const CSV_HEAD: &str = "case,impl,threads,median_ns,p10,p90,allocs";

pub fn csv(row: &Row) -> String {
    let Row { case, side, threads, nanos, allocations, .. } = row;
    let nanos = [nanos.median, nanos.p10, nanos.p90].map(|nanos| format!("{nanos:.1}")).join(",");
    format!("{case},{side},{threads},{nanos},{}", short(*allocations))
}

/// To two places, without zeros at the end.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Nanoseconds in three digits.
fn nanos(nanos: f64) -> String {
    match nanos {
        ..99.95 => format!("{nanos:.1}"),
        _ => format!("{nanos:.0}"),
    }
}

/// Head of the table of cases.
pub fn head(threads: &[usize]) -> String {
    let columns: String = threads.iter().map(|threads| format!(" {} |", of_threads(*threads))).collect();
    let rules = "---:|".repeat(threads.len());
    format!("| case | impl |{columns} allocations | bytes |\n|---|---|{rules}---:|---:|")
}

fn of_threads(threads: usize) -> String {
    if threads == 1 { "1 thread, ns".to_owned() } else { format!("{threads} threads, ns") }
}

/// A case's lines in the table: one for each implementation, with the rows of all threads.
pub fn lines(rows: &[Row], threads: &[usize]) -> String {
    let mut sides: Vec<&Row> = Vec::new();
    for row in rows {
        if !sides.iter().any(|seen| seen.side == row.side) {
            sides.push(row);
        }
    }
    sides.iter().map(|first| line(first, rows, threads)).collect()
}

fn line(first: &Row, rows: &[Row], threads: &[usize]) -> String {
    let cell = |threads: &usize| {
        let row = rows.iter().find(|row| row.side == first.side && row.threads == *threads);
        row.map_or_else(|| " – |".to_owned(), |row| format!(" {} |", spread(row)))
    };
    let cells: String = threads.iter().map(cell).collect();
    let (allocations, bytes) = (short(first.allocations), format!("{:.0}", first.bytes));
    format!("| {} | {} |{cells} {allocations} | {bytes} |\n", first.case, bold(first.side))
}

fn spread(row: &Row) -> String {
    let [median, p10, p90] = [row.nanos.median, row.nanos.p10, row.nanos.p90].map(nanos);
    format!("{median} ({p10}–{p90})")
}

fn bold(side: &str) -> String {
    if side.starts_with("mainstay") { format!("**{side}**") } else { side.to_owned() }
}

pub const GROWN_HEAD: &str = "| what | size | impl | 1 thread, ns | bytes each, idle | bytes each, in use |\n\
    |---|---:|---|---:|---:|---:|";

pub fn grown_line(grown: &Grown) -> String {
    let Grown { what, size, row, idle, used } = grown;
    let idle = idle.map_or_else(|| "–".to_owned(), |idle| format!("{idle:.0}"));
    format!("| {what} | {size} | {} | {} | {idle} | {used:.0} |\n", bold(row.side), spread(row))
}

/// Where it was measured, and with which versions.
pub fn machine(quick: bool) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc.and_then(|told| String::from_utf8(told.stdout).ok()).unwrap_or_default();
    let effort = if quick { "a quick run" } else { "a full run" };
    let place =
        format!("{model}, {cores} cores, {} {}, {}", std::env::consts::OS, std::env::consts::ARCH, rustc.trim());
    format!("{place}; {effort}.\n\nVersions: {}.", versions(include_str!("../Cargo.lock")))
}

const PEERS: [&str; 9] = [
    "tower-resilience-circuitbreaker",
    "failsafe",
    "recloser",
    "tower",
    "tokio",
    "governor",
    "backon",
    "dashmap",
    "mainstay",
];

fn versions(lock: &str) -> String {
    let version = |peer: &&str| {
        let (_, after) = lock.split_once(&format!("name = \"{peer}\"\nversion = \""))?;
        let (version, _) = after.split_once('"')?;
        let name = peer.strip_suffix("-circuitbreaker").unwrap_or(peer);
        Some(format!("{name} {version}"))
    };
    PEERS.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Puts the text between the marks of a file.
pub fn write_between(path: &Path, text: &str) -> Result<(), Error> {
    let old = fs::read_to_string(path)?;
    let new = between(&old, text).ok_or_else(|| Error::other(format!("has no {BEGIN} and {END}")))?;
    fs::write(path, new)
}

fn between(old: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Spread;

    fn row(side: &'static str, threads: usize, median: f64) -> Row {
        let nanos = Spread { median, p10: median - 1.0, p90: median + 1.0 };
        Row { case: "stack".to_owned(), side, threads, nanos, allocations: 0.5, bytes: 16.0 }
    }

    #[test]
    fn a_line_has_all_threads() {
        let rows = [row("mainstay", 1, 5.0), row("tower", 1, 99.96), row("mainstay", 2, 6.25)];
        let expected = "| stack | **mainstay** | 5.0 (4.0–6.0) | 6.2 (5.2–7.2) | 0.5 | 16 |\n\
            | stack | tower | 100 (99.0–101) | – | 0.5 | 16 |\n";
        assert_eq!(lines(&rows, &[1, 2]), expected);
        assert_eq!(csv(&rows[0]), "stack,mainstay,1,5.0,4.0,6.0,0.5");
    }

    #[test]
    fn a_table_is_replaced() {
        let old = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = between(&old, "new\n").expect("marks");
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(between(&new, "new"), Some(new.clone()), "twice is as once");
        assert_eq!(between("no marks", "new"), None);
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "name = \"tower-layer\"\nversion = \"1.0\"\n\nname = \"tower\"\nversion = \"0.5.3\"\n";
        assert_eq!(versions(lock), "tower 0.5.3");
    }
}
