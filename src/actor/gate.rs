//! The gate: the ZAP handler (<https://rfc.zeromq.org/spec/27/>) that lets in declared keys only.
//!
//! libzmq admits every key where no handler answers. So there is one handler per context; it is
//! bound and proven by real handshakes before anything binds with CURVE, and its death ends the
//! process. A refused connection learns nothing but that it is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::StartError;
use super::fatal;
use super::keys::{AllowList, CLIENTS, Key, KeyPair, PEERS};
use super::monitor;
use super::refusals::Refusals;
use crate::types::NodeName;

/// Where libzmq looks for the handler of its context.
const ENDPOINT: &str = "inproc://zeromq.zap.01";

/// What the gate itself sends to its handler to end it, in place of a version. Only code of this
/// process reaches an inproc endpoint.
const STOP: &[u8] = b"stop";

/// A handshake within one machine takes a millisecond or two.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);

/// The running handler of one context.
pub(super) struct Gate {
    context: zmq::Context,
    thread: Option<JoinHandle<()>>,
    proving: Arc<AtomicBool>,
}

impl Gate {
    /// Binds the handler, starts its thread and proves that it decides as `list` says.
    ///
    /// # Errors
    /// `KeyMismatch` if the node's keys are not a pair, `Gate` if a handshake ends otherwise than
    /// the list says, `System` if there is no thread to be had.
    pub(super) fn open(
        context: &zmq::Context,
        list: AllowList,
        keys: &KeyPair,
        node: &NodeName,
    ) -> Result<Self, StartError> {
        let socket = context.socket(zmq::REP).map_err(gate)?;
        socket.set_linger(0).map_err(gate)?;
        socket.bind(ENDPOINT).map_err(gate)?;
        let proving = Arc::new(AtomicBool::new(true));
        let handler = Handler {
            list: list.clone(),
            refusals: Refusals::new(format!("node {node}")),
            proving: Arc::clone(&proving),
        };
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new()
            .name("weft-gate".to_owned())
            .spawn(move || span.in_scope(|| handler.run(&socket)))
            .map_err(|why| StartError::System {
                what: "the gate's thread",
                why,
            })?;
        let gate = Self {
            context: context.clone(),
            thread: Some(thread),
            proving,
        };
        gate.prove(&list, keys, node)?;
        gate.proving.store(false, Ordering::Release);
        Ok(gate)
    }

    /// The node's own key passes as a peer and not as a client (unless it is declared as both), and
    /// a key nobody knows passes nowhere.
    fn prove(&self, list: &AllowList, keys: &KeyPair, node: &NodeName) -> Result<(), StartError> {
        match self.handshake(keys, PEERS, &keys.public, &keys.secret)? {
            Verdict::Admitted => {}
            Verdict::Broken => return Err(keys.mismatch(node)),
            Verdict::Refused => {
                let why = "it refuses the node's own key among peers".to_owned();
                return Err(StartError::Gate { why });
            }
        }
        let stranger = zmq::CurveKeyPair::new().map_err(gate)?;
        let mut strangers = vec![
            (PEERS, stranger.public_key, stranger.secret_key),
            (CLIENTS, stranger.public_key, stranger.secret_key),
        ];
        if list.name(CLIENTS, &keys.public).is_none() {
            strangers.push((CLIENTS, keys.public, keys.secret));
        }
        for (domain, public, secret) in strangers {
            match self.handshake(keys, domain, &public, &secret)? {
                Verdict::Refused => {}
                verdict => {
                    let why =
                        format!("a key not declared among {domain} was not refused ({verdict:?})");
                    return Err(StartError::Gate { why });
                }
            }
        }
        Ok(())
    }

