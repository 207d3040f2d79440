//! The house as it is meant to stand: floors, rooms, sizes, one clock. What `CONTRIBUTING.md` says in words is checked
//! here; the last tests show that each check can fail.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "architecture/public.rs"]
mod public;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The floors from the ground up, and the rooms on each. A room may use the floors below it; rooms of one floor do not
/// know each other, except on the ground.
const FLOORS: [(&str, &[&str]); 8] = [
    (
        "ground",
        &[
            "budget", "deadline", "error", "guarded", "lanes", "name", "outcome", "own", "priority", "rare", "replay",
            "settings", "sync", "time", "waiters", "window",
        ],
    ),
    ("watch", &["admission", "observe"]),
    (
        "rooms",
        &["breaker", "bulkhead", "retry", "timeout", "fallback", "rate_limit", "load_shed", "concurrency", "hedge"],
    ),
    ("assembly", &["keyed", "stack"]),
    ("contract", &["contract"]),
    ("fleet", &["registry", "discovery", "balance"]),
    ("front", &["client", "isolation"]),
    ("windows", &["http", "ext", "guide"]),
];

/// Names that `lib.rs` exports at the root, with the room they live in.
const ROOT: [(&str, &str); 21] = [
    ("Deadline", "deadline"),
    ("DeadlineOf", "deadline"),
    ("NoDeadline", "deadline"),
    ("deadline_fn", "deadline"),
    ("BoxError", "error"),
    ("CarryRejection", "error"),
    ("Error", "error"),
    ("Reason", "error"),
    ("Rejection", "error"),
    ("Name", "name"),
    ("Classify", "outcome"),
    ("OnError", "outcome"),
    ("OnOverload", "outcome"),
    ("Outcome", "outcome"),
    ("classify_error", "outcome"),
    ("classify_fn", "outcome"),
    ("Priority", "priority"),
    ("PriorityOf", "priority"),
    ("priority_fn", "priority"),
    ("Stack", "stack"),
    ("ConfigError", "settings"),
];

const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 60;
const WIDEST_LINE: usize = 120;

/// The dependencies a build without features has: those of the design, and `quanta`, with which a reading of the clock
/// costs a third. More only behind a feature.
const DEPENDENCIES: [&str; 9] =
    ["parking_lot", "pin-project-lite", "quanta", "rand", "serde", "thiserror", "tokio", "tower", "tracing"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            // What a project of its own, as in `benches`, is built into.
            if !entry.ends_with("target") {
                found.extend(sources(&entry));
            }
        } else if entry.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            found.insert(entry, text);
        }
    }
    found
}

/// The code of a file without its tests, and without comments, docs and what stands in quotes. Line by line, so that
/// the numbers stay right.
fn code(text: &str) -> Vec<String> {
    let before_tests = text.lines().take_while(|line| !(line.starts_with("#[cfg(") && line.contains("test")));
    before_tests.map(|line| without_quotes(line.split("//").next().unwrap_or_default())).collect()
}

fn without_quotes(line: &str) -> String {
    line.split('"').enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, part)| part).collect()
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, rooms)| rooms.contains(&room))
}

fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap_or(file);
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The names that follow `crate::` in a file: `crate::a::b`, and `crate::{a::b, c}` over several lines.
fn imports(lines: &[String]) -> Vec<String> {
    let text = lines.join("\n");
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            names.extend(first_level(group));
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

/// The first names inside a `{…}`, whose opening brace was read.
fn first_level(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut current) = (1, Vec::new(), String::new());
    let mut reading = true;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                names.push(std::mem::take(&mut current));
                reading = true;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        reading &= c.is_alphanumeric() || c == '_' || c.is_whitespace();
        if reading && !c.is_whitespace() {
            current.push(c);
        }
    }
    names.push(current);
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

