//! What the fuzz targets of `tests/fuzz` do, without a fuzzer: every odd value in every field of every document, and
//! the seeds.

#[path = "../fuzz/src/exercise.rs"]
#[allow(unreachable_pub, reason = "a module of two crates")]
mod exercise;
#[path = "../fuzz/src/subjects.rs"]
#[allow(unreachable_pub, reason = "a module of two crates")]
mod subjects;
#[path = "../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "a module of two crates")]
mod targets;

mod bounds;
mod sweep;

use std::{collections::BTreeSet, fs, path::Path};

/// Seeds are inputs from which the fuzzer starts, and those that once found a fault.
#[test]
fn every_seed_of_every_target_can_be_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    // They are not part of the package.
    let Ok(folders) = fs::read_dir(root.join("seeds")) else { return };
    let folders: BTreeSet<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let files = fs::read_dir(root.join("fuzz_targets")).unwrap();
    let files: BTreeSet<String> =
        files.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let names: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!((&names, &names), (&files, &folders), "each target has a file and seeds");
    let _quiet = crate::support::quiet();
    let (mut seeds, mut bytes) = (0, 0);
    for (name, target) in targets::ALL {
        for seed in fs::read_dir(root.join("seeds").join(name)).unwrap() {
            let data = fs::read(seed.unwrap().path()).unwrap();
            (seeds, bytes) = (seeds + 1, bytes + data.len());
            target(&data);
        }
    }
    assert!((20..=300).contains(&seeds) && bytes < 100_000, "{seeds} seeds of {bytes} bytes");
}
