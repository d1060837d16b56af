//! Options that several commands share: which topology, which node to talk to, with which key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

use miette::{LabeledSpan, MietteDiagnostic, Report};

use super::Failure;
use super::excerpt::Excerpt;
use crate::actor::shared_secret;
use crate::topology::{self, Parsed, PublicKey, SecretKey, Severity, Topology};
use crate::wire::client::NodeEndpoints;

/// The topology that counts where none is named; teaches by its comments.
pub(crate) const QUICKSTART: &str = include_str!("../../topology/quickstart.toml");

/// What messages call it.
const QUICKSTART_NAME: &str = "quickstart.toml (built in)";

/// A topology larger than this is none: 16 MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where a client command finds its fabric.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Target {
    /// The topology file [default: the built-in quickstart]
    #[arg(long, value_name = "FILE", env = "WEFT_TOPOLOGY")]
    pub(crate) topology: Option<PathBuf>,
    /// Connect to these endpoints instead of those of the topology
    #[arg(long, value_name = "ENDPOINT", value_delimiter = ',')]
    pub(crate) connect: Vec<String>,
    /// The client's key file, as `weft keys new --for client NAME` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// The public key of the node behind --connect, where the topology does not tell
    #[arg(long, value_name = "KEY")]
    pub(crate) server_key: Option<String>,
}

/// A node's endpoint as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// The node's name, where the topology tells.
    pub(crate) node: Option<String>,
    /// Where to connect.
    pub(crate) endpoint: String,
    /// The node's key; without one the endpoint is open.
    pub(crate) key: Option<PublicKey>,
}

/// Everything a client needs to connect.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// One endpoint for each node of the topology, or those of --connect in their order.
    pub(crate) servers: Vec<Server>,
    /// The client's own key pair.
    pub(crate) identity: Option<SecretKey>,
    /// The topology that is meant, where one is.
    pub(crate) meant: Option<Meant>,
}

/// What a topology file says of the fabric that a client command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    /// The fabric's name.
    pub(crate) fabric: String,
    /// The file's generation.
    pub(crate) epoch: u64,
    /// The node whose key the client was given as its own, by mistake.
    pub(crate) node_of_identity: Option<String>,
}

/// A topology file as it was read, whatever is wrong with it.
pub(crate) struct Source {
    /// What messages call it.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// What it declares.
    pub(crate) parsed: Parsed,
}

impl Server {
    /// Where `by`, which was connected to, says that another node is: its ipc socket if that is on
    /// this machine, else its first tcp endpoint. From a node that proved its key, only those with
    /// a key of their own or reached without a network are taken.
    pub(crate) fn named(node: &NodeEndpoints, by: &Self) -> Option<Self> {
        let key = node.public_key.as_deref();
        let key = key.and_then(|key| PublicKey::parse(key).ok());
        let is_tcp = |endpoint: &&String| endpoint.starts_with("tcp://");
        let mut endpoints = node.endpoints.iter();
        let local = endpoints.clone().find(|endpoint| is_here(endpoint));
        let server = |endpoint: &String, key| Self {
            node: Some(node.name.clone()),
            endpoint: endpoint.clone(),
            key,
        };
        match (local, endpoints.find(is_tcp)) {
            (Some(local), _) => Some(server(local, None)),
            (None, Some(_)) if by.key.is_some() && key.is_none() => None,
            (None, tcp) => tcp.map(|tcp| server(tcp, key)),
        }
    }
}

impl Target {
    /// Reads the files named and says whom to talk to.
    pub(crate) fn resolve(&self) -> Result<Resolved, Failure> {
        let identity = self.identity.as_deref().map(read_identity).transpose()?;
        let server_key = self
            .server_key
            .as_deref()
            .map(parse_server_key)
            .transpose()?;
        let topology = match (&self.topology, self.connect.is_empty()) {
            (None, false) => None,
            (path, _) => Some(read_topology(path.as_deref())?),
        };
        let servers = if self.connect.is_empty() {
            topology.iter().flat_map(servers).collect()
        } else {
            let named = |endpoint: &String| self.server(endpoint, topology.as_ref(), &server_key);
            self.connect.iter().map(named).collect::<Result<_, _>>()?
        };
        let meant = topology.map(|topology| Meant::new(&topology, identity.as_ref()));
        let resolved = Resolved {
            servers,
            identity,
            meant,
        };
        match resolved.servers.iter().find(|server| server.key.is_some()) {
            Some(server) if resolved.identity.is_none() => Err(Failure::user(
                format!(
                    "{} lets in only declared keys, and none is given",
                    server.endpoint
                ),
                "name the client's key file with --identity FILE",
            )),
            _ => Ok(resolved),
        }
    }

