//! Counts, as they are committed, and whether those of now are still as good.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    str::FromStr,
};

/// A path fails when it is dearer by more than so many per cent and by more than so many instructions: of a call of
/// twenty instructions, three more are no news.
const PERCENT: u64 = 10;
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
    let mut text = format!("{:<26} {:>9} {:>9} {:>9}\n", "instructions of a call", "committed", "now", "");
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    for path in committed.paths.keys().chain(now.paths.keys()).collect::<BTreeSet<_>>() {
        let (was, is) = (committed.paths.get(path).copied(), now.paths.get(path).copied());
        text += &row(path, was, is);
        match judge(was, is) {
            Verdict::Same => {}
            Verdict::Better => better.push(path.as_str()),
            Verdict::Worse(why) => worse.push(format!("FAILED {path}: {why}\n")),
        }
    }
    if committed.taken_with != now.taken_with {
        let _ = writeln!(text, "The counts were taken with {}.\nThis is {}.", committed.taken_with, now.taken_with);
    }
    if committed.architecture() != now.architecture() {
        text += "Those of another architecture say nothing: nothing is judged.\n";
        return Report { text, fails: false };
    }
    if !better.is_empty() {
        let _ = writeln!(text, "Cheaper by more than {PERCENT} %, please --accept: {}", better.join(", "));
    }
    text.extend(worse.iter().map(String::as_str));
    if !worse.is_empty() {
        text += "Where this is meant: benches/counts/run --accept\n";
    }
    Report { text, fails: !worse.is_empty() }
}

impl Counts {
    fn architecture(&self) -> Option<&str> {
        self.taken_with.split(',').next()
    }
}

fn row(path: &str, was: Option<u64>, is: Option<u64>) -> String {
    let shown = |count: Option<u64>| count.map_or("–".to_owned(), |count| count.to_string());
    let change = was.zip(is).map_or(String::new(), |(was, is)| format!("{:+.1} %", change(was, is)));
    format!("{path:<26} {:>9} {:>9} {change:>9}\n", shown(was), shown(is))
}

fn change(was: u64, is: u64) -> f64 {
    (is as f64 / was.max(1) as f64 - 1.0) * 100.0
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Better,
    Worse(String),
}

fn judge(was: Option<u64>, is: Option<u64>) -> Verdict {
    match (was, is) {
        (Some(was), Some(is)) if was.abs_diff(is) <= FEW.max(was * PERCENT / 100) => Verdict::Same,
        (Some(was), Some(is)) if is < was => Verdict::Better,
        (Some(was), Some(is)) => Verdict::Worse(format!("{was} instructions a call became {is}")),
        (None, _) => Verdict::Worse("has no committed count".to_owned()),
        (_, None) => Verdict::Worse("is committed, and is no path".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(architecture: &str, paths: &[(&str, u64)]) -> Counts {
        let paths = paths.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect();
        Counts { taken_with: format!("{architecture}, rustc 1"), paths }
    }

    #[test]
    fn a_path_fails_when_it_is_dearer_by_more_than_a_tenth_and_a_few() {
        let worse = |was, is| matches!(judge(was, is), Verdict::Worse(_));
        let table =
            [(100, 110, false), (100, 111, true), (16, 21, false), (16, 22, true), (0, 6, true), (100, 1, false)];
        for (was, is, fails) in table {
            assert_eq!(worse(Some(was), Some(is)), fails, "{was} {is}");
        }
        assert!(worse(None, Some(1)) && worse(Some(1), None));
        for (was, is, expected) in [(100, 90, Verdict::Same), (100, 89, Verdict::Better), (7, 2, Verdict::Same)] {
            assert_eq!(judge(Some(was), Some(is)), expected, "{was} {is}");
        }
    }

    #[test]
    fn there_is_a_line_for_each_failure_and_a_word_for_what_got_cheaper() {
        let committed = counts("x86_64", &[("dearer", 100), ("gone", 7), ("same", 50), ("cheaper", 90)]);
        let now = counts("x86_64", &[("dearer", 120), ("new", 8), ("same", 52), ("cheaper", 60)]);
        let Report { text, fails } = report(&committed, &now);
        assert!(fails);
        let failed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("FAILED ")).collect();
        let dearer = "dearer: 100 instructions a call became 120";
        assert_eq!(failed, [dearer, "gone: is committed, and is no path", "new: has no committed count"]);
        assert!(text.contains("please --accept: cheaper\n") && text.contains("+20.0 %"), "{text}");
        assert!(!report(&committed, &committed).fails);
    }

    #[test]
    fn another_architecture_is_not_judged_and_another_compiler_is_named() {
        let (here, elsewhere) = (counts("x86_64", &[("path", 10)]), counts("aarch64", &[("path", 90)]));
        let judged = report(&here, &elsewhere);
        assert!(!judged.fails && judged.text.contains("nothing is judged"));
        let newer = Counts { taken_with: "x86_64, rustc 2".to_owned(), ..elsewhere };
        let judged = report(&here, &newer);
        assert!(judged.fails && judged.text.contains("taken with x86_64, rustc 1.\nThis is x86_64, rustc 2."));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let written = counts("x86_64", &[("b", 2), ("a", 1)]);
        assert_eq!(written.to_string().parse(), Ok(written.clone()));
        assert!(written.to_string().ends_with("path,instructions\na,1\nb,2\n"));
        assert!("path,instructions\na,many".parse::<Counts>().is_err());
    }
}
