//! What is said of each change between two files.

use super::{KEY, QUICKSTART, SOUND, THREE_HOSTS, read};
use crate::topology::{Topology, Verdict, diff};

fn topology(text: &str) -> Topology {
    let parsed = read(text);
    parsed
        .topology
        .unwrap_or_else(|| panic!("{:#?}", parsed.problems))
}

/// Asserts what is said of `text` with `changes` made to it and its epoch raised: each change's
/// verdict, and a part of what changes or of what comes of it.
#[track_caller]
fn check(text: &str, changes: &[(&str, &str)], expected: &[(Verdict, &str)]) {
    let next = text.replacen("name = \"shop\"", "name = \"shop\"\nepoch = 2", 1);
    let next = next.replacen("epoch = 2\nepoch = 1", "epoch = 2", 1);
    let next = changes.iter().fold(next, |text, (old, new)| {
        assert!(text.contains(old), "no {old}");
        text.replacen(old, new, 1)
    });
    let found = diff(&topology(text), &topology(&next));
    assert_eq!((found.old_epoch, found.new_epoch), (1, 2));
    let fits = |(change, (verdict, part)): (&crate::topology::Change, &(Verdict, &str))| {
        change.verdict == *verdict && format!("{} | {}", change.what, change.why).contains(part)
    };
    let all = found.changes.len() == expected.len();
    let all = all && found.changes.iter().zip(expected).all(fits);
    assert!(all, "expected {expected:#?}, found {:#?}", found.changes);
}

use Verdict::{Disturbs, Refused, Taken};

#[test]
fn the_same_file_changes_nothing() {
    for text in [SOUND, QUICKSTART, THREE_HOSTS] {
        let found = diff(&topology(text), &topology(text));
        assert_eq!((found.is_taken(), found.changes), (true, Vec::new()));
    }
    check(SOUND, &[], &[]);
    // Neither the order of the nodes nor a default that is written out is a change.
    let turned = SOUND
        .replace("\"a\"", "\"x\"")
        .replace("\"c\"", "\"a\"")
        .replace("\"x\"", "\"c\"");
    let turned = turned
        .replace(":71", ":x")
        .replace(":73", ":71")
        .replace(":x", ":73");
    let turned = turned.replace("kind = \"stream\"", "kind = \"stream\"\npartitions = 1");
    assert_eq!(diff(&topology(SOUND), &topology(&turned)).changes, []);
}

#[test]
fn the_epoch_is_raised_with_every_change() {
    let old = topology(THREE_HOSTS);
    let changed = THREE_HOSTS.replace("partitions = 12", "partitions = 13");
    let found = diff(&old, &topology(&changed.replace("epoch = 1", "epoch = 0")));
    assert_eq!(found.changes[0].verdict, Refused);
    assert!(
        found.changes[0].what.contains("from 1 down to 0"),
        "{found:?}"
    );
    let added = THREE_HOSTS.replace(
        "[channel.presence]",
        "[channel.x]\nsubjects = \"x\"\n[channel.presence]",
    );
    let found = diff(&old, &topology(&added));
    assert!(!found.is_taken(), "{found:?}");
    assert!(
        found.changes[0].why.contains("write `epoch = 2`"),
        "{found:?}"
    );
    let name = topology(
        &THREE_HOSTS
            .replace("\"shop\"", "\"mall\"")
            .replace("epoch = 1", "epoch = 2"),
    );
    let found = diff(&old, &name);
    assert_eq!(
        (found.changes.len(), found.changes[0].verdict),
        (1, Refused)
    );
}

#[test]
fn channels_come_and_go_and_keep_their_shape() {
    let later = "[channel.later]\nkind = \"stream\"\nsubjects = \"later\"\n[channel.ticks]";
    check(
        SOUND,
        &[("[channel.ticks]", later)],
        &[(
            Taken,
            "channel later is added, a stream | its partitions are founded once all",
        )],
    );
    check(
        SOUND,
        &[("[channel.orders]", "[channel.bills]")],
        &[
            (Taken, "channel bills is added"),
            (Disturbs, "channel orders is removed"),
        ],
    );
    check(
        SOUND,
        &[("kind = \"stream\"", "kind = \"stream\"\npartitions = 2")],
        &[(Refused, "`partitions` of channel orders from 1 to 2")],
    );
    check(
        SOUND,
        &[("kind = \"stream\"", "kind = \"stream\"\nreplicas = 1")],
        &[(
            Refused,
            "1 of 1 partitions of channel orders would move, by `replicas` from 3 to 1",
        )],
    );
    check(
        SOUND,
        &[("kind = \"stream\"", "kind = \"signal\"")],
        &[(Refused, "channel orders from stream to signal")],
    );
    check(
        SOUND,
        &[("kind = \"signal\"", "kind = \"stream\"")],
        &[(Disturbs, "channel ticks from signal to stream")],
    );
}

