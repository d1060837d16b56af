//! The fabric under drill: the nodes and channels of a topology on loopback ports of their own,
//! each node behind one cuttable link per peer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use toml::{Table, Value};

use super::proxy::Link;
use crate::cli::Failure;
use crate::cli::children::{Launch, Supervised};
use crate::cli::options::{Resolved, Server, read_source};
use crate::cli::ports::free_ports;
use crate::topology::{self, Severity, Topology};

/// The sockets of a node, as the topology calls them.
const SOCKETS: [&str; 3] = ["clients", "peers", "signals"];

/// Who says something to whom.
pub(super) type Way = (String, String);

/// A fabric that runs, and the links in it.
pub(super) struct Fabric {
    pub(super) topology: Topology,
    pub(super) nodes: Vec<Supervised>,
    /// All that carries what the first says to the second.
    pub(super) links: BTreeMap<Way, Vec<Arc<Link>>>,
    /// Where clients connect.
    pub(super) resolved: Resolved,
}

impl Fabric {
    /// Writes one topology file per node into `folder`, opens the links, and starts every node.
    pub(super) fn start(file: Option<&Path>, folder: &Path) -> Result<Self, Failure> {
        let source = read_source(file)?;
        let Some(topology) = source.parsed.topology.as_ref() else {
            source.report(Severity::Error);
            return Err(Failure::Reported);
        };
        let table: Table = source.text.parse().map_err(Failure::internal)?;
        let names: Vec<String> = topology.nodes.iter().map(|n| n.name.to_string()).collect();
        let ports = free_ports(names.len())?;
        let unwritable = |error: std::io::Error| {
            let what = format!("{} cannot be written: {error}", folder.display());
            Failure::user(what, "name a folder of yours with --data DIR")
        };
        fs::create_dir_all(folder).map_err(unwritable)?;
        let program = std::env::current_exe()
            .map_err(|error| Failure::internal(format!("cannot find this program: {error}")))?;
        let mut links = BTreeMap::new();
        let mut nodes = Vec::new();
        let mut derived = None;
        for name in &names {
            let seen = seen_by(name, &names, &ports, &mut links)?;
            let text = on_loopback(table.clone(), &ports, &seen);
            let path = folder.join(format!("{name}.toml"));
            fs::write(&path, &text).map_err(unwritable)?;
            let parsed = topology::parse(&text, &path);
            let Some(own) = parsed.topology else {
                let what = format!("{} is no topology: {:?}", path.display(), parsed.problems);
                return Err(Failure::internal(what));
            };
            let launch = Launch {
                replaces: false,
                program: program.clone(),
                file: path,
                node: name.clone(),
                data: Some(folder.join(name)),
                log: Some(folder.join(format!("{name}.log"))),
            };
            let node = own.nodes.iter().find(|node| node.name.as_str() == name);
            nodes.extend(node.map(|node| Supervised::new(node, launch)));
            derived.get_or_insert(own);
        }
        let topology = derived.ok_or_else(|| Failure::internal("the topology has no node"))?;
        for node in &mut nodes {
            node.start()?;
        }
        let servers = nodes.iter().map(|node| Server {
            node: Some(node.name.clone()),
            endpoint: node.endpoint.clone(),
            key: None,
        });
        let resolved = Resolved {
            servers: servers.collect(),
            identity: None,
            meant: None,
        };
        Ok(Self {
            topology,
            nodes,
            links,
            resolved,
        })
    }
}

/// The sockets of each node, by their names in [`SOCKETS`].
type Ports = BTreeMap<String, [u16; 3]>;

/// Where `name` finds the peers and signals of each other node: at a link of its own.
fn seen_by(
    name: &str,
    names: &[String],
    ports: &[[u16; 3]],
    links: &mut BTreeMap<Way, Vec<Arc<Link>>>,
) -> Result<Ports, Failure> {
    let failed = |error| Failure::internal(format!("cannot open a link: {error}"));
    let mut seen = Ports::new();
    for (other, own) in names.iter().zip(ports) {
        let [clients, mut peers, mut signals] = *own;
        if other != name {
            let (link, port) = Link::open(peers).map_err(failed)?;
            peers = port;
            let way = (name.to_owned(), other.clone());
            links.entry(way).or_default().push(link);
            // The subscriber connects; what is said on it comes the other way.
            let (link, port) = Link::open(signals).map_err(failed)?;
            signals = port;
            let way = (other.clone(), name.to_owned());
            links.entry(way).or_default().push(link);
        }
        seen.insert(other.clone(), [clients, peers, signals]);
    }
    Ok(seen)
}

/// The topology with its nodes on loopback, without keys, and with channels that keep everything;
/// all else as it is declared.
fn on_loopback(mut table: Table, ports: &[[u16; 3]], seen: &Ports) -> String {
    table.remove("client");
    // What is let go of could not be accounted for.
    let channels = table.get_mut("channel").and_then(Value::as_table_mut);
    let channels = channels
        .into_iter()
        .flat_map(|channels| channels.iter_mut());
    for (_, channel) in channels {
        channel.as_table_mut().map(|channel| channel.remove("keep"));
    }
    let defaults = table.get_mut("defaults").and_then(Value::as_table_mut);
    defaults.map(|defaults| defaults.remove("keep"));
    let nodes = table.get_mut("node").and_then(Value::as_array_mut);
    for (node, own) in nodes.into_iter().flatten().zip(ports) {
        let Some(node) = node.as_table_mut() else {
            continue;
        };
        for key in [
            "data",
            "public_key",
            "secret_key_file",
            "advertise",
            "http",
            "http_open",
        ] {
            node.remove(key);
        }
        let at = |port: u16| Value::String(format!("tcp://127.0.0.1:{port}"));
        let name = node.get("name").and_then(Value::as_str).unwrap_or_default();
        let advertised = seen.get(name).unwrap_or(own);
        let mut advertise = Table::new();
        for ((socket, port), other) in SOCKETS.into_iter().zip(own).zip(advertised) {
            if port != other {
                advertise.insert(socket.to_owned(), at(*other));
            }
        }
        for (socket, port) in SOCKETS.into_iter().zip(own) {
            node.insert(socket.to_owned(), at(*port));
        }
        if !advertise.is_empty() {
            node.insert("advertise".to_owned(), Value::Table(advertise));
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::QUICKSTART;

    #[test]
    fn a_topology_of_three_hosts_stands_on_loopback() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/topology/three-hosts.toml");
        for text in [QUICKSTART, &fs::read_to_string(file).expect("the file")] {
            let table: Table = text.parse().expect("TOML");
            let ports = [[1, 2, 3], [4, 5, 6], [7, 8, 9]];
            let mut declared = topology::parse(text, Path::new("/")).topology.expect("one");
            for channel in declared.channels.values_mut() {
                channel.keep = topology::Keep::default();
            }
            let names = declared.nodes.iter().map(|node| node.name.to_string());
            let mut seen: Ports = names.zip(ports).collect();
            let second = seen.values_mut().nth(1).expect("three");
            second[1] = 99;
            let text = on_loopback(table, &ports, &seen);
            let parsed = topology::parse(&text, Path::new("/"));
            let topology = parsed.topology.unwrap_or_else(|| panic!("{text}"));
            assert_eq!(topology.channels, declared.channels);
            assert_eq!(topology.nodes[1].host, declared.nodes[1].host);
            assert_eq!(topology.nodes[1].peers.bind, "tcp://127.0.0.1:5");
            assert_eq!(topology.nodes[1].peers.advertise, "tcp://127.0.0.1:99");
            assert!(topology.nodes.iter().all(|node| !node.peers.curve));
        }
    }
}
