//! Mainstay beside its peers, in one run and one harness. What is measured, and how, is in `benches/README.md`.

#![allow(clippy::disallowed_methods, reason = "a bench, which measures real time")]

use std::{
    error::Error,
    fmt::Write as _,
    io::{Write as _, stdout},
    process::ExitCode,
};

use args::{Asked, Options};
use crew::Crew;
use measure::Row;
use scale::Grown;

mod alloc;
mod args;
mod case;
mod cases;
mod crew;
mod measure;
mod peers;
mod plot;
mod report;
mod scale;
mod tasks;
mod upstream;

fn main() -> ExitCode {
    let options = match args::parse(std::env::args().skip(1)) {
        Ok(Asked::Help) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Run(options)) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut crew = Crew::new();
    let timers = crew.timers();
    let _entered = timers.enter();
    let head = if options.csv { report::CSV_HEAD.to_owned() } else { report::head(&options.threads) };
    tell(&format!("{head}\n"));
    let rows = measured(&mut crew, options);
    let grown = grown(&mut crew, options);
    if let Some(path) = &options.readme {
        let tables = tables(options, &rows, &grown);
        report::write_between(path, &tables).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(folder) = &options.plots {
        plot::write(folder, &rows, &grown)?;
    }
    Ok(())
}

/// Prints what there is so far. Nobody may read it to the end.
fn tell(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn measured(crew: &mut Crew, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for case in cases::all().iter().filter(|case| options.wants(case.name)) {
        let mut threads = options.threads.clone();
        if options.plots.is_some() && plot::CASES.contains(&case.name) {
            threads.extend(plot::THREADS.into_iter().filter(|more| !options.threads.contains(more)));
        }
        let effort = options.effort();
        let of_case: Vec<_> = threads.iter().flat_map(|threads| measure::case(crew, case, *threads, effort)).collect();
        let told = if options.csv {
            of_case.iter().map(|row| report::csv(row) + "\n").collect()
        } else {
            report::lines(&of_case, &options.threads)
        };
        tell(&told);
        rows.extend(of_case);
    }
    rows
}

fn grown(crew: &mut Crew, options: &Options) -> Vec<Grown> {
    let Some(most) = options.most_policies() else { return Vec::new() };
    if !options.csv {
        tell(&format!("\n{}\n", report::GROWN_HEAD));
    }
    let line = |grown: &Grown| if options.csv { report::csv(&grown.row) + "\n" } else { report::grown_line(grown) };
    scale::all(crew, most, options.effort(), |grown| tell(&grown.iter().map(line).collect::<String>()))
}

/// Both tables, and where they were measured.
fn tables(options: &Options, rows: &[Row], grown: &[Grown]) -> String {
    let mut text = report::machine(options.quick);
    let _ = write!(text, "\n\n{}\n", report::head(&options.threads));
    for of_case in rows.chunk_by(|one, next| one.case == next.case) {
        text += &report::lines(of_case, &options.threads);
    }
    let _ = write!(text, "\n{}\n", report::GROWN_HEAD);
    text.extend(grown.iter().map(report::grown_line));
    text
}
