//! Audits: a node reads its own replica and tells what its entries hold, whatever it counts.

use weft::node::{Input, Level, Output};
use weft::types::limits::AUDITS_MAX;
use weft::types::{EntryKind, JournalItem, Partition};
use weft::wire::audit::{Audit, Audited, EntriesRead};
use weft::wire::client::{Publish, Reply, Request};
use weft::wire::entry::EntryHead;
use weft::wire::{decode_reply, encode_request};

use crate::kit::{Client, Fabric, record};

fn publish(fabric: &mut Fabric, count: usize) {
    let publisher = fabric.client("a", "publisher");
    for n in 0..count {
        let publish = Publish {
            id: Some(n as u64),
            partition: Some(0),
            ..Publish::default()
        };
        let records = [
            record("orders.eu", "", &format!("first of {n}")),
            record("orders.eu", "", &format!("second of {n}")),
        ];
        fabric.publish(&publisher, publish, &records);
        let answers = fabric.answer(&publisher);
        assert!(
            matches!(answers[0].header, Reply::Confirm(_)),
            "{answers:?}"
        );
    }
    fabric.run_until("all have applied all", |fabric| {
        let next = |name| {
            let held = fabric.view(name).partitions;
            let mut held = held.iter().filter(|own| own.channel == "orders");
            held.find(|own| own.partition == 0)
                .map(|own| own.next_offset)
        };
        ["a", "b", "c"].map(next) == [Some(2 * count as u64); 3]
    });
}

fn audit(from: u64, to: u64) -> Audit {
    Audit {
        id: Some(9),
        channel: "orders".into(),
        partition: 0,
        from,
        to,
    }
}

fn ask(fabric: &mut Fabric, node: &str, audit: Audit) -> Reply {
    let client = fabric.client(node, "auditor");
    fabric.send(&client, &Request::Audit(audit), &[]);
    let mut answers = fabric.answer(&client);
    assert_eq!(answers.len(), 1);
    answers.remove(0).header
}

fn audited(fabric: &mut Fabric, node: &str, from: u64, to: u64) -> Audited {
    match ask(fabric, node, audit(from, to)) {
        Reply::Audited(audited) => audited,
        other => panic!("{other:?}"),
    }
}

fn read(fabric: &mut Fabric, node: &str, from: u64, to: u64) -> EntriesRead {
    audited(fabric, node, from, to)
        .read
        .expect("entries were asked for")
}

/// [C53] Promise 1: every replica finds the same, which is what was published.
#[test]
fn promise_1_replicas_are_read_from_their_disks_and_agree() {
    let mut fabric = Fabric::ready();
    publish(&mut fabric, 3);
    let account = audited(&mut fabric, "a", 0, 0);
    assert_eq!((&*account.node, &account.read), ("a", &None));
    let account = account.account;
    assert_eq!((account.first_offset, account.next_offset), (0, 6));
    let found: Vec<EntriesRead> = ["a", "b", "c"]
        .iter()
        .map(|node| read(&mut fabric, node, account.start, account.applied + 1))
        .collect();
    assert_eq!((found[0].records, &found[0].wrong), (6, &None));
    assert_eq!(found[0].bytes, account.retained_bytes);
    assert_eq!((found[0].first_offset, found[0].next_offset), (0, 6));
    assert_eq!(found[0].digest.len(), 32);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
}

/// [C54] A part ends where it was asked to, or where what is committed ends.
#[test]
fn an_audit_goes_on_where_the_last_one_ended() {
    let mut fabric = Fabric::ready();
    publish(&mut fabric, 2);
    let account = audited(&mut fabric, "b", 0, 0).account;
    let (start, end) = (account.start, account.applied + 1);
    let first = read(&mut fabric, "b", start, start + 1);
    assert_eq!((first.to, first.records), (start + 1, 2));
    let rest = read(&mut fabric, "b", first.to, u64::MAX);
    assert_eq!((rest.to, rest.first_offset, rest.records), (end, 2, 2));
    for from in [0, end, u64::MAX - 1] {
        let nothing = read(&mut fabric, "b", from, u64::MAX);
        assert_eq!((nothing.to, nothing.records), (from, 0));
    }
}

