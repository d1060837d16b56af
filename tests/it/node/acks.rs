//! When an ack is answered.

use weft::types::NodeName;
use weft::wire::client::{Ack, Request};

use super::cursors::{ack, cursor_replies, open, store};
use crate::kit::Fabric;

// [C48]
#[test]
fn an_ack_is_answered_when_a_majority_has_synced_it_and_not_before() {
    let mut fabric = Fabric::ready();
    store(&mut fabric, 0, 3);
    let leader = fabric.leader("audit", 0).expect("a leader");
    let client = fabric.client(leader.as_str(), "reader");
    open(&mut fabric, &client);
    fabric.slow_disks = ["a", "b", "c"].map(NodeName::from).into();
    let asked = Ack {
        request: Some(1),
        ..ack(1)
    };
    fabric.send(&client, &Request::Ack(asked), &[]);
    fabric.tick();
    assert_eq!(fabric.inbox(&client), []);
    fabric.slow_disks.clear();
    fabric.sync_slow_disks();
    let answer = cursor_replies(&fabric.answer(&client));
    assert_eq!(answer[0].positions[0].floor, 2);
}

#[test]
fn an_ack_is_answered_once_it_is_committed_and_not_with_the_next_tick() {
    let mut fabric = Fabric::ready();
    let leader = fabric.leader("audit", 0).expect("a leader");
    store(&mut fabric, 0, 2);
    let reader = fabric.client(leader.as_str(), "reader");
    assert_eq!(open(&mut fabric, &reader).offsets, [0, 1]);
    // So that the answer which commits is the last thing that comes.
    let other = fabric.nodes.keys().find(|node| **node != leader);
    fabric.kill(&other.expect("another").to_string());
    let ack = Ack {
        request: Some(99),
        ..ack(0)
    };
    fabric.send(&reader, &Request::Ack(ack), &[]);
    fabric.settle();
    assert_eq!(cursor_replies(&fabric.inbox(&reader)).len(), 1);
}
