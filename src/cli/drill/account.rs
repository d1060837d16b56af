//! What a drill knows of every record, and what of that does not add up. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::client::{Outcome, PublishError, Receipt};
use crate::types::{Offset, Partition, RecordId};

/// Keys of one producer; records of one key keep their order.
pub(super) const KEYS: u64 = 8;

/// Examples told of each kind of fault.
const EXAMPLES: usize = 5;

/// A record by who published it and its number there, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number {
    pub(super) producer: u32,
    pub(super) number: u64,
}

/// What became of a record, as its producer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Confirmed, at this place.
    Confirmed(RecordId),
    /// It may be stored or not.
    Unknown,
    /// It is not stored.
    NotStored,
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fault {
    /// Confirmed, and not at its place.
    Lost,
    /// Stored more than once.
    Twice,
    /// Stored after a later one of its key.
    Reordered,
    /// Refused, and stored all the same; or published by nobody.
    Unaccounted,
    /// A reader missed it, or saw it again.
    Misread,
}

/// All of a drill's records.
#[derive(Debug, Default)]
pub(super) struct Account {
    fates: BTreeMap<u32, Vec<Fate>>,
    confirmed: u64,
    unknown: u64,
    faults: BTreeMap<Fault, Vec<String>>,
}

/// What the account comes to.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Balance {
    pub(super) confirmed: u64,
    pub(super) unknown: u64,
    pub(super) unknown_stored: u64,
    pub(super) not_stored: u64,
    pub(super) read: u64,
    /// How often each promise was broken, with some examples.
    pub(super) faults: BTreeMap<Fault, (u64, Vec<String>)>,
}

/// What stands in the log, in the order of its partitions and offsets.
#[derive(Debug, Default)]
pub(super) struct Log {
    partitions: BTreeMap<Partition, Vec<Option<Number>>>,
}

impl From<&Outcome> for Fate {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Ok(Receipt::Stored { id, .. }) => Self::Confirmed(id.clone()),
            // Without a confirm nothing is promised.
            Ok(Receipt::Taken) | Err(PublishError::Unknown(_)) => Self::Unknown,
            Err(PublishError::Refused(_) | PublishError::NotSent(_)) => Self::NotStored,
        }
    }
}

impl Number {
    /// The key that keeps its order.
    pub(super) fn key(self) -> String {
        format!("{}-{}", self.producer, self.number % KEYS)
    }

