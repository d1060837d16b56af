//! Strangers: clients in C, Python and Node that know nothing but the protocol's page, and two
//! people in a room, on real fabrics.

mod c;
mod node;
mod python;
mod stranger;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::skips::target;
use crate::support::{Fabric, PATIENCE, Process, wait_until, weft};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three nodes, with every partition led.
fn three() -> (Fabric, [Process; 3]) {
    let fabric = Fabric::new(&NAMES);
    let nodes = NAMES.map(|name| fabric.start(name));
    weft_ok(&fabric, &["status", "--wait", "60"]);
    (fabric, nodes)
}

/// Runs a command of ours that must succeed, and gives its stdout.
#[track_caller]
fn weft_ok(fabric: &Fabric, args: &[&str]) -> String {
    let mut command = weft();
    command.args(args).arg("--topology").arg(&fabric.file);
    let output = command.stdin(Stdio::null()).output().expect("weft runs");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A child whose lines are read as they come.
struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines() {
                    // The test may have seen enough.
                    let _ = sender.send(line.expect("UTF-8"));
                }
            });
        }
        Self {
            child,
            stdin,
            lines,
        }
    }

    /// The next line of its stdout or stderr.
    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("not ended");
        writeln!(stdin, "{line}").expect("it listens");
    }

    /// Ends its stdin, and waits until it ends well; gives the lines that nobody has read.
    #[track_caller]
    fn end(mut self) -> Vec<String> {
        self.stdin = None;
        let rest: Vec<String> = self.lines.iter().collect();
        let status = self.child.wait().expect("our child");
        assert!(status.success(), "{status}: {rest:?}");
        rest
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where cargo puts what it builds in this test's profile.
fn profile() -> &'static str {
    match cfg!(debug_assertions) {
        true => "debug",
        false => "release",
    }
}

/// Builds the examples in Rust as cargo builds them for a whole run of the tests: then nothing is
/// left to do, but a test that is run alone builds none. Gives what cargo tells of every crate, as
/// lines of JSON.
fn build_examples() -> String {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--examples"]);
    build.args(["--message-format", "json", "--target-dir"]);
    build.arg(target()).current_dir(root());
    if profile() == "release" {
        build.arg("--release");
    }
    // What cargo tells a test of its package would count as a change of it to some build scripts.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars().filter(|(name, _)| told(name)) {
        build.env_remove(name);
    }
    let output = build.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of `examples/LANGUAGE`.
fn example_files(language: &str) -> Vec<PathBuf> {
    let folder = root().join("examples").join(language);
    let entries = fs::read_dir(&folder).expect("a readable folder");
    let files = entries.map(|entry| entry.expect("an entry").path());
    // What a user's own tools leave beside them.
    files.filter(|file| file.is_file()).collect()
}

/// Whoever wants to write a client can read one.
#[test]
fn no_file_of_a_clients_example_is_longer_than_eighty_lines() {
    for language in ["c", "node", "python"] {
        let files = example_files(language);
        assert!(files.len() >= 4, "{language}: {files:?}");
        for file in files {
            let text = fs::read_to_string(&file).expect("a readable file");
            let lines = text.lines().count();
            assert!(lines <= 80, "{}: {lines} lines", file.display());
        }
    }
}

/// An example in Rust.
pub(crate) fn rust_example(name: &str) -> Command {
    build_examples();
    Command::new(target().join(profile()).join("examples").join(name))
}

/// `examples/chat.rs`, with a seat in one room.
fn chat(fabric: &Fabric, name: &str) -> Talk {
    let mut command = rust_example("chat");
    command.args([name, "大厅"]);
    command.args(NAMES.map(|node| fabric.endpoint(node)));
    Talk::start(&mut command)
}

#[test]
fn two_talk_in_a_room_and_the_later_one_reads_what_was_said() {
    let (fabric, [mut a, _b, _c]) = three();
    let mut ann = chat(&fabric, "ann");
    ann.say("有人吗?");
    assert_eq!(ann.line(), "ann: 有人吗?");
    ann.say("🚀 \u{7}beep");
    assert_eq!(ann.line(), "ann: 🚀  beep");
    let mut ben = chat(&fabric, "贝恩");
    assert_eq!(ben.line(), "ann: 有人吗?");
    assert_eq!(ben.line(), "ann: 🚀  beep");
    ben.say("我在 👋🏽");
    assert_eq!(ben.line(), "贝恩: 我在 👋🏽");
    assert_eq!(ann.line(), "贝恩: 我在 👋🏽");

    // Both go on at another node when theirs dies.
    a.kill();
    ann.say("still here");
    wait_until("ben hears ann", || ben.line() == "ann: still here");
    wait_until("ann hears herself", || ann.line() == "ann: still here");
    ann.end();
    ben.end();
}
