//! `examples/c`, compiled by the machine's C compiler against the libzmq that cargo has built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::interop::stranger::{self, Stranger};
use crate::interop::{build_examples, root};

const PROGRAMS: [&str; 3] = ["publish", "cursor", "signals"];

/// The programs of `examples/c`. No machine that builds Weft lacks what they need.
fn programs() -> Stranger {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples-c");
        std::fs::create_dir_all(&folder).expect("a folder");
        let libzmq = Libzmq::find();
        for name in PROGRAMS {
            libzmq.compile(name, &folder);
        }
        folder
    });
    Stranger(Box::new(move |name| Command::new(folder.join(name))))
}

/// Where cargo has put libzmq and what it needs.
struct Libzmq {
    include: PathBuf,
    folders: Vec<String>,
}

impl Libzmq {
    /// Asks cargo, which tells what the build scripts of the crates gave to the linker.
    fn find() -> Self {
        let told = build_examples();
        let script = told
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .filter(|message| message["reason"] == "build-script-executed")
            .find(|message| {
                let id = message["package_id"].as_str().expect("a package");
                id.contains("#zmq-sys@")
            })
            .expect("libzmq is built by the crate zmq-sys");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let folders = script["linked_paths"].as_array().expect("folders");
        let plain = |path: String| match path.strip_prefix("native=") {
            Some(path) => path.to_owned(),
            None => path,
        };
        let include = Path::new(&text(&script["out_dir"])).join("source/include");
        assert!(include.join("zmq.h").exists(), "no zmq.h in {include:?}");
        Self {
            include,
            folders: folders.iter().map(text).map(plain).collect(),
        }
    }

    /// Compiles a program, without a warning.
    fn compile(&self, name: &str, folder: &Path) {
        let mut cc = Command::new("cc");
        cc.args([
            "-std=c11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
        ]);
        cc.arg("-I").arg(&self.include);
        cc.arg(root().join(format!("examples/c/{name}.c")));
        cc.args(self.folders.iter().map(|folder| format!("-L{folder}")));
        // All but the first are what a static libzmq leaves open.
        cc.args(["-lzmq", "-lsodium", "-lstdc++", "-lpthread", "-lm"]);
        let output = cc.arg("-o").arg(folder.join(name)).output();
        let output = output.expect("a C compiler");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{cc:?}: {told}");
    }
}

#[test]
fn c_publishes_again_and_is_stored_once() {
    stranger::publishes_again_and_is_stored_once(&programs());
}

#[test]
fn c_goes_on_at_its_cursor() {
    stranger::goes_on_at_its_cursor(&programs());
}

#[test]
fn c_hears_signals() {
    stranger::hears_signals(&programs());
}

#[test]
fn c_proves_its_key() {
    stranger::proves_its_key(&programs());
}
