//! What each mistake in a topology file is answered with, and on which line.

use std::path::Path;

use super::*;
use crate::types::{NodeName, Pattern};

mod channels;
mod diff;
mod hostile;
mod http;
mod keys;

const QUICKSTART: &str = include_str!("../../topology/quickstart.toml");
const THREE_HOSTS: &str = include_str!("../../topology/three-hosts.toml");

/// A file without problems, line by line: tests replace one line of it.
const SOUND: &str = r#"[fabric]
name = "shop"
[[node]]
name = "a"
clients = "tcp://127.0.0.1:7101"
peers = "tcp://127.0.0.1:7102"
signals = "tcp://127.0.0.1:7103"
[[node]]
name = "b"
clients = "tcp://127.0.0.1:7201"
peers = "tcp://127.0.0.1:7202"
signals = "tcp://127.0.0.1:7203"
[[node]]
name = "c"
clients = "tcp://127.0.0.1:7301"
peers = "tcp://127.0.0.1:7302"
signals = "tcp://127.0.0.1:7303"
[channel.orders]
kind = "stream"
subjects = ["orders.#"]
[channel.ticks]
kind = "signal"
subjects = ["ticks.#"]
"#;

/// Two keys, of nobody.
const KEY: &str = "pOO^V}A2}Qz/(Ud]KibKGp)9N6TyYGIgRzay(Wpw";
const OTHER_KEY: &str = "5<7fE>}+[U]8rYR(b#TFy*IEN572$hJiy[<Jom&M";

fn read(text: &str) -> Parsed {
    parse(text, Path::new("/etc/weft/shop.toml"))
}

/// `SOUND` with its line `number` replaced by `lines`, which may be several.
fn with(number: usize, lines: &str) -> String {
    let mut all: Vec<&str> = SOUND.lines().collect();
    all[number - 1] = lines;
    all.join("\n")
}

/// Asserts the problems of `text`: each one's line, severity (`E` or `W`) and a part of its
/// message, reason or remedy.
#[track_caller]
fn check(text: &str, expected: &[(usize, char, &str)]) {
    let parsed = read(text);
    let found: Vec<String> = parsed
        .problems
        .iter()
        .map(|problem| {
            let severity = if problem.severity == Severity::Error {
                'E'
            } else {
                'W'
            };
            let Problem {
                message,
                why,
                remedy,
                ..
            } = problem;
            format!(
                "{} {severity} {message} | {why} | {remedy}",
                problem.line(text)
            )
        })
        .collect();
    let fits = |(line, (number, severity, part)): (&String, &(usize, char, &str))| {
        line.starts_with(&format!("{number} {severity} ")) && line.contains(part)
    };
    let all = found.len() == expected.len() && found.iter().zip(expected).all(fits);
    assert!(all, "expected {expected:#?}, found {found:#?}");
    let errors = expected.iter().any(|(_, severity, _)| *severity == 'E');
    assert_eq!(parsed.topology.is_none(), errors);
}

#[test]
fn the_shipped_files_have_no_problem() {
    check(SOUND, &[]);
    check(QUICKSTART, &[]);
    check(THREE_HOSTS, &[]);
}

#[test]
fn a_file_says_what_it_says() {
    let topology = read(THREE_HOSTS).topology.expect("sound");
    let alpha = topology.node(&"alpha".into()).expect("alpha");
    assert_eq!(alpha.clients[0].bind, "tcp://*:7101");
    assert_eq!(alpha.clients[0].advertise, "tcp://alpha.example.net:7101");
    assert!(alpha.clients[0].curve && alpha.peers.curve && alpha.signals.curve);
    assert_eq!(alpha.clients[1].advertise, "ipc:///run/weft/alpha");
    assert!(!alpha.clients[1].curve);
    assert_eq!(
        alpha.secret_key_file.as_deref(),
        Some(Path::new("/etc/weft/alpha.secret"))
    );
    let orders = &topology.channels[&"orders".into()];
    assert_eq!(
        (orders.kind, orders.partitions, orders.replicas),
        (Kind::Stream, 12, 3)
    );
    assert_eq!(
        (orders.confirm, orders.max_record),
        (Confirm::Quorum, 256 << 10)
    );
    let presence = &topology.channels[&"presence".into()];
    assert_eq!(
        (presence.kind, presence.partitions, presence.replicas),
        (Kind::Signal, 1, 0)
    );
    assert_eq!(presence.confirm, Confirm::None);

    assert_eq!(
        topology.channel_for("refunds.eu").map(|own| own.0.as_str()),
        Some("payments")
    );
    assert_eq!(topology.channel_for("presence.a.b"), None);
    let pattern = Pattern::parse("*.eu").expect("a pattern");
    let names: Vec<&str> = topology
        .channels_for(&pattern)
        .iter()
        .map(|own| own.0.as_str())
        .collect();
    assert_eq!(names, ["orders", "payments", "presence"]);
}

