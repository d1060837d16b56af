//! Hosts that are cut apart by their network: each node in a network namespace of its own, joined
//! by a bridge, over tcp with keys. Where none can be made, the links of a drill are cut instead.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::fabric::{NAMES, code, text};
use crate::support::{Fabric, Process, flat, wait_until, weft};

/// Three hosts on one network. They are gone with this.
struct Hosts {
    /// What all their names begin with.
    prefix: String,
    /// The first three numbers of their addresses.
    net: String,
}

impl Hosts {
    /// None, and why, where the machine does not allow it.
    fn make() -> Result<Self, String> {
        let pid = std::process::id();
        let hosts = Self {
            prefix: format!("weft{}", pid % 100_000),
            net: format!("10.{}.{}", 100 + pid % 100, pid / 100 % 250),
        };
        let (bridge, net) = (hosts.bridge(), &hosts.net);
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {net}.254/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        for name in NAMES {
            let (host, outside, inside) = (hosts.name(name), hosts.port(name), "eth0");
            let address = hosts.address(name);
            ip(&format!("netns add {host}"))?;
            ip(&format!(
                "link add {outside} type veth peer name {inside} netns {host}"
            ))?;
            ip(&format!("link set {outside} master {bridge} up"))?;
            for does in [
                "link set lo up".to_owned(),
                format!("addr add {address}/24 dev {inside}"),
                format!("link set {inside} up"),
            ] {
                ip(&format!("-n {host} {does}"))?;
            }
        }
        Ok(hosts)
    }

    fn bridge(&self) -> String {
        format!("{}br", self.prefix)
    }

