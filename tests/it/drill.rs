//! `weft drill`: real nodes killed and cut off under load, and every record accounted for.

use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fabric::{NAMES, code, text};
use crate::support::{Fabric, flat, wait_for, weft};

fn drill(fabric: &Fabric, seconds: &str) -> Command {
    let mut command = weft();
    command.arg("drill").arg(&fabric.file);
    command.args(["--seconds", seconds, "--rate", "2000"]);
    command
        .arg("--data")
        .arg(fabric.folder.path().join("drill"));
    command
}

/// Promises 1 to 4, over real processes, sockets, disks and links that are cut.
#[test]
fn a_drill_accounts_for_every_record_while_leaders_die_and_links_are_cut() {
    let fabric = Fabric::new(&NAMES);
    let output = drill(&fabric, "9")
        .arg("--json")
        .output()
        .expect("weft runs");
    let talk = text(&output.stderr);
    assert_eq!(code(&output), 0, "{}{talk}", text(&output.stdout));
    let told: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!(told["good"], true, "{told}");
    let number = |value: &Value| value.as_u64().expect("a number");
    let records = &told["records"];
    let (confirmed, read) = (number(&records["confirmed"]), number(&records["read"]));
    assert!(confirmed > 0 && read >= confirmed, "{told}");
    assert!(number(&told["kills"]) > 0 && number(&told["cuts"]) > 0);
    assert!(
        talk.contains("killed node") && talk.contains("cut "),
        "{talk}"
    );
}

#[test]
fn a_node_that_dies_by_itself_fails_the_drill() {
    let fabric = Fabric::new(&NAMES);
    let mut command = drill(&fabric, "3");
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| command.output().expect("weft runs"));
        let data = fabric.folder.path().join("drill/b");
        let data = data.to_str().expect("UTF-8");
        let pid = wait_for("node b to run", || node_with(data));
        kill_process(pid, Signal::ABORT).expect("a child of the drill");
        running.join().expect("no panic")
    });
    assert_eq!(code(&output), 1);
    let told = text(&output.stdout);
    assert!(told.contains("node b ended by itself: signal: 6"), "{told}");
    assert!(told.contains("0 lost · 0 twice"), "{told}");
}

/// The process that runs a node on this data folder.
fn node_with(data: &str) -> Option<Pid> {
    let processes = std::fs::read_dir("/proc").expect("the system's processes");
    let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let pid = pids.find(|pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.any(|word| word == data.as_bytes())
    })?;
    Pid::from_raw(pid)
}

fn refused(output: &Output) -> String {
    assert_eq!(code(output), 1);
    flat(&text(&output.stderr))
}

#[test]
fn what_cannot_be_drilled_is_said() {
    let fabric = Fabric::new(&NAMES);
    let signals = fabric.text();
    let signals = signals.split("[channel.orders]").next().expect("channels");
    fabric.rewrite(signals);
    let error = refused(&drill(&fabric, "1").output().expect("weft runs"));
    assert!(error.contains("no stored channel"), "{error}");
    // The folder is there now.
    let error = refused(&drill(&fabric, "1").output().expect("weft runs"));
    assert!(
        error.contains("exists already") && error.contains("--data"),
        "{error}"
    );
}