    fn server(
        &self,
        endpoint: &str,
        topology: Option<&Topology>,
        server_key: &Option<PublicKey>,
    ) -> Result<Server, Failure> {
        let transport = endpoint.split_once("://").map(|(transport, _)| transport);
        if !matches!(transport, Some("tcp" | "ipc")) {
            return Err(Failure::user(
                format!("{endpoint:?} is no endpoint"),
                "write `--connect tcp://HOST:PORT` or `--connect ipc://PATH`",
            ));
        }
        if let Some((node, what)) =
            topology.and_then(|topology| not_for_clients(topology, endpoint))
        {
            let own = node.clients.first().map(|own| own.advertise.as_str());
            return Err(Failure::user(
                format!("{endpoint} is where {what} of node {} connect", node.name),
                format!("its clients connect to {}", own.unwrap_or("nothing")),
            ));
        }
        let node = topology.and_then(|topology| {
            let mut nodes = topology.nodes.iter();
            nodes.find(|node| node.clients.iter().any(|own| own.advertise == endpoint))
        });
        let declared = node.and_then(|node| {
            let own = node.clients.iter().find(|own| own.advertise == endpoint)?;
            node.public_key.clone().filter(|_| own.curve)
        });
        Ok(Server {
            node: node.map(|node| node.name.to_string()),
            endpoint: endpoint.to_owned(),
            key: server_key.clone().or(declared),
        })
    }
}

impl Meant {
    fn new(topology: &Topology, identity: Option<&SecretKey>) -> Self {
        let own = identity.map(SecretKey::public);
        let mut nodes = topology.nodes.iter();
        let node = nodes.find(|node| own.is_some() && node.public_key.as_ref() == own);
        Self {
            fabric: topology.fabric.name.clone(),
            epoch: topology.fabric.epoch,
            node_of_identity: node.map(|node| node.name.to_string()),
        }
    }
}

/// One endpoint of each node: its ipc socket if that is on this machine, else its first tcp one.
fn servers(topology: &Topology) -> Vec<Server> {
    let here = |own: &&topology::Endpoint| is_here(&own.advertise);
    let server = |node: &topology::Node| {
        let mut tcp = node
            .clients
            .iter()
            .filter(|own| own.advertise.starts_with("tcp://"));
        let local = node.clients.iter().find(here);
        let endpoint = local.or(tcp.next()).or(node.clients.first())?;
        Some(Server {
            node: Some(node.name.to_string()),
            endpoint: endpoint.advertise.clone(),
            key: node.public_key.clone().filter(|_| endpoint.curve),
        })
    };
    topology.nodes.iter().filter_map(server).collect()
}

/// Whether it is the ipc socket of a node on this machine.
fn is_here(endpoint: &str) -> bool {
    let path = endpoint.strip_prefix("ipc://");
    path.is_some_and(|path| Path::new(path).exists())
}

/// The node that has this endpoint for others than clients, and whom it is for.
fn not_for_clients<'a>(
    topology: &'a Topology,
    endpoint: &str,
) -> Option<(&'a topology::Node, &'static str)> {
    topology.nodes.iter().find_map(|node| {
        let for_whom = match endpoint {
            _ if node.peers.advertise == endpoint => "the peers",
            _ if node.signals.advertise == endpoint => "the peers, for signals,",
            _ => return None,
        };
        Some((node, for_whom))
    })
}

fn parse_server_key(text: &str) -> Result<PublicKey, Failure> {
    PublicKey::parse(text).map_err(|error| {
        let help = "it is the `public_key` of the node in the topology file";
        Failure::user(format!("--server-key {text:?}: {error}"), help)
    })
}

/// Reads a topology file, or the quickstart. If it has errors, they are told to stderr at once.
pub(crate) fn read_topology(path: Option<&Path>) -> Result<Topology, Failure> {
    let source = read_source(path)?;
    if source.parsed.topology.is_none() {
        source.report(Severity::Error);
    }
    source.parsed.topology.ok_or(Failure::Reported)
}

/// Reads a topology file, or the quickstart, with all its problems.
pub(crate) fn read_source(path: Option<&Path>) -> Result<Source, Failure> {
    let Some(path) = path else {
        return Ok(Source {
            name: QUICKSTART_NAME.to_owned(),
            text: QUICKSTART.to_owned(),
            parsed: topology::parse(QUICKSTART, Path::new("/")),
        });
    };
    let text = read_text(path)?;
    let absolute = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
    let parsed = topology::parse(&text, &absolute);
    let name = path.display().to_string();
    Ok(Source { name, text, parsed })
}

