//! What readers with cursors were promised: nothing is passed over that nobody acked, nothing that
//! was acked comes again, an ack that is answered is committed, and only the newest holder moves a
//! cursor. The committed commands alone say where each cursor stands.

use std::collections::{BTreeMap, BTreeSet};

use super::commits::Commits;
use super::consumers::Delivery;
use super::logs::Fact;
use super::retention::Retention;
use super::{Verdict, broken};
use crate::node::{CursorView, PartitionView};
use crate::types::{Command, CursorChange, CursorDoes, CursorStart, Offset, Partition, Pattern};
use crate::wire::entry::EntryContent;

/// The cursors of all partitions.
#[derive(Debug, Default)]
pub(in crate::sim) struct Cursors {
    patterns: BTreeMap<String, Pattern>,
    partitions: BTreeMap<Partition, Places>,
    /// What clients meant to ack, by partition, cursor and token.
    meant: BTreeMap<(Partition, String, u64), BTreeSet<Offset>>,
    /// Times that a cursor was taken over, and records acked.
    pub(in crate::sim) taken: u64,
    pub(in crate::sim) acked: u64,
}

/// The cursors of one partition.
#[derive(Debug, Default)]
struct Places {
    first: Offset,
    end: Offset,
    tokens: u64,
    cursors: BTreeMap<String, Place>,
    /// What each holder found, by its token.
    opened: BTreeMap<u64, Found>,
    /// What each token acked that was not done with before.
    done: BTreeMap<u64, BTreeSet<Offset>>,
}

#[derive(Debug, Clone, Default)]
struct Place {
    token: u64,
    holder: Option<u64>,
    begun: Offset,
    floor: Offset,
    above: BTreeSet<Offset>,
    acked: u64,
    missed: u64,
}

/// Where a cursor stood when its holder took it.
#[derive(Debug, Clone)]
struct Found {
    name: String,
    floor: Offset,
    above: BTreeSet<Offset>,
}

/// The promise that nothing is passed over.
pub(in crate::sim) const SKIPS: &str = "a cursor passes over nothing that nobody acked";
const AGAIN: &str = "what is acked is not delivered again";

impl Cursors {
    /// Readers of this cursor want what the pattern selects.
    pub(in crate::sim) fn named(&mut self, name: &str, pattern: Pattern) {
        self.patterns.insert(name.to_owned(), pattern);
    }

    /// A client acks these records, which it was given under this token.
    pub(in crate::sim) fn meant(
        &mut self,
        (partition, name, token): (&Partition, &str, u64),
        offsets: impl IntoIterator<Item = Offset>,
    ) {
        let key = (partition.clone(), name.to_owned(), token);
        self.meant.entry(key).or_default().extend(offsets);
    }

    /// Whether the holder of this token is known.
    pub(in crate::sim) fn knows(&self, partition: &Partition, name: &str, token: u64) -> bool {
        let places = self.partitions.get(partition);
        let found = places.and_then(|places| places.opened.get(&token));
        found.is_some_and(|found| found.name == name)
    }

    /// Whether all of `offsets` are known to be done with, as the holder of this token was told.
    pub(in crate::sim) fn are_done(
        &self,
        partition: &Partition,
        token: u64,
        offsets: &[Offset],
    ) -> bool {
        let Some(places) = self.partitions.get(partition) else {
            return false;
        };
        let found = places.opened.get(&token);
        let done = places.done.get(&token);
        offsets.iter().all(|offset| {
            *offset < places.first
                || done.is_some_and(|done| done.contains(offset))
                || found.is_some_and(|found| found.is_done(*offset))
        })
    }

    /// Where the holder of this token begins.
    pub(in crate::sim) fn begins(&self, partition: &Partition, token: u64) -> Offset {
        let places = self.partitions.get(partition);
        let found = places.and_then(|places| places.opened.get(&token));
        found.map_or(0, |found| found.floor)
    }

