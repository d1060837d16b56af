//! What consumers were promised: history and tail of each partition without gap or repeat, as
//! committed, from where they asked; and never more than their window.

use std::collections::BTreeMap;
use std::ops::Range;

use super::commits::Commits;
use super::retention::Retention;
use super::{Verdict, broken};
use crate::sim::heap::ClientNo;
use crate::sim::tag;
use crate::types::{Offset, Partition, Pattern, Record, Wall};

/// A subscription: the client, and its number for it.
pub(in crate::sim) type StreamKey = (ClientNo, u64);

/// Where a subscription began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) enum Start {
    /// At the oldest record.
    Oldest,
    /// At the next to come.
    Newest,
    /// At these offsets; others at their oldest.
    At(BTreeMap<Partition, Offset>),
    /// At the first record of this time or later.
    Since(Wall),
}

#[derive(Debug)]
struct Stream {
    pattern: Pattern,
    start: Start,
    /// The offset after everything delivered or rightly skipped.
    next: BTreeMap<Partition, Offset>,
    window: u64,
    outstanding: u64,
}

/// All subscriptions to stored channels.
#[derive(Debug, Default)]
pub(in crate::sim) struct Consumers {
    streams: BTreeMap<StreamKey, Stream>,
}

/// One `deliver`, taken apart.
#[derive(Debug)]
pub(in crate::sim) struct Delivery {
    pub(in crate::sim) partition: Partition,
    /// Records that it had not come to and that are no longer retained.
    pub(in crate::sim) missed: u64,
    /// Each record with its offset, its time and its size on the wire.
    pub(in crate::sim) records: Vec<(Offset, Wall, u64, Record)>,
    pub(in crate::sim) next: Option<Offset>,
}

const ORACLE: &str = "a consumer sees history and tail without gap or repeat";

impl Consumers {
    /// A client subscribes.
    pub(in crate::sim) fn opened(
        &mut self,
        key: StreamKey,
        pattern: Pattern,
        start: Start,
        window: u64,
    ) {
        self.streams.insert(
            key,
            Stream {
                pattern,
                start,
                next: BTreeMap::new(),
                window,
                outstanding: 0,
            },
        );
    }

    /// Where a subscription goes on after what this delivery says is gone.
    pub(in crate::sim) fn goes_on(
        &self,
        key: StreamKey,
        delivery: &Delivery,
        commits: &Commits,
        retained: &Retention,
    ) -> Option<Offset> {
        let first = retained.first(&delivery.partition);
        self.streams.get(&key)?.goes_on(delivery, first, commits)
    }

    /// The subscription is no more.
    pub(in crate::sim) fn closed(&mut self, key: StreamKey) {
        self.streams.remove(&key);
    }

