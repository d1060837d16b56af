//! What tests with real processes share: topologies on free ports, `weft node` children that end
//! with the test, a client by hand, and the one way to wait: for a condition, with a deadline.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use weft::node::NodeView;
use weft::topology::{PublicKey, Topology, parse};
use weft::wire::client::{Hello, Inspect, Message, Reply, Request, Welcome};
use weft::wire::{decode_reply, encode_request};

/// Longer than anything here may take on a busy machine, so that only a hang runs into it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something.
///
/// # Panics
/// If it gives nothing for [`PATIENCE`]; `what` names it.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// A port of loopback that nobody listens on, and that no other test of this process was given.
/// From below the range that the system gives to outgoing connections (32768 and up on Linux), so
/// that none of those takes it while its node is down.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const PORTS: u32 = 20_000;
    wait_for("a free port", || {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        // Processes that run beside each other begin apart.
        let port = FIRST + std::process::id().wrapping_mul(977).wrapping_add(given) % PORTS;
        let port = u16::try_from(port).expect("below 32,000");
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    })
}

/// A key pair in a file.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) public: [u8; 32],
    pub(crate) secret: [u8; 32],
    pub(crate) public_key: PublicKey,
    pub(crate) secret_z85: String,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let pair = zmq::CurveKeyPair::new().expect("CURVE is built in");
        let z85 = |key: &[u8]| zmq::z85_encode(key).expect("32 bytes");
        Self {
            public: pair.public_key,
            secret: pair.secret_key,
            public_key: PublicKey(z85(&pair.public_key)),
            secret_z85: z85(&pair.secret_key),
        }
    }

    /// Writes the file that `weft keys new` would.
    pub(crate) fn write(&self, path: &Path) {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = std::fs::OpenOptions::new();
        let file = file.create_new(true).write(true).mode(0o600).open(path);
        let text = format!(
            "public = \"{}\"\nsecret = \"{}\"\n",
            self.public_key, self.secret_z85
        );
        std::io::Write::write_all(&mut file.expect("a new file"), text.as_bytes())
            .expect("written");
    }
}

/// The channels of a test's fabric: a signal, a stream of several partitions, one of a single one.
const CHANNELS: &str = r##"
[channel.ticks]
kind = "signal"
subjects = ["ticks.#"]

[channel.orders]
kind = "stream"
subjects = ["orders.#"]
partitions = 4
replicas = REPLICAS
confirm = "quorum"

[channel.audit]
kind = "stream"
subjects = ["audit.#"]
partitions = 1
replicas = REPLICAS

[limits]
segment_bytes = "24 MiB"
frame_max = "2 MiB"
disk_free_min = "1 MiB"
"##;

/// A topology on free ports in a folder that goes with the test.
pub(crate) struct Fabric {
    pub(crate) folder: TempDir,
    pub(crate) file: PathBuf,
    names: Vec<String>,
    ports: Vec<[u16; 3]>,
    keys: Vec<Keys>,
    client: Option<Keys>,
}

/// The name of the client that [`Fabric::with_keys`] declares.
pub(crate) const CLIENT: &str = "billing";

impl Fabric {
    /// Nodes on loopback, without keys.
    pub(crate) fn new(names: &[&str]) -> Self {
        Self::build(names, false)
    }

    /// Nodes on all interfaces, with keys, and one declared client. (Connections still go over
    /// loopback.)
    pub(crate) fn with_keys(names: &[&str]) -> Self {
        Self::build(names, true)
    }

    fn build(names: &[&str], keyed: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let fabric = Self {
            file: folder.path().join("weft.toml"),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ports: names
                .iter()
                .map(|_| [free_port(), free_port(), free_port()])
                .collect(),
            keys: names
                .iter()
                .filter(|_| keyed)
                .map(|_| Keys::new())
                .collect(),
            client: keyed.then(Keys::new),
            folder,
        };
        for (name, keys) in fabric.names.iter().zip(&fabric.keys) {
            keys.write(&fabric.folder.path().join(format!("{name}.secret")));
        }
        std::fs::write(&fabric.file, fabric.text()).expect("the topology is written");
        fabric
    }

