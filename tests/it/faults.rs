//! What can go wrong around a resilience library, row by row of a list of faults and one of bad input: the tests that
//! show what happens here, or why there is none.

mod hooks;
mod life;
mod rows;
mod storms;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use rows::{BAD_INPUT, FAULTS, Row};

/// Every test function by its module, `tests/it` being the root and `src` a module of it.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for (folder, module) in [("tests/it", ""), ("src", "src::")] {
        collect(&root.join(folder), module, &mut found);
    }
    let text = fs::read_to_string(root.join("tests/architecture.rs")).unwrap();
    found.extend(test_functions(&text).into_iter().map(|name| format!("architecture::{name}")));
    found
}

fn collect(folder: &Path, module: &str, found: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, &format!("{module}{name}::"), found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(test_functions(&text).into_iter().map(|test| format!("{module}{name}::{test}")));
        }
    }
}

/// The names of the functions that are marked as tests.
fn test_functions(text: &str) -> Vec<String> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(function) = function.filter(|_| is_test) {
                names.push(function.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
            is_test = false;
        }
    }
    names
}

/// The rows of a list, by the heading they stand under: `| 12 | … |`.
fn listed(text: &str, heading: &str) -> BTreeSet<u32> {
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let first = |line: &str| line.strip_prefix("| ")?.split(" |").next()?.trim().parse().ok();
    section.lines().filter_map(first).collect()
}

#[test]
fn every_row_is_shown_by_a_test_or_says_why_not() {
    let tests = tests();
    assert!(tests.len() > 500, "the tests are found: {}", tests.len());
    let list = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/faults.md")).ok();
    for (heading, rows) in [("1. Faults", FAULTS), ("2. Bad input", BAD_INPUT)] {
        let mut known = BTreeMap::new();
        for (number, row) in rows {
            assert!(known.insert(*number, ()).is_none(), "{heading}: row {number} stands twice");
            let (shown, reason) = match row {
                Row::Shown(shown) => (*shown, None),
                Row::Partly(shown, reason) => (*shown, Some(*reason)),
                Row::Without(reason) => (&[][..], Some(*reason)),
            };
            assert!(!shown.is_empty() || reason.is_some(), "{heading}: row {number} says nothing");
            assert!(reason.is_none_or(|reason| reason.len() > 20), "{heading}: row {number} has no reason");
            for test in shown {
                assert!(tests.contains(*test), "{heading}: row {number} names {test}, and there is no such test");
            }
        }
        // The list of rows is not part of the package.
        let Some(list) = &list else { continue };
        let (listed, known): (_, BTreeSet<u32>) = (listed(list, heading), known.into_keys().collect());
        assert!(listed.len() > 30, "the rows are found");
        assert_eq!(listed, known, "{heading}: the rows of the list, and those that are known here");
    }
}

#[test]
fn rows_and_tests_are_read_as_they_are_written() {
    let list = "\n## 1. Faults\n\n| # | fault |\n|---|---|\n| 1 | x |\n| 12 | y |\n\n## 2. Bad input\n\n| 3 | z |\n";
    assert_eq!(listed(list, "1. Faults"), BTreeSet::from([1, 12]));
    assert_eq!(listed(list, "2. Bad input"), BTreeSet::from([3]));
    let text =
        "#[test]\n#[ignore]\nfn one() {}\nfn helper() {}\n#[tokio::test(start_paused = true)]\nasync fn two_2() {}";
    assert_eq!(test_functions(text), ["one", "two_2"]);
}
