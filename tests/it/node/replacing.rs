//! A node whose data folder is gone for good: an empty one takes its place, and has a vote only
//! once it holds what that needs.

use weft::types::{JournalItem, NodeName};
use weft::wire::client::Publish;

use super::confirms;
use crate::kit::{Fabric, parse, record};

/// Publishes a record through a node; whether it was confirmed before many ticks.
fn store(fabric: &mut Fabric, node: &str, body: &str) -> bool {
    let client = fabric.client(node, &format!("writer of {body}"));
    let publish = Publish {
        id: Some(1),
        ..Publish::default()
    };
    fabric.publish(&client, publish, &[record("audit.x", "k", body)]);
    for _ in 0..100 {
        if !confirms(&fabric.inbox(&client)).is_empty() {
            return true;
        }
        fabric.tick();
    }
    false
}

fn roles(fabric: &Fabric, node: &str) -> Vec<String> {
    let partitions = fabric.view(node).partitions;
    partitions.into_iter().map(|own| own.role).collect()
}

fn next_offset(fabric: &Fabric, node: &str) -> u64 {
    let partitions = fabric.view(node).partitions;
    let mut audit = partitions.into_iter().filter(|own| own.channel == "audit");
    audit.next().expect("it holds it").next_offset
}

fn replace(fabric: &mut Fabric, node: &str) {
    fabric.wipe(node);
    fabric.start_replacing(node);
    fabric.run_until("the new folder is filled and all is well", |fabric| {
        fabric.is_settled() && roles(fabric, node).iter().all(|role| role != "learner")
    });
}

fn says(fabric: &Fabric, node: &str, what: &str) -> bool {
    let problems = fabric.view(node).problems;
    problems.iter().any(|problem| problem.contains(what))
}

// Promise 1: after it, any two of the three hold everything and go on, the new folder among them;
// again and again, for each node, through restarts of all.
#[test]
fn an_empty_folder_takes_the_place_of_one_that_is_gone() {
    let mut fabric = Fabric::ready();
    let mut stored = 0;
    for (round, node) in ["c", "a", "b", "c"].into_iter().enumerate() {
        let through = if node == "b" { "c" } else { "b" };
        for number in 0..5 {
            assert!(store(&mut fabric, through, &format!("{round}/{number}")));
            stored += 1;
        }
        replace(&mut fabric, node);
        assert_eq!(next_offset(&fabric, node), stored);
        // Without either of the others the new one is needed.
        for other in ["a", "b", "c"].into_iter().filter(|other| *other != node) {
            fabric.kill(other);
            fabric.run_until("two of three go on", |fabric| {
                roles(fabric, node).iter().all(|role| role != "candidate")
                    && fabric
                        .leader("audit", 0)
                        .is_some_and(|leader| leader.as_str() != other)
            });
            assert!(store(
                &mut fabric,
                node,
                &format!("{round} without {other}")
            ));
            stored += 1;
            fabric.start(other);
            fabric.run_until("all is well", Fabric::is_settled);
        }
    }
    for node in ["a", "b", "c"] {
        fabric.kill(node);
    }
    for node in ["a", "b", "c"] {
        fabric.start(node);
    }
    fabric.run_until("all is well", Fabric::is_settled);
    for node in ["a", "b", "c"] {
        assert_eq!(next_offset(&fabric, node), stored);
    }
}

// Promise 2: until it has caught up, a majority is one of the folders of before.
#[test]
fn a_folder_that_is_being_filled_has_no_vote() {
    let mut fabric = Fabric::ready();
    assert!(store(&mut fabric, "b", "before"));
    fabric.wipe("c");
    fabric.slow_disks.insert("c".into());
    fabric.start_replacing("c");
    for _ in 0..100 {
        // The founding records are synced, and nothing more.
        if roles(&fabric, "c").iter().any(|role| role == "unfounded") {
            fabric.sync_slow_disks();
        }
        fabric.tick();
    }
    assert!(roles(&fabric, "c").iter().all(|role| role == "learner"));
    assert!(says(&fabric, "c", "being filled in this data folder"));
    assert!(says(&fabric, "b", "is being filled and has 0 of") || says(&fabric, "a", "has 0 of"));
    fabric.kill("a");
    for _ in 0..200 {
        fabric.tick();
    }
    assert!(!store(&mut fabric, "b", "alone"));
    assert!(roles(&fabric, "c").iter().all(|role| role == "learner"));
    fabric.slow_disks.clear();
    fabric.sync_slow_disks();
    for _ in 0..200 {
        fabric.tick();
    }
    assert!(!roles(&fabric, "b").iter().any(|role| role == "leader"));
    fabric.start("a");
    fabric.run_until("all is well", Fabric::is_settled);
}

