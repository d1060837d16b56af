//! Founding, elections, hand-over, strangers, and peers that say what cannot be.

use bytes::Bytes;
use weft::node::{Input, Node, NodeConfig, NodeError, Recovery};
use weft::types::{Incarnation, JournalItem, NodeName, Span};
use weft::wire::client::{From, Publish, Subscribe};
use weft::wire::encode_peer;
use weft::wire::peer::Envelope;
use weft::wire::records::encode_record;

use super::{confirms, delivers};
use crate::kit::{Client, Fabric, parse, quickstart, record};

fn store(fabric: &mut Fabric, client: &Client, body: &str) -> bool {
    let publish = Publish {
        id: Some(1),
        ..Publish::default()
    };
    fabric.publish(client, publish, &[record("audit.x", "k", body)]);
    !confirms(&fabric.answer(client)).is_empty()
}

/// Bytes on all links, for each byte of records that a follower is sent.
#[test]
fn records_cross_each_link_once_and_little_beside_them() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let client = fabric.client(leader.as_str(), "one");
    let body = "x".repeat(128);
    let records = vec![record("audit.x", "k", &body); 500];
    let mut encoded = Vec::new();
    records
        .iter()
        .for_each(|one| encode_record(one, &mut encoded));
    let before = fabric.peer_bytes;
    let publishes = 40;
    for id in 0..publishes {
        let publish = Publish {
            id: Some(id),
            ..Publish::default()
        };
        fabric.publish(&client, publish, &records);
        assert!(!confirms(&fabric.answer(&client)).is_empty());
    }
    let sent = (fabric.peer_bytes - before) as f64;
    let payload = (2 * publishes as usize * encoded.len()) as f64;
    let ratio = sent / payload;
    assert!((1.0..1.1).contains(&ratio), "{ratio}");
}

#[test]
fn a_partition_is_founded_once_by_all_its_replicas() {
    let mut fabric = Fabric::new(quickstart());
    fabric.kill("c");
    for _ in 0..100 {
        fabric.tick();
    }
    let founded = |fabric: &Fabric| {
        let items = fabric.journals.values().flatten();
        items
            .filter(|item| matches!(item, JournalItem::Founding { .. }))
            .count()
    };
    assert_eq!(founded(&fabric), 0, "one replica has not stated its life");
    let problems = fabric.view("a").problems;
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("waits for c")),
        "{problems:?}"
    );
    fabric.start("c");
    fabric.run_until("every partition is led", Fabric::is_healthy);
    assert_eq!(founded(&fabric), 15, "five partitions, three replicas each");
    assert!(
        fabric.is_settled(),
        "the founder leads first: {:#?}",
        fabric.notes
    );
}

#[test]
fn a_follower_takes_over_and_the_preferred_leader_gets_it_back() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let other = fabric
        .nodes
        .keys()
        .find(|node| **node != leader)
        .expect("another")
        .clone();
    let client = fabric.client(other.as_str(), "one");
    assert!(store(&mut fabric, &client, "1"));
    fabric.kill(leader.as_str());
    fabric.run_until("another leads", |fabric| {
        fabric.leader("audit", 0).is_some_and(|now| now != leader)
    });
    assert!(store(&mut fabric, &client, "2"));
    fabric.start(leader.as_str());
    fabric.run_until("the preferred leader leads again", Fabric::is_settled);
    assert!(store(&mut fabric, &client, "3"));
    let subscribe = Subscribe {
        id: 1,
        pattern: "audit.#".to_owned(),
        from: Some(From::Start),
        ..Subscribe::default()
    };
    fabric.subscribe(&client, subscribe);
    fabric.run_until("all is read", |fabric| {
        fabric.view(other.as_str()).sessions.credit_used_bytes > 60
    });
    let heard = delivers(&fabric.inbox(&client));
    let bodies: Vec<String> = heard.into_iter().flat_map(|(_, bodies)| bodies).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[test]
fn a_node_that_stops_hands_over_what_it_leads() {
    let mut fabric = Fabric::ready();
    fabric.input("a", Input::Stop);
    fabric.run_until("it has stopped", |fabric| {
        fabric.stopped.contains(&NodeName::from("a"))
    });
    let leads = fabric
        .view("a")
        .partitions
        .iter()
        .filter(|p| p.role == "leader")
        .count();
    assert_eq!(leads, 0);
    fabric.kill("a");
    let client = fabric.client("b", "one");
    assert!(store(&mut fabric, &client, "1"), "nobody had to time out");
}

