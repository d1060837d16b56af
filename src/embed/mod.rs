//! A node inside a service: started and stopped from any async runtime, with clients that reach it
//! through no socket.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};

use crate::actor::{
    self, Ear, Exit, LocalPort, LocalSession, NodeHandle, SocketName, Start, StartError,
};
use crate::client::{Address, Client, ClientError, ConnectOptions, LocalEar, LocalLine, LocalNode};
use crate::topology::Topology;

/// A node of a topology that runs in this process, on threads of its own.
///
/// It is the same node that `weft node` runs: it replicates with the others of its topology and
/// serves clients on its endpoints. A service beside it uses [`client`](Self::client).
///
/// Each client that connects takes a file descriptor of this process: a service raises its limit
/// of open files (`ulimit -n`) to some more than the topology's `sessions_max`.
///
/// A panic of one of its threads ends the process: a node must not go on with half a mind. To drop
/// it stops it too, and blocks for that; [`stop`](Self::stop) does not block.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, text) = one_node();
/// use weft::{Node, Record, Topology};
///
/// let topology: Topology = text.parse()?;
/// let node = Node::start(topology, "a").await?;
/// let client = node.client().await?;
/// client.publish(&Record::new("orders.eu.new", "two shirts")).await?;
/// client.close().await;
/// node.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
    name: String,
}

/// How a node is started, where its topology does not say it.
///
/// ```
/// use weft::embed::NodeOptions;
///
/// let options = NodeOptions { data: Some("/var/lib/weft/a".into()), ..NodeOptions::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeOptions {
    /// The data folder; else the topology's, else `weft-data/NAME`.
    pub data: Option<PathBuf>,
    /// A folder of this node is gone for good, and this one takes its place.
    pub replaces: bool,
    /// Decides all that is random in the node's logic; drawn where it is not given.
    pub seed: Option<u64>,
}

impl Node {
    /// Starts the node of this name. Done once it serves.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, text) = one_node();
    /// # let topology: weft::Topology = text.parse()?;
    /// let node = weft::Node::start(topology, "a").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why it did not start. Nothing is bound then.
    pub async fn start(topology: Topology, name: &str) -> Result<Self, StartError> {
        Self::start_with(topology, name, NodeOptions::default()).await
    }

    /// The same with options.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, text) = one_node();
    /// # let topology: weft::Topology = text.parse()?;
    /// use weft::embed::{Node, NodeOptions};
    ///
    /// let data = tempfile::tempdir()?;
    /// let options = NodeOptions { data: Some(data.path().into()), ..NodeOptions::default() };
    /// let node = Node::start_with(topology, "a", options).await?;
    /// # node.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why it did not start. Nothing is bound then.
    pub async fn start_with(
        topology: Topology,
        name: &str,
        options: NodeOptions,
    ) -> Result<Self, StartError> {
        let start = options.resolve(&topology, name)?;
        let handle = actor::spawn_node(topology, name, start).await?;
        let name = name.to_owned();
        Ok(Self { handle, name })
    }

    /// A client of this node, through no socket. It does not go on at other nodes.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, text) = one_node();
    /// # let topology: weft::Topology = text.parse()?;
    /// let node = weft::Node::start(topology, "a").await?;
    /// let client = node.client().await?;
    /// assert_eq!(client.welcome().node, "a");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the node has ended.
    pub async fn client(&self) -> Result<Client, ClientError> {
        let port = Arc::new(Port(self.handle.local().clone()));
        let address = Address::local(format!("node {} of this process", self.name), port);
        let options = ConnectOptions {
            follow: false,
            ..ConnectOptions::new(vec![address])
        };
        Client::connect(options).await
    }

    /// Stops the node gracefully: it hands over what it leads, and has stopped within 5 s.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, text) = one_node();
    /// # let topology: weft::Topology = text.parse()?;
    /// use weft::actor::Exit;
    ///
    /// let node = weft::Node::start(topology, "a").await?;
    /// assert!(matches!(node.stop().await, Exit::Stopped));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn stop(self) -> Exit {
        self.handle.stop().await
    }

    /// Whether the node has ended by itself; `stop` says why.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, text) = one_node();
    /// # let topology: weft::Topology = text.parse()?;
    /// let node = weft::Node::start(topology, "a").await?;
    /// if node.has_ended() {
    ///     println!("{:?}", node.stop().await);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn has_ended(&self) -> bool {
        self.handle.has_ended()
    }

    /// Fails one of its sockets as if libzmq had, to see that it is opened again. For drills.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, text) = one_node();
    /// # let topology: weft::Topology = text.parse()?;
    /// use weft::actor::SocketName;
    ///
    /// let node = weft::Node::start(topology, "a").await?;
    /// node.fail_socket(SocketName::Clients(0));
    /// let client = node.client().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fail_socket(&self, socket: SocketName) {
        self.handle.fail_socket(socket);
    }
}

impl NodeOptions {
    /// What the topology and chance say where the options do not.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub(crate) fn resolve(self, topology: &Topology, name: &str) -> Result<Start, StartError> {
        Ok(Start {
            data: self.data.unwrap_or_else(|| topology.data_folder(name)),
            seed: self.seed.map_or_else(draw, Ok)?,
            replaces: self.replaces,
        })
    }
}

fn draw() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| StartError::System {
        what: "the system's random generator",
        why: std::io::Error::other("it gave nothing"),
    })?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The node as its clients see it.
#[derive(Debug)]
struct Port(LocalPort);

struct Line(LocalSession);

struct Hearing(LocalEar);

impl LocalNode for Port {
    fn open(&self, ear: LocalEar) -> Box<dyn LocalLine> {
        Box::new(Line(self.0.open(Box::new(Hearing(ear)))))
    }
}

impl LocalLine for Line {
    fn send(&self, frame: Bytes) -> Result<(), Bytes> {
        self.0.send(frame)
    }

    fn taken(&self) {
        self.0.taken();
    }
}

impl Ear for Hearing {
    fn hear(&self, frame: Bytes) {
        self.0.hear(frame);
    }

    fn room(&self) {
        self.0.room();
    }
}