    /// The client gave bytes back.
    pub(in crate::sim) fn returned(&mut self, key: StreamKey, bytes: u64) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.outstanding = stream.outstanding.saturating_sub(bytes);
        }
    }

    /// Records reached the client; all of them are known to be committed, and so is what `next`
    /// says lies behind.
    pub(in crate::sim) fn delivered(
        &mut self,
        key: StreamKey,
        delivery: &Delivery,
        commits: &Commits,
        retained: &Retention,
    ) -> Verdict {
        let Some(stream) = self.streams.get_mut(&key) else {
            return Ok(());
        };
        let partition = &delivery.partition;
        let first = retained.first(partition);
        stream.check_window(key, delivery)?;
        stream.pass_over(key, delivery, first)?;
        for (offset, time, _, record) in &delivery.records {
            stream.advance(key, partition, first..*offset, commits)?;
            let there = commits.record(partition, *offset);
            if there != Some((record, *time)) || !stream.pattern.matches(&record.subject) {
                return broken(
                    "what is delivered is what is committed",
                    Some(partition),
                    format!(
                        "client {} was given {} (time {}) as {partition}/{offset} on {}, committed \
                         is {}",
                        key.0,
                        tag::describe(record),
                        time.0,
                        stream.pattern,
                        there.map_or("nothing".to_owned(), |(record, time)| format!(
                            "{} (time {})",
                            tag::describe(record),
                            time.0
                        ))
                    ),
                );
            }
            stream.next.insert(partition.clone(), offset + 1);
        }
        if let Some(next) = delivery.next {
            stream.advance(key, partition, first..next, commits)?;
            stream.next.insert(partition.clone(), next);
        }
        Ok(())
    }

    /// These bytes of a subscription are out.
    #[cfg(test)]
    pub(in crate::sim) fn charge(&mut self, key: StreamKey, bytes: u64) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.outstanding += bytes;
        }
    }

    /// A client's subscriptions share the window of its session.
    pub(in crate::sim) fn check_session(&self, client: ClientNo, window: u64) -> Verdict {
        let streams = self.streams.range((client, 0)..=(client, u64::MAX));
        let outstanding: u64 = streams.map(|(_, stream)| stream.outstanding).sum();
        if outstanding <= window {
            return Ok(());
        }
        let says = format!("client {client} holds {outstanding} bytes of a session's {window}");
        broken("credit bounds what a session is sent", None, says)
    }

    /// Where the subscription would resume.
    pub(in crate::sim) fn positions(&self, key: StreamKey) -> BTreeMap<Partition, Offset> {
        self.streams
            .get(&key)
            .map_or(BTreeMap::new(), |stream| stream.next.clone())
    }

    /// What the subscription has not been given of `partition`, in words.
    pub(in crate::sim) fn lacks(
        &self,
        key: StreamKey,
        partition: &Partition,
        commits: &Commits,
        retained: &Retention,
    ) -> Option<String> {
        let stream = self.streams.get(&key)?;
        let end = commits.next_offset(partition);
        let first = retained.first(partition);
        let next = match (stream.next.get(partition), &stream.start) {
            (Some(next), _) => *next,
            (None, Start::Oldest) => 0,
            (None, Start::At(offsets)) => offsets.get(partition).copied().unwrap_or(0),
            (None, Start::Newest | Start::Since(_)) => end,
        };
        let missing = stream.wanted(partition, next.max(first), end, commits)?;
        Some(format!(
            "client {} waits for {partition}/{missing} on {}",
            key.0, stream.pattern
        ))
    }
}

impl Stream {
    /// Where it stands in a partition, if that is known: by what it was given, or by name.
    fn stands(&self, partition: &Partition) -> Option<Offset> {
        match (self.next.get(partition), &self.start) {
            (Some(next), _) => Some(*next),
            (None, Start::At(offsets)) => offsets.get(partition).copied(),
            (None, _) => None,
        }
    }

    /// All before this is gone, if a delivery is right: it says so, or it begins later than it
    /// should.
    fn goes_on(&self, delivery: &Delivery, first: Offset, commits: &Commits) -> Option<Offset> {
        let partition = &delivery.partition;
        let stands = self.stands(partition);
        if stands.is_some() && delivery.missed == 0 {
            return None;
        }
        let since = match &self.start {
            _ if stands.is_some() => Wall(0),
            Start::Oldest | Start::At(_) => Wall(0),
            Start::Since(time) => *time,
            Start::Newest => return None,
        };
        let first = stands.unwrap_or(0).max(first);
        let begins = delivery.records.first().map(|record| record.0);
        let begins = begins.or(delivery.next)?;
        let wanted = |offset: &Offset| {
            commits
                .record(partition, *offset)
                .is_some_and(|(record, time)| {
                    time >= since && self.pattern.matches(&record.subject)
                })
        };
        let last = (first..begins).rev().find(wanted)?;
        Some(last + 1)
    }