/// Its followers are a quorum without it, so nobody has to wait for its disk.
#[test]
fn a_leader_whose_disk_stalls_hands_over_and_is_given_nothing_until_it_syncs() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let mut others = fabric.nodes.keys().filter(|node| **node != leader);
    let other = others.next().expect("another").clone();
    let client = fabric.client(other.as_str(), "one");
    fabric.slow_disks.insert(leader.clone());
    let publish = Publish {
        id: Some(1),
        ..Publish::default()
    };
    fabric.publish(&client, publish, &[record("audit.x", "k", "1")]);
    fabric.run_until("another leads", |fabric| {
        fabric.leader("audit", 0).is_some_and(|now| now != leader)
    });
    fabric.run_until("the publish is answered", |fabric| {
        fabric.view(other.as_str()).sessions.inflight_bytes == 0
    });
    fabric.inbox(&client);
    assert!(store(&mut fabric, &client, "2"), "without the slow disk");
    let problems = fabric.view(leader.as_str()).problems;
    let told = problems.iter().any(|text| text.contains("not finished"));
    assert!(told, "{problems:?}");
    // Far longer than the preferred leader waits where it is well.
    for _ in 0..200 {
        fabric.tick();
        assert_ne!(fabric.leader("audit", 0).as_ref(), Some(&leader));
    }
    fabric.slow_disks.clear();
    fabric.sync_slow_disks();
    fabric.run_until("it leads again", |fabric| {
        fabric.leader("audit", 0).as_ref() == Some(&leader)
    });
    assert!(store(&mut fabric, &client, "3"));
    assert!(fabric.view(leader.as_str()).problems.is_empty());
}

/// It follows well enough to look ready, and could not even write down a vote for itself.
#[test]
fn nothing_is_handed_back_to_a_node_whose_disk_stalls() {
    let mut fabric = Fabric::ready();
    let preferred = fabric.leader("audit", 0).expect("a leader");
    fabric.kill(preferred.as_str());
    fabric.run_until("another leads", |fabric| {
        fabric
            .leader("audit", 0)
            .is_some_and(|now| now != preferred)
    });
    let other = fabric.leader("audit", 0).expect("a leader");
    fabric.start(preferred.as_str());
    let client = fabric.client(other.as_str(), "one");
    assert!(store(&mut fabric, &client, "it follows"));
    for _ in 0..8 {
        fabric.tick();
    }
    fabric.slow_disks.insert(preferred.clone());
    for _ in 0..24 {
        // A hand-over that is only tried holds publishes up until it is given up.
        let asked = fabric.now.mono;
        assert!(store(&mut fabric, &client, "it stalls"));
        assert!(fabric.now.mono.since(asked) < Span::from_millis(300));
        for _ in 0..5 {
            fabric.tick();
        }
    }
    assert_eq!(fabric.leader("audit", 0), Some(other));
}

#[test]
fn an_emptied_folder_is_a_stranger_and_has_no_vote() {
    let mut fabric = Fabric::ready();
    fabric.kill("c");
    fabric.journals.clear();
    let topology = fabric.topology.clone();
    let incarnation = Incarnation(0xdead);
    let config = NodeConfig {
        topology: topology.clone(),
        name: "c".into(),
        incarnation,
        seed: 9,
        replaces: false,
    };
    let node = Node::new(config, Recovery::new(&topology.limits), fabric.now).expect("starts");
    fabric.nodes.insert("c".into(), node);
    fabric.run_until("it knows that it is a stranger", |fabric| {
        fabric
            .view("c")
            .partitions
            .iter()
            .all(|partition| partition.role == "stranger")
    });
    // It says so once, of all of them, and so does whoever leads some.
    for name in ["a", "b", "c"] {
        let problems = fabric.view(name).problems;
        let told: Vec<&String> = problems.iter().filter(|p| p.contains("no vote")).collect();
        assert!(told.len() <= 1, "{problems:#?}");
        if name == "c" {
            assert!(
                told[0].contains("orders/2, orders/3: founded with"),
                "{told:?}"
            );
            assert!(told[0].contains("`weft up --replace c`"), "{told:?}");
        }
    }
    // With `a` gone too there are two nodes, and one vote of three.
    fabric.kill("a");
    for _ in 0..200 {
        fabric.tick();
    }
    assert!(
        fabric
            .view("b")
            .partitions
            .iter()
            .all(|partition| partition.role != "leader")
    );
}