#[test]
fn adding_a_channel_moves_nothing() {
    let before = read(SOUND).topology.expect("sound").placement();
    let more = "[channel.added]\nkind = \"stream\"\nsubjects = \"added\"\npartitions = 7\n";
    let after = read(&format!("{SOUND}{more}"))
        .topology
        .expect("sound")
        .placement();
    assert_eq!(after.len(), before.len() + 7);
    assert!(
        before
            .iter()
            .all(|(partition, nodes)| after[partition] == *nodes)
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "[fabric]\nepoch = \"one\"\n[[node]]\nname = 5\n[channel.x]\nkind = 'strem'\n";
    check(
        text,
        &[
            (1, 'E', "[fabric] has no `name`"),
            (2, 'E', "`epoch` cannot be \"one\""),
            (3, 'E', "[[node]] has no `clients`"),
            (3, 'E', "[[node]] has no `peers`"),
            (3, 'E', "[[node]] has no `signals`"),
            (4, 'E', "`name` cannot be 5"),
            (5, 'E', "[channel.x] has no `subjects`"),
            (6, 'E', "write \"signal\" or \"stream\""),
        ],
    );
}

#[test]
fn what_is_no_toml_is_told_by_its_line() {
    check("[fabric\nname = 'x'", &[(1, 'E', "")]);
    check(&with(2, "name = shop"), &[(2, 'E', "")]);
    check(
        &with(2, "name = 'shop'\nname = 'mall'"),
        &[(3, 'E', "duplicate key")],
    );
    check(
        "",
        &[(1, 'E', "no `fabric`"), (1, 'E', "no node is declared")],
    );
}

#[test]
fn unknown_keys_are_told_with_the_nearest_known_one() {
    check(
        &with(18, "[channel.orders]\nreplica = 3"),
        &[(19, 'E', "did you mean `replicas`?")],
    );
    check(
        &with(2, "name = 'x'\nepohc = 2"),
        &[(3, 'E', "did you mean `epoch`?")],
    );
    check(
        &with(3, "[[nodes]]\n[[node]]"),
        &[(3, 'E', "did you mean `node`?")],
    );
    check(
        &with(18, "[channel.orders]\nzzz = 3"),
        &[(19, 'E', "it knows kind, partitions")],
    );
    let keep = "[channel.orders]\nkeep = { size = '1 GiB', ages = '7d' }";
    check(&with(18, keep), &[(19, 'E', "did you mean `age`?")]);
}

#[test]
fn names_are_used_once() {
    check(
        &with(9, "name = \"a\""),
        &[(9, 'E', "node a is declared twice")],
    );
    check(&with(9, "name = \"a/b\""), &[(9, 'E', "no '/'")]);
    check(
        &with(18, "[channel.\"or ders\"]"),
        &[(18, 'E', "is no name for a channel")],
    );
    let clients = format!(
        "[[client]]\nname = 'x'\npublic_key = '{KEY}'\n[[client]]\nname = 'x'\npublic_key = '{KEY}'"
    );
    check(
        &format!("{SOUND}{clients}"),
        &[
            (27, 'E', "client x is declared twice"),
            (27, 'E', "client x has the public key of client x"),
        ],
    );
}

#[test]
fn an_endpoint_is_used_once() {
    let twice = "tcp://127.0.0.1:7102 is used twice";
    check(
        &with(7, "signals = \"tcp://127.0.0.1:7102\""),
        &[(7, 'E', twice)],
    );
    check(
        &with(10, "clients = \"tcp://127.0.0.1:7102\""),
        &[(10, 'E', "`peers` of node a")],
    );
    let list = "clients = [\n  \"tcp://127.0.0.1:7201\",\n  \"tcp://127.0.0.1:7301\",\n]";
    check(&with(10, list), &[(18, 'E', "is used twice")]);
    let ipc = with(5, "clients = \"ipc://x\"").replace("tcp://127.0.0.1:7201", "ipc:///etc/weft/x");
    check(&ipc, &[(10, 'E', "ipc:///etc/weft/x is used twice")]);
    let wild = THREE_HOSTS.replacen("\"ipc:///run/weft/beta\"", "\"tcp://127.0.0.1:7102\"", 1);
    let wild = wild.replacen(
        "clients = \"tcp://beta.example.net:7101\"",
        "clients = [\"tcp://beta.example.net:7101\", \"tcp://127.0.0.1:7102\"]",
        1,
    );
    let line = line_of(&wild, "peers = \"tcp://*:7102\"", 1);
    check(
        &wild,
        &[
            (
                line - 1,
                'W',
                "node beta has keys, and tcp://127.0.0.1:7102 is open",
            ),
            (line, 'E', "tcp://*:7102 covers tcp://127.0.0.1:7102"),
        ],
    );
}

#[test]
fn an_endpoint_reads_as_one() {
    check(&with(5, "clients = []"), &[(5, 'E', "lists 0 endpoints")]);
    check(
        &with(5, "clients = \"7101\""),
        &[(5, 'E', "has no transport")],
    );
    check(
        &with(6, "peers = [\"tcp://127.0.0.1:7102\"]"),
        &[(6, 'E', "a string in quotes")],
    );
    let list = "clients = [\n  \"tcp://127.0.0.1:7101\",\n  \"tcp://127.0.0.1\",\n  7,\n]";
    check(
        &with(5, list),
        &[
            (7, 'E', "it has no port"),
            (8, 'E', "`clients` cannot be 7"),
        ],
    );
    let name = with(5, "clients = \"tcp://localhost:7101\"");
    check(&name, &[(5, 'E', "localhost is a name")]);
}

#[test]
fn a_wildcard_needs_to_be_advertised() {
    let missing = THREE_HOSTS.replacen("peers = \"tcp://beta.example.net:7102\"\n", "", 1);
    let line = line_of(&missing, "peers = \"tcp://*:7102\"", 1);
    check(
        &missing,
        &[(
            line,
            'E',
            "add `advertise = { peers = \"tcp://HOST:PORT\" }`",
        )],
    );
    let wild = THREE_HOSTS.replacen("\"tcp://beta.example.net:7102\"", "\"tcp://*:7102\"", 1);
    let line = line_of(&wild, "[node.advertise]", 1) + 2;
    check(&wild, &[(line, 'E', "cannot advertise tcp://*:7102")]);
    let two = THREE_HOSTS.replacen("\"tcp://beta.example.net:7101\"", "[]", 1);
    let bind = line_of(
        &two,
        "clients = [\"tcp://*:7101\", \"ipc:///run/weft/beta\"]",
        0,
    );
    let line = line_of(&two, "clients = []", 0);
    check(
        &two,
        &[
            (bind, 'E', "does not say where that is"),
            (line, 'E', "advertises 0 addresses for 1 tcp endpoints"),
        ],
    );
}

#[test]
fn beyond_loopback_there_are_keys() {
    let open = with(6, "peers = \"tcp://10.0.0.1:7102\"");
    check(
        &open,
        &[
            (
                6,
                'E',
                "node a binds tcp://10.0.0.1:7102 without `public_key` and `secret_key_file`",
            ),
            (
                8,
                'E',
                "node b connects to tcp://10.0.0.1:7102 of node a without `public_key`",
            ),
            (13, 'E', "run `weft keys new --for node c`"),
        ],
    );
    let half = with(4, &format!("name = \"a\"\npublic_key = '{KEY}'"));
    check(&half, &[(3, 'E', "node a has no `secret_key_file`")]);
    let bad = with(4, "name = \"a\"\npublic_key = 'abc'\nsecret_key_file = 'x'");
    check(
        &bad,
        &[
            (3, 'E', "node a has no `public_key`"),
            (5, 'E', "a key has 40 characters, this has 3"),
        ],
    );
    let shared = THREE_HOSTS.replacen(OTHER_KEY, KEY, 1);
    let line = line_of(&shared, "public_key", 1);
    check(
        &shared,
        &[(line, 'E', "node beta has the public key of node alpha")],
    );
    let start = THREE_HOSTS.find("[[client]]").expect("a client");
    let end = THREE_HOSTS.find("[defaults]").expect("defaults");
    let nobody = format!("{}{}", &THREE_HOSTS[..start], &THREE_HOSTS[end..]);
    let line = line_of(&nobody, "clients = [", 0);
    check(&nobody, &[(line, 'W', "nobody is let in at tcp://*:7101")]);
}

/// The line of the occurrence `number` of `part`, from 0.
fn line_of(text: &str, part: &str, number: usize) -> usize {
    let (start, _) = text.match_indices(part).nth(number).expect(part);
    text[..start].matches('\n').count() + 1
}

#[test]
fn subjects_belong_to_one_channel() {
    check(
        &with(23, "subjects = [\"a\", \"orders.eu\"]"),
        &[(23, 'E', "of channel orders")],
    );
    check(
        &with(20, "subjects = [\"a.*\", \"a.b\"]"),
        &[(20, 'E', "of the same channel")],
    );
    let hash = "subjects = [\n  \"b\",\n  \"a.#.b\",\n]";
    check(&with(20, hash), &[(22, 'E', "'#' before its end")]);
    check(&with(20, "subjects = \"a..b\""), &[(20, 'E', "empty word")]);
    check(
        &with(20, "subjects = []"),
        &[(20, 'E', "captures no subject")],
    );
}

#[test]
fn copies_have_nodes_hosts_and_zones() {
    let replicas = |count: u32| with(18, &format!("[channel.orders]\nreplicas = {count}"));
    check(
        &replicas(4),
        &[(19, 'E', "wants 4 replicas, but there are 3 nodes")],
    );
    check(&replicas(0), &[(19, 'E', "cannot have 0 replicas")]);
    check(&replicas(8), &[(19, 'E', "from 1 to 7")]);
    check(&replicas(1), &[(19, 'W', "write `replicas = 3` or more")]);
    check(&replicas(2), &[(19, 'W', "write `replicas = 3` or more")]);
    let single = SOUND.lines().take(7).collect::<Vec<_>>().join("\n");
    let single = format!("{single}\n[channel.x]\nkind = 'stream'\nsubjects = 'x'");
    check(&single, &[(8, 'E', "3 is the default")]);

    let hosts = SOUND.replace("name = \"a\"", "name = \"a\"\nhost = \"x\"");
    let hosts = hosts.replace("name = \"b\"", "name = \"b\"\nhost = \"x\"");
    check(
        &hosts,
        &[(20, 'W', "host x has 2 of the 3 copies of orders/0")],
    );
    let zones = SOUND.replace("name = \"a\"", "name = \"a\"\nzone = \"x\"");
    let zones = zones.replace("name = \"b\"", "name = \"b\"\nzone = \"x\"");
    check(
        &zones,
        &[
            (15, 'W', "node c has no `zone`"),
            (20, 'W', "stands still while zone x is away"),
        ],
    );
    let far = SOUND.replace("name = \"a\"", "name = \"a\"\nhost = \"x\"");
    let far = far.replace("name = \"b\"", "name = \"b\"\nhost = \"y\"");
    check(
        &far,
        &[
            (7, 'W', "node b cannot reach tcp://127.0.0.1:7102"),
            (8, 'W', "node b cannot reach tcp://127.0.0.1:7103"),
            (13, 'W', "node a cannot reach tcp://127.0.0.1:7202"),
            (14, 'W', "node a cannot reach tcp://127.0.0.1:7203"),
        ],
    );
}

#[test]
fn channels_are_sound() {
    let orders = |lines: &str| with(18, &format!("[channel.orders]\n{lines}"));
    check(
        &orders("partitions = 0"),
        &[(19, 'E', "cannot have 0 partitions")],
    );
    check(&orders("partitions = 1025"), &[(19, 'E', "from 1 to 1024")]);
    check(
        &orders("partitions = -1"),
        &[(19, 'E', "a whole number from 0 up")],
    );
    check(
        &orders("max_record = '65 MiB'"),
        &[(19, 'E', "from 1 B to 64.0 MiB")],
    );
    check(
        &orders("max_record = '8 MiB'"),
        &[(19, 'E', "raise `frame_max` in [limits]")],
    );
    check(
        &orders("max_record = 'big'"),
        &[(19, 'E', "a size such as")],
    );
    check(&orders("keep = { age = '7d', count = 5 }"), &[]);
    check(
        &orders("keep = { age = '0s' }"),
        &[(19, 'E', "would keep nothing")],
    );
    check(
        &orders("keep = { age = '9999y' }"),
        &[(19, 'E', "at most 500 years")],
    );
    check(&with(19, ""), &[(18, 'E', "channel orders has no `kind`")]);
    let signal =
        "[channel.ticks]\npartitions = 2\nreplicas = 3\nconfirm = 'quorum'\nkeep = {size = 1}";
    check(
        &with(21, signal),
        &[
            (22, 'E', "is a signal and cannot have `partitions`"),
            (23, 'E', "is a signal and cannot have `replicas`"),
            (24, 'E', "is a signal and cannot have `confirm`"),
            (25, 'E', "is a signal and cannot have `keep`"),
        ],
    );
    let many: String = (0..17)
        .map(|number| {
            format!("[channel.c{number}]\nkind='stream'\nsubjects='c{number}'\npartitions=1024\n")
        })
        .collect();
    let total = (87, 'E', "with channel c15 there are 16385 partitions");
    check(&format!("{SOUND}{many}"), &[total, (91, 'E', "17409")]);
}

#[test]
fn limits_have_ranges_and_fit_each_other() {
    let limits = |lines: &str| format!("{SOUND}[limits]\n{lines}\n");
    check(
        &limits("frame_max = '1 B'"),
        &[(25, 'E', "between 2.0 MiB and 256.0 MiB")],
    );
    check(
        &limits("sessions_max = '1 MiB'"),
        &[(25, 'E', "a whole number, without quotes")],
    );
    check(&limits("cache_bytes = 1.5"), &[(25, 'E', "a size such as")]);
    check(
        &limits("cache_bytes = 99999999999999999999"),
        &[(25, 'E', "from 0 up")],
    );
    check(
        &limits("cache_bytes = '9e99 GiB'"),
        &[(25, 'E', "a size such as")],
    );
    check(
        &limits("cache_bytes = '99999999999999999999999 PiB'"),
        &[(25, 'E', "lies between")],
    );
    check(
        &limits("\n\nsegment_bytes = '16 MiB'"),
        &[(27, 'E', "two of the largest commits")],
    );
    check(
        &limits("segment_bytes = '4 GiB'"),
        &[(25, 'E', "between 4.0 MiB and 3.0 GiB")],
    );
    check(
        &limits("uncommitted_bytes = '512 KiB'"),
        &[(25, 'E', "never take the largest record")],
    );
    check(
        &limits("session_inflight_bytes = '512 KiB'\nnode_inflight_bytes = '256 KiB'"),
        &[
            (25, 'E', "never publish the largest record"),
            (26, 'E', "at least what one session"),
        ],
    );
    check(
        &limits("subscription_window_bytes = '2 MiB'\nsession_window_bytes = '1 MiB'"),
        &[(26, 'E', "raise `session_window_bytes` to 2.0 MiB")],
    );
    check(
        &limits("sessions_max = 1000000"),
        &[(25, 'W', "let one node hold")],
    );
    check(
        &limits("frame_maxx = 1"),
        &[(25, 'E', "did you mean `frame_max`?")],
    );
    check(
        &limits("").replace("[limits]", "limits = 1"),
        &[(24, 'E', "has no key `limits`")],
    );
}

#[test]
fn a_plan_names_every_socket() {
    let topology = read(THREE_HOSTS).topology.expect("sound");
    let plan = plan(&topology);
    for node in &plan.nodes {
        let kinds = |kind| node.sockets.iter().filter(|own| own.kind == kind).count();
        // Two for clients and one for peers; two lanes and one SUB to each of two peers.
        assert_eq!((kinds(SocketKind::Router), kinds(SocketKind::Xpub)), (3, 1));
        assert_eq!((kinds(SocketKind::Dealer), kinds(SocketKind::Sub)), (4, 2));
        assert_eq!(Some(node), topology.node_plan(&node.name).as_ref());
        for link in &node.links {
            let peer = topology.node(&link.peer).expect("a node");
            assert_eq!((&link.peers, &link.signals), (&peer.peers, &peer.signals));
            assert_eq!(link.public_key, peer.public_key);
        }
        assert!(node.peer_keys.values().all(|peer| *peer != node.name));
        assert_eq!((node.peer_keys.len(), node.client_keys.len()), (2, 1));
    }
    assert_eq!(plan.partitions.len(), 15);
    assert!(
        plan.partitions
            .iter()
            .all(|own| own.leader == own.replicas[0])
    );
    assert_eq!(topology.node_plan(&NodeName::from("delta")), None);
}