    /// The topology file's text.
    pub(crate) fn text(&self) -> String {
        let mut text = "[fabric]\nname = \"test\"\nepoch = 1\n".to_owned();
        for (i, (name, ports)) in self.names.iter().zip(&self.ports).enumerate() {
            let sockets = ["clients", "peers", "signals"].into_iter().zip(ports);
            let host = if self.keys.is_empty() {
                "127.0.0.1"
            } else {
                "0.0.0.0"
            };
            writeln!(text, "[[node]]\nname = \"{name}\"").expect("a string takes all");
            for (key, port) in sockets.clone() {
                writeln!(text, "{key} = \"tcp://{host}:{port}\"").expect("a string takes all");
            }
            if let Some(keys) = self.keys.get(i) {
                let advertised: Vec<String> = sockets
                    .map(|(key, port)| format!("{key} = \"tcp://127.0.0.1:{port}\""))
                    .collect();
                writeln!(
                    text,
                    "advertise = {{ {} }}\npublic_key = \"{}\"\n\
                     secret_key_file = \"{name}.secret\"",
                    advertised.join(", "),
                    keys.public_key
                )
                .expect("a string takes all");
            }
        }
        if let Some(client) = &self.client {
            let key = &client.public_key;
            write!(
                text,
                "[[client]]\nname = \"{CLIENT}\"\npublic_key = \"{key}\"\n"
            )
            .expect("a string takes all");
        }
        let replicas = self.names.len().min(3).to_string();
        text + &CHANNELS.replace("REPLICAS", &replicas)
    }

    /// Writes another text in place of the topology's.
    pub(crate) fn rewrite(&self, text: &str) {
        std::fs::write(&self.file, text).expect("the topology is written");
    }

    /// What the file declares.
    pub(crate) fn topology(&self) -> Topology {
        let text = std::fs::read_to_string(&self.file).expect("the topology");
        let parsed = parse(&text, &self.file);
        let problems = parsed.problems;
        parsed
            .topology
            .unwrap_or_else(|| panic!("{problems:#?}\n{text}"))
    }

    /// Where a node's clients connect.
    pub(crate) fn endpoint(&self, name: &str) -> String {
        format!("tcp://127.0.0.1:{}", self.ports[self.position(name)][0])
    }

    /// Where a node's peers connect.
    pub(crate) fn peers_endpoint(&self, name: &str) -> String {
        format!("tcp://127.0.0.1:{}", self.ports[self.position(name)][1])
    }

    /// A node's keys.
    pub(crate) fn keys(&self, name: &str) -> &Keys {
        &self.keys[self.position(name)]
    }

    /// The declared client's keys.
    pub(crate) fn client_keys(&self) -> &Keys {
        self.client.as_ref().expect("a fabric with keys")
    }

    /// A node's data folder.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    fn position(&self, name: &str) -> usize {
        let found = self.names.iter().position(|own| own == name);
        found.unwrap_or_else(|| panic!("no node {name}"))
    }

    /// Starts `weft node FILE NAME --data DIR`; does not wait.
    pub(crate) fn start(&self, name: &str) -> Process {
        self.start_in(name, &self.data(name))
    }

    /// The same with another data folder.
    pub(crate) fn start_in(&self, name: &str, data: &Path) -> Process {
        self.start_with(name, data, &[])
    }

    /// The same with a folder that takes the place of one that is lost.
    pub(crate) fn start_replacing(&self, name: &str) -> Process {
        self.start_with(name, &self.data(name), &["--replace"])
    }

    fn start_with(&self, name: &str, data: &Path, args: &[&str]) -> Process {
        let mut command = weft();
        command.arg("node").arg(&self.file).arg(name).args(args);
        command.arg("--data").arg(data);
        Process::start(command, &self.folder.path().join(format!("{name}.log")))
    }

    /// Starts it and waits until it serves clients.
    pub(crate) fn serve(&self, name: &str) -> Process {
        let mut process = self.start(name);
        let speaker = self.speaker(name);
        wait_until(&format!("node {name} serves clients"), || {
            assert!(process.is_running(), "{name} ended: {}", process.log());
            speaker.hello_once().is_some()
        });
        process
    }

    /// A client of a node, with the declared client's keys if the fabric has keys.
    pub(crate) fn speaker(&self, name: &str) -> Speaker {
        let keys = self
            .client
            .as_ref()
            .map(|own| (own, &self.keys(name).public));
        Speaker::connect(&self.endpoint(name), keys)
    }
}