    /// Lets `public` connect to a socket of `domain` on loopback, and says what became of it.
    fn handshake(
        &self,
        keys: &KeyPair,
        domain: &str,
        public: &Key,
        secret: &Key,
    ) -> Result<Verdict, StartError> {
        let events = [
            zmq::SocketEvent::HANDSHAKE_SUCCEEDED,
            zmq::SocketEvent::HANDSHAKE_FAILED_AUTH,
            zmq::SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
            zmq::SocketEvent::HANDSHAKE_FAILED_NO_DETAIL,
        ];
        let probe = || -> zmq::Result<Verdict> {
            let server = self.context.socket(zmq::ROUTER)?;
            server.set_linger(0)?;
            server.set_curve_server(true)?;
            server.set_curve_secretkey(&keys.secret)?;
            server.set_zap_domain(domain)?;
            server.bind("tcp://127.0.0.1:*")?;
            let endpoint = server
                .get_last_endpoint()?
                .map_err(|_| zmq::Error::EINVAL)?;
            let client = self.context.socket(zmq::DEALER)?;
            client.set_linger(0)?;
            client.set_curve_serverkey(&keys.public)?;
            client.set_curve_publickey(public)?;
            client.set_curve_secretkey(secret)?;
            let reader = monitor::watch(&self.context, &server, &events)?;
            let verdict = || -> zmq::Result<Verdict> {
                reader.set_rcvtimeo(HANDSHAKE_MAX.as_millis() as i32)?;
                client.connect(&endpoint)?;
                Ok(Verdict::of(&reader.recv_msg(0)?))
            };
            let verdict = verdict();
            monitor::mute(&server);
            verdict
        };
        probe().map_err(|why| StartError::Gate {
            why: format!("a handshake on loopback in domain {domain} failed: {why}"),
        })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let stop = || -> zmq::Result<()> {
            let socket = self.context.socket(zmq::REQ)?;
            socket.set_linger(0)?;
            socket.set_rcvtimeo(1_000)?;
            socket.connect(ENDPOINT)?;
            socket.send(STOP, 0)?;
            socket.recv_msg(0)?;
            Ok(())
        };
        match (stop(), self.thread.take()) {
            (Ok(()), Some(thread)) => drop(thread.join()),
            (Err(why), _) => tracing::warn!("the gate did not stop: {why}"),
            (Ok(()), None) => {}
        }
    }
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Admitted,
    Refused,
    /// It did not come to the question who it is: the keys do not fit.
    Broken,
}

impl Verdict {
    /// A monitor's first frame begins with the event in two bytes.
    fn of(event: &[u8]) -> Self {
        let number = event.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
        if number == Some(zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw()) {
            Self::Admitted
        } else if number == Some(zmq::SocketEvent::HANDSHAKE_FAILED_AUTH.to_raw()) {
            Self::Refused
        } else {
            Self::Broken
        }
    }
}

/// The handler's thread.
struct Handler {
    list: AllowList,
    refusals: Refusals,
    proving: Arc<AtomicBool>,
}

impl Handler {
    fn run(mut self, socket: &zmq::Socket) {
        fatal::end_process_on_panic();
        loop {
            let request = match socket.recv_multipart(0) {
                Ok(request) => request,
                Err(zmq::Error::EINTR) => continue,
                Err(why) => fatal::end_process(&format!("the gate cannot read: {why}")),
            };
            if request.first().map(Vec::as_slice) == Some(STOP) {
                // The answer may find nobody who still waits for it.
                let _ = socket.send(STOP, 0);
                return;
            }
            if let Err(why) = socket.send_multipart(self.judge(&request), 0) {
                fatal::end_process(&format!("the gate cannot answer: {why}"));
            }
        }
    }

    /// Answers a ZAP request: version, request id, domain, address, routing id, mechanism and, for
    /// CURVE, the key.
    fn judge(&mut self, request: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let id = request.get(1).cloned().unwrap_or_default();
        let name = match request {
            [version, _, domain, _, _, mechanism, key]
                if version == b"1.0" && mechanism == b"CURVE" =>
            {
                std::str::from_utf8(domain)
                    .ok()
                    .and_then(|domain| self.list.name(domain, key))
            }
            _ => None,
        };
        let (status, user) = match name {
            Some(name) => ("200", name.as_bytes().to_vec()),
            None => {
                let quiet = self.proving.load(Ordering::Acquire);
                if !quiet {
                    self.refusals
                        .note(Instant::now(), || format!("refused {}", describe(request)));
                }
                ("400", Vec::new())
            }
        };
        vec![
            b"1.0".to_vec(),
            id,
            status.into(),
            Vec::new(),
            user,
            Vec::new(),
        ]
    }
}

