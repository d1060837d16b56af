//! Why a node does not start. Every message names the culprit and says what to do.

use std::path::PathBuf;

use crate::node::NodeError;
use crate::store::StoreError;
use crate::topology::KeyError;
use crate::types::NodeName;

/// A node did not start. Nothing was changed on disk beyond an empty data folder that may have been
/// made and locked, and no endpoint stays bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The topology does not declare the node.
    #[error("the topology declares no node {name:?}{}; it declares {known}", hint(.nearest))]
    NoSuchNode {
        /// The name asked for.
        name: String,
        /// The declared name most like it, if one is near.
        nearest: Option<NodeName>,
        /// All declared names, joined.
        known: String,
    },
    /// An endpoint is bound by somebody else.
    #[error(
        "{what} endpoint {endpoint} is in use; another process holds it, most likely this node \
         itself, started before, or another node of this host with the same endpoint: stop that \
         process, or give this node another endpoint{}", finder(.endpoint)
    )]
    EndpointInUse {
        /// `clients`, `peers` or `signals`.
        what: &'static str,
        /// The endpoint.
        endpoint: String,
    },
    /// An endpoint cannot be bound for another reason.
    #[error("{what} endpoint {endpoint} cannot be bound: {why}; correct it in the topology")]
    Endpoint {
        /// `clients`, `peers` or `signals`.
        what: &'static str,
        /// The endpoint.
        endpoint: String,
        /// What the system said.
        why: String,
    },
    /// A socket cannot be made.
    #[error("{what} cannot be opened: {why}; a limit of the process or machine may be too low")]
    Socket {
        /// Which one.
        what: String,
        /// What libzmq said.
        why: zmq::Error,
    },
    /// An endpoint beyond loopback would be open to everybody.
    #[error(
        "endpoint {endpoint} is reachable from other machines and does not speak CURVE; make a \
         key with `weft keys new` and name it in the topology, or bind it to 127.0.0.1"
    )]
    OpenEndpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// The http address would be open to everybody, and nobody said that it may.
    #[error(
        "{endpoint} is reachable from other machines, and http has no keys; bind it to 127.0.0.1, \
         or say `http_open = true` in the topology"
    )]
    OpenHttp {
        /// The address.
        endpoint: String,
    },
    /// The topology wants CURVE and this binary cannot.
    #[error(
        "the topology declares keys, but this program's libzmq was built without CURVE; build it \
         with the [patch.crates-io] entry for zeromq-src that Weft's Cargo.toml shows"
    )]
    NoCurve,
    /// The node needs a key and the topology names none.
    #[error(
        "node {node} needs a key, because {why}, but the topology gives it no {missing}; make one \
         with `weft keys new --for node {node}` and add it"
    )]
    NoKey {
        /// The node.
        node: NodeName,
        /// What makes the key necessary.
        why: String,
        /// `public_key` or `secret_key_file`.
        missing: &'static str,
    },
    /// The secret key cannot be read.
    #[error(
        "secret key file {} cannot be read: {why}; make a key with `weft keys new`, or correct \
         secret_key_file", .path.display()
    )]
    SecretKeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The file does not hold a secret key.
    #[error(
        "secret key file {} holds no key: {why}; make one with `weft keys new`", .path.display()
    )]
    SecretKeyText {
        /// The file.
        path: PathBuf,
        /// What is wrong with its text.
        why: KeyError,
    },
    /// A public key in the topology is not one.
    #[error("{key:?} is no public key for {owner}: {why}; copy it again")]
    PublicKey {
        /// The text.
        key: String,
        /// Whose key it should be.
        owner: String,
        /// What is wrong with it.
        why: KeyError,
    },
    /// Secret and public key are not a pair.
    #[error(
        "the secret key in {} does not belong to the public_key {public} that the topology \
         declares for node {node}; correct one of them", .path.display()
    )]
    KeyMismatch {
        /// The node.
        node: NodeName,
        /// The secret key's file.
        path: PathBuf,
        /// The declared public key.
        public: String,
    },
    /// The check of the key handler failed: the node would be open or closed to everybody.
    #[error("the check of keys does not work: {why}; the node does not start without it")]
    Gate {
        /// What happened.
        why: String,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The core refused what it found.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A thread or the reactor cannot be made.
    #[error("{what} cannot be started: {why}; a limit of the process or machine may be too low")]
    System {
        /// Which one.
        what: &'static str,
        /// What the system said.
        why: std::io::Error,
    },
}

impl StartError {
    /// Whether another process holds what the node needs, which passes once that one has stopped.
    pub fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::EndpointInUse { .. } | Self::Store(StoreError::Locked { .. })
        )
    }
}

fn hint(name: &Option<NodeName>) -> String {
    match name {
        Some(name) => format!("; did you mean {:?}?", name.as_str()),
        None => String::new(),
    }
}

fn finder(endpoint: &str) -> String {
    let port = endpoint
        .strip_prefix("tcp://")
        .and_then(|address| address.rsplit(':').next());
    match (port, endpoint.strip_prefix("ipc://")) {
        (Some(port), _) => format!(" (`ss -ltnp 'sport = :{port}'` names the process)"),
        (_, Some(path)) => format!(" (`ss -lxp src {path}` names the process)"),
        _ => String::new(),
    }
}
