//! What a node shows over http: figures and health, to whoever asks properly; and whoever does not
//! disturbs nobody.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;
use weft::http::METRICS;
use weft::types::limits::HTTP_CONNECTIONS_MAX;
use weft::wire::client::{Publish, Reply, Request};

use crate::fabric::{NAMES, healthy};
use crate::support::{Fabric, PATIENCE, Process, free_port, wait_for, wait_until};

const README: &str = include_str!("../../README.md");

/// A fabric whose node a serves http at this port.
fn fabric() -> (Fabric, u16) {
    let fabric = Fabric::new(&NAMES);
    let port = free_port();
    let node = "name = \"a\"\n";
    let served = format!("{node}http = \"http://127.0.0.1:{port}\"\n");
    fabric.rewrite(&fabric.text().replacen(node, &served, 1));
    (fabric, port)
}

/// Sends these bytes and gives all that comes back, or what went wrong.
fn exchange(port: u16, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Status and body.
#[track_caller]
fn get(port: u16, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: weft\r\n\r\n");
    let answer = wait_for("an answer over http", || {
        exchange(port, request.as_bytes()).ok()
    });
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

fn health(port: u16) -> (u16, Value) {
    let (status, body) = get(port, "/health");
    (status, serde_json::from_str(&body).expect("JSON"))
}

/// The figures of README's table are those that a node shows, with kind, labels and meaning.
#[test]
fn readme_lists_every_figure_that_a_node_shows() {
    let quoted = |labels: &[&str]| -> String {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        labels.join(", ")
    };
    let declared: Vec<String> = METRICS
        .iter()
        .map(|own| {
            let labels = quoted(own.labels);
            format!(
                "| `{}` | {} | {labels} | {} |",
                own.name, own.kind, own.help
            )
        })
        .collect();
    let listed: Vec<&str> = README
        .lines()
        .filter(|line| line.starts_with("| `weft_"))
        .collect();
    assert_eq!(listed, declared);

    let (fabric, port) = fabric();
    let _nodes: Vec<Process> = NAMES.iter().map(|name| fabric.start(name)).collect();
    healthy(&fabric);
    let speaker = fabric.speaker("a");
    let mut records = Vec::new();
    let record = weft::types::Record {
        subject: "orders.eu".into(),
        ..Default::default()
    };
    weft::wire::records::encode_record(&record, &mut records);
    let publish = Publish {
        id: Some(1),
        partition: Some(3),
        confirm: Some(weft::wire::client::ConfirmLevel::Quorum),
        ..Publish::default()
    };
    speaker.send(&Request::Publish(publish), &records);
    assert!(matches!(speaker.answer().header, Reply::Confirm(_)));
    let stored = "weft_partition_accepted_records_total{channel=\"orders\",partition=\"3\"} 1\n";
    let text = wait_for("the record in the figures", || {
        let (status, text) = get(port, "/metrics");
        assert_eq!(status, 200, "{text}");
        text.contains(stored).then_some(text)
    });
    let shown: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let names: BTreeSet<&str> = METRICS.iter().map(|own| own.name).collect();
    assert_eq!(shown, names, "each has a value on a fabric that lives");
    let accepted = "weft_published_records_total{channel=\"orders\",outcome=\"accepted\"} 1\n";
    assert!(text.contains(accepted), "{text}");
}

#[test]
fn health_says_in_words_what_is_wrong() {
    let (fabric, port) = fabric();
    let mut nodes: Vec<Process> = NAMES.iter().map(|name| fabric.start(name)).collect();
    healthy(&fabric);
    let well = wait_for("a healthy answer", || {
        Some(health(port)).filter(|(status, _)| *status == 200)
    });
    assert_eq!(well.1["healthy"], true);
    assert_eq!(
        (&well.1["node"], &well.1["fabric"]),
        (&"a".into(), &"test".into())
    );
    assert_eq!(well.1["problems"], Value::Array(Vec::new()));
    nodes[1].kill();
    // What b led has no leader for a moment, which is told as well.
    let ill = wait_for("what is wrong", || {
        let (status, ill) = health(port);
        let problems = ill["problems"].as_array()?.clone();
        let mut problems = problems.iter().filter_map(Value::as_str);
        let of_b = problems.any(|problem| problem.starts_with("b was last heard"));
        (status == 503 && of_b).then_some(ill)
    });
    assert_eq!(ill["healthy"], false);
    let (status, text) = get(port, "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("\nweft_healthy 0\n") && text.contains("weft_peer_up{peer=\"b\"} 0"));
    // A node that is gone answers nobody.
    nodes[0].signal(Signal::TERM);
    assert!(nodes[0].wait().success());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// Promise 5: slow, rude and broken http clients hold up nobody, and not one another for long.
#[test]
fn promise_5_hostile_http_clients_disturb_nobody() {
    let (fabric, port) = fabric();
    let mut node = fabric.serve("a");
    for (request, status) in [
        ("GET /else HTTP/1.1\r\nHost: w\r\n\r\n", "404"),
        (
            "POST /health HTTP/1.1\r\nHost: w\r\nContent-Length: 0\r\n\r\n",
            "405",
        ),
        ("HEAD /metrics HTTP/1.1\r\nHost: w\r\n\r\n", "200"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = exchange(port, request.as_bytes()).expect("an answer");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request:?}: {answer}"
        );
    }
    // A head that never ends is refused, or cut off while it is written.
    let endless = [b"GET /health HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    if let Ok(answer) = exchange(port, &endless) {
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    // Every seat is taken, several times over, by clients that never finish.
    let begun: Vec<TcpStream> = (0..3 * HTTP_CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("in the queue");
            stream.write_all(b"GET /hea").expect("sent");
            stream
        })
        .collect();
    // The node does not notice.
    assert_eq!(fabric.speaker("a").hello().node, "a");
    // The first are cut off in time, and in the end there is a seat again.
    let mut first = &begun[0];
    first.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let ended = first.read(&mut [0; 16]);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|why| !is_late(&why)));
    wait_until("a seat", || {
        let request = b"GET /health HTTP/1.1\r\nHost: w\r\n\r\n";
        exchange(port, request).is_ok_and(|answer| answer.starts_with("HTTP/1.1 "))
    });
    assert!(node.is_running());
}

fn is_late(why: &std::io::Error) -> bool {
    matches!(
        why.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

/// Promise 6: what nobody asked for by name is not opened, and a port that is taken is named.
#[test]
fn promise_6_http_that_cannot_be_had_stops_the_start() {
    let (fabric, port) = fabric();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let mut node = fabric.start("a");
    assert!(!node.wait().success());
    let log = node.flat_log();
    let endpoint = format!("http endpoint http://127.0.0.1:{port} is in use");
    assert!(log.contains(&endpoint), "{log}");
    let text = std::fs::read_to_string(&fabric.file).expect("the topology");
    fabric.rewrite(&text.replace("http://127.0.0.1", "http://0.0.0.0"));
    let mut node = fabric.start("a");
    assert!(!node.wait().success());
    assert!(
        node.flat_log().contains("http_open = true"),
        "{}",
        node.log()
    );
}
