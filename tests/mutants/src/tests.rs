//! The tests that there are.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A test, and the program it is in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Test {
    pub program: PathBuf,
    pub name: String,
}

/// Which tests are to notice a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Those of units, rooms and the simulation.
    Plain,
    /// The models under loom.
    Models,
}

/// Builds the tests.
pub fn build(tree: &Path, kind: Kind) -> Result<Vec<Test>, Box<dyn Error>> {
    let (which, flags): (&[&str], _) = match kind {
        Kind::Plain => (&["--all-features", "--lib", "--test", "it", "--test", "simulation"], "--cap-lints=allow"),
        Kind::Models => (&["--release", "--test", "loom"], "--cap-lints=allow --cfg mainstay_loom"),
    };
    let output = Command::new("cargo")
        .args(["test", "--no-run", "--quiet", "--message-format=json"])
        .args(which)
        .current_dir(tree)
        .env("RUSTFLAGS", flags)
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let mut tests = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line)?;
        let is_test = message["profile"]["test"] == true && message["target"]["name"] != "build-script-build";
        if let Some(program) = message["executable"].as_str().filter(|_| is_test) {
            let ignored = list(program, &["--ignored"])?;
            let names = list(program, &[])?.into_iter().filter(|name| !ignored.contains(name));
            tests.extend(names.map(|name| Test { program: program.into(), name }));
        }
    }
    Ok(tests)
}

fn list(program: &str, more: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
    let output = Command::new(program).args(["--list", "--format", "terse"]).args(more).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
