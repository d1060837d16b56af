//! What an audit tells, doctored.

use ring::digest::{Context, SHA256};

use super::*;
use crate::wire::audit::{Account, Audited, EntriesRead};

#[test]
fn an_audit_that_is_not_true_is_seen() {
    let oracles = reading(Start::At(BTreeMap::from([(partition(), 0)])), 1_000);
    let commits = &oracles.commits;
    let all: Vec<_> = (1..)
        .map_while(|index| commits.fact(&partition(), index))
        .collect();
    let mut digest = Context::new(&SHA256);
    for entry in all.iter().map(|fact| &fact.entry) {
        for number in [entry.index, entry.term, entry.data.len() as u64] {
            digest.update(&number.to_be_bytes());
        }
        digest.update(&entry.data);
    }
    let records = commits.next_offset(&partition());
    assert!(records > 0);
    let read = EntriesRead {
        from: 1,
        to: 1 + all.len() as u64,
        next_offset: records,
        records,
        digest: digest.finish().as_ref().to_vec(),
        ..EntriesRead::default()
    };
    let rotten = |node: &str| BTreeSet::from([node.to_owned()]);
    let judged_of = |rotten: &BTreeSet<String>, read: EntriesRead| {
        let audited = Audited {
            node: "a".to_owned(),
            account: Account {
                start: 1,
                applied: all.len() as u64,
                ..Account::default()
            },
            read: Some(read),
            ..Audited::default()
        };
        crate::sim::oracle::audits::check((commits, rotten), &partition(), 1, &audited)
    };
    let judged = |read| judged_of(&BTreeSet::new(), read);
    assert_eq!(judged(read.clone()), Ok(()));
    let doctored = [
        EntriesRead {
            records: records - 1,
            ..read.clone()
        },
        EntriesRead {
            digest: vec![0; 32],
            ..read.clone()
        },
        EntriesRead {
            wrong: Some("entry 1 is damaged".to_owned()),
            ..read.clone()
        },
        EntriesRead {
            to: 1,
            ..EntriesRead::default()
        },
        EntriesRead { from: 2, ..read },
    ];
    // Only of a disk that did lose something it is true.
    let lost = lost();
    assert_eq!(judged_of(&rotten("a"), lost.clone()), Ok(()));
    for told in [judged(lost.clone()), judged_of(&rotten("b"), lost)] {
        assert_eq!(broken_by(told), "an audit tells what is committed");
    }
    for told in doctored {
        assert_eq!(broken_by(judged(told)), "an audit tells what is committed");
    }
}

fn lost() -> EntriesRead {
    EntriesRead {
        wrong: Some("entry 1 cannot be read: it is damaged".to_owned()),
        ..EntriesRead::default()
    }
}
