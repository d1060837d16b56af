//! What a test may need and a machine may lack: the one list of reasons to skip.
//!
//! A skipped test says so in `target/skipped-tests`, a line each. `.ci/run` prints these lines and
//! fails on any that `.ci/allowed-skips` does not hold.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::thread::{CpuSet, sched_getaffinity};

/// A Python that can import pyzmq and msgpack: `WEFT_PYTHON`, or `target/venv`, which `.ci/run`
/// makes. Without one the test is skipped.
///
/// # Panics
/// If `WEFT_PYTHON` names one that cannot: whoever set it wants the tests to run.
pub(crate) fn python(test: &str) -> Option<PathBuf> {
    let named = env::var_os("WEFT_PYTHON").map(PathBuf::from);
    let python = named
        .clone()
        .unwrap_or_else(|| target().join("venv/bin/python"));
    let mut command = Command::new(&python);
    command.args(["-c", "import msgpack, zmq"]);
    let imports = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
    if imports.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    assert!(
        named.is_none(),
        "WEFT_PYTHON={} cannot import msgpack and zmq",
        python.display()
    );
    skip(test, "no Python with pyzmq and msgpack in target/venv");
    None
}

/// The packages of `examples/node`, in `target/node`, where `.ci/run` puts them, and a Node that
/// can load them. Without both the test is skipped.
pub(crate) fn node_modules(test: &str) -> Option<PathBuf> {
    let packages = target().join("node/node_modules");
    let mut command = Command::new("node");
    command.args(["-e", "require('zeromq'); require('@msgpack/msgpack')"]);
    command.env("NODE_PATH", &packages);
    let loads = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
    if loads.is_ok_and(|status| status.success()) {
        return Some(packages);
    }
    skip(
        test,
        "no Node with zeromq and @msgpack/msgpack in target/node",
    );
    None
}

/// The cores that this process may run on, if these are two or more.
pub(crate) fn two_cores(test: &str) -> Option<CpuSet> {
    let all = sched_getaffinity(None).expect("the system tells");
    if all.count() > 1 {
        return Some(all);
    }
    skip(test, "there is one core");
    None
}

/// Where cargo builds.
pub(crate) fn target() -> &'static Path {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().expect("a folder of the target folder")
}

fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}\n");
    eprint!("{line}");
    let path = target().join("skipped-tests");
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the list of skips is written");
}
