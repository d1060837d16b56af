//! The node's own key pair, and which keys may connect where. Reads the secret key file; decides
//! nothing about what a listed key may do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::StartError;
use crate::topology::{Endpoint, KeyError, Node, PublicKey, SecretKey, Topology};
use crate::types::NodeName;

/// A CURVE key in binary.
pub(super) type Key = [u8; 32];

/// The ZAP domain of the peers' endpoints: other nodes only.
pub(super) const PEERS: &str = "peers";

/// The ZAP domain of the clients' endpoints: declared clients only.
pub(super) const CLIENTS: &str = "clients";

/// The node's own keys.
#[derive(Clone)]
pub(super) struct KeyPair {
    pub(super) public: Key,
    pub(super) secret: Key,
    /// Where the secret came from, for messages.
    pub(super) path: PathBuf,
}

impl KeyPair {
    /// The error of a pair that is none.
    pub(super) fn mismatch(&self, node: &NodeName) -> StartError {
        StartError::KeyMismatch {
            node: node.clone(),
            path: self.path.clone(),
            public: zmq::z85_encode(&self.public).unwrap_or_default(),
        }
    }
}

/// Who may connect: the name of each admitted key, for each domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AllowList {
    peers: BTreeMap<Key, String>,
    clients: BTreeMap<Key, String>,
}

impl AllowList {
    /// The keys the topology declares.
    ///
    /// # Errors
    /// `PublicKey` if one of them is not a key.
    pub(super) fn new(topology: &Topology) -> Result<Self, StartError> {
        let mut list = Self::default();
        for node in &topology.nodes {
            if let Some(key) = &node.public_key {
                let key = decode(key, || format!("node {}", node.name))?;
                list.peers.insert(key, node.name.to_string());
            }
        }
        for client in &topology.clients {
            let key = decode(&client.public_key, || format!("client {}", client.name))?;
            list.clients.insert(key, client.name.clone());
        }
        Ok(list)
    }

    /// The name of `key` in `domain`, if it is admitted there.
    pub(super) fn name(&self, domain: &str, key: &[u8]) -> Option<&str> {
        let names = match domain {
            PEERS => &self.peers,
            CLIENTS => &self.clients,
            _ => return None,
        };
        names.get(key).map(String::as_str)
    }
}

/// A declared public key in binary.
///
/// # Errors
/// `PublicKey` if it is not one; `owner` says whose it should be.
pub(super) fn decode(key: &PublicKey, owner: impl Fn() -> String) -> Result<Key, StartError> {
    z85(key.as_str()).map_err(|why| StartError::PublicKey {
        key: key.to_string(),
        owner: owner(),
        why,
    })
}

/// The node's keys, or `None` where nothing of this node or its peers speaks CURVE and it declares
/// no key.
///
/// # Errors
/// A key that is needed and missing, unreadable, or no key; an endpoint that would be open to other
/// machines; a libzmq without CURVE.
pub(super) fn load(topology: &Topology, node: &Node) -> Result<Option<KeyPair>, StartError> {
    for endpoint in endpoints(node) {
        if !endpoint.curve && beyond_loopback(&endpoint.bind) {
            let endpoint = endpoint.bind.clone();
            return Err(StartError::OpenEndpoint { endpoint });
        }
    }
    let keys =
        !topology.clients.is_empty() || topology.nodes.iter().any(|node| node.public_key.is_some());
    let why = reason(topology, node);
    if (keys || why.is_some()) && zmq::has("curve") != Some(true) {
        return Err(StartError::NoCurve);
    }
    let missing = |missing, why| StartError::NoKey {
        node: node.name.clone(),
        why,
        missing,
    };
    let (declared, path) = match (&node.public_key, &node.secret_key_file, why) {
        (Some(public), Some(path), _) => (public, path),
        (None, _, Some(why)) => return Err(missing("public_key", why)),
        (Some(_), None, Some(why)) => return Err(missing("secret_key_file", why)),
        (_, _, None) => return Ok(None),
    };
    let public = decode(declared, || format!("node {}", node.name))?;
    let text = std::fs::read_to_string(path).map_err(|why| StartError::SecretKeyFile {
        path: path.clone(),
        why,
    })?;
    if let Some(warning) = shared_secret(path) {
        tracing::warn!("{warning}");
    }
    let unreadable = |why| StartError::SecretKeyText {
        path: path.clone(),
        why,
    };
    let own = SecretKey::parse(&text).map_err(unreadable)?;
    let secret = z85(own.secret_z85()).map_err(unreadable)?;
    let pair = KeyPair {
        public,
        secret,
        path: path.clone(),
    };
    match own.public() == declared {
        true => Ok(Some(pair)),
        false => Err(pair.mismatch(&node.name)),
    }
}