    fn name(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    /// The end of a host's cable that is in the bridge.
    fn port(&self, node: &str) -> String {
        format!("{}p{node}", self.prefix)
    }

    fn address(&self, node: &str) -> String {
        let at = NAMES.iter().position(|name| *name == node);
        format!("{}.{}", self.net, 1 + at.expect("a node"))
    }

    /// The node's host hears nobody, and nobody hears it.
    fn cut_off(&self, node: &str) {
        ip(&format!("link set {} down", self.port(node))).expect("a port");
    }

    fn join(&self, node: &str) {
        ip(&format!("link set {} up", self.port(node))).expect("a port");
    }

    /// Nothing that one node's host sends reaches the other's.
    fn lose(&self, from: &str, to: &str) {
        let (host, to) = (self.name(from), self.address(to));
        ip(&format!("-n {host} route add blackhole {to}/32")).expect("a route");
    }

    fn find(&self, from: &str, to: &str) {
        let (host, to) = (self.name(from), self.address(to));
        ip(&format!("-n {host} route del blackhole {to}/32")).expect("a route");
    }

    /// Each node at the address of its host.
    fn move_in(&self, fabric: &Fabric) {
        let text = fabric.text();
        let mut parts = text.split("[[node]]");
        let mut moved = parts.next().expect("the fabric's part").to_owned();
        for (node, part) in NAMES.iter().zip(parts) {
            let part = part.replace("127.0.0.1", &self.address(node));
            moved += &format!("[[node]]{part}");
        }
        fabric.rewrite(&moved);
    }

    fn start(&self, fabric: &Fabric, node: &str) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(node)]);
        command.args([env!("CARGO_BIN_EXE_weft"), "node"]);
        command.arg(&fabric.file).arg(node);
        command.arg("--data").arg(fabric.data(node));
        command.env_remove("WEFT_TOPOLOGY").env("NO_COLOR", "1");
        Process::start(command, &fabric.folder.path().join(format!("{node}.log")))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for node in NAMES {
            // Its end of the cable goes with it, and so the other.
            let _ = ip(&format!("netns del {}", self.name(node)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

fn ip(args: &str) -> Result<(), String> {
    let output = Command::new("ip").args(args.split(' ')).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {args}: {}", text(&output.stderr))),
    }
}

/// A client that publishes line by line.
struct Publisher {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Publisher {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("weft runs");
        Self {
            to: child.stdin.take().expect("a pipe"),
            from: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    /// Publishes a line, and waits for its confirm: the record's id.
    fn publish(&mut self, line: &str) -> String {
        writeln!(self.to, "{line}").expect("it reads");
        let mut id = String::new();
        self.from.read_line(&mut id).expect("it answers");
        id.trim().to_owned()
    }
}

/// `weft` as the declared client.
fn as_client(fabric: &Fabric, args: &[&str]) -> Command {
    let mut command = weft();
    command.args(args).arg("--topology").arg(&fabric.file);
    command.arg("--identity").arg(identity(fabric));
    command
}

fn identity(fabric: &Fabric) -> PathBuf {
    fabric.folder.path().join("client.secret")
}

fn says(fabric: &Fabric, args: &[&str]) -> String {
    let output = as_client(fabric, args).output().expect("weft runs");
    let told = text(&output.stdout);
    assert_eq!(code(&output), 0, "{told}{}", text(&output.stderr));
    told
}

/// Who leads `audit`, as those say that can be reached.
fn leader(fabric: &Fabric) -> &'static str {
    let output = as_client(fabric, &["status", "--json"]).output();
    let health: Value = serde_json::from_slice(&output.expect("weft runs").stdout).expect("JSON");
    let nodes = health["nodes"].as_array().expect("nodes");
    let partitions = nodes
        .iter()
        .filter_map(|node| node["view"]["partitions"].as_array());
    let mut audit = partitions.flatten().filter(|own| own["channel"] == "audit");
    let leads = audit.find(|own| own["role"] == "leader").expect("a leader");
    let leader = leads["leader"].as_str().expect("a name");
    NAMES
        .into_iter()
        .find(|name| *name == leader)
        .expect("a node")
}

// Promises 1 to 4: while a host is cut off, and while two of three do not hear each other, others
// confirm; what was confirmed is there once and in order when all are joined again.
#[test]
fn hosts_that_are_cut_apart_lose_nothing() {
    let hosts = match Hosts::make() {
        Ok(hosts) => hosts,
        Err(why) => return drill_instead(&why),
    };
    let fabric = Fabric::with_keys(&NAMES);
    fabric.client_keys().write(&identity(&fabric));
    hosts.move_in(&fabric);
    let _nodes = NAMES.map(|node| hosts.start(&fabric, node));
    says(&fabric, &["status", "--wait", "60"]);

    let (ids, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let more = |what: &str| {
        let confirmed = || ids.lock().expect("a lock").len();
        let before = confirmed();
        wait_until(what, || confirmed() >= before + 100);
    };
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(&fabric, &ids, &stop));
        more("records are confirmed");
        let first = leader(&fabric);
        hosts.cut_off(first);
        more("the other two go on");
        hosts.join(first);
        says(&fabric, &["status", "--wait", "60"]);

        let second = leader(&fabric);
        let other = NAMES
            .into_iter()
            .find(|name| *name != second)
            .expect("another");
        hosts.lose(second, other);
        hosts.lose(other, second);
        more("those that hear each other go on");
        hosts.find(second, other);
        hosts.find(other, second);
        says(&fabric, &["status", "--wait", "60"]);

        hosts.lose(second, other);
        more("one that is heard by nobody it speaks to is no harm");
        hosts.find(second, other);
        says(&fabric, &["status", "--wait", "60"]);
        more("all go on");
        stop.store(true, Ordering::Release);
        publisher.join().expect("every record is confirmed");
    });
    let ids = ids.into_inner().expect("a lock");
    let offsets: Vec<String> = (0..ids.len()).map(|n| format!("audit/0/{n}")).collect();
    assert_eq!(ids, offsets, "each is stored once, in order");
    let count = ids.len().to_string();
    let args = [
        "subscribe",
        "audit.all",
        "--from",
        "start",
        "--count",
        &count,
    ];
    let lines: Vec<String> = (0..ids.len()).map(|n| format!("主机 {n} 🔌")).collect();
    assert_eq!(says(&fabric, &args).lines().collect::<Vec<_>>(), lines);
    let told = says(&fabric, &["ledger", "--verify"]);
    assert!(told.trim_end().ends_with("verified"), "{told}");
}

/// Publishes one record after the other until it is told to stop; `ids` are those of the confirmed.
fn publish(fabric: &Fabric, ids: &Mutex<Vec<String>>, stop: &AtomicBool) {
    let command = as_client(fabric, &["publish", "audit.all", "--key", "k"]);
    let mut publisher = Publisher::start(command);
    for number in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let id = publisher.publish(&format!("主机 {number} 🔌"));
        ids.lock().expect("a lock").push(id);
    }
    drop(publisher.to);
    assert!(publisher.child.wait().expect("it ends").success());
}

/// The cutting proxies of a drill do what they can.
fn drill_instead(why: &str) {
    eprintln!(
        "no network namespaces here ({}), so a drill cuts links",
        why.trim()
    );
    let fabric = Fabric::new(&NAMES);
    let mut command = weft();
    command.arg("drill").arg(&fabric.file);
    command.args(["--seconds", "12", "--rate", "1000", "--json"]);
    let data = fabric.folder.path().join("drill");
    let output = command.arg("--data").arg(data).output().expect("weft runs");
    let told: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!(code(&output), 0, "{}", flat(&text(&output.stderr)));
    assert_eq!(told["good"], true, "{told}");
    assert!(told["cuts"].as_u64().is_some_and(|cuts| cuts > 0), "{told}");
}