/// What is wrong with one file.
fn faults(file: &Path, text: &str) -> Vec<String> {
    let (room, lines) = (room_of(file), code(text));
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("{}:{line}: {what}", file.display()));
    if room != "lib" {
        match floor_of(&room) {
            None => fault(1, format!("room \"{room}\" stands on no floor")),
            Some(floor) => wrong_imports(&room, floor, &lines).into_iter().for_each(|what| fault(1, what)),
        }
    }
    if lines.len() > LONGEST_FILE {
        fault(lines.len(), format!("longer than {LONGEST_FILE} lines before its tests"));
    }
    for (i, line) in lines.iter().enumerate() {
        let clock = ["Instant::now", "SystemTime::now", "Utc::now"].iter().any(|clock| line.contains(clock));
        if clock && room != "time" {
            fault(i + 1, "a clock is read outside time.rs".into());
        }
        if line.contains(".unwrap()") || ["todo!", "unimplemented!", "dbg!"].iter().any(|name| line.contains(name)) {
            fault(i + 1, "unwrap, todo or dbg in src".into());
        }
        if line.trim_start().starts_with("#[cfg(feature") && lines.get(i + 1).is_some_and(|next| indented(next)) {
            // A method of one feature is fine; a statement is not.
            let next = lines[i + 1].trim_start();
            if !(next.starts_with("pub") || next.starts_with("fn ")) {
                fault(i + 1, "cfg(feature) inside a function".into());
            }
        }
    }
    for (i, line) in text.lines().enumerate().filter(|(_, line)| line.chars().count() > WIDEST_LINE) {
        fault(i + 1, format!("{} characters wide", line.chars().count()));
    }
    for (start, length) in functions(&lines).into_iter().filter(|(_, length)| *length > LONGEST_FUNCTION) {
        fault(start, format!("a function of {length} lines"));
    }
    faults
}

fn indented(line: &str) -> bool {
    line.starts_with(' ')
}

fn wrong_imports(room: &str, floor: usize, lines: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for name in imports(lines) {
        let target = ROOT.iter().find(|(export, _)| *export == name).map_or(name.as_str(), |(_, room)| room);
        let Some(other) = floor_of(target) else {
            faults.push(format!("\"crate::{name}\" is no room"));
            continue;
        };
        // The ground and the watch know their own; a room knows itself and the floors below.
        let may = other < floor || target == room || (other == floor && floor <= 1);
        if !may {
            faults.push(format!("\"{room}\" uses \"{target}\", which is not below it"));
        }
    }
    faults
}

/// Where functions begin, and how many lines they take.
fn functions(lines: &[String]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let begins = words.starts_with("fn ") || words.starts_with("pub") && words.contains(" fn ");
        // What a trait only declares has no lines.
        if !begins || words.trim_end().ends_with(';') {
            continue;
        }
        let indent = line.len() - words.len();
        let end = lines[i..].iter().position(|line| {
            line.len() > indent && line[indent..].starts_with('}') && !line[..indent].contains(|c| c != ' ')
        });
        found.push((i + 1, end.unwrap_or(0) + 1));
    }
    found
}

#[test]
fn the_house_stands_as_it_should() {
    let files = sources(&root().join("src"));
    assert!(files.len() > 20, "the sources are where they are looked for");
    let all: Vec<String> = files.iter().flat_map(|(file, text)| faults(file, text)).collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn tests_examples_and_benches_are_not_too_wide_and_never_sleep() {
    for folder in ["tests", "examples", "benches"] {
        for (file, text) in sources(&root().join(folder)) {
            for (i, line) in text.lines().enumerate() {
                assert!(line.chars().count() <= WIDEST_LINE, "{}:{}", file.display(), i + 1);
                let sleeps = folder == "tests" && without_quotes(line).contains("thread::sleep(");
                assert!(!sleeps, "{}:{} sleeps in real time", file.display(), i + 1);
            }
        }
    }
}

#[test]
fn the_readme_is_short_and_starts_with_the_example_that_is_also_a_program() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 150, "the guide lives in the docs");
    assert!(readme.lines().all(|line| line.chars().count() <= WIDEST_LINE || line.starts_with('|')));
    let example = readme.split("```rust").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let program = fs::read_to_string(root().join("examples/quickstart.rs")).unwrap();
    let lines: Vec<&str> = example.lines().skip(1).filter(|line| !line.trim().is_empty()).collect();
    assert!(lines.len() <= 30, "about twenty lines");
    for line in lines {
        assert!(program.contains(line), "not in examples/quickstart.rs: {line}");
    }
}