// [C21] what was confirmed is there after every node was killed at once.
#[test]
fn all_nodes_killed_together_lose_nothing_confirmed() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    for body in 0..10 {
        assert!(store(&mut fabric, &client, &body.to_string()));
    }
    for node in ["a", "b", "c"] {
        fabric.kill(node);
    }
    for node in ["a", "b", "c"] {
        fabric.start(node);
    }
    fabric.run_until("every partition is led", Fabric::is_healthy);
    let next: Vec<u64> = ["a", "b", "c"]
        .iter()
        .map(|node| fabric.view(node).partitions[0].next_offset)
        .collect();
    assert_eq!(next, [10, 10, 10]);
}

#[test]
fn a_follower_that_missed_more_than_the_cache_catches_up_from_the_journal() {
    let text = include_str!("../../../topology/quickstart.toml")
        .replace("cache_bytes = \"1 MiB\" ", "cache_bytes = \"64 KiB\" ");
    let mut fabric = Fabric::new(parse(&text));
    fabric.run_until("every partition is led", Fabric::is_healthy);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let follower = fabric
        .nodes
        .keys()
        .find(|node| **node != leader)
        .expect("one")
        .to_string();
    fabric.kill(&follower);
    let client = fabric.client(leader.as_str(), "one");
    let body = "x".repeat(10_000);
    for _ in 0..50 {
        assert!(store(&mut fabric, &client, &body));
    }
    fabric.start(&follower);
    fabric.run_until("it holds everything", |fabric| {
        let view = fabric.view(&follower);
        view.partitions
            .iter()
            .any(|p| p.channel == "audit" && p.next_offset == 50)
    });
    // A reader at the beginning is served from the journal too.
    let subscribe = Subscribe {
        id: 1,
        pattern: "audit.#".to_owned(),
        from: Some(From::Start),
        ..Subscribe::default()
    };
    fabric.subscribe(&client, subscribe);
    fabric.run_until("all is read", |fabric| {
        fabric.view(leader.as_str()).sessions.credit_used_bytes > 250_000
    });
}

#[test]
fn a_topology_that_moves_or_recounts_partitions_is_refused() {
    let fabric = Fabric::ready();
    let start = |text: &str| {
        let topology = parse(text);
        let mut recovery = Recovery::new(&topology.limits);
        for item in &fabric.journals[&NodeName::from("a")] {
            recovery
                .handle(item.clone())
                .expect("a journal this kit kept");
        }
        let incarnation = Incarnation(1);
        let config = NodeConfig {
            topology,
            name: "a".into(),
            incarnation,
            seed: 1,
            replaces: false,
        };
        Node::new(config, recovery, fabric.now).err()
    };
    let text = include_str!("../../../topology/quickstart.toml");
    assert!(start(text).is_none());
    let recounted = start(&text.replace("partitions = 4", "partitions = 5"));
    assert!(matches!(
        recounted,
        Some(NodeError::Repartitioned {
            had: 4,
            says: 5,
            ..
        })
    ));
    let moved = start(&text.replace("replicas = 3", "replicas = 1"));
    assert!(matches!(moved, Some(NodeError::Moved { .. })), "{moved:?}");
}

// [P2] [P4] a frame of another fabric, of a node nobody declared, or under this node's own name.
/// Another folder of b speaks in turn with b itself: it is said, and costs nothing.
#[test]
fn two_nodes_under_one_name_are_told_and_lose_nothing() {
    let mut fabric = Fabric::ready();
    let twin = Envelope {
        version: 1,
        fabric: "quickstart".to_owned(),
        node: "b".into(),
        incarnation: Incarnation(5),
        epoch: 1,
    };
    let client = fabric.client("a", "one");
    for _ in 0..3 {
        let frame = encode_peer(&twin, &[]);
        let principal = None;
        fabric.input("a", Input::PeerFrame { principal, frame });
        for _ in 0..12 {
            fabric.tick();
        }
    }
    let problems = fabric.view("a").problems;
    let told = |text: &String| text.contains("two nodes run under the name b");
    assert!(problems.iter().any(told), "{problems:?}");
    assert!(store(&mut fabric, &client, "1"));
    fabric.run_until("it is forgotten", Fabric::is_healthy);
}

