//! Named reading positions of a partition. A cursor says which records are done with: all before
//! its floor, and ranges above it. One holder moves it, proven by a fencing token that rises with
//! every other holder; what a clock or a session knows is no part of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use crate::types::limits::{CURSOR_RANGES_MAX, CURSORS_MAX};
use crate::types::{CursorChange, CursorDoes, CursorStart, Offset, Sabotage};

/// The cursors of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Cursors {
    /// The highest token so far, of any cursor.
    tokens: u64,
    cursors: BTreeMap<String, Cursor>,
}

/// One of them. Invariant: `end - begun = acked + missed + waiting`, where `end` is the
/// partition's, and those wait that lie from `floor` to `end` and not in `ranges`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    token: u64,
    /// Who has the token; nobody since a seek.
    holder: Option<u64>,
    /// Where its account begins.
    begun: Offset,
    /// All before it is acked or missed.
    floor: Offset,
    /// Acked above the floor.
    ranges: Ranges,
    acked: u64,
    /// Let go of by the partition before they were acked.
    missed: u64,
    /// Of these, since its holder last did something.
    untold: u64,
}

/// Where a cursor stands after a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CursorPosition {
    /// Its newest token.
    pub token: u64,
    /// All before this is done with.
    pub floor: Offset,
    /// What is done with above it, unless an ack moved it.
    pub acked: Ranges,
    /// How many records it lost since its holder before last did something, where it was opened.
    pub missed: u64,
}

/// The account of a cursor: `offered = acked + waiting + missed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CursorAccount {
    /// Its newest token.
    pub token: u64,
    /// All before this is done with.
    pub floor: Offset,
    /// Ranges done with above it.
    pub ranges: u64,
    /// Records of the partition since where it began.
    pub offered: u64,
    /// Of these, acked.
    pub acked: u64,
    /// Of these, neither.
    pub waiting: u64,
    /// Of these, let go of by the partition before they were acked.
    pub missed: u64,
}

/// Why a cursor does not do as it is told. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// This replica has not come so far.
    #[error("the token {0} of the cursor is not known here yet")]
    NotYet(u64),
    /// There is none of this name.
    #[error("there is no cursor {0:?}; subscribing with its name makes it")]
    Absent(String),
    /// It has another holder.
    #[error("the cursor {0:?} was taken over by another subscription")]
    TakenOver(String),
    /// It was moved.
    #[error("the cursor {0:?} was moved; subscribe again to go on from there")]
    Moved(String),
    /// There are as many as there may be.
    #[error("the partition has {CURSORS_MAX} cursors, as many as it may; delete one")]
    TooMany,
    /// Too much lies acked above a record that is not.
    #[error(
        "{CURSOR_RANGES_MAX} ranges above offset {0} are acked, as many as may be; ack that offset"
    )]
    Full(Offset),
    /// It lies beyond the end.
    #[error("offset {offset} is beyond the end of the partition, {end}")]
    Beyond {
        /// What was named.
        offset: Offset,
        /// The next offset to come.
        end: Offset,
    },
}