    /// The body that carries it, padded to what a small message weighs.
    pub(super) fn body(self) -> String {
        format!("{:<128}", format!("{} {}", self.producer, self.number))
    }

    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (producer, number) = std::str::from_utf8(body).ok()?.trim_end().split_once(' ')?;
        Some(Self {
            producer: producer.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl Log {
    /// Takes a record as it was read. Offsets are dense, so it must be the next of its partition.
    pub(super) fn push(&mut self, id: &RecordId, body: &[u8]) -> Result<(), String> {
        let records = self.partitions.entry(id.partition.clone()).or_default();
        let expected = records.len() as Offset;
        if id.offset != expected {
            let partition = &id.partition;
            return Err(format!("read {id} instead of {partition}/{expected}"));
        }
        records.push(Number::parse(body));
        Ok(())
    }

    fn at(&self, id: &RecordId) -> Option<Number> {
        let records = self.partitions.get(&id.partition)?;
        *records.get(usize::try_from(id.offset).ok()?)?
    }

    /// The offset after the last one read of each partition.
    pub(super) fn next(&self, partition: &Partition) -> Offset {
        let records = self.partitions.get(partition);
        records.map_or(0, |records| records.len() as Offset)
    }
}

impl Account {
    /// Notes the outcome of a producer's next record.
    pub(super) fn note(&mut self, producer: u32, fate: Fate) {
        match fate {
            Fate::Confirmed(_) => self.confirmed += 1,
            Fate::Unknown => self.unknown += 1,
            Fate::NotStored => {}
        }
        self.fates.entry(producer).or_default().push(fate);
    }

    /// Notes a broken promise.
    pub(super) fn fault(&mut self, fault: Fault, text: String) {
        self.faults.entry(fault).or_default().push(text);
    }

    /// Records confirmed so far, and those of which nothing is known.
    pub(super) fn so_far(&self) -> (u64, u64) {
        (self.confirmed, self.unknown)
    }

    /// Holds what producers were told against what stands in the log.
    pub(super) fn balance(mut self, log: &Log) -> Balance {
        let mut places: BTreeMap<Number, RecordId> = BTreeMap::new();
        let mut read = 0;
        for (partition, records) in &log.partitions {
            let mut newest: BTreeMap<String, u64> = BTreeMap::new();
            for (offset, number) in (0..).zip(records) {
                read += 1;
                let id = RecordId {
                    partition: partition.clone(),
                    offset,
                };
                self.check_stored(number, &id, &mut newest, &mut places);
            }
        }
        let mut balance = Balance {
            read,
            ..Balance::default()
        };
        for (producer, fates) in std::mem::take(&mut self.fates) {
            for (number, fate) in (0..).zip(&fates) {
                let place = places.get(&Number { producer, number });
                match fate {
                    Fate::Confirmed(id) if log.at(id) == Some(Number { producer, number }) => {
                        balance.confirmed += 1;
                    }
                    Fate::Confirmed(id) => {
                        balance.confirmed += 1;
                        let found = place.map_or("nowhere".to_owned(), ToString::to_string);
                        let what = format!("record {number} of producer {producer}");
                        let text = format!("{what}, confirmed at {id}, stands {found}");
                        self.fault(Fault::Lost, text);
                    }
                    Fate::Unknown => {
                        balance.unknown += 1;
                        balance.unknown_stored += u64::from(place.is_some());
                    }
                    Fate::NotStored => balance.not_stored += 1,
                }
            }
        }
        for (fault, mut texts) in self.faults {
            let count = texts.len() as u64;
            texts.truncate(EXAMPLES);
            balance.faults.insert(fault, (count, texts));
        }
        balance
    }

    /// One record of the log: does it stand there rightly?
    fn check_stored(
        &mut self,
        number: &Option<Number>,
        id: &RecordId,
        newest: &mut BTreeMap<String, u64>,
        places: &mut BTreeMap<Number, RecordId>,
    ) {
        let Some(number @ Number { producer, .. }) = *number else {
            return self.fault(Fault::Unaccounted, format!("{id} is nobody's record"));
        };
        let what = format!("record {} of producer {producer}", number.number);
        let fates = self.fates.get(&producer);
        match fates.and_then(|fates| fates.get(number.number as usize)) {
            None => {
                let text = format!("{what}, at {id}, was not published");
                self.fault(Fault::Unaccounted, text);
            }
            Some(Fate::NotStored) => {
                let text = format!("{what}, at {id}, was said not to be stored");
                self.fault(Fault::Unaccounted, text);
            }
            Some(Fate::Confirmed(_) | Fate::Unknown) => {}
        }
        if let Some(first) = places.get(&number) {
            let text = format!("{what} stands at {first} and at {id}");
            return self.fault(Fault::Twice, text);
        }
        places.insert(number, id.clone());
        if let Some(before) = newest.insert(number.key(), number.number)
            && before > number.number
        {
            let text = format!("{what}, at {id}, stands after record {before} of its key");
            self.fault(Fault::Reordered, text);
        }
    }
}

impl Balance {
    /// How often a promise was broken.
    pub(super) fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).map_or(0, |(count, _)| *count)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Twice => "stored twice",
            Self::Reordered => "out of order",
            Self::Unaccounted => "unaccounted for",
            Self::Misread => "misread",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(offset: Offset) -> RecordId {
        format!("orders/0/{offset}").parse().expect("an id")
    }

    /// Producer 1's numbers as they stand in the log, one per offset.
    fn log(numbers: &[u64]) -> Log {
        let mut log = Log::default();
        for (offset, number) in (0..).zip(numbers) {
            let number = *number;
            let number = Number {
                producer: 1,
                number,
            };
            log.push(&id(offset), number.body().as_bytes())
                .expect("dense");
        }
        log
    }

    fn account(fates: &[Fate]) -> Account {
        let mut account = Account::default();
        for fate in fates {
            account.note(1, fate.clone());
        }
        account
    }

    fn faults(fates: &[Fate], log: &Log) -> Vec<(Fault, u64)> {
        let balance = account(fates).balance(log);
        let faults = balance.faults.iter();
        faults.map(|(fault, (count, _))| (*fault, *count)).collect()
    }

    #[test]
    fn what_adds_up_has_no_fault() {
        let fates = [
            Fate::Confirmed(id(0)),
            Fate::Unknown,
            Fate::Confirmed(id(1)),
            Fate::Unknown,
            Fate::NotStored,
        ];
        let balance = account(&fates).balance(&log(&[0, 2, 3]));
        assert!(balance.faults.is_empty(), "{balance:?}");
        assert_eq!((balance.confirmed, balance.read), (2, 3));
        assert_eq!((balance.unknown, balance.unknown_stored), (2, 1));
        assert_eq!(balance.not_stored, 1);
    }

    #[test]
    fn every_broken_promise_is_seen() {
        let both = [Fate::Confirmed(id(0)), Fate::Confirmed(id(1))];
        assert_eq!(faults(&both, &log(&[0])), [(Fault::Lost, 1)]);
        assert_eq!(faults(&both, &log(&[0, 1, 1])), [(Fault::Twice, 1)]);
        let later = [Fate::Confirmed(id(2)), Fate::Confirmed(id(1))];
        assert_eq!(faults(&later, &log(&[0, 1, 0])), [(Fault::Twice, 1)]);
        let swapped = [Fate::Confirmed(id(1)), Fate::Confirmed(id(0))];
        assert_eq!(faults(&swapped, &log(&[1, 0])), [], "two keys");
        let mut nine = vec![Fate::Unknown; 9];
        assert_eq!(faults(&nine, &log(&[8, 0])), [(Fault::Reordered, 1)]);
        assert_eq!(faults(&both, &log(&[1, 0])), [(Fault::Lost, 2)]);
        nine[4] = Fate::NotStored;
        assert_eq!(faults(&nine, &log(&[4])), [(Fault::Unaccounted, 1)]);
        assert_eq!(faults(&[], &log(&[4])), [(Fault::Unaccounted, 1)]);
    }

    #[test]
    fn a_reader_that_skips_or_repeats_is_seen() {
        let mut log = log(&[0, 1]);
        assert!(log.push(&id(1), b"1 1").is_err(), "again");
        assert!(log.push(&id(3), b"1 3").is_err(), "skipped");
        assert!(log.push(&id(2), b"1 2").is_ok());
        assert_eq!(log.next(&id(0).partition), 3);
    }
}
