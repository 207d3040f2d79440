//! What the command line says.

use std::{path::PathBuf, time::Duration};

use crate::measure::Effort;

pub const HELP: &str = "\
Mainstay beside its peers: nanoseconds and allocations a call.

cargo run --release --manifest-path benches/peers/Cargo.toml -- [OPTIONS]

  --quick          fewer and shorter samples: under a minute
  --csv            lines of case,impl,threads,median_ns,p10,p90,allocs instead of a Markdown table
  --case NAME      only cases whose names begin so; may be given several times
  --threads LIST   threads that share a policy, such as 1,2,4 (1,2)
  --rounds N       rounds in which all sides of a case take turns (31; quick: 11)
  --scale          also 1 to 1 000 000 keyed policies (quick: 10 000), and windows of 10 to 10 000
  --plots DIR      also writes plots (SVG) there; measures what they show: --scale, and 4 threads
  --readme FILE    also writes the tables into FILE, between its two marks; measures --scale
  --help           this
";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub quick: bool,
    pub csv: bool,
    pub scale: bool,
    pub cases: Vec<String>,
    pub threads: Vec<usize>,
    pub rounds: Option<usize>,
    pub plots: Option<PathBuf>,
    pub readme: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Help,
    Run(Options),
}

impl Options {
    fn new() -> Self {
        Self {
            quick: false,
            csv: false,
            scale: false,
            cases: Vec::new(),
            threads: vec![1, 2],
            rounds: None,
            plots: None,
            readme: None,
        }
    }

    pub fn effort(&self) -> Effort {
        let (sample, rounds) = if self.quick { (Duration::from_millis(1), 11) } else { (Duration::from_millis(3), 31) };
        Effort { sample, rounds: self.rounds.unwrap_or(rounds) }
    }

    /// Whether a case of this name was asked for.
    pub fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|prefix| case.starts_with(prefix))
    }

    /// How many policies there are at most, none without `--scale`.
    pub fn most_policies(&self) -> Option<usize> {
        let wanted = self.scale || self.plots.is_some() || self.readme.is_some();
        wanted.then_some(if self.quick { 10_000 } else { 1_000_000 })
    }
}

/// What is asked for, or a line that says what is wrong.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Asked, String> {
    let (mut options, mut args) = (Options::new(), args.into_iter());
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value (--help lists all options)"));
        match arg.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--quick" => options.quick = true,
            "--csv" => options.csv = true,
            "--scale" => options.scale = true,
            "--case" => options.cases.push(value()?),
            "--threads" => options.threads = threads(&value()?)?,
            "--rounds" => options.rounds = Some(number("--rounds", &value()?, 10_000)?),
            "--plots" => options.plots = Some(value()?.into()),
            "--readme" => options.readme = Some(value()?.into()),
            _ => return Err(format!("unknown argument {arg:?} (--help lists all options)")),
        }
    }
    Ok(Asked::Run(options))
}

fn threads(list: &str) -> Result<Vec<usize>, String> {
    let mut threads = list.split(',').map(|one| number("--threads", one, 64)).collect::<Result<Vec<_>, _>>()?;
    threads.sort_unstable();
    threads.dedup();
    Ok(threads)
}

fn number(option: &str, text: &str, most: usize) -> Result<usize, String> {
    let in_range = |number: &usize| (1..=most).contains(number);
    text.trim().parse().ok().filter(in_range).ok_or_else(|| format!("{option} {text:?}: must be from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        assert_eq!(asked(""), Ok(Asked::Run(Options::new())));
        assert_eq!(asked("--csv --help"), Ok(Asked::Help));
        let Ok(Asked::Run(options)) = asked("--quick --case stack --case pick --threads 4,1,1 --rounds 3") else {
            panic!("good options");
        };
        assert_eq!((options.threads.as_slice(), options.effort().rounds), (&[1, 4][..], 3));
        assert!(options.wants("stack_pending") && options.wants("pick") && !options.wants("retry"));
        assert_eq!(options.most_policies(), None);
    }

    #[test]
    fn scale_comes_with_what_shows_it() {
        for (line, most) in [("--scale", 1_000_000), ("--plots p --quick", 10_000), ("--readme r", 1_000_000)] {
            let Ok(Asked::Run(options)) = asked(line) else { panic!("good options: {line}") };
            assert_eq!(options.most_policies(), Some(most), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("--fast", "--fast"),
            ("stack", "stack"),
            ("--case", "--case needs a value"),
            ("--threads 0", "from 1 to 64"),
            ("--threads 1,x", "x"),
            ("--rounds -1", "--rounds"),
        ] {
            let Err(told) = asked(line) else { panic!("refused: {line}") };
            assert!(told.contains(named) && !told.contains('\n'), "{line}: {told}");
        }
    }
}