    /// The last record that the holder should have been given between `next` and `to`, and that is
    /// there as far as is known.
    pub(in crate::sim) fn skipped(
        &self,
        (partition, token): (&Partition, u64),
        (next, to): (Offset, Offset),
        commits: &Commits,
        retained: &Retention,
    ) -> Option<Offset> {
        let found = self.partitions.get(partition)?.opened.get(&token)?;
        let pattern = self.patterns.get(&found.name)?;
        let wanted = |offset: &Offset| {
            let record = commits.record(partition, *offset);
            !found.is_done(*offset) && record.is_some_and(|(r, _)| pattern.matches(&r.subject))
        };
        let first = retained.first(partition).max(next);
        (first..to).rev().find(wanted)
    }

    /// A holder was given records: none that was done with when it took the cursor, and as
    /// committed.
    pub(in crate::sim) fn delivered(
        &self,
        token: u64,
        delivery: &Delivery,
        commits: &Commits,
    ) -> Verdict {
        let partition = &delivery.partition;
        let places = self.partitions.get(partition);
        let Some(found) = places.and_then(|places| places.opened.get(&token)) else {
            return Ok(());
        };
        for (offset, time, _, record) in &delivery.records {
            if found.is_done(*offset) {
                let says = format!(
                    "{partition}/{offset} was given to the holder {token} of {}, done with before",
                    found.name
                );
                return broken(AGAIN, Some(partition), says);
            }
            let wants = self.patterns.get(&found.name);
            let wants = wants.is_none_or(|pattern| pattern.matches(&record.subject));
            if commits.record(partition, *offset) != Some((record, *time)) || !wants {
                let says = format!("{partition}/{offset} was given to a holder as another record");
                return broken(
                    "what is delivered is what is committed",
                    Some(partition),
                    says,
                );
            }
        }
        Ok(())
    }

