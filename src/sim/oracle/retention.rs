//! What partitions let go of: nothing that the bounds would keep, and no producer that was heard
//! lately.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::logs::Fact;
use super::{Verdict, broken};
use crate::sim::tag::{self, PublishNo};
use crate::topology::{Keep, Topology};
use crate::types::{ChannelName, Command, Offset, Partition, Span, Time, TrimCause, Wall};
use crate::wire::entry::EntryContent;

/// What was let go of, as the committed commands say.
#[derive(Debug, Default)]
pub(in crate::sim) struct Retention {
    keeps: BTreeMap<ChannelName, Keep>,
    producer_idle: Span,
    partitions: BTreeMap<Partition, Retained>,
    /// Times that a partition let go of records.
    pub(in crate::sim) trims: u64,
    /// Producers forgotten by a partition.
    pub(in crate::sim) forgotten: u64,
}

#[derive(Debug, Default)]
struct Retained {
    first: Offset,
    /// Entries of records: first offset, bytes, time.
    entries: Vec<(Offset, u64, Wall)>,
    /// Numbered batches so far.
    batches: u64,
    producers: BTreeMap<Bytes, Producer>,
}

/// A producer as a partition remembers it.
#[derive(Debug)]
struct Producer {
    /// The number of its newest batch.
    newest: u64,
    heard: Time,
    publishes: Vec<PublishNo>,
}

impl Retention {
    /// For a fabric with these bounds.
    pub(in crate::sim) fn new(topology: &Topology) -> Self {
        let channels = topology.channels.iter();
        Self {
            keeps: channels
                .map(|(name, channel)| (name.clone(), channel.keep))
                .collect(),
            producer_idle: topology.limits.producer_idle,
            partitions: BTreeMap::new(),
            trims: 0,
            forgotten: 0,
        }
    }

    #[cfg(test)]
    pub(in crate::sim) fn set_keep(&mut self, partition: &Partition, keep: Keep) {
        self.keeps.insert(partition.channel.clone(), keep);
    }

    #[cfg(test)]
    pub(in crate::sim) fn set_idle(&mut self, idle: Span) {
        self.producer_idle = idle;
    }

    /// The first offset that is retained for certain.
    pub(in crate::sim) fn first(&self, partition: &Partition) -> Offset {
        let retained = self.partitions.get(partition);
        retained.map_or(0, |retained| retained.first)
    }

    /// An entry became committed, at about this time. The publishes of producers that it makes the
    /// partition forget.
    pub(in crate::sim) fn committed(
        &mut self,
        partition: &Partition,
        fact: &Fact,
        now: Time,
    ) -> Verdict<Vec<PublishNo>> {
        let entry = &fact.entry;
        let retained = self.partitions.entry(partition.clone()).or_default();
        if entry.count > 0 {
            let bytes = entry.data.len() as u64;
            retained
                .entries
                .push((entry.first_offset, bytes, entry.time));
            retained.hear(fact, now);
        }
        let Ok(EntryContent::Command(head)) = EntryContent::decode(&entry.data) else {
            return Ok(Vec::new());
        };
        match head.does {
            Command::Trim { first, cause } => {
                let keep = self.keeps.get(&partition.channel).copied();
                let end = entry.first_offset;
                let trim = (first, cause, head.time);
                self.trims += 1;
                retained.trim(partition, &keep.unwrap_or_default(), trim, end)?;
                Ok(Vec::new())
            }
            Command::Cursors { .. } | Command::Members { .. } => Ok(Vec::new()),
            Command::ForgetProducers { heard } => {
                let before = retained.producers.len();
                let publishes = retained.forget(partition, heard, self.producer_idle, now)?;
                self.forgotten += (before - retained.producers.len()) as u64;
                Ok(publishes)
            }
        }
    }
}

impl Retained {
    fn hear(&mut self, fact: &Fact, now: Time) {
        let mut before = None;
        for (record, stamp) in &fact.records {
            let Some(stamp) = stamp else {
                before = None;
                continue;
            };
            let batch = (&stamp.producer, stamp.sequence);
            self.batches += u64::from(before != Some(batch));
            before = Some(batch);
            let producer = self
                .producers
                .entry(stamp.producer.clone())
                .or_insert_with(|| Producer {
                    newest: 0,
                    heard: now,
                    publishes: Vec::new(),
                });
            (producer.newest, producer.heard) = (self.batches, now);
            if let Some((publish, _)) = tag::parse('p', &record.body) {
                producer.publishes.push(publish);
            }
        }
    }

    fn trim(
        &mut self,
        partition: &Partition,
        keep: &Keep,
        (first, cause, time): (Offset, TrimCause, Wall),
        end: Offset,
    ) -> Verdict {
        if first <= self.first || first > end {
            return Ok(());
        }
        let after = self.entries.partition_point(|(at, ..)| *at < first);
        // The newest entry that loses a record.
        let (_, _, newest) = self.entries[after - 1];
        let bytes: u64 = self.entries[after - 1..].iter().map(|(_, b, _)| b).sum();
        let allowed = match cause {
            TrimCause::Age => keep
                .age
                .is_some_and(|age| newest.0 + age.as_millis() < time.0),
            // Trimmed in runs of entries, the longest a small part of all.
            TrimCause::Size => keep.size.is_some_and(|size| bytes > size / 2),
            TrimCause::Count => keep.count.is_some_and(|count| end - first >= count),
        };
        if !allowed {
            let says = format!(
                "it lets go of what lies before {first} by {cause:?} at {}: the last of it is of \
                 {}, with {bytes} bytes from there and {} records after it; it is to keep {keep:?}",
                time.0,
                newest.0,
                end - first
            );
            return broken("nothing is let go of early", Some(partition), says);
        }
        self.first = first;
        Ok(())
    }

    fn forget(
        &mut self,
        partition: &Partition,
        heard: u64,
        idle: Span,
        now: Time,
    ) -> Verdict<Vec<PublishNo>> {
        let gone = |_: &Bytes, producer: &mut Producer| producer.newest <= heard;
        let mut publishes = Vec::new();
        for (name, producer) in self.producers.extract_if(.., gone) {
            // Clocks drift, and a commit is seen a little late.
            if now.since(producer.heard).0 < idle.0 / 2 {
                let name = String::from_utf8_lossy(&name);
                let says = format!(
                    "it forgets {name}, heard at {:?}, at {now:?}",
                    producer.heard
                );
                return broken("no producer is forgotten early", Some(partition), says);
            }
            publishes.extend(producer.publishes);
        }
        Ok(publishes)
    }
}