#[test]
fn what_a_channel_says_of_records_is_taken() {
    check(
        SOUND,
        &[("[\"orders.#\"]", "[\"bills\", \"orders.*\"]")],
        &[
            (Disturbs, "channel orders captures \"orders.#\" no more"),
            (Taken, "channel orders captures \"bills\", \"orders.*\" too"),
        ],
    );
    check(
        THREE_HOSTS,
        &[
            ("age = \"30d\"", "age = \"60d\""),
            ("partitions = 3", "partitions = 3\nconfirm = \"none\""),
        ],
        &[
            (Taken, "`keep` of channel orders | more is kept"),
            (Taken, "`confirm` of channel payments from quorum to none"),
        ],
    );
    check(
        THREE_HOSTS,
        &[
            ("size = \"10 GiB\"", "count = 5"),
            ("partitions = 3", "partitions = 3\nmax_record = 9"),
        ],
        &[
            (
                Disturbs,
                "`keep` of channel orders | what it keeps no more is let go of for good",
            ),
            (
                Disturbs,
                "`max_record` of channel payments from 262144 to 9 bytes",
            ),
        ],
    );
}

#[test]
fn nodes_come_and_go_where_nothing_moves() {
    let node = "[[node]]\nname = \"d\"\nclients = \"ipc://d1\"\npeers = \"ipc://d2\"\n\
        signals = \"ipc://d3\"\n";
    let four = format!("{node}[channel.orders]");
    // A fourth node takes what it wins, which may be nothing.
    let old = topology(SOUND);
    let new = topology(&SOUND.replacen("[channel.orders]", &four, 1).replacen(
        "\"shop\"",
        "\"shop\"\nepoch = 2",
        1,
    ));
    let moves = old.placement() != new.placement();
    let found = diff(&old, &new);
    assert!(found.changes[0].what == "node d is added" && found.changes[0].verdict == Taken);
    assert_eq!(found.is_taken(), !moves, "{found:?}");
    check(
        SOUND,
        &[("name = \"c\"", "name = \"z\"")],
        &[
            (Disturbs, "node c is removed"),
            (Taken, "node z is added"),
            (
                Refused,
                "1 of 1 partitions of channel orders would move: orders/0 from ",
            ),
        ],
    );
}

#[test]
fn nodes_change_where_they_are() {
    check(
        SOUND,
        &[
            ("tcp://127.0.0.1:7101", "tcp://127.0.0.1:7901"),
            ("tcp://127.0.0.1:7102", "ipc://p"),
        ],
        &[
            (
                Disturbs,
                "`clients` of node a from tcp://127.0.0.1:7101 to tcp://127.0.0.1:7901",
            ),
            (
                Disturbs,
                "`peers` of node a from tcp://127.0.0.1:7102 to ipc:///etc/weft/p",
            ),
        ],
    );
    let other = "=2n[N2Vqp}l6V5&D4CT)R[$ZdIO%0.PTlj#QyvcB";
    check(
        THREE_HOSTS,
        &[
            (KEY, other),
            ("zone = \"north\"", "zone = \"west\""),
            ("/var/lib/weft/beta", "/srv/weft"),
            ("\"gamma.secret\"", "\"keys/gamma.secret\""),
            ("name = \"billing\"", "name = \"bills\""),
        ],
        &[
            (
                Taken,
                "from host alpha.example.net, zone north to host alpha.example.net, zone west",
            ),
            (Disturbs, "`public_key` of node alpha"),
            (Disturbs, "`data` of node beta | move the folder"),
            (Taken, "`secret_key_file` of node gamma"),
            (Disturbs, "client billing is removed"),
            (Taken, "client bills is added"),
        ],
    );
}

#[test]
fn limits_are_told_as_they_are_written() {
    let limits = "cache_bytes = '8 MiB'\nframe_max = '16 MiB'\nproducer_idle = '2d'\n";
    check(
        SOUND,
        &[(
            "[channel.ticks]",
            &format!("[limits]\n{limits}[channel.ticks]"),
        )],
        &[
            (Disturbs, "limit `frame_max` from 8.0 MiB to 16.0 MiB"),
            (Taken, "limit `cache_bytes` from 4.0 MiB to 8.0 MiB"),
            (Disturbs, "limit `producer_idle` from 1day to 2days"),
        ],
    );
}