#[test]
fn frames_of_strangers_have_no_effect_and_are_shown() {
    let mut fabric = Fabric::ready();
    let envelope = |fabric: &str, node: &str| Envelope {
        version: 1,
        fabric: fabric.to_owned(),
        node: node.into(),
        incarnation: Incarnation(5),
        epoch: 1,
    };
    for (envelope, principal, problem) in [
        (
            envelope("other", "b"),
            None,
            "belongs to the fabric \"other\"",
        ),
        (envelope("quickstart", "z"), None, "does not name it"),
        (
            envelope("quickstart", "a"),
            None,
            "under the name of this one",
        ),
        (
            envelope("quickstart", "b"),
            Some("c"),
            "key is that of another node",
        ),
    ] {
        let frame = encode_peer(&envelope, &[]);
        let principal = principal.map(str::to_owned);
        fabric.input("a", Input::PeerFrame { principal, frame });
        let problems = fabric.view("a").problems;
        assert!(
            problems.iter().any(|text| text.contains(problem)),
            "{problem}: {problems:?}"
        );
        fabric.run_until("it is forgotten", Fabric::is_healthy);
    }
    fabric.input(
        "a",
        Input::PeerFrame {
            principal: None,
            frame: Bytes::from_static(b"\xc1"),
        },
    );
    assert_eq!(fabric.view("a").sessions.bad_frames, 1);
}

#[test]
fn a_clock_an_hour_off_is_shown_and_breaks_nothing() {
    let mut fabric = Fabric::ready();
    let client = fabric.client("a", "one");
    assert!(store(&mut fabric, &client, "1"));
    // The kit has one clock; a node that was stepped with another one states that.
    let off = weft::types::Now {
        wall: weft::types::Wall(fabric.now.wall.0 + 3_600_000),
        ..fabric.now
    };
    let mut outbox = Vec::new();
    let late = weft::types::Now {
        mono: off.mono + weft::types::limits::PEER_BEAT,
        ..off
    };
    let node = fabric.nodes.get_mut(&NodeName::from("b")).expect("b");
    node.step(late, [Input::Tick], &mut outbox);
    for output in outbox {
        if let weft::node::Output::ToPeer { peer, frame, .. } = output {
            fabric.input(
                peer.as_str(),
                Input::PeerFrame {
                    principal: None,
                    frame,
                },
            );
        }
    }
    let problems = fabric.view("a").problems;
    let shown = problems
        .iter()
        .any(|problem| problem.contains("clock of b") && problem.contains("ahead"));
    assert!(shown, "{problems:?}");
    assert!(store(&mut fabric, &client, "2"));
}

// [P3] different epochs do not cut links: nodes work with what both know.
#[test]
fn nodes_of_different_epochs_work_with_what_both_know() {
    let mut fabric = Fabric::ready();
    let newer = include_str!("../../../topology/quickstart.toml").replace("epoch = 1", "epoch = 2")
        + "\n[channel.later]\nkind = \"stream\"\nsubjects = [\"later.#\"]\nreplicas = 3\n";
    fabric.kill("b");
    fabric.start_with("b", parse(&newer));
    let led = |fabric: &Fabric| fabric.leader("audit", 0).is_some();
    fabric.run_until("what both know is led", led);
    let client = fabric.client("b", "one");
    assert!(store(&mut fabric, &client, "1"));
    let epochs = |fabric: &Fabric, node: &str| {
        let peers = fabric.view(node).peers;
        (
            fabric.view(node).epoch,
            peers
                .iter()
                .filter_map(|peer| peer.epoch)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(epochs(&fabric, "a"), (1, vec![2, 1]));
    assert_eq!(epochs(&fabric, "b"), (2, vec![1, 1]));
    // What only one knows waits for the others, and says so.
    let problems = fabric.view("b").problems;
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("later/0: not founded"))
    );
    for node in ["a", "c"] {
        fabric.kill(node);
        fabric.start_with(node, parse(&newer));
    }
    fabric.run_until("all is led", Fabric::is_healthy);
}
