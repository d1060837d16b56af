//! What a partition lets go of: what its bounds say, the same on every replica, counted, and told
//! to whoever had not come to it.

use weft::node::{PartitionView, TrimmedView};
use weft::wire::client::{From, Publish, Subscribe};

use super::{confirms, delivers, refusals};
use crate::kit::{Client, Fabric, parse, record};

const QUICKSTART: &str = include_str!("../../../topology/quickstart.toml");

/// The quickstart whose `audit` keeps only so much.
fn fabric(keep: &str, limits: &str) -> Fabric {
    let audit = "[channel.audit]\n";
    let text = QUICKSTART.replace(audit, &format!("{audit}keep = {{ {keep} }}\n"));
    let text = text.replace("[limits]\n", &format!("[limits]\n{limits}\n"));
    let mut fabric = Fabric::new(parse(&text));
    fabric.run_until("every partition is led", Fabric::is_settled);
    fabric
}

fn publish(fabric: &mut Fabric, client: &Client, sequence: u64) -> bool {
    let publish = Publish {
        id: Some(sequence),
        producer: Some(b"p".to_vec().into()),
        sequence: Some(sequence),
        ..Publish::default()
    };
    let body = sequence.to_string();
    fabric.publish(client, publish, &[record("audit.x", "k", &body)]);
    let answer = fabric.answer(client);
    assert!(refusals(&answer).is_empty(), "{:?}", refusals(&answer));
    confirms(&answer)[0].repeated
}

/// `audit` as each node sees it.
fn audit(fabric: &Fabric) -> [PartitionView; 3] {
    ["a", "b", "c"].map(|node| {
        let views = fabric.view(node).partitions;
        let found = views.into_iter().find(|view| view.channel == "audit");
        found.expect("every node holds it")
    })
}

fn subscribe(fabric: &mut Fabric, node: &str, from: From) -> Vec<(Option<u64>, u64, Vec<String>)> {
    let client = fabric.client(node, &format!("reader from {from:?}"));
    let wanted = Subscribe {
        id: 1,
        pattern: "audit.#".to_owned(),
        from: Some(from),
        partition: Some(0),
        channel: Some("audit".into()),
        ..Subscribe::default()
    };
    fabric.subscribe(&client, wanted);
    for _ in 0..3 {
        fabric.tick();
    }
    let delivers = delivers(&fabric.inbox(&client));
    let told = delivers.into_iter().filter(|(d, _)| d.partition.is_some());
    told.map(|(d, bodies)| (d.next, d.missed, bodies)).collect()
}

// [C44] promise 1: accepted is retained and trimmed, on every replica and after a restart.
#[test]
fn promise_1_what_a_count_lets_go_of_is_counted_everywhere() {
    let mut fabric = fabric("count = 3", "");
    let client = fabric.client("a", "publisher");
    for sequence in 1..=10 {
        publish(&mut fabric, &client, sequence);
    }
    let trimmed = TrimmedView {
        count: 7,
        ..TrimmedView::default()
    };
    let holds = |fabric: &Fabric| {
        let seen = |view: &PartitionView| (view.first_offset, view.next_offset, view.trimmed);
        audit(fabric)
            .iter()
            .all(|view| seen(view) == (7, 10, trimmed))
    };
    fabric.run_until("all of them let go", holds);
    for node in ["a", "b", "c"] {
        fabric.kill(node);
    }
    for node in ["a", "b", "c"] {
        fabric.start(node);
    }
    fabric.run_until("they are back", Fabric::is_settled);
    fabric.run_until("nothing of it is forgotten", holds);

    let bodies = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let rest = bodies(&["8", "9", "10"]);
    let from_start = subscribe(&mut fabric, "b", From::Start);
    assert_eq!(from_start, [(Some(10), 0, rest.clone())]);
    let from_2 = subscribe(&mut fabric, "b", From::Offset(2));
    assert_eq!(from_2, [(Some(10), 5, rest)]);
    let from_8 = subscribe(&mut fabric, "c", From::Offset(8));
    assert_eq!(from_8, [(Some(10), 0, bodies(&["9", "10"]))]);
}