/// The `weft` under test.
pub(crate) fn weft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.env_remove("WEFT_TOPOLOGY").env("NO_COLOR", "1");
    command
}

/// A child that is killed with its handle. What it writes goes to a file.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let file = file.expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the same file"))
            .stderr(file)
            .spawn()
            .expect("weft starts");
        let log = log.to_owned();
        Self { child, log }
    }

    /// The number that the system knows it by.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our child");
    }

    /// Ends it as a power cut would, as far as the process is concerned.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("a child to end", || self.child.try_wait().expect("a child"))
    }

    /// What it and its predecessors of the same name wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// What it wrote, with the line breaks and ornaments of long messages taken out.
    pub(crate) fn flat_log(&self) -> String {
        flat(&self.log())
    }
}

/// A text without the line breaks and ornaments that a message is wrapped with.
pub(crate) fn flat(text: &str) -> String {
    let words = text.split_whitespace();
    words
        .filter(|word| *word != "│")
        .collect::<Vec<_>>()
        .join(" ")
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client by hand: one DEALER that speaks the protocol frame by frame.
pub(crate) struct Speaker {
    pub(crate) socket: zmq::Socket,
}

impl Speaker {
    /// Connects, with these keys to a node of that key.
    pub(crate) fn connect(endpoint: &str, keys: Option<(&Keys, &[u8; 32])>) -> Self {
        let socket = zmq::Context::new().socket(zmq::DEALER).expect("a socket");
        socket.set_linger(0).expect("linger");
        if let Some((own, server)) = keys {
            socket.set_curve_serverkey(server).expect("a key");
            socket.set_curve_publickey(&own.public).expect("a key");
            socket.set_curve_secretkey(&own.secret).expect("a key");
        }
        socket.connect(endpoint).expect("an endpoint");
        Self { socket }
    }

    pub(crate) fn send(&self, request: &Request, records: &[u8]) {
        self.send_raw(&encode_request(request, records));
    }

    pub(crate) fn send_raw(&self, frame: &[u8]) {
        self.socket.send(frame, 0).expect("sent");
    }

    /// The next answer that is no ping, if one comes in time.
    pub(crate) fn receive(&self, patience: Duration) -> Option<Message<Reply>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = i32::try_from(left.as_millis()).expect("a short patience");
            self.socket.set_rcvtimeo(timeout).expect("a timeout");
            let frame = match self.socket.recv_bytes(0) {
                Ok(frame) => Bytes::from(frame),
                Err(zmq::Error::EAGAIN) => return None,
                Err(why) => panic!("cannot receive: {why}"),
            };
            let message = decode_reply(&frame).expect("the node speaks the protocol");
            if !matches!(message.header, Reply::Ping(_)) {
                return Some(message);
            }
        }
    }

    /// The next answer.
    #[track_caller]
    pub(crate) fn answer(&self) -> Message<Reply> {
        self.receive(PATIENCE).expect("an answer")
    }

    /// Introduces itself once, and gives the answer if it comes within half a second.
    pub(crate) fn hello_once(&self) -> Option<Welcome> {
        self.send(&Request::Hello(Hello::default()), &[]);
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            if let Reply::Welcome(welcome) = self.receive(left)?.header {
                return Some(welcome);
            }
        }
    }

    /// Introduces itself until it is welcome.
    #[track_caller]
    pub(crate) fn hello(&self) -> Welcome {
        wait_for("a welcome", || self.hello_once())
    }

    /// What the node knows.
    #[track_caller]
    pub(crate) fn view(&self) -> NodeView {
        wait_for("a view", || {
            self.send(&Request::Inspect(Inspect::default()), &[]);
            match self.receive(Duration::from_millis(500))?.header {
                Reply::View(view) => {
                    Some(rmp_serde::from_slice(&view.body).expect("a view in MessagePack"))
                }
                _ => None,
            }
        })
    }
}
