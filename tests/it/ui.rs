//! What the compiler says when an error type cannot carry a rejection.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAM: &str = r#"
use mainstay::breaker::{CircuitBreakerLayer, Config, Handle};
use tower::{Layer, Service, service_fn};

struct Foreign;

fn serve<S: Service<u32>>(_: S) {}

fn main() {
    let layer = CircuitBreakerLayer::new(Handle::new("x", Config::new()));
    serve(layer.layer(service_fn(|_: u32| std::future::ready(Err::<u32, Foreign>(Foreign)))));
}
"#;

/// The newest build of a crate among this test's dependencies.
fn library(folder: &Path, name: &str) -> PathBuf {
    let built = std::fs::read_dir(folder).unwrap().filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let named = built.filter(|path| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.starts_with(&format!("lib{name}-")) && file.ends_with(".rlib")
    });
    named.max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).unwrap()).expect("a build of the crate")
}

#[test]
fn the_message_names_the_fix() {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let scratch = std::env::temp_dir().join(format!("mainstay-ui-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let program = scratch.join("program.rs");
    std::fs::write(&program, PROGRAM).unwrap();
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--edition", "2024", "--crate-type", "bin", "--emit", "metadata", "--out-dir"])
        .arg(&scratch)
        .arg("-L")
        .arg(format!("dependency={}", folder.display()))
        .args(["mainstay", "tower"].map(|name| format!("--extern={name}={}", library(&folder, name).display())))
        .arg(&program)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&scratch).unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in [
        "`Foreign` cannot carry a rejection by mainstay",
        "map the error once, at the bottom of the stack: `.map_err(mainstay::Error::Inner)`",
        "or implement `mainstay::CarryRejection` for `Foreign`",
    ] {
        assert!(message.contains(part), "{message}");
    }
}