/// Who was refused, for the operator's log.
fn describe(request: &[Vec<u8>]) -> String {
    let text = |i: usize| {
        request
            .get(i)
            .map_or_else(Default::default, |b| printable(b))
    };
    let key = request
        .get(6)
        .and_then(|key| zmq::z85_encode(key).ok())
        .unwrap_or_default();
    format!(
        "a connection from {}: the key {key:?} is not declared among {}",
        text(3),
        text(2)
    )
}

/// Bytes from outside as they may stand in a log.
fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().take(64).map(char::from).collect()
}

fn gate(why: zmq::Error) -> StartError {
    StartError::Gate {
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{PublicKey, Topology};

    fn pair() -> (KeyPair, PublicKey) {
        let pair = zmq::CurveKeyPair::new().expect("keys");
        let public = PublicKey(zmq::z85_encode(&pair.public_key).expect("Z85"));
        let keys = KeyPair {
            public: pair.public_key,
            secret: pair.secret_key,
            path: "a.secret".into(),
        };
        (keys, public)
    }

    fn topology(node: Option<&PublicKey>, client: &PublicKey) -> Topology {
        let endpoint = crate::topology::Endpoint {
            bind: "tcp://127.0.0.1:1".to_owned(),
            advertise: "tcp://127.0.0.1:1".to_owned(),
            curve: true,
        };
        Topology {
            fabric: crate::topology::Fabric {
                name: "test".to_owned(),
                epoch: 1,
            },
            nodes: vec![crate::topology::Node {
                name: "a".into(),
                host: "a".to_owned(),
                zone: None,
                clients: vec![endpoint.clone()],
                peers: endpoint.clone(),
                signals: endpoint,
                http: None,
                data: None,
                public_key: node.cloned(),
                secret_key_file: None,
            }],
            clients: vec![crate::topology::Client {
                name: "billing".to_owned(),
                public_key: client.clone(),
            }],
            channels: Default::default(),
            limits: Default::default(),
        }
    }

    #[test]
    fn declared_keys_pass_in_their_domain_and_nowhere_else() {
        let context = zmq::Context::new();
        let ((node, node_key), (client, client_key)) = (pair(), pair());
        let list = AllowList::new(&topology(Some(&node_key), &client_key)).expect("list");
        let gate = Gate::open(&context, list, &node, &"a".into()).expect("gate");
        let ask = |domain, keys: &KeyPair| {
            gate.handshake(&node, domain, &keys.public, &keys.secret)
                .expect("a verdict")
        };
        assert_eq!(ask(PEERS, &node), Verdict::Admitted);
        assert_eq!(ask(CLIENTS, &client), Verdict::Admitted);
        assert_eq!(ask(PEERS, &client), Verdict::Refused);
        assert_eq!(ask(CLIENTS, &node), Verdict::Refused);
        assert_eq!(ask("elsewhere", &node), Verdict::Refused);
        let (stranger, _) = pair();
        assert_eq!(ask(CLIENTS, &stranger), Verdict::Refused);
        // Somebody who knows a declared public key and not its secret.
        let thief = KeyPair {
            public: client.public,
            ..stranger
        };
        assert_ne!(ask(CLIENTS, &thief), Verdict::Admitted);
    }

    #[test]
    fn a_pair_that_is_none_stops_the_start() {
        let ((mut node, node_key), (other, client_key)) = (pair(), pair());
        node.secret = other.secret;
        let list = AllowList::new(&topology(Some(&node_key), &client_key)).expect("list");
        let error = Gate::open(&zmq::Context::new(), list, &node, &"a".into()).err();
        assert!(
            matches!(error, Some(StartError::KeyMismatch { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn a_gate_that_does_not_know_the_node_stops_the_start() {
        let ((node, _), (_, client_key)) = (pair(), pair());
        let list = AllowList::new(&topology(None, &client_key)).expect("list");
        let error = Gate::open(&zmq::Context::new(), list, &node, &"a".into()).err();
        assert!(matches!(error, Some(StartError::Gate { .. })), "{error:?}");
    }

    #[test]
    fn a_context_without_a_handler_admits_everybody_which_is_why_the_gate_is_proven() {
        let (node, _) = pair();
        let gate = Gate {
            context: zmq::Context::new(),
            thread: None,
            proving: Arc::default(),
        };
        let error = gate.prove(&AllowList::default(), &node, &"a".into());
        assert!(matches!(error, Err(StartError::Gate { .. })), "{error:?}");
    }
}
