//! Every scenario of the conformance list is a test or is left out with a reason: no id is silently missing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{balance, bulkhead, conformance_breaker, conformance_retry, conformance_window, discovery, load_shed};

const KINDS: [&str; 10] = ["CB", "WIN", "RT", "RL", "BH", "AD", "HG", "SD", "OD", "LB"];

#[test]
fn every_scenario_is_a_test_or_is_left_out_with_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tested = tested_ids(&root.join("tests/it"));
    let lists = [
        conformance_breaker::LEFT_OUT,
        conformance_window::LEFT_OUT,
        conformance_retry::LEFT_OUT,
        bulkhead::LEFT_OUT,
        load_shed::LEFT_OUT,
        balance::LEFT_OUT,
        discovery::LEFT_OUT,
    ]
    .concat();
    let left_out: BTreeSet<String> = lists.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(left_out.len(), lists.len(), "an id is left out twice");
    for (id, reason) in lists {
        assert!(!reason.is_empty(), "{id} is left out without a reason");
        assert!(!tested.contains(id), "{id} is left out and has a test");
    }
    assert!(!tested.is_empty());

    // The list of scenarios is not part of the package; where it is not there, the tests and the lists must do.
    let Ok(list) = fs::read_to_string(root.join("../shared/conformance.md")) else { return };
    let listed: BTreeSet<String> = list.lines().filter_map(heading_id).collect();
    let known: BTreeSet<String> = tested.union(&left_out).cloned().collect();
    let missing: Vec<&String> = listed.difference(&known).collect();
    let invented: Vec<&String> = known.difference(&listed).collect();
    assert!(missing.is_empty(), "neither tested nor left out: {missing:?}");
    assert!(invented.is_empty(), "no such scenario: {invented:?}");
}

/// The id in a heading such as `### CB-01 default breaker`.
fn heading_id(line: &str) -> Option<String> {
    let id = line.strip_prefix("### ")?.split_whitespace().next()?;
    let (kind, _) = id.split_once('-')?;
    KINDS.contains(&kind).then(|| id.to_owned())
}

/// The ids that begin the names of test functions.
fn tested_ids(folder: &Path) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for file in sources(folder) {
        let text = fs::read_to_string(&file).expect("a test source can be read");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if !line.starts_with("#[") {
                if let Some(id) = function_id(line) {
                    assert!(is_test, "{id} in {} is no test", file.display());
                    ids.insert(id);
                }
                is_test = false;
            }
        }
    }
    ids
}

/// The id in a line such as `async fn cb_01_the_default_breaker() {`.
fn function_id(line: &str) -> Option<String> {
    let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    let mut words = name.split('_');
    let (kind, number) = (words.next()?.to_uppercase(), words.next()?);
    let is_id = KINDS.contains(&kind.as_str()) && number.chars().all(|c| c.is_ascii_digit());
    is_id.then(|| format!("{kind}-{number}"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder of tests can be read");
    let paths = entries.map(|entry| entry.expect("an entry of the folder can be read").path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| sources(folder));
    files.into_iter().filter(|file| file.extension().is_some_and(|ext| ext == "rs")).chain(below).collect()
}

#[test]
fn ids_are_read_from_headings_and_from_test_names() {
    assert_eq!(heading_id("### WIN-04 time window"), Some("WIN-04".to_owned()));
    assert_eq!(heading_id("### XY-01 nothing"), None);
    assert_eq!(heading_id("CB-01 in a sentence"), None);
    assert_eq!(function_id("async fn cb_01_the_default_breaker() {"), Some("CB-01".to_owned()));
    assert_eq!(function_id("fn win_13_admission() {"), Some("WIN-13".to_owned()));
    assert_eq!(function_id("async fn rt_04_commitment() {"), Some("RT-04".to_owned()));
    assert_eq!(function_id("fn cb_helper() {"), None);
}