// Whenever it stops on the way, it goes on with what it has, and need not be told again what for.
#[test]
fn a_replacement_goes_on_after_a_stop_at_any_moment() {
    for ticks in 0..40 {
        let mut fabric = Fabric::ready();
        assert!(store(&mut fabric, "b", "before"));
        fabric.wipe("a");
        fabric.start_replacing("a");
        for _ in 0..ticks {
            fabric.tick();
        }
        let victim = ["a", "b", "c"][ticks % 3];
        fabric.kill(victim);
        let founded = fabric.journals[&NodeName::from("a")]
            .iter()
            .filter(|item| matches!(item, JournalItem::Founding { .. }));
        match victim == "a" && founded.count() < roles(&fabric, "b").len() {
            true => fabric.start_replacing(victim),
            false => fabric.start(victim),
        }
        fabric.run_until("all is well", Fabric::is_settled);
        assert_eq!(
            next_offset(&fabric, "a"),
            1,
            "stopped {victim} after {ticks}"
        );
        fabric.kill("c");
        fabric.run_until("two of three go on", |fabric| {
            let leader = fabric.leader("audit", 0);
            leader.is_some_and(|leader| leader.as_str() != "c")
        });
        assert!(
            store(&mut fabric, "a", "after"),
            "stopped {victim} after {ticks}"
        );
    }
}

// The folder that was to take the place of one is gone as well: neither is ever waited for.
#[test]
fn a_folder_that_is_lost_while_it_is_filled_is_replaced_like_any_other() {
    for ticks in 0..40 {
        let mut fabric = Fabric::ready();
        assert!(store(&mut fabric, "b", "before"));
        fabric.wipe("a");
        fabric.start_replacing("a");
        for _ in 0..ticks {
            fabric.tick();
        }
        replace(&mut fabric, "a");
        assert_eq!(next_offset(&fabric, "a"), 1, "after {ticks}");
        for node in ["a", "b", "c"] {
            let partitions = fabric.view(node).partitions;
            let replicas = partitions.iter().map(|own| own.replicas.len());
            assert!(replicas.max() <= Some(3), "after {ticks}: {partitions:#?}");
        }
    }
}

// The log of the others no longer begins at its beginning.
#[test]
fn an_empty_folder_is_filled_with_a_snapshot_and_what_follows() {
    let text = include_str!("../../../topology/quickstart.toml");
    let audit = "[channel.audit]\n";
    let text = text.replace(audit, &format!("{audit}keep = {{ count = 3 }}\n"));
    let text = text.replace("segment_bytes = \"16 MiB\"", "segment_bytes = \"9 MiB\"");
    let mut fabric = Fabric::new(parse(&text));
    fabric.run_until("every partition is led", Fabric::is_settled);
    let body = "x".repeat(60_000);
    for _ in 0..400 {
        assert!(store(&mut fabric, "b", &body));
        fabric.tick();
    }
    let mut snapshots = 0;
    for node in ["c", "a"] {
        replace(&mut fabric, node);
        assert_eq!(next_offset(&fabric, node), 400);
        let items = fabric.journals[&NodeName::from(node)].iter();
        snapshots += items
            .filter(|item| matches!(item, JournalItem::Snapshot { .. }))
            .count();
    }
    assert!(snapshots >= 2, "{snapshots}");
    // The second one's state names the first one's new folder.
    fabric.kill("b");
    assert!(store(&mut fabric, "c", "after"));
    for node in ["a", "c"] {
        fabric.kill(node);
        fabric.start(node);
    }
    fabric.run_until("two of three go on", |fabric| {
        fabric
            .leader("audit", 0)
            .is_some_and(|leader| leader.as_str() != "b")
    });
    assert!(store(&mut fabric, "c", "after the restart"));
}

// Promise 2: the votes of a folder that was replaced count no more, whatever it holds.
#[test]
fn a_folder_that_was_replaced_has_no_vote_when_it_comes_back() {
    let mut fabric = Fabric::ready();
    assert!(store(&mut fabric, "b", "before"));
    let former = fabric.journals[&NodeName::from("c")].clone();
    replace(&mut fabric, "c");
    assert!(store(&mut fabric, "b", "after"));
    fabric.kill("c");
    fabric.journals.insert("c".into(), former);
    fabric.wiped.clear();
    fabric.start("c");
    fabric.run_until("it is noticed", |fabric| {
        ["a", "b"]
            .iter()
            .any(|node| says(fabric, node, "has no vote, that is"))
    });
    fabric.kill("a");
    for _ in 0..200 {
        fabric.tick();
    }
    assert!(!store(&mut fabric, "b", "alone"));
    for node in ["b", "c"] {
        assert!(
            !roles(&fabric, node).iter().any(|role| role == "leader"),
            "{node}"
        );
    }
    fabric.start("a");
    fabric.run_until("the others go on", |fabric| {
        roles(fabric, "a").iter().any(|role| role == "leader")
    });
    assert!(store(&mut fabric, "b", "with a"));
}
