//! Strangers: Python with nothing but pyzmq and msgpack, and two people in a room, on real fabrics.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::Signal;

use crate::skips::{python, target};
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

/// An example of `examples/python`.
fn example(python: &Path, name: &str, args: &[&str]) -> Talk {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    let mut command = Command::new(python);
    // No bytecode beside the sources.
    command.arg("-B").arg(script.join(name)).args(args);
    Talk::start(&mut command)
}

/// The page's own client: what a stranger starts from. It keeps [C1], [C2], [C9] and [C10], is
/// confirmed by [C21] and [C23], and reads by [C30], [C32], [C33] and [C36].
#[test]
fn the_client_of_the_protocols_page_runs() {
    let Some(python) = python("interop::the_client_of_the_protocols_page_runs") else {
        return;
    };
    let page = include_str!("../../src/wire/PROTOCOL.md");
    let (_, rest) = page.split_once("```python\n").expect("an example");
    let (script, _) = rest.split_once("```\n").expect("its end");
    let (fabric, _nodes) = three();
    let mut command = Command::new(python);
    command.args(["-c", script, &fabric.endpoint("b")]);
    let expected = [
        "stored orders/1/0 x 3",
        "orders/1/0 orders.new b'order 0'",
        "orders/1/1 orders.new b'order 1'",
        "orders/1/2 orders.new b'order 2'",
    ];
    assert_eq!(Talk::start(&mut command).end(), expected);
}

#[test]
fn python_reads_history_and_then_what_comes() {
    let Some(python) = python("interop::python_reads_history_and_then_what_comes") else {
        return;
    };
    let (fabric, _nodes) = three();
    let publish = ["publish", "orders.eu.new", "--key", "customer-42"];
    for body in ["zero", "一"] {
        weft_ok(&fabric, &[&publish[..], &[body]].concat());
    }
    let args = [&fabric.endpoint("c"), "orders.*.new", "4"];
    let reader = example(&python, "subscribe.py", &args);
    assert_eq!(reader.line(), "orders/1/0 orders.eu.new zero");
    assert_eq!(reader.line(), "orders/1/1 orders.eu.new 一");
    let other = [
        "publish",
        "orders.eu",
        "not selected",
        "--key",
        "customer-7",
    ];
    weft_ok(&fabric, &other);
    let published = example(&python, "publish.py", &[&fabric.endpoint("a")]).end();
    assert_eq!(published, ["stored orders/1/2"]);
    assert_eq!(reader.line(), "orders/1/2 orders.eu.new two shirts");
    weft_ok(&fabric, &[&publish[..], &["three"]].concat());
    assert_eq!(reader.end(), ["orders/1/3 orders.eu.new three"]);
}

/// It acks, and the next one goes on: [C45], [C48].
#[test]
fn python_goes_on_at_its_cursor() {
    let Some(python) = python("interop::python_goes_on_at_its_cursor") else {
        return;
    };
    let (fabric, _nodes) = three();
    for body in ["one", "二", "three"] {
        weft_ok(&fabric, &["publish", "audit.x", body]);
    }
    for (node, count, expected) in [
        ("a", "2", vec!["audit/0/0 one", "audit/0/1 二"]),
        ("c", "1", vec!["audit/0/2 three"]),
    ] {
        let args = ["billing", &fabric.endpoint(node), "audit.#", count];
        assert_eq!(example(&python, "cursor.py", &args).end(), expected);
    }
}

/// A node that is silent gets the publish twice, and stores it once: [C26].
#[test]
fn python_sends_again_and_is_stored_once() {
    let Some(python) = python("interop::python_sends_again_and_is_stored_once") else {
        return;
    };
    let (fabric, [a, _b, _c]) = three();
    a.signal(Signal::STOP);
    let args = [&fabric.endpoint("a"), "audit.door", "open"];
    let publisher = example(&python, "publish.py", &args);
    assert_eq!(publisher.line(), "sending again: no answer");
    a.signal(Signal::CONT);
    // What it says first depends on how the node finds its peers when it wakes up.
    let told = publisher.end();
    assert_eq!(told.last().map(String::as_str), Some("stored audit/0/0"));
    // The next record's offset tells that nothing lies between.
    let next = weft_ok(&fabric, &["publish", "audit.door", "closed"]);
    assert_eq!(next, "audit/0/1\n");
}

#[test]
fn python_hears_signals() {
    let Some(python) = python("interop::python_hears_signals") else {
        return;
    };
    let (fabric, _nodes) = three();
    let heard = example(&python, "signals.py", &[&fabric.endpoint("b")]).end();
    assert_eq!(
        heard,
        ["ticks.eur 1.080", "ticks.eur 1.081", "ticks.eur 1.082"]
    );
}

#[test]
fn python_is_told_why_not() {
    let Some(python) = python("interop::python_is_told_why_not") else {
        return;
    };
    let fabric = Fabric::new(&["a"]);
    let _node = fabric.serve("a");
    let told = example(&python, "refusal.py", &[&fabric.endpoint("a")]).end();
    let expected = [
        "202 no_channel_for_subject final",
        "no channel captures the subject \"nowhere.at.all\"; declared are audit (audit.#); \
         orders (orders.#); ticks (ticks.#)",
    ];
    assert_eq!(told, expected);
}

/// An example in Rust, built if it is not up to date: a test that is run alone builds none.
pub(crate) fn rust_example(name: &str) -> Command {
    let profile = match cfg!(debug_assertions) {
        true => "debug",
        false => "release",
    };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--example", name]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    build.arg("--target-dir").arg(target());
    if profile == "release" {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success());
    Command::new(target().join(profile).join("examples").join(name))
}

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