/// Why this node needs a key: an endpoint of its own, or of a peer it connects to, speaks CURVE.
fn reason(topology: &Topology, node: &Node) -> Option<String> {
    if let Some(own) = endpoints(node).find(|endpoint| endpoint.curve) {
        return Some(format!("its endpoint {} speaks CURVE", own.bind));
    }
    topology
        .nodes
        .iter()
        .filter(|peer| peer.name != node.name)
        .find_map(|peer| {
            let endpoint = [&peer.peers, &peer.signals].into_iter().find(|e| e.curve)?;
            Some(format!(
                "endpoint {endpoint} of node {} speaks CURVE",
                peer.name
            ))
        })
}

fn endpoints(node: &Node) -> impl Iterator<Item = &Endpoint> {
    node.clients.iter().chain([&node.peers, &node.signals])
}

/// Whether other machines can reach an address bound so. What is not surely loopback is not.
fn beyond_loopback(bind: &str) -> bool {
    let Some(address) = bind.strip_prefix("tcp://") else {
        return !bind.starts_with("ipc://");
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => !address.is_loopback(),
        Err(_) => host != "localhost",
    }
}

fn z85(text: &str) -> Result<Key, KeyError> {
    PublicKey::parse(text)?;
    let bytes = zmq::z85_decode(text).unwrap_or_default();
    bytes.try_into().map_err(|_| KeyError::Length(text.len()))
}

/// What is to be said of a secret that others may read. It is still a key, so whoever has it goes
/// on, and says so.
pub(crate) fn shared_secret(path: &std::path::Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        format!(
            "secret key file {} may be read by others (mode {mode:03o}): chmod 600, and make a new \
             key if anybody did",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_ipc_may_be_open() {
        for bind in [
            "tcp://127.0.0.1:7001",
            "tcp://127.9.9.9:1",
            "tcp://[::1]:7001",
        ] {
            assert!(!beyond_loopback(bind), "{bind}");
        }
        assert!(!beyond_loopback("ipc:///run/weft/a.sock"));
        assert!(!beyond_loopback("tcp://localhost:7001"));
        let reachable = [
            "tcp://0.0.0.0:7001",
            "tcp://*:7001",
            "tcp://10.0.0.1:7001",
            "tcp://eth0:7001",
            "tcp://[::]:7001",
            "tcp://127.example.org:7001",
            "ws://127.0.0.1:1",
        ];
        for bind in reachable {
            assert!(beyond_loopback(bind), "{bind}");
        }
    }

    #[test]
    fn a_key_is_admitted_in_its_own_domain_only() {
        let list = AllowList {
            peers: BTreeMap::from([([1; 32], "a".to_owned())]),
            clients: BTreeMap::from([([2; 32], "billing".to_owned())]),
        };
        assert_eq!(list.name(PEERS, &[1; 32]), Some("a"));
        assert_eq!(list.name(CLIENTS, &[2; 32]), Some("billing"));
        assert_eq!(list.name(CLIENTS, &[1; 32]), None);
        assert_eq!(list.name(PEERS, &[2; 32]), None);
        assert_eq!(list.name("", &[1; 32]), None);
        assert_eq!(list.name(PEERS, &[1; 31]), None);
    }
}