impl Cursors {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.cursors.len()
    }

    /// Carries out a change in a partition that retains what lies from `first` to before `end`.
    pub(super) fn change(
        &mut self,
        change: &CursorChange,
        (first, end): (Offset, Offset),
    ) -> Result<CursorPosition, CursorError> {
        let name = &change.name;
        let place = |start: CursorStart| match start {
            CursorStart::Start => Ok(first),
            CursorStart::End => Ok(end),
            CursorStart::Offset(offset) if offset <= end => Ok(offset),
            CursorStart::Offset(offset) => Err(CursorError::Beyond { offset, end }),
        };
        match &change.does {
            CursorDoes::Open { from, holder } => {
                if !self.cursors.contains_key(name) {
                    if self.cursors.len() >= CURSORS_MAX {
                        return Err(CursorError::TooMany);
                    }
                    let cursor = Cursor::at(place(*from)?, first);
                    self.cursors.insert(name.clone(), cursor);
                }
                let cursor = self.cursors.entry(name.clone()).or_default();
                if cursor.holder != Some(*holder) {
                    self.tokens += 1;
                    (cursor.token, cursor.holder) = (self.tokens, Some(*holder));
                }
                let position = cursor.position();
                cursor.untold = 0;
                Ok(position)
            }
            CursorDoes::Ack { token, ranges } => {
                if !Sabotage::StaleToken.is_on() {
                    self.check(name, *token)?;
                }
                let cursor = self.cursors.get_mut(name).ok_or_else(|| absent(name))?;
                cursor.ack(ranges, end)?;
                Ok(CursorPosition {
                    token: cursor.token,
                    floor: cursor.floor,
                    ..CursorPosition::default()
                })
            }
            CursorDoes::Seek { to } => {
                let at = place(*to)?;
                let cursor = self.cursors.get_mut(name).ok_or_else(|| absent(name))?;
                self.tokens += 1;
                *cursor = Cursor {
                    token: self.tokens,
                    ..Cursor::at(at, first)
                };
                Ok(cursor.position())
            }
            CursorDoes::Delete => {
                let cursor = self.cursors.remove(name).ok_or_else(|| absent(name))?;
                Ok(cursor.position())
            }
        }
    }

    /// Whether `token` is that of the cursor's holder.
    pub(super) fn check(&self, name: &str, token: u64) -> Result<(), CursorError> {
        if token > self.tokens {
            return Err(CursorError::NotYet(token));
        }
        match self.cursors.get(name) {
            None => Err(absent(name)),
            Some(cursor) if cursor.token == token => Ok(()),
            Some(cursor) if cursor.holder.is_none() => Err(CursorError::Moved(name.to_owned())),
            Some(_) => Err(CursorError::TakenOver(name.to_owned())),
        }
    }

    /// The partition retains nothing before `first` any more.
    pub(super) fn trim(&mut self, first: Offset) {
        for cursor in self.cursors.values_mut() {
            cursor.trim(first);
        }
    }

    /// The account of each, in a partition that ends before `end`.
    pub(super) fn accounts(&self, end: Offset) -> impl Iterator<Item = (&str, CursorAccount)> {
        self.cursors.iter().map(move |(name, cursor)| {
            let above = end.saturating_sub(cursor.floor);
            let account = CursorAccount {
                token: cursor.token,
                floor: cursor.floor,
                ranges: cursor.ranges.len() as u64,
                offered: end.saturating_sub(cursor.begun),
                acked: cursor.acked,
                waiting: above.saturating_sub(cursor.ranges.count()),
                missed: cursor.missed,
            };
            (name.as_str(), account)
        })
    }
}

impl Cursor {
    /// One that begins at `begun`, of whose partition nothing before `first` is retained.
    fn at(begun: Offset, first: Offset) -> Self {
        let mut cursor = Self {
            begun,
            floor: begun,
            ..Self::default()
        };
        cursor.trim(first);
        cursor
    }

    fn position(&self) -> CursorPosition {
        CursorPosition {
            token: self.token,
            floor: self.floor,
            acked: self.ranges.clone(),
            missed: self.untold,
        }
    }

    /// All of it or nothing.
    fn ack(&mut self, acked: &[(Offset, Offset)], end: Offset) -> Result<(), CursorError> {
        let beyond = acked.iter().map(|(_, stop)| *stop).max();
        if let Some(stop) = beyond.filter(|stop| *stop > end) {
            let offset = stop - 1;
            return Err(CursorError::Beyond { offset, end });
        }
        let mut ranges = self.ranges.clone();
        let mut floor = self.floor;
        let mut count = 0;
        for (first, stop) in acked {
            count += ranges.insert((*first).max(floor), *stop);
        }
        while let Some(stop) = ranges.take_at(floor) {
            floor = stop;
        }
        if Sabotage::CursorAheadOfAck.is_on() {
            floor = floor.max(beyond.unwrap_or(0));
            ranges.cut(floor);
            count = floor + ranges.count() - self.floor - self.ranges.count();
        }
        if ranges.len() > CURSOR_RANGES_MAX {
            return Err(CursorError::Full(floor));
        }
        self.acked += count;
        (self.floor, self.ranges, self.untold) = (floor, ranges, 0);
        Ok(())
    }

    fn trim(&mut self, first: Offset) {
        if first <= self.floor {
            return;
        }
        let before = self.ranges.count();
        self.ranges.cut(first);
        let acked = before - self.ranges.count();
        let lost = first - self.floor - acked;
        if !Sabotage::UncountedMiss.is_on() {
            self.missed += lost;
            self.untold += lost;
        }
        self.floor = self.ranges.take_at(first).unwrap_or(first);
    }
}

fn absent(name: &str) -> CursorError {
    CursorError::Absent(name.to_owned())
}

#[cfg(test)]
mod tests;
