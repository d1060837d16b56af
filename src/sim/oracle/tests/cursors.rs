//! What readers with cursors were promised, doctored.

use super::*;
use crate::node::{CursorView, PartitionView};
use crate::sim::oracle::consumers::Delivery;
use crate::sim::oracle::cursors::Cursors;
use crate::types::{Command, CursorChange, CursorDoes, CursorStart};
use crate::wire::entry::CommandHead;

const NAME: &str = "billing";

/// A command about the cursor, as entry 3 of a log of two records.
fn change(does: CursorDoes) -> logs::Fact {
    let name = NAME.to_owned();
    let changes = vec![CursorChange { name, does }];
    let time = Wall(5_000);
    let does = Command::Cursors { changes };
    let data = CommandHead { time, does }.encode();
    let entry = LogEntry {
        term: 1,
        index: 3,
        kind: EntryKind::Command,
        first_offset: 2,
        count: 0,
        time,
        data,
    };
    logs::Fact::of(entry, Vec::new())
}

fn open(holder: u64) -> logs::Fact {
    let from = CursorStart::Start;
    change(CursorDoes::Open { from, holder })
}

fn ack(token: u64, first: Offset, end: Offset) -> logs::Fact {
    let ranges = vec![(first, end)];
    change(CursorDoes::Ack { token, ranges })
}

/// Holder 1 of the cursor has token 1, in a partition of two records.
fn held() -> Oracles {
    let mut oracles = committed();
    let pattern = Pattern::parse("orders.#").expect("a pattern");
    oracles.cursors.named(NAME, pattern);
    assert_eq!(judged(&mut oracles, &open(1)), Ok(()));
    oracles
}

fn judged(oracles: &mut Oracles, fact: &logs::Fact) -> Verdict {
    let Oracles {
        cursors, commits, ..
    } = oracles;
    cursors.committed(&partition(), fact, commits)
}

fn given(oracles: &Oracles, token: u64, offset: Offset, publish: usize) -> Verdict {
    let time = Wall(1_001 + offset);
    let delivery = Delivery {
        partition: partition(),
        missed: 0,
        records: vec![(offset, time, 10, record(publish))],
        next: Some(offset + 1),
    };
    let (cursors, commits) = (&oracles.cursors, &oracles.commits);
    cursors.delivered(token, &delivery, commits)
}

#[test]
fn an_ack_that_nobody_sent_is_seen() {
    let mut oracles = held();
    let (place, meant) = ((&partition(), NAME, 1), [1]);
    oracles.cursors.meant(place, meant);
    assert_eq!(judged(&mut oracles, &ack(1, 1, 2)), Ok(()));
    let verdict = judged(&mut oracles, &ack(1, 0, 2));
    assert_eq!(
        broken_by(verdict),
        "a cursor passes over nothing that nobody acked"
    );
}

#[test]
fn an_acked_record_that_comes_again_and_another_one_are_seen() {
    let mut oracles = held();
    oracles.cursors.meant((&partition(), NAME, 1), [0]);
    assert_eq!(judged(&mut oracles, &ack(1, 0, 1)), Ok(()));
    assert_eq!(judged(&mut oracles, &open(2)), Ok(()));
    assert_eq!(given(&oracles, 1, 0, 0), Ok(()), "to who acked it later");
    let again = given(&oracles, 2, 0, 0);
    assert_eq!(broken_by(again), "what is acked is not delivered again");
    assert_eq!(given(&oracles, 2, 1, 1), Ok(()));
    let other = given(&oracles, 2, 1, 5);
    assert_eq!(broken_by(other), "what is delivered is what is committed");
}

#[test]
fn a_record_that_a_holder_is_not_given_is_seen() {
    let mut oracles = held();
    oracles.cursors.meant((&partition(), NAME, 1), [0]);
    assert_eq!(judged(&mut oracles, &ack(1, 0, 1)), Ok(()));
    assert_eq!(judged(&mut oracles, &open(2)), Ok(()));
    let skipped = |token, next, to| {
        let (commits, retention) = (&oracles.commits, &oracles.retention);
        let of = (&partition(), token);
        oracles.cursors.skipped(of, (next, to), commits, retention)
    };
    assert_eq!(skipped(1, 0, 2), Some(1));
    assert_eq!(skipped(2, 0, 1), None, "it was done with");
    assert_eq!(skipped(2, 0, 2), Some(1));
}

#[test]
fn what_is_told_of_a_cursor_before_its_commit_is_seen() {
    const ORACLE: &str = "what becomes of a cursor is told late";
    let mut oracles = held();
    let done = |cursors: &Cursors| cursors.are_done(&partition(), 1, &[0]);
    assert_eq!(broken_by(oracles.told_cursor(&partition(), done)), ORACLE);
    let known = |cursors: &Cursors| cursors.knows(&partition(), NAME, 2);
    assert_eq!(broken_by(oracles.told_cursor(&partition(), known)), ORACLE);
    oracles.cursors.meant((&partition(), NAME, 1), [0]);
    // With a token that is none, it moves nothing.
    assert_eq!(judged(&mut oracles, &ack(7, 0, 1)), Ok(()));
    assert_eq!(broken_by(oracles.told_cursor(&partition(), done)), ORACLE);
    assert_eq!(judged(&mut oracles, &ack(1, 0, 1)), Ok(()));
    assert_eq!(oracles.told_cursor(&partition(), done), Ok(()));
}

#[test]
fn a_replica_that_knows_another_place_is_seen() {
    let mut oracles = held();
    oracles.cursors.meant((&partition(), NAME, 1), [1]);
    assert_eq!(judged(&mut oracles, &ack(1, 1, 2)), Ok(()));
    let mut view = PartitionView::default();
    view.cursors.push(CursorView {
        name: NAME.to_owned(),
        token: 1,
        floor: 0,
        ranges: 1,
        offered: 2,
        acked: 1,
        waiting: 1,
        missed: 0,
    });
    let cursors = &oracles.cursors;
    assert_eq!(cursors.check_view(&partition(), &view), Ok(()));
    view.cursors[0].floor = 2;
    let says = broken_by(cursors.check_view(&partition(), &view));
    assert_eq!(says, "every replica knows where each cursor stands");
}
