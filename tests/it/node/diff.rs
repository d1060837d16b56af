//! What `weft diff` says of a change is what nodes do with it.

use weft::node::{Node, NodeConfig, NodeError, Recovery};
use weft::topology::diff;
use weft::types::{Incarnation, NodeName};

use crate::kit::{Fabric, parse};

const QUICKSTART: &str = include_str!("../../../topology/quickstart.toml");

/// Why a node of a fabric that ran the quickstart does not start with `text`.
fn refusal(fabric: &Fabric, name: &str, text: &str) -> Option<NodeError> {
    let topology = parse(text);
    let mut recovery = Recovery::new(&topology.limits);
    for item in &fabric.journals[&NodeName::from(name)] {
        let taken = recovery.handle(item.clone());
        taken.expect("a journal this kit kept");
    }
    let config = NodeConfig {
        topology,
        name: name.into(),
        incarnation: Incarnation(1),
        seed: 1,
        replaces: false,
    };
    Node::new(config, recovery, fabric.now).err()
}

/// The quickstart of the next epoch with each of `changes` made to it.
fn changed(changes: &[(&str, &str)]) -> String {
    let next = QUICKSTART.replace("epoch = 1 ", "epoch = 2 ");
    changes.iter().fold(next, |text, (old, new)| {
        assert!(text.contains(old), "no {old}");
        text.replace(old, new)
    })
}

#[test]
fn what_a_diff_refuses_is_what_nodes_refuse() {
    let fabric = Fabric::ready();
    let node = "[[node]]\nname = \"d\"\nclients = \"tcp://127.0.0.1:7401\"\n\
        peers = \"tcp://127.0.0.1:7402\"\nsignals = \"tcp://127.0.0.1:7403\"\n";
    let channel = "[channel.later]\nkind = \"stream\"\nsubjects = [\"later.#\"]\nreplicas = 3\n";
    let stored = "kind = \"stream\"\nsubjects = [\"audit.#\"]\npartitions = 1\nreplicas = 3\n";
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[], true),
        (&[("[limits]", &format!("{channel}[limits]"))], true),
        (&[("[channel.audit]", "[channel.other]")], true),
        (&[("kind = \"signal\"", "kind = \"stream\"")], true),
        (
            &[("subjects = [\"orders.#\"]", "subjects = [\"bills.#\"]")],
            true,
        ),
        (
            &[("confirm = \"quorum\"\n", "keep = { count = 5 }\n")],
            true,
        ),
        (
            &[("segment_bytes = \"16 MiB\"", "segment_bytes = \"32 MiB\"")],
            true,
        ),
        (&[("name = \"a\"", "name = \"a\"\nhost = \"x\"")], true),
        (&[("tcp://127.0.0.1:7302", "tcp://127.0.0.1:7402")], true),
        (&[("partitions = 4", "partitions = 5")], false),
        (&[("replicas = 3", "replicas = 1")], false),
        (
            &[(stored, "kind = \"signal\"\nsubjects = [\"audit.#\"]\n")],
            false,
        ),
        (&[("name = \"c\"", "name = \"d\"")], false),
        (
            &[(
                "[[node]]\nname = \"a\"",
                &format!("{node}[[node]]\nname = \"a\""),
            )],
            false,
        ),
    ];
    let old = parse(QUICKSTART);
    for (changes, taken) in cases {
        let text = changed(changes);
        let new = parse(&text);
        let diff = diff(&old, &new);
        assert_eq!(diff.is_taken(), *taken, "{diff:#?}");
        let stays = |name: &&&str| new.node(&NodeName::from(**name)).is_some();
        let nodes = ["a", "b", "c"];
        let refused = nodes
            .iter()
            .filter(stays)
            .filter_map(|name| refusal(&fabric, name, &text));
        let refused: Vec<NodeError> = refused.collect();
        assert_eq!(refused.is_empty(), *taken, "{changes:?}: {refused:?}");
    }
}

/// What is taken without a word is taken one node at a time, and served meanwhile.
#[test]
fn a_file_that_is_taken_is_taken_node_by_node() {
    let mut fabric = Fabric::ready();
    let channel = "[channel.later]\nkind = \"stream\"\nsubjects = [\"later.#\"]\nreplicas = 3\n";
    let text = changed(&[("[limits]", &format!("{channel}[limits]"))]);
    assert!(diff(&parse(QUICKSTART), &parse(&text)).is_taken());
    for name in ["a", "b", "c"] {
        fabric.kill(name);
        fabric.run_until("what the others hold is led", |fabric| {
            fabric.leader("audit", 0).is_some()
        });
        fabric.start_with(name, parse(&text));
        fabric.run_until("it is led with the node", |fabric| {
            fabric.leader("audit", 0).is_some()
        });
    }
    fabric.run_until("what is new is founded", Fabric::is_healthy);
    assert!(fabric.leader("later", 0).is_some());
}
