//! `weft up`: starts what the topology names, restarts what dies, and leaves nothing behind.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::fabric::{NAMES, code, healthy, text};
use crate::support::{Fabric, Process, wait_for, wait_until, weft};

/// What `weft up` has said so far, and a way to wait for more.
struct Up {
    process: Process,
}

impl Up {
    fn start(fabric: &Fabric, more: &[&str]) -> Self {
        Self::start_logged(fabric, more, "up.log")
    }

    /// The same, with a log of its own.
    fn start_logged(fabric: &Fabric, more: &[&str], log: &str) -> Self {
        let mut command = weft();
        command.arg("up").arg(&fabric.file).args(more);
        command.arg("--data").arg(fabric.folder.path().join("data"));
        let log = fabric.folder.path().join(log);
        Self {
            process: Process::start(command, &log),
        }
    }

    /// The pid of a node's process: the last that was told.
    fn pid(&self, name: &str) -> Pid {
        wait_for("the pid of a node", || {
            let log = self.process.log();
            let lines = log.lines().rev();
            let told = |line: &str| -> Option<i32> {
                let of_node = line.strip_prefix(&format!("node {name} "))?;
                let (_, rest) = of_node.split_once("pid ")?;
                rest.split_whitespace().next()?.parse().ok()
            };
            Pid::from_raw(lines.into_iter().find_map(told)?)
        })
    }
}

#[test]
fn up_runs_every_node_restarts_a_killed_one_and_stops_them_all() {
    let fabric = Fabric::new(&NAMES);
    let mut up = Up::start(&fabric, &[]);
    wait_until("all nodes are healthy", || {
        up.process.log().contains("all nodes are healthy")
    });
    let log = up.process.log();
    let pasted: Vec<String> = log
        .lines()
        .skip_while(|line| !line.contains("second terminal"))
        .filter(|line| line.contains("weft"))
        .map(|line| line.trim().to_owned())
        .collect();
    assert_eq!(pasted.len(), 3, "{log}");
    assert!(
        log.contains("leads audit/0") || log.contains(" audit/0"),
        "{log}"
    );
    // The lines work as they are pasted.
    let publish = shell(&pasted[0]);
    assert_eq!(code(&publish), 0, "{}", text(&publish.stderr));
    let id = text(&publish.stdout);
    assert!(id.starts_with("orders/"), "{id}");

    let before = up.pid("b");
    kill_process(before, Signal::KILL).expect("a child of up");
    wait_until("b is started again", || up.pid("b") != before);
    healthy(&fabric);
    let read = shell(&format!("{} --count 1", pasted[1]));
    assert_eq!(text(&read.stdout), "hello\n");

    let children = NAMES.map(|name| up.pid(name));
    let asked = Instant::now();
    up.process.signal(Signal::TERM);
    assert_eq!(up.process.wait().code(), Some(0), "{}", up.process.log());
    assert!(asked.elapsed() < Duration::from_secs(7));
    for child in children {
        assert!(
            test_kill_process(child).is_err(),
            "a node outlived `weft up`"
        );
    }
}

/// Nodes that demand keys are asked with the one that is given.
// Nodes of one process are what they are apart: they replicate, serve, and say who says what.
#[test]
fn up_runs_all_nodes_in_one_process() {
    let fabric = Fabric::new(&NAMES);
    let mut up = Up::start(&fabric, &["--one-process"]);
    wait_until("all nodes are healthy", || {
        up.process.log().contains("all nodes are healthy")
    });
    let log = up.process.log();
    for name in NAMES {
        let said = format!("node{{name={name}}}: ");
        let own = format!("node {name}  in this process, {}", up.process.id());
        assert!(log.contains(&own) && log.contains(&said), "{log}");
    }
    let pasted: Vec<&str> = log
        .lines()
        .skip_while(|line| !line.contains("second terminal"))
        .filter(|line| line.contains("weft"))
        .collect();
    let publish = shell(pasted[0]);
    assert_eq!(code(&publish), 0, "{}", text(&publish.stderr));
    let read = shell(&format!("{} --count 1", pasted[1]));
    assert_eq!(text(&read.stdout), "hello\n");
    up.process.signal(Signal::TERM);
    assert_eq!(up.process.wait().code(), Some(0), "{}", up.process.log());
    // What was confirmed is there for processes as well.
    let mut up = Up::start(&fabric, &[]);
    healthy(&fabric);
    let read = shell(&format!("{} --count 1", pasted[1]));
    assert_eq!(text(&read.stdout), "hello\n");
    up.process.signal(Signal::TERM);
    assert_eq!(up.process.wait().code(), Some(0), "{}", up.process.log());
}

#[test]
fn up_tells_who_leads_what_with_a_key_and_as_json() {
    let fabric = Fabric::with_keys(&NAMES);
    let up = Up::start(&fabric, &[]);
    // Right after the nodes are named, which is where people wait.
    wait_until("it says what it lacks", || {
        let log = up.process.flat_log();
        let last = log.find("node c pid");
        last.is_some_and(|last| log[last..].contains("--identity FILE"))
    });
    drop(up);

    let identity = fabric.folder.path().join("client.secret");
    fabric.client_keys().write(&identity);
    let path = identity.display().to_string();
    let up = Up::start(&fabric, &["--identity", &path, "--json"]);
    let lines = wait_for("the last line", || {
        let log = up.process.log();
        let objects = log.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<serde_json::Value> = objects
            .map(|line| serde_json::from_str(line).expect("an object a line"))
            .collect();
        lines.last()?["healthy"].as_bool()?.then_some(lines)
    });
    let nodes: Vec<_> = lines
        .iter()
        .filter_map(|line| line["node"].as_str())
        .collect();
    assert_eq!(nodes, NAMES);
    let last = lines.last().expect("the health");
    let led = last["leads"].as_object().expect("a map").values();
    let led: usize = led
        .map(|of_node| of_node.as_array().expect("a list").len())
        .sum();
    assert_eq!(led, 5, "{last}");
    let publish = shell(last["try"][0].as_str().expect("a command"));
    assert_eq!(code(&publish), 0, "{}", text(&publish.stderr));
    assert!(text(&publish.stdout).starts_with("orders/"));
}

