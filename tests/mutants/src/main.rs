//! Mutation testing: each of the small changes that cargo-mutants knows is made, and some test has to fail.
//!
//! A build per change would take days. Here all changes are compiled into one program, each behind the question whether
//! it is the one that is on; which tests come by each question is seen once, and then only those are run, first the
//! tests of the same room. What can't be compiled that way (in constants; where types do not fit) is left out and
//! counted.

use std::{collections::BTreeSet, error::Error, fs, path::Path};

mod hunt;
mod plant;
mod tests;

use serde::Deserialize;

use crate::tests::Kind;

/// A change, as cargo-mutants describes it.
#[derive(Debug, Deserialize)]
pub struct Mutant {
    name: String,
    file: String,
    genre: String,
    replacement: String,
    span: Span,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Span {
    start: Place,
    end: Place,
}

/// Both count from 1; columns are characters.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Place {
    line: usize,
    column: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let work = args.next().ok_or("usage: mainstay-mutants WORK [--models] [WORD…]")?;
    let (mut words, mut kind) = (Vec::new(), Kind::Plain);
    for arg in args {
        match arg.strip_prefix('@') {
            // As survivors are told.
            Some(file) => {
                let told = fs::read_to_string(file)?;
                words.extend(told.lines().map(|line| line.rsplit_once(" (").map_or(line, |(name, _)| name).to_owned()));
            }
            None if arg == "--models" => kind = Kind::Models,
            None => words.push(arg),
        }
    }
    let work = Path::new(&work);
    let mut mutants: Vec<Mutant> = serde_json::from_slice(&fs::read(work.join("list.json"))?)?;
    // What only the models under loom compile is changed for nobody else.
    mutants.retain(|mutant| !mutant.file.ends_with("modelled.rs"));

    // There is one when this is called again by hand, over the same tree.
    let planted: BTreeSet<usize> = match fs::read(work.join("planted.json")) {
        Ok(planted) => serde_json::from_slice(&planted)?,
        Err(_) => plant::plant(&work.join("tree"), &mutants)?,
    };
    fs::write(work.join("planted.json"), serde_json::to_vec(&planted)?)?;
    println!("{} changes, {} of them compiled", mutants.len(), planted.len());
    let left_out: Vec<&str> =
        (0..mutants.len()).filter(|id| !planted.contains(id)).map(|id| mutants[id].name.as_str()).collect();
    fs::write(work.join("left_out.txt"), left_out.join("\n") + "\n")?;

    let tests = tests::build(&work.join("tree"), kind)?;
    let is_asked = |id: &usize| words.is_empty() || words.iter().any(|word| mutants[*id].name.contains(word.as_str()));
    let asked: Vec<usize> = planted.into_iter().filter(is_asked).collect();
    let survivors = hunt::hunt(work, &mutants, &asked, (&tests, kind))?;
    fs::write(work.join("survivors.txt"), survivors.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    let unexplained: Vec<&String> = survivors.iter().filter(|line| !is_explained(line)).collect();
    unexplained.iter().for_each(|line| println!("{line}"));
    println!("{} of {} are not noticed, {} of them not explained", survivors.len(), asked.len(), unexplained.len());
    if words.is_empty() && kind == Kind::Plain {
        tell_needless(&survivors);
    }
    if unexplained.is_empty() { Ok(()) } else { Err("see above".into()) }
}

/// Names what is explained though it is noticed.
fn tell_needless(survivors: &[String]) {
    let left: BTreeSet<(&str, &str)> = survivors.iter().filter_map(|line| file_and_change(line)).collect();
    for line in EXPLAINED.lines().filter(|line| !line.starts_with('#')) {
        if line.split_once(": ").is_some_and(|explained| !left.contains(&explained)) {
            println!("explained, but noticed: {line}");
        }
    }
}

const EXPLAINED: &str = include_str!("../explained.txt");

/// What was changed in which file, without the place.
fn file_and_change(survivor: &str) -> Option<(&str, &str)> {
    let name = survivor.rsplit_once(" (").map_or(survivor, |(name, _)| name);
    let (place, change) = name.split_once(": ")?;
    Some((place.split(':').next().unwrap_or_default(), change))
}

/// Whether `explained.txt` says why no test can notice this, wherever in its file it stands now. What is open is not
/// explained. A name without its place may be that of several changes to one function.
fn is_explained(survivor: &str) -> bool {
    let explained = EXPLAINED.split("\n# Open").next().unwrap_or_default();
    file_and_change(survivor)
        .is_some_and(|of| explained.lines().any(|line| !line.starts_with('#') && line.split_once(": ") == Some(of)))
}
