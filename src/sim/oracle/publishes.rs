//! What producers were promised: every confirmed record lies where its confirm says, a sequence is
//! stored once, and the records of one key keep their producer's order.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::commits::Commits;
use super::logs::Fact;
use super::{Verdict, broken};
use crate::sim::heap::ClientNo;
use crate::sim::tag::{self, PublishNo};
use crate::types::{Offset, Partition, Record};

/// One publish of the workload.
#[derive(Debug)]
pub(in crate::sim) struct Publish {
    /// Who began it.
    pub(in crate::sim) producer: ClientNo,
    /// It carries (producer, sequence): retries are harmless.
    pub(in crate::sim) stamped: bool,
    /// Its producer is promised the order of its keys.
    pub(in crate::sim) ordered: bool,
    /// The records as they must be read back.
    pub(in crate::sim) records: Vec<Record>,
    /// Where each was first committed.
    places: Vec<Option<(Partition, Offset)>>,
}

/// Whose order is kept where: the producer and the key, in a partition.
type Lane = (ClientNo, Partition, Option<Bytes>);

/// Every publish of the workload.
#[derive(Debug, Default)]
pub(in crate::sim) struct Publishes {
    all: Vec<Publish>,
    last: BTreeMap<Lane, (PublishNo, usize)>,
}

impl Publishes {
    /// The number of the next publish.
    pub(in crate::sim) fn next(&self) -> PublishNo {
        self.all.len()
    }

    /// A publish begins. It has the number that `next` said.
    pub(in crate::sim) fn begin(
        &mut self,
        producer: ClientNo,
        (stamped, ordered): (bool, bool),
        records: Vec<Record>,
    ) {
        let count = records.len();
        self.all.push(Publish {
            producer,
            stamped,
            ordered,
            records,
            places: vec![None; count],
        });
    }

    /// The publish.
    pub(in crate::sim) fn get(&self, publish: PublishNo) -> &Publish {
        &self.all[publish]
    }

    /// An entry became committed, its first record at `first`.
    pub(in crate::sim) fn committed(
        &mut self,
        partition: &Partition,
        first: Offset,
        fact: &Fact,
    ) -> Verdict {
        for (offset, (record, _)) in (first..).zip(&fact.records) {
            self.committed_record(partition, offset, record)?;
        }
        Ok(())
    }

    /// The partition knows no more of what these publishes stored in it: sent again, they are new.
    pub(in crate::sim) fn forgotten(&mut self, partition: &Partition, numbers: Vec<PublishNo>) {
        for number in numbers {
            if let Some(publish) = self.all.get_mut(number) {
                let there = |place: &Option<(Partition, Offset)>| {
                    place.as_ref().is_some_and(|(at, _)| at == partition)
                };
                if publish.places.iter().any(there) {
                    (publish.stamped, publish.ordered) = (false, false);
                }
            }
        }
    }

    fn committed_record(
        &mut self,
        partition: &Partition,
        offset: Offset,
        record: &Record,
    ) -> Verdict {
        let Some((number, position)) = tag::parse('p', &record.body) else {
            return Ok(());
        };
        let expected = self
            .all
            .get_mut(number)
            .filter(|publish| publish.records.get(position) == Some(record));
        let Some(publish) = expected else {
            return broken(
                "a record is stored as it was published",
                Some(partition),
                format!("{partition}/{offset} holds {}", tag::describe(record)),
            );
        };
        if let (Some((other, at)), true) = (&publish.places[position], publish.stamped) {
            return broken(
                "a sequence is stored once",
                Some(partition),
                format!(
                    "record {position} of publish {number} lies at {other}/{at} and at \
                     {partition}/{offset}"
                ),
            );
        }
        publish.places[position].get_or_insert((partition.clone(), offset));
        if !publish.ordered {
            return Ok(());
        }
        let lane = (publish.producer, partition.clone(), record.key.clone());
        let here = (number, position);
        match self.last.insert(lane, here) {
            Some(last) if last >= here => broken(
                "records of one key keep their order",
                Some(partition),
                format!(
                    "{partition}/{offset} holds record {position} of publish {number}, after \
                     record {} of publish {} of the same producer and key",
                    last.1, last.0
                ),
            ),
            _ => Ok(()),
        }
    }

    /// A confirm says that the record lies at `offset`, which is committed.
    pub(in crate::sim) fn confirmed(
        &self,
        publish: PublishNo,
        position: usize,
        place: (&Partition, Offset),
        commits: &Commits,
    ) -> Verdict {
        let (partition, offset) = place;
        let told = &self.all[publish];
        let first = told.places[position].as_ref();
        let moved = told.stamped && first != Some(&(partition.clone(), offset));
        let there = commits.record(partition, offset).map(|(record, _)| record);
        if moved || there != told.records.get(position) {
            return broken(
                "a confirm names the record's first place",
                Some(partition),
                format!(
                    "record {position} of publish {publish} was confirmed at {partition}/{offset}, \
                     where {} lies; it lies at {first:?}",
                    there.map_or("nothing".to_owned(), tag::describe)
                ),
            );
        }
        Ok(())
    }
}
