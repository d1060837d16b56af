//! What happened, twice: as a hash of everything, by which two runs of one seed are compared, and
//! as the last lines of a story that a person can read when an oracle finds fault.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::types::{Partition, Time};

/// Lines kept; a failure shows those of its own partition among them.
const KEPT: usize = 4_000;

/// Lines told.
const TOLD: usize = 40;

/// The trace of a run.
#[derive(Debug)]
pub(super) struct Story {
    lines: VecDeque<Line>,
    hash: u64,
}

#[derive(Debug)]
struct Line {
    time: Time,
    who: String,
    partition: Option<Partition>,
    text: String,
}

impl Story {
    pub(super) fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Takes bytes into the hash: 64-bit FNV-1a over their CRC-32, so that long frames cost little.
    pub(super) fn hash(&mut self, time: Time, what: u64, bytes: &[u8]) {
        for word in [time.0, what, u64::from(crc32fast::hash(bytes))] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
    }

    /// The hash of everything so far.
    pub(super) fn digest(&self) -> u64 {
        self.hash
    }

    /// Tells one line. `partition` is whose story it is; `None` is everybody's.
    pub(super) fn tell(
        &mut self,
        time: Time,
        who: &str,
        partition: Option<&Partition>,
        text: String,
    ) {
        self.hash(time, 1, text.as_bytes());
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(Line {
            time,
            who: who.to_owned(),
            partition: partition.cloned(),
            text,
        });
    }

    /// The last lines that concern `partition` (all if `None`), oldest first.
    pub(super) fn told(&self, partition: Option<&Partition>) -> Vec<String> {
        let concerns = |line: &&Line| {
            partition.is_none() || line.partition.is_none() || line.partition.as_ref() == partition
        };
        let mut told: Vec<String> = self
            .lines
            .iter()
            .rev()
            .filter(concerns)
            .take(TOLD)
            .map(Line::print)
            .collect();
        told.reverse();
        told
    }
}

impl Line {
    fn print(&self) -> String {
        let micros = self.time.0 / 1_000;
        let mut text = format!(
            "{:>5}.{:06} s  {:<10} ",
            micros / 1_000_000,
            micros % 1_000_000,
            self.who
        );
        if let Some(partition) = &self.partition {
            let _ = write!(text, "{partition}: ");
        }
        text.push_str(&self.text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_told_of_one_partition_and_of_what_concerns_all() {
        let mut story = Story::new();
        let (one, two) = (
            Partition::new(&"orders".into(), 1),
            Partition::new(&"orders".into(), 2),
        );
        story.tell(Time(1_500_000_000), "a", Some(&one), "one".to_owned());
        story.tell(Time(1_500_000_001), "a", Some(&two), "two".to_owned());
        let before = story.digest();
        story.tell(Time(1_500_000_002), "b", None, "power cut".to_owned());
        assert_ne!(story.digest(), before);
        let told = story.told(Some(&two));
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("1.500000 s") && told[0].ends_with("orders/2: two"));
    }
}
