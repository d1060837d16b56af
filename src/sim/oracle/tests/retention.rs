//! What partitions let go of, doctored.

use super::*;
use crate::sim::oracle::retention::Retention;
use crate::topology::Keep;
use crate::types::{Command, TrimCause};
use crate::wire::entry::{CommandHead, ProducerStamp};

/// A command, as entry 3 of a log of two records.
fn command(does: Command, time: u64) -> logs::Fact {
    let time = Wall(time);
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

#[test]
fn what_is_let_go_of_early_or_untold_is_seen() {
    const EARLY: &str = "nothing is let go of early";
    let keep = Keep {
        count: Some(1),
        ..Keep::default()
    };
    let trim = |first, cause| command(Command::Trim { first, cause }, 5_000);
    let mut oracles = reading(Start::At(BTreeMap::from([(partition(), 0)])), 1_000);
    oracles.retention.set_keep(&partition(), keep);
    let mut judged = |fact| {
        let now = Time(0);
        oracles.retention.committed(&partition(), &fact, now)
    };
    assert_eq!(broken_by(judged(trim(2, TrimCause::Count))), EARLY);
    assert_eq!(broken_by(judged(trim(1, TrimCause::Age))), EARLY);
    assert_eq!(judged(trim(1, TrimCause::Count)), Ok(Vec::new()));
    assert_eq!(oracles.retention.first(&partition()), 1);
    // The reader stands at 0: it must be told of one, and of no more.
    let untold = given_after(&mut oracles, 0, 1, 1);
    assert_eq!(
        broken_by(untold),
        "a consumer sees history and tail without gap or repeat"
    );
    let too_many = given_after(&mut oracles, 2, 1, 1);
    assert_eq!(broken_by(too_many), "who misses records is told how many");
    assert_eq!(given_after(&mut oracles, 1, 1, 1), Ok(()));
    // It is told of something that is there.
    assert_eq!(broken_by(oracles.told_gone(&partition(), 2)), EARLY);
}

#[test]
fn a_producer_forgotten_early_is_seen() {
    let idle = Span::from_secs(10);
    let forgotten_after = |span: Span| {
        let mut retention = Retention::default();
        retention.set_idle(idle);
        let JournalItem::Entry { entry, .. } = entry(1, 1, 0, &[0]) else {
            panic!("an entry");
        };
        let stamp = ProducerStamp {
            producer: Bytes::from_static(b"p"),
            sequence: 1,
            digest: Bytes::new(),
        };
        let numbered = logs::Fact::of(entry, vec![(record(0), Some(stamp))]);
        let mut judged = |fact, at| retention.committed(&partition(), fact, at);
        judged(&numbered, Time(0)).expect("an entry");
        let forget = command(Command::ForgetProducers { heard: 1 }, 5_000);
        judged(&forget, Time(0) + span)
    };
    let early = forgotten_after(Span(idle.0 / 3));
    assert_eq!(broken_by(early), "no producer is forgotten early");
    assert_eq!(forgotten_after(idle), Ok(vec![0]));
}