#[test]
fn without_restart_the_dead_stay_dead_and_the_last_one_ends_up() {
    let fabric = Fabric::new(&NAMES);
    let mut up = Up::start(&fabric, &["--no-restart"]);
    healthy(&fabric);
    for name in NAMES {
        kill_process(up.pid(name), Signal::KILL).expect("a child of up");
        wait_until("its death is told", || {
            up.process.log().contains(&format!("node {name} ended"))
        });
    }
    assert_eq!(up.process.wait().code(), Some(1));
    let log = up.process.flat_log();
    assert!(log.contains("no node is left"), "{log}");
    assert!(!log.contains("started again"), "{log}");
}

/// A port that is taken for a moment is no reason to stay down for good.
#[test]
fn a_node_that_has_run_is_tried_again_when_it_cannot_start() {
    let fabric = Fabric::new(&NAMES);
    let up = Up::start(&fabric, &[]);
    healthy(&fabric);
    let before = up.pid("b");
    let endpoint = fabric.endpoint("b");
    let address = endpoint.strip_prefix("tcp://").expect("tcp");
    kill_process(before, Signal::KILL).expect("a child of up");
    let taken = wait_for("the port of b", || {
        TcpListener::bind(address).ok().or_else(|| {
            // It was quicker; once more. It may just be dead already.
            let _ = kill_process(up.pid("b"), Signal::KILL);
            None
        })
    });
    wait_until("b fails to start", || up.process.log().contains("in use"));
    drop(taken);
    healthy(&fabric);
}

#[test]
fn nodes_stop_when_up_itself_is_killed() {
    let fabric = Fabric::new(&NAMES);
    let mut up = Up::start(&fabric, &["--no-restart"]);
    healthy(&fabric);
    up.process.kill();
    for name in NAMES {
        let endpoint = fabric.endpoint(name);
        let address = endpoint.strip_prefix("tcp://").expect("tcp");
        wait_until("an orphaned node stops", || {
            TcpStream::connect(address).is_err()
        });
    }
}

/// Who kills `weft up` and starts it again finds the nodes of before about to stop.
#[test]
fn nodes_wait_for_those_of_a_supervisor_that_was_killed() {
    let fabric = Fabric::new(&NAMES);
    let data = fabric.folder.path().join("data").join("b");
    let mut command = weft();
    command.args(["node", "--data"]).arg(&data);
    command.arg(&fabric.file).arg("b");
    let log = fabric.folder.path().join("before.log");
    let mut before = Process::start(command, &log);
    wait_until("the node of before runs", || {
        TcpStream::connect(fabric.endpoint("b").trim_start_matches("tcp://")).is_ok()
    });
    let up = Up::start(&fabric, &[]);
    wait_until("the new one waits", || {
        let log = up.process.flat_log();
        log.contains("waits until another process has stopped")
    });
    before.kill();
    healthy(&fabric);
    assert!(!up.process.log().contains("started again"));
}

/// What other processes serve is not what this one started: it says whose it is, and ends.
#[test]
fn a_second_up_does_not_take_the_nodes_of_the_first_for_its_own() {
    let fabric = Fabric::new(&NAMES);
    let mut first = Up::start(&fabric, &[]);
    wait_until("all nodes are healthy", || {
        first.process.log().contains("all nodes are healthy")
    });
    let mut second = Up::start_logged(&fabric, &[], "second.log");
    assert_eq!(second.process.wait().code(), Some(1));
    let log = second.process.flat_log();
    let place = format!("a at {} for ", fabric.endpoint("a"));
    for part in [
        "the fabric test runs already, and was not started here",
        &place,
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    for part in ["all nodes are healthy", "leads", "does not start"] {
        assert!(!log.contains(part), "{part}: {log}");
    }
    // The first is as it was.
    assert!(first.process.is_running());
    assert!(!first.process.log().contains("ended"));
    healthy(&fabric);
}

// The flag reaches the node that it names, and no other name is taken.
#[test]
fn up_replaces_a_lost_data_folder() {
    let fabric = Fabric::new(&NAMES);
    let mut up = Up::start(&fabric, &[]);
    healthy(&fabric);
    // Only then does nobody write there any more.
    up.process.signal(Signal::TERM);
    assert_eq!(up.process.wait().code(), Some(0), "{}", up.process.log());
    std::fs::remove_dir_all(fabric.data("c")).expect("it is gone");
    let up = Up::start(&fabric, &["--replace", "z"]);
    wait_until("no such node", || {
        let log = up.process.flat_log();
        log.contains("no node z") && log.contains("its nodes are a, b, c")
    });
    drop(up);
    let up = Up::start(&fabric, &["--replace", "c"]);
    healthy(&fabric);
    assert!(up.process.log().contains("takes a former folder's place"));
}

fn shell(line: &str) -> Output {
    Command::new("sh")
        .args(["-c", line])
        .env("NO_COLOR", "1")
        .env_remove("WEFT_TOPOLOGY")
        .stdin(Stdio::null())
        .output()
        .expect("a shell")
}
