//! Promise 3 and what may be said of a publish whose leader was lost: nothing is reordered on the
//! way, and nothing is said to be stored nowhere that may be stored.

use serde_bytes::ByteBuf;
use weft::node::{Gauges, Input};
use weft::types::NodeName;
use weft::wire::Code;
use weft::wire::client::{From, Publish, Subscribe};

use super::{assert_refused, confirms, delivers};
use crate::kit::{Client, Fabric, record};

fn publish(fabric: &mut Fabric, client: &Client, id: u64) {
    let publish = Publish {
        id: Some(id),
        ..Publish::default()
    };
    let record = record("audit.x", "k", &id.to_string());
    fabric.publish(client, publish, &[record]);
}

/// `audit`'s preferred leader, who leads it, and the third node.
fn roles(fabric: &Fabric) -> (NodeName, NodeName, NodeName) {
    let view = fabric.view("a").partitions;
    let audit = view.iter().find(|view| view.channel == "audit");
    let preferred: NodeName = audit.expect("audit").preferred.as_str().into();
    let leader = fabric.leader("audit", 0).expect("a leader");
    let third = fabric
        .nodes
        .keys()
        .find(|node| **node != preferred && **node != leader);
    (preferred, leader, third.expect("three nodes").clone())
}

fn bodies(fabric: &mut Fabric, node: &NodeName, count: usize) -> Vec<String> {
    let client = fabric.client(node.as_str(), "reader");
    let subscribe = Subscribe {
        id: 1,
        pattern: "audit.#".to_owned(),
        from: Some(From::Start),
        ..Subscribe::default()
    };
    fabric.subscribe(&client, subscribe);
    let mut read = Vec::new();
    while read.len() < count {
        let heard = delivers(&fabric.answer(&client));
        read.extend(heard.into_iter().flat_map(|(_, bodies)| bodies));
    }
    read
}

// Promise 3: a publish that a leader did not take (it was handing over) waits at the client's node,
// and what the client published after it waits behind it.
#[test]
fn promise_3_a_publish_tried_again_by_its_node_is_not_overtaken() {
    let mut fabric = Fabric::ready();
    let preferred = fabric.leader("audit", 0).expect("a leader");
    fabric.kill(preferred.as_str());
    fabric.run_until("another leads", |fabric| {
        fabric
            .leader("audit", 0)
            .is_some_and(|now| now != preferred)
    });
    for _ in 0..100 {
        fabric.tick();
    }
    fabric.start(preferred.as_str());
    let leader = fabric.leader("audit", 0).unwrap_or_else(|| {
        let alive = fabric.nodes.keys().find(|node| **node != preferred);
        let view = fabric.view(alive.expect("two are").as_str());
        let audit = view.partitions.into_iter().find(|p| p.channel == "audit");
        audit.expect("audit").leader.expect("led").as_str().into()
    });
    let caught_up = |fabric: &Fabric| {
        let partitions = fabric.view(leader.as_str()).partitions;
        let audit = partitions.into_iter().find(|p| p.channel == "audit");
        let replicas = audit.expect("audit").replicas;
        let back = replicas.iter().find(|r| r.node == preferred.as_str());
        back.is_some_and(|replica| replica.lag == Some(0))
    };
    fabric.run_until("the preferred leader has caught up", caught_up);
    let third = fabric
        .nodes
        .keys()
        .find(|node| **node != preferred && **node != leader)
        .expect("three nodes")
        .clone();
    // The hand-over begins, and what calls the other to lead is lost.
    fabric.cut.insert((leader.clone(), preferred.clone()));
    fabric.tick();
    let client = fabric.client(third.as_str(), "one");
    publish(&mut fabric, &client, 1);
    fabric.tick();
    assert!(fabric.inbox(&client).is_empty(), "nobody takes it now");
    // The leader gives the hand-over up, and takes publishes again.
    for _ in 0..20 {
        fabric.input(leader.as_str(), Input::Tick);
    }
    publish(&mut fabric, &client, 2);
    fabric.cut.clear();
    let confirmed = |fabric: &Fabric| fabric.view(third.as_str()).channels["audit"].accepted == 2;
    fabric.run_until("both are stored", confirmed);
    assert_eq!(bodies(&mut fabric, &third, 2), ["1", "2"]);
}

// [C29] `no_leader`, `disk_full` and `busy` say that nothing was stored. That is only said where it
// is known: not of a publish that a leader took before it died.
#[test]
fn a_publish_that_a_lost_leader_may_have_stored_is_not_called_refused() {
    let mut fabric = Fabric::ready();
    let (_, leader, third) = roles(&fabric);
    let client = fabric.client(third.as_str(), "one");
    fabric.cut.insert((leader.clone(), third.clone()));
    let numbered = Publish {
        id: Some(1),
        producer: Some(ByteBuf::from(b"p".to_vec())),
        sequence: Some(1),
        ..Publish::default()
    };
    let records = [record("audit.x", "k", "1")];
    fabric.publish(&client, numbered.clone(), &records);
    assert!(fabric.inbox(&client).is_empty(), "its confirm is lost");
    fabric.kill(leader.as_str());
    let gauges = |disk_free| {
        Input::Gauges(Gauges {
            disk_free,
            ..Gauges::default()
        })
    };
    for node in ["a", "b", "c"] {
        fabric.input(node, gauges(1));
    }
    // Whoever leads now holds it, whatever it says of its disk.
    let answer = fabric.answer(&client);
    match confirms(&answer).first() {
        Some(confirmed) => assert!(confirmed.repeated),
        None => drop(assert_refused(&answer, Code::OutcomeUnknown)),
    }
    // [C26] and says so when asked, before it looks at its disk.
    fabric.publish(&client, numbered, &records);
    assert!(confirms(&fabric.answer(&client))[0].repeated);
}