/// Reads the client's own key, and says once if it is no secret.
fn read_identity(path: &Path) -> Result<SecretKey, Failure> {
    static TOLD: Once = Once::new();
    let key = read_secret_key(path)?;
    if let Some(warning) = shared_secret(path) {
        TOLD.call_once(|| eprintln!("warning: {warning}"));
    }
    Ok(key)
}

/// Reads a key file as `weft keys new` writes it.
fn read_secret_key(path: &Path) -> Result<SecretKey, Failure> {
    SecretKey::parse(&read_text(path)?).map_err(|error| {
        let help = "make one with `weft keys new`";
        Failure::user(format!("{}: {error}", path.display()), help)
    })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| unreadable(path, &error);
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        let help = "name a text file, as in `weft check topology.toml`";
        return Err(Failure::user(
            format!("{} has {bytes} bytes", path.display()),
            help,
        ));
    }
    fs::read_to_string(path).map_err(failed)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; there is no such file",
        io::ErrorKind::InvalidData => "the file is no UTF-8 text",
        _ => "check the path and the permissions",
    };
    Failure::user(format!("{} cannot be read: {error}", path.display()), help)
}

impl Source {
    /// Tells stderr every problem of this severity or a graver one.
    pub(crate) fn report(&self, least: Severity) {
        for problem in self
            .parsed
            .problems
            .iter()
            .filter(|problem| problem.severity >= least)
        {
            let severity = match problem.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
            };
            let excerpt = Excerpt::new(&self.name, &self.text, &problem.span);
            let label = LabeledSpan::at(excerpt.span(), problem.why.clone());
            let diagnostic = MietteDiagnostic::new(problem.message.clone())
                .with_severity(severity)
                .with_help(problem.remedy.clone())
                .with_label(label);
            eprintln!("{:?}", Report::new(diagnostic).with_source_code(excerpt));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_hosts() -> PathBuf {
        PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/topology/three-hosts.toml"
        ))
    }

    fn told(target: &Target) -> String {
        match target.resolve() {
            Err(Failure::User(report)) => report.to_string(),
            other => panic!("expected the user's error, found {other:?}"),
        }
    }

    #[test]
    fn without_options_the_quickstart_counts() {
        let resolved = Target::default().resolve().expect("built in");
        let endpoints: Vec<&str> = resolved
            .servers
            .iter()
            .map(|server| server.endpoint.as_str())
            .collect();
        assert_eq!(
            endpoints,
            [
                "tcp://127.0.0.1:7101",
                "tcp://127.0.0.1:7201",
                "tcp://127.0.0.1:7301"
            ]
        );
        assert!(resolved.servers.iter().all(|server| server.key.is_none()));
    }

    #[test]
    fn a_closed_endpoint_needs_an_identity() {
        let mut target = Target {
            topology: Some(three_hosts()),
            ..Target::default()
        };
        assert!(told(&target).contains("lets in only declared keys"));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("billing.secret");
        let key = "z9ttGM:F1^BjG:t3cC4s-Z3%>+PfynMQWX)97xob";
        let pair = SecretKey::new(key, key).expect("keys");
        fs::write(&path, pair.to_text()).expect("written");
        target.identity = Some(path);
        let resolved = target.resolve().expect("an identity");
        assert_eq!(resolved.identity, Some(pair));
        // It also knows who connects where.
        target.connect = vec!["tcp://beta.example.net:7102".to_owned()];
        assert!(told(&target).contains("where the peers of node beta connect"));
        // The topology tells the node's key even if the endpoint was named by hand.
        target.connect = vec!["tcp://beta.example.net:7101".to_owned()];
        let resolved = target.resolve().expect("an endpoint");
        assert_eq!(resolved.servers[0].node.as_deref(), Some("beta"));
        let key = resolved.servers[0].key.as_ref().map(PublicKey::as_str);
        assert_eq!(key, Some("5<7fE>}+[U]8rYR(b#TFy*IEN572$hJiy[<Jom&M"));
    }

    #[test]
    fn connect_alone_needs_no_topology() {
        let mut target = Target {
            connect: vec!["tcp://10.0.0.1:1".to_owned(), "ipc:///x".to_owned()],
            ..Target::default()
        };
        let resolved = target.resolve().expect("endpoints");
        assert_eq!(resolved.servers.len(), 2);
        target.server_key = Some("short".to_owned());
        assert!(told(&target).contains("this has 5"));
        target.connect = vec!["10.0.0.1:1".to_owned()];
        target.server_key = None;
        assert!(told(&target).contains("is no endpoint"));
    }
}