/// All may be gone: who stood before it is told, and goes on with what comes.
#[test]
fn who_is_overtaken_by_age_is_told_and_goes_on() {
    let mut fabric = fabric("age = '60s'", "");
    let client = fabric.client("a", "publisher");
    for sequence in 1..=4 {
        publish(&mut fabric, &client, sequence);
    }
    fabric.skip(std::time::Duration::from_secs(50));
    assert!(audit(&fabric).iter().all(|view| view.first_offset == 0));
    fabric.skip(std::time::Duration::from_secs(20));
    let gone = |fabric: &Fabric| audit(fabric).iter().all(|view| view.trimmed.age == 4);
    fabric.run_until("all of it is too old", gone);
    let told = subscribe(&mut fabric, "b", From::Offset(1));
    assert_eq!(told, [(Some(4), 3, vec![])]);
    publish(&mut fabric, &client, 5);
    let told = subscribe(&mut fabric, "a", From::Offset(3));
    assert_eq!(told, [(Some(5), 1, vec!["5".to_owned()])]);
    // By time the journal would find what is no longer retained.
    let by_time = subscribe(&mut fabric, "c", From::Time(weft::types::Wall(1)));
    assert_eq!(by_time, [(Some(5), 0, vec!["5".to_owned()])]);
}

/// A time after the last record is the end, whatever else stands in the log since.
#[test]
fn a_time_after_the_last_record_is_the_end() {
    let mut fabric = fabric("age = '60s'", "");
    let client = fabric.client("a", "publisher");
    publish(&mut fabric, &client, 1);
    let after = weft::types::Wall(fabric.now.wall.0 + 1_000);
    fabric.skip(std::time::Duration::from_secs(50));
    publish(&mut fabric, &client, 2);
    fabric.skip(std::time::Duration::from_secs(20));
    let gone = |fabric: &Fabric| audit(fabric).iter().all(|view| view.trimmed.age == 1);
    fabric.run_until("the first is too old", gone);
    let told = subscribe(&mut fabric, "b", From::Time(after));
    assert_eq!(told, [(Some(2), 0, vec!["2".to_owned()])]);
    let later = weft::types::Wall(fabric.now.wall.0 + 1);
    let told = subscribe(&mut fabric, "c", From::Time(later));
    assert_eq!(told, [(Some(2), 0, vec![])]);
    fabric.skip(std::time::Duration::from_secs(60));
    let told = subscribe(&mut fabric, "b", From::Time(weft::types::Wall(7)));
    assert_eq!(told, [(Some(2), 0, vec![])]);
}

/// Promise 5: where nothing is published nothing is written.
#[test]
fn an_idle_fabric_writes_no_commands() {
    let mut fabric = fabric("count = 3", "");
    let client = fabric.client("a", "publisher");
    for sequence in 1..=10 {
        publish(&mut fabric, &client, sequence);
    }
    let lasts = |fabric: &Fabric| -> Vec<u64> {
        let partitions = fabric.view("a").partitions;
        partitions.iter().map(|view| view.last).collect()
    };
    fabric.skip(std::time::Duration::from_secs(5));
    let before = lasts(&fabric);
    fabric.skip(std::time::Duration::from_secs(20));
    assert_eq!(lasts(&fabric), before);
}

/// A calendar that was set forward on one node lets go of nothing.
#[test]
fn one_wrong_calendar_lets_go_of_nothing() {
    let mut fabric = fabric("age = '60s'", "");
    let client = fabric.client("a", "publisher");
    publish(&mut fabric, &client, 1);
    let leader = fabric.leader("audit", 0).expect("it is led");
    fabric.set_forward(leader.as_str(), std::time::Duration::from_secs(86_400));
    for _ in 0..40 {
        fabric.tick();
    }
    assert!(audit(&fabric).iter().all(|view| view.first_offset == 0));
}

/// Promise 4: a producer is forgotten after its time, and its window lives until then.
#[test]
fn promise_4_a_producer_is_forgotten_after_its_idle_time() {
    let mut fabric = fabric("age = '9d'", "producer_idle = '60s'");
    let client = fabric.client("a", "publisher");
    assert!(!publish(&mut fabric, &client, 1));
    fabric.skip(std::time::Duration::from_secs(50));
    assert!(publish(&mut fabric, &client, 1), "it is known");
    assert!(audit(&fabric).iter().all(|view| view.producers == 1));
    fabric.skip(std::time::Duration::from_secs(20));
    let forgotten = |fabric: &Fabric| audit(fabric).iter().all(|view| view.producers == 0);
    fabric.run_until("it is forgotten everywhere", forgotten);
    assert!(!publish(&mut fabric, &client, 1), "it is new");
}