/// The names under a heading of `Cargo.toml`, with the text of each.
fn manifest_section(heading: &str) -> BTreeMap<String, String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split(&format!("\n[{heading}]\n")).nth(1).unwrap().split("\n[").next().unwrap().to_owned();
    let entries = section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_default_dependencies_are_those_of_the_design() {
    let dependencies = manifest_section("dependencies");
    let default: Vec<&str> = dependencies
        .iter()
        .filter(|(_, value)| !value.contains("optional = true"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(default, DEPENDENCIES);
    for (name, value) in &dependencies {
        let sparse = value.contains("default-features = false") || !value.contains("features");
        assert!(sparse, "{name} takes default features: {value}");
    }
    assert_eq!(manifest_section("features")["default"], "[]");
}

// Planted faults: each check finds what it is for.

fn planted(file: &str, text: &str) -> String {
    faults(&root().join("src").join(file), text).join("\n")
}

#[test]
fn a_sideways_or_upward_import_is_found() {
    let sideways = planted("breaker/core.rs", "use crate::{\n    error::Rejection,\n    bulkhead::Handle,\n};\n");
    assert!(sideways.contains("\"breaker\" uses \"bulkhead\", which is not below it"), "{sideways}");
    let upward = planted("window/count.rs", "fn f() { crate::observe::Meter::new(); }\n");
    assert!(upward.contains("\"window\" uses \"observe\""), "{upward}");
    assert!(planted("breaker/core.rs", "use crate::http::retry_after;").contains("uses \"http\""));
    assert!(planted("window/time.rs", "use crate::breaker;").contains("uses \"breaker\""));
    assert!(planted("cellar/wine.rs", "").contains("stands on no floor"));
    assert!(planted("breaker/core.rs", "use crate::secrets::X;").contains("is no room"));
    assert_eq!(planted("http/mod.rs", "use crate::{breaker::Handle, Error, error::{Reason, Rejection}};"), "");
}

#[test]
fn a_clock_an_unwrap_and_a_long_file_are_found() {
    assert!(planted("breaker/core.rs", "let t = std::time::Instant::now();").contains("a clock is read"));
    assert_eq!(planted("time.rs", "let t = std::time::Instant::now();"), "");
    assert!(planted("error.rs", "let x = y.unwrap();").contains("unwrap"));
    assert_eq!(planted("error.rs", "// y.unwrap()\nlet x = \"y.unwrap()\";\n#[cfg(test)]\nmod t { y.unwrap(); }"), "");
    assert!(planted("error.rs", "dbg!(1);").contains("dbg"));
    assert!(planted("error.rs", &"let x = 1;\n".repeat(401)).contains("longer than 400 lines"));
    assert!(planted("error.rs", &"x".repeat(121)).contains("121 characters wide"));
}

#[test]
fn a_long_function_and_a_feature_inside_one_are_found() {
    let long = format!("impl X {{\n    pub fn f() {{\n{}    }}\n}}\n", "        g();\n".repeat(59));
    assert!(
        planted("error.rs", &long).contains("error.rs:2: a function of 61 lines"),
        "{}",
        planted("error.rs", &long)
    );
    let inside = "fn f() {\n    #[cfg(feature = \"http\")]\n    g();\n}\n";
    assert!(planted("error.rs", inside).contains("cfg(feature) inside a function"));
}
