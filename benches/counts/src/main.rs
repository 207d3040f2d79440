//! How many instructions a call through mainstay takes, beside the counts that are committed: see `benches/README.md`.

mod callgrind;
mod compare;
mod counted;
mod paths;
#[path = "../../peers/src/upstream.rs"]
#[allow(dead_code, reason = "the peers need more of it")]
mod upstream;

use std::{env, fs, process::ExitCode};

use compare::Counts;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.csv");

const HELP: &str = "benches/counts/run: counts the instructions of a call on each path under valgrind
  (nothing)  compares them with benches/counts/counts.csv, and fails where a call has become dearer
  --accept   writes that file";

fn main() -> Fallible<ExitCode> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--accept"] => accept(),
        [callgrind::COUNTED] => {
            counted::all();
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            println!("{HELP}");
            Ok(ExitCode::from(if args == ["--help"] { 0 } else { 2 }))
        }
    }
}

fn accept() -> Fallible<ExitCode> {
    let now = callgrind::count()?;
    fs::write(COMMITTED, now.to_string())?;
    println!("{} counts written to {COMMITTED}", now.paths.len());
    Ok(ExitCode::SUCCESS)
}

fn compare() -> Fallible<ExitCode> {
    let committed: Counts = fs::read_to_string(COMMITTED).map_err(|error| format!("{COMMITTED}: {error}"))?.parse()?;
    let now = callgrind::count()?;
    let report = compare::report(&committed, &now);
    print!("{}", report.text);
    Ok(if report.fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