    /// An entry became committed; so is what it holds.
    pub(in crate::sim) fn committed(
        &mut self,
        partition: &Partition,
        fact: &Fact,
        commits: &Commits,
    ) -> Verdict {
        let entry = &fact.entry;
        let places = self.partitions.entry(partition.clone()).or_default();
        places.end = entry.first_offset + u64::from(entry.count);
        let Ok(EntryContent::Command(head)) = EntryContent::decode(&entry.data) else {
            return Ok(());
        };
        match head.does {
            Command::Trim { first, .. } if first > places.first && first <= places.end => {
                places.first = first;
                for place in places.cursors.values_mut() {
                    place.trim(first);
                }
            }
            Command::Trim { .. } | Command::ForgetProducers { .. } | Command::Members { .. } => {}
            Command::Cursors { changes } => {
                for change in changes {
                    self.change(partition, change, commits)?;
                }
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        partition: &Partition,
        CursorChange { name, does }: CursorChange,
        commits: &Commits,
    ) -> Verdict {
        let places = self.partitions.entry(partition.clone()).or_default();
        let (first, end) = (places.first, places.end);
        let at = |start| match start {
            CursorStart::Start => first,
            CursorStart::End => end,
            CursorStart::Offset(offset) => offset,
        };
        match does {
            CursorDoes::Open { from, holder } => {
                if !places.cursors.contains_key(&name) && at(from) > end {
                    return Ok(());
                }
                let place = places.cursors.entry(name.clone());
                let place = place.or_insert_with(|| Place::at(at(from), first));
                if place.holder != Some(holder) {
                    self.taken += 1;
                    places.tokens += 1;
                    (place.token, place.holder) = (places.tokens, Some(holder));
                }
                let found = Found {
                    name,
                    floor: place.floor,
                    above: place.above.clone(),
                };
                places.opened.insert(place.token, found);
                Ok(())
            }
            CursorDoes::Seek { to } => {
                if let Some(place) = places.cursors.get_mut(&name)
                    && at(to) <= end
                {
                    places.tokens += 1;
                    *place = Place {
                        token: places.tokens,
                        ..Place::at(at(to), first)
                    };
                }
                Ok(())
            }
            CursorDoes::Delete => {
                places.cursors.remove(&name);
                Ok(())
            }
            CursorDoes::Ack { token, ranges } => {
                let place = places.cursors.get_mut(&name);
                let place = place.filter(|place| place.token == token);
                let fits = ranges.iter().all(|(_, stop)| *stop <= end);
                let Some(place) = place.filter(|_| fits) else {
                    return Ok(());
                };
                let key = (partition.clone(), name, token);
                let meant = self.meant.get(&key);
                let pattern = self.patterns.get(&key.1);
                let done = places.done.entry(token).or_default();
                let named = ranges.iter().flat_map(|(from, to)| *from..*to);
                for offset in named.filter(|offset| *offset >= place.floor) {
                    done.insert(offset);
                    if place.above.contains(&offset) {
                        continue;
                    }
                    let wanted = commits.record(partition, offset);
                    let wanted = wanted.is_some_and(|(record, _)| {
                        pattern.is_none_or(|pattern| pattern.matches(&record.subject))
                    });
                    if wanted && !meant.is_some_and(|meant| meant.contains(&offset)) {
                        let says = format!(
                            "the holder {token} of {} never acked {partition}/{offset}",
                            key.1
                        );
                        return broken(SKIPS, Some(partition), says);
                    }
                    place.above.insert(offset);
                    place.acked += 1;
                    self.acked += 1;
                }
                place.rise();
                Ok(())
            }
        }
    }

    /// What the cursor of this name has not come to, in words.
    pub(in crate::sim) fn lacks(
        &self,
        partition: &Partition,
        name: &str,
        commits: &Commits,
    ) -> Option<String> {
        let end = commits.next_offset(partition);
        let place = self.partitions.get(partition);
        let floor = place.and_then(|places| Some(places.cursors.get(name)?.floor));
        (floor != Some(end))
            .then(|| format!("the cursor {name} stands at {floor:?} of {partition}, not at {end}"))
    }

    /// A replica that has come to the end of the log says the same of each cursor.
    pub(in crate::sim) fn check_view(
        &self,
        partition: &Partition,
        view: &PartitionView,
    ) -> Verdict {
        let places = self.partitions.get(partition);
        let views = places.map_or(Vec::new(), Places::views);
        match views == view.cursors {
            true => Ok(()),
            false => broken(
                "every replica knows where each cursor stands",
                Some(partition),
                format!("it says {:?}, the log {views:?}", view.cursors),
            ),
        }
    }
}

impl Places {
    fn views(&self) -> Vec<CursorView> {
        let cursors = self.cursors.iter();
        let view = |(name, place): (&String, &Place)| CursorView {
            name: name.clone(),
            token: place.token,
            floor: place.floor,
            ranges: place.ranges(),
            offered: self.end - place.begun,
            acked: place.acked,
            waiting: self.end - place.floor - place.above.len() as u64,
            missed: place.missed,
        };
        cursors.map(view).collect()
    }
}

impl Place {
    fn at(begun: Offset, first: Offset) -> Self {
        let mut place = Self {
            begun,
            floor: begun,
            ..Self::default()
        };
        place.trim(first);
        place
    }

    fn trim(&mut self, first: Offset) {
        if first <= self.floor {
            return;
        }
        let kept = self.above.split_off(&first);
        let acked = std::mem::replace(&mut self.above, kept).len() as u64;
        self.missed += first - self.floor - acked;
        self.floor = first;
        self.rise();
    }

    /// The floor lies below the lowest record that is not done with.
    fn rise(&mut self) {
        while self.above.remove(&self.floor) {
            self.floor += 1;
        }
    }

    fn ranges(&self) -> u64 {
        let begins = |offset: &&Offset| !self.above.contains(&(**offset - 1));
        self.above.iter().filter(begins).count() as u64
    }
}

impl Found {
    fn is_done(&self, offset: Offset) -> bool {
        offset < self.floor || self.above.contains(&offset)
    }
}
