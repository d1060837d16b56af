//! What a client in any language does, by the programs that each folder of examples has: `publish`,
//! `cursor` and `signals`, which take the same arguments and print the same lines.

use std::process::Command;
use std::thread;

use serde_json::Value;
use weft::wire::client::Reply;

use crate::interop::{Talk, three, weft_ok};
use crate::support::{CLIENT, Fabric, PATIENCE, weft};

/// A language, as the command that runs one of its programs.
pub(super) struct Stranger(pub(super) Box<dyn Fn(&str) -> Command>);

impl Stranger {
    /// A program without keys.
    pub(super) fn start(&self, program: &str, args: &[&str]) -> Talk {
        let mut command = (self.0)(program);
        Talk::start(command.args(args).env_remove("WEFT_IDENTITY"))
    }
}

/// The first node takes the publish and its answer is lost. The next one is sent the same, and
/// tells where it lies: [C26].
pub(super) fn publishes_again_and_is_stored_once(stranger: &Stranger) {
    let (fabric, _nodes) = three();
    let (mute, taken) = mute(&fabric, "a");
    let nodes = format!("{mute},{}", fabric.endpoint("b"));
    let publisher = stranger.start("publish", &[&nodes, "audit.door", "open"]);
    taken.join().expect("node a confirms the first attempt");
    assert_eq!(publisher.line(), "asking again: no answer");
    let told = publisher.end();
    let last = told.last().map(String::as_str);
    assert_eq!(last, Some("stored audit/0/0 (repeated)"), "{told:?}");
    // The next record's offset tells that nothing lies between.
    let next = weft_ok(&fabric, &["publish", "audit.door", "closed"]);
    assert_eq!(next, "audit/0/1\n");
}

/// An endpoint that passes one message on to a node and keeps the answer, a confirm, to itself. The
/// thread ends then, without a word to the client.
fn mute(fabric: &Fabric, node: &str) -> (String, thread::JoinHandle<zmq::Socket>) {
    let socket = zmq::Context::new().socket(zmq::ROUTER).expect("a socket");
    let patience = i32::try_from(PATIENCE.as_millis()).expect("a short patience");
    socket.set_rcvtimeo(patience).expect("a timeout");
    socket.bind("tcp://127.0.0.1:*").expect("a free port");
    let endpoint = socket.get_last_endpoint().expect("bound");
    let speaker = fabric.speaker(node);
    let thread = thread::spawn(move || {
        let frames = socket.recv_multipart(0).expect("a message in time");
        speaker.send_raw(&frames[1]);
        let answer = speaker.answer().header;
        assert!(matches!(answer, Reply::Confirm(_)), "{answer:?}");
        socket
    });
    (endpoint.expect("UTF-8"), thread)
}

/// It acks, and the next one goes on, at other nodes and when one dies: [C45], [C48], [C49].
pub(super) fn goes_on_at_its_cursor(stranger: &Stranger) {
    let (fabric, [_a, mut b, _c]) = three();
    let publish = |body| weft_ok(&fabric, &["publish", "audit.x", body]);
    for body in ["one", "二", "three"] {
        publish(body);
    }
    let cursor =
        |nodes: &str, count| stranger.start("cursor", &["billing", nodes, "audit.#", count]);
    let first = cursor(&fabric.endpoint("a"), "2");
    assert_eq!(first.end(), ["audit/0/0 one", "audit/0/1 二"]);

    let nodes = format!("{},{}", fabric.endpoint("b"), fabric.endpoint("c"));
    let second = cursor(&nodes, "2");
    assert_eq!(second.line(), "audit/0/2 three");
    b.kill();
    let later = ["audit/0/3 four", "audit/0/4 five", "audit/0/5 six"];
    for body in ["four", "five", "six"] {
        publish(body);
    }
    // The ack of the third may have been lost with the node, and it comes again then; or its answer
    // was, and it counts for nothing.
    let mut told = second.end();
    told.retain(|line| line != "audit/0/2 three" && !line.starts_with("asking again: "));
    assert!(matches!(told.len(), 1 | 2), "{told:?}");
    assert_eq!(told, later[..told.len()]);

    let third = cursor(&fabric.endpoint("a"), "1");
    assert_eq!(third.end(), [later[told.len()]]);
}

/// It hears what it says, once its subscription stands: [C38].
pub(super) fn hears_signals(stranger: &Stranger) {
    let (fabric, _nodes) = three();
    let heard = stranger.start("signals", &[&fabric.endpoint("b")]).end();
    let expected = ["1.080", "1.081", "1.082"].map(|price| format!("ticks.eur {price}"));
    assert_eq!(heard, expected);
}

/// With the file of `weft keys new`, and the node's key, it does all of this: [C43].
pub(super) fn proves_its_key(stranger: &Stranger) {
    let fabric = Fabric::with_keys(&["a"]);
    let identity = fabric.folder.path().join("stranger.secret");
    let mut keys = weft();
    keys.args(["keys", "new", "--json", "--for", "client", CLIENT, "--out"]);
    let made = keys.arg(&identity).output().expect("weft runs");
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let declared = fabric.client_keys().public_key.to_string();
    let own = made["public_key"].as_str().expect("a key");
    fabric.rewrite(&fabric.text().replace(&declared, own));
    let _node = fabric.start("a");

    let node = format!("{} {}", fabric.endpoint("a"), fabric.keys("a").public_key);
    for (program, args, expected) in [
        (
            "publish",
            &[&*node, "audit.door"][..],
            vec!["stored audit/0/0"],
        ),
        (
            "cursor",
            &["billing", &node, "audit.#", "1"],
            vec!["audit/0/0 two shirts"],
        ),
        (
            "signals",
            &[&node],
            vec!["ticks.eur 1.080", "ticks.eur 1.081", "ticks.eur 1.082"],
        ),
    ] {
        let mut command = (stranger.0)(program);
        let told = Talk::start(command.args(args).env("WEFT_IDENTITY", &identity)).end();
        // It may come before the node is ready, and ask more than once.
        let told = told
            .into_iter()
            .filter(|line| !line.starts_with("asking again: "))
            .map(|line| line.replace(" (repeated)", ""));
        assert_eq!(told.collect::<Vec<_>>(), expected, "{program}");
    }
}