    /// Passes over what is gone, where the delivery may.
    fn pass_over(&mut self, key: StreamKey, delivery: &Delivery, first: Offset) -> Verdict {
        let partition = &delivery.partition;
        let (stands, missed) = (self.stands(partition), delivery.missed);
        let begins = delivery.records.first().map(|record| record.0);
        let begins = begins.or(delivery.next).unwrap_or(0);
        if missed > begins.saturating_sub(stands.unwrap_or(0)) {
            let says = format!(
                "client {} stood at {stands:?} and goes on at {begins}, {missed} missed",
                key.0
            );
            return broken("who misses records is told how many", Some(partition), says);
        }
        match (stands, &self.start) {
            (Some(stands), _) if missed > 0 => {
                self.next
                    .insert(partition.clone(), stands.max(first).min(begins));
            }
            (None, Start::Oldest | Start::At(_)) => {
                self.next.insert(partition.clone(), first.min(begins));
            }
            _ => {}
        }
        Ok(())
    }

    /// The subscription stands at the end of the range now, and what lies before its start is gone:
    /// nothing that it wants lies between.
    fn advance(
        &self,
        key: StreamKey,
        partition: &Partition,
        Range {
            start: first,
            end: to,
        }: Range<Offset>,
        commits: &Commits,
    ) -> Verdict {
        let from = match (self.next.get(partition), &self.start) {
            (Some(next), _) => *next,
            (None, Start::Oldest) => 0,
            (None, Start::At(offsets)) => offsets.get(partition).copied().unwrap_or(0),
            (None, Start::Newest) => return Ok(()),
            (None, Start::Since(time)) => {
                return self.check_since(key, partition, first..to, *time, commits);
            }
        };
        if to < from {
            return broken(
                ORACLE,
                Some(partition),
                format!(
                    "client {} stands at {partition}/{from} and was given {partition}/{to} again",
                    key.0
                ),
            );
        }
        match self.wanted(partition, from, to, commits) {
            None => Ok(()),
            Some(missing) => broken(
                ORACLE,
                Some(partition),
                format!(
                    "client {} was never given {partition}/{missing} on {} (from {:?}) and stands \
                     at {to}",
                    key.0, self.pattern, self.start
                ),
            ),
        }
    }

    /// The first offset from `from` to `to`, exclusive, whose record it should be given.
    fn wanted(
        &self,
        partition: &Partition,
        from: Offset,
        to: Offset,
        commits: &Commits,
    ) -> Option<Offset> {
        (from..to).find(|offset| {
            commits
                .record(partition, *offset)
                .is_some_and(|(record, _)| self.pattern.matches(&record.subject))
        })
    }

    /// A subscription by time begins at `to`: what lies before is older.
    fn check_since(
        &self,
        key: StreamKey,
        partition: &Partition,
        Range { start, end: to }: Range<Offset>,
        since: Wall,
        commits: &Commits,
    ) -> Verdict {
        let missed = (start..to).find(|offset| {
            commits
                .record(partition, *offset)
                .is_some_and(|(record, time)| {
                    time >= since && self.pattern.matches(&record.subject)
                })
        });
        let Some(missed) = missed else {
            return Ok(());
        };
        broken(
            ORACLE,
            Some(partition),
            format!(
                "client {} asked for {partition} since {} and was given {to} first, though \
                 {missed} is young enough",
                key.0, since.0
            ),
        )
    }

    fn check_window(&mut self, key: StreamKey, delivery: &Delivery) -> Verdict {
        let before = self.outstanding;
        let bytes = delivery.records.iter().map(|record| record.2);
        self.outstanding += bytes.sum::<u64>();
        let last = delivery.records.last().map_or(0, |record| record.2);
        if last == 0 || self.outstanding - last < self.window.max(1) {
            return Ok(());
        }
        broken(
            "credit bounds what a consumer is sent",
            Some(&delivery.partition),
            format!(
                "client {} holds {} bytes of a window of {}, {before} of them before the last \
                 delivery",
                key.0, self.outstanding, self.window
            ),
        )
    }
}
