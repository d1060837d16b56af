//! An audit tells what is committed: each entry that a node says it has read is the committed one,
//! byte for byte, and what it counts of them is what they hold.

use std::collections::BTreeSet;

use ring::digest::{Context, SHA256};

use super::commits::Commits;
use super::{Verdict, broken};
use crate::types::Partition;
use crate::wire::audit::Audited;

/// Whether the answer to an audit of the entries from `from` on is true. What nobody has claimed to
/// be committed yet is not looked at. That something cannot be read is true of `rotten` nodes.
pub(in crate::sim) fn check(
    (commits, rotten): (&Commits, &BTreeSet<String>),
    partition: &Partition,
    from: u64,
    audited: &Audited,
) -> Verdict {
    const ORACLE: &str = "an audit tells what is committed";
    let Some(read) = &audited.read else {
        return Ok(());
    };
    let account = &audited.account;
    let says = |what: String| {
        let node = &audited.node;
        let says = format!(
            "node {node} on entries {} to {}: {what}",
            read.from, read.to
        );
        broken(ORACLE, Some(partition), says)
    };
    if let Some(wrong) = &read.wrong {
        if rotten.contains(&audited.node) && wrong.contains("cannot be read") {
            return Ok(());
        }
        return says(format!("it finds that {wrong}"));
    }
    if read.from != from {
        return says(format!("it was asked from entry {from} on"));
    }
    if read.to == from && (account.start..=account.applied).contains(&from) {
        return says("it retains what it says is not there".to_owned());
    }
    if read.records != read.next_offset - read.first_offset {
        let took = read.next_offset - read.first_offset;
        return says(format!("{} records take {took} offsets", read.records));
    }
    let facts: Option<Vec<_>> = (read.from..read.to)
        .map(|index| commits.fact(partition, index))
        .collect();
    let Some(facts) = facts else {
        return Ok(());
    };
    let mut digest = Context::new(&SHA256);
    for entry in facts.iter().map(|fact| &fact.entry) {
        for number in [entry.index, entry.term, entry.data.len() as u64] {
            digest.update(&number.to_be_bytes());
        }
        digest.update(&entry.data);
    }
    if digest.finish().as_ref() != read.digest {
        return says("its digest is not that of the committed ones".to_owned());
    }
    let records: usize = facts.iter().map(|fact| fact.records.len()).sum();
    match records as u64 == read.records {
        true => Ok(()),
        false => says(format!("it counts {} of {records} records", read.records)),
    }
}