/// [C55] Who holds nothing says so; and what is read at once is bounded.
#[test]
fn promise_5_audits_are_refused_beyond_their_bound() {
    let mut fabric = Fabric::ready();
    publish(&mut fabric, 1);
    let elsewhere = Audit {
        partition: 99,
        ..audit(1, 2)
    };
    match ask(&mut fabric, "a", elsewhere) {
        Reply::Refuse(refuse) => assert_eq!((refuse.id, &*refuse.name), (Some(9), "no_partition")),
        other => panic!("{other:?}"),
    }
    let clients: Vec<Client> = (0..=AUDITS_MAX)
        .map(|n| fabric.client("a", &format!("auditor-{n}")))
        .collect();
    let frame = encode_request(&Request::Audit(audit(1, 2)), &[]);
    let inputs = clients.iter().map(|client| Input::ClientFrame {
        client: client.id.clone(),
        principal: None,
        frames: vec![frame.clone()],
    });
    fabric.inputs("a", inputs.collect());
    let mut answers = clients
        .iter()
        .map(|client| fabric.answer(client).remove(0).header);
    let served = |answer: &Reply| matches!(answer, Reply::Audited(_));
    assert!(
        answers
            .by_ref()
            .take(AUDITS_MAX)
            .all(|answer| served(&answer))
    );
    match answers.next().expect("one more") {
        Reply::Refuse(refuse) => assert_eq!(&*refuse.name, "busy"),
        other => panic!("{other:?}"),
    }
}

/// [C53] What the head of an entry says is not believed.
#[test]
fn promise_1_a_record_that_is_gone_from_a_disk_is_found() {
    let mut fabric = Fabric::ready();
    publish(&mut fabric, 2);
    fabric.kill("c");
    let partition = Partition::new(&"orders".into(), 0);
    let journal = fabric.journals.get_mut(&"c".into()).expect("it had one");
    let last = journal.iter_mut().rev().find_map(|item| match item {
        JournalItem::Entry {
            partition: of,
            entry,
        } if *of == partition && entry.kind == EntryKind::Records => Some(entry),
        _ => None,
    });
    let entry = last.expect("an entry");
    let (mut head, body) = EntryHead::decode(&entry.data).expect("an entry");
    let one = weft::wire::RawRecords::new(&body).next();
    let kept = body.slice(..one.expect("two").expect("records").bytes.len());
    head.batches[0].bytes = kept.len() as u32;
    head.batches[0].crc = weft::wire::records::crc(&kept);
    entry.data = head.encode(&[kept]);
    let index = entry.index;
    fabric.start("c");
    fabric.run_until("c is back", Fabric::is_settled);
    let sound = read(&mut fabric, "a", index, index + 1);
    let found = read(&mut fabric, "c", index, index + 1);
    assert_eq!((sound.records, sound.wrong), (2, None));
    assert_eq!(found.records, 1);
    let wrong = found.wrong.expect("one record is gone");
    assert!(wrong.contains("at offset 2"), "{wrong}");
}

/// [C53] A disk that does not read is told to who asked, and in the log with the partition's name.
#[test]
fn a_replica_that_cannot_be_read_is_told() {
    let mut fabric = Fabric::ready();
    publish(&mut fabric, 1);
    let client = fabric.client("a", "auditor");
    let asks = Input::ClientFrame {
        client: client.id.clone(),
        principal: None,
        frames: vec![encode_request(&Request::Audit(audit(1, 2)), &[])],
    };
    let now = fabric.now;
    let node = fabric.nodes.get_mut(&"a".into()).expect("a");
    let mut outbox = Vec::new();
    node.step(now, [asks], &mut outbox);
    let load = outbox.drain(..).find_map(|output| match output {
        Output::Load(request) => Some(request.id),
        _ => None,
    });
    let failed = Input::Loaded {
        id: load.expect("it reads"),
        result: Err("bad sector".to_owned()),
    };
    node.step(now, [failed], &mut outbox);
    let noted = outbox.iter().any(|output| match output {
        Output::Note { level, text } => {
            *level == Level::Error && text == "orders/0 cannot be read: bad sector"
        }
        _ => false,
    });
    assert!(noted, "{outbox:?}");
    let told = outbox.iter().find_map(|output| match output {
        Output::ToClient { frames, .. } => Some(decode_reply(&frames[0]).expect("an answer")),
        _ => None,
    });
    let Reply::Audited(audited) = told.expect("an answer").header else {
        panic!("no answer to the audit");
    };
    let wrong = audited
        .read
        .and_then(|read| read.wrong)
        .expect("what is wrong");
    assert!(wrong.contains("bad sector"), "{wrong}");
}
