//! What one node holds, in few words: `orders 0-3 5` instead of a line for each partition.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::topology::Plan;
use crate::types::{ChannelName, NodeName};

/// The partitions of one node, a line for each channel.
pub(super) struct Holdings {
    /// Those it leads when all is well.
    pub(super) leads: Vec<String>,
    /// Those it follows.
    pub(super) follows: Vec<String>,
}

impl Holdings {
    /// What `node` holds by `plan`.
    pub(super) fn of(plan: &Plan, node: &NodeName) -> Self {
        let mut leads: BTreeMap<&ChannelName, Vec<u32>> = BTreeMap::new();
        let mut follows = leads.clone();
        for own in plan
            .partitions
            .iter()
            .filter(|own| own.replicas.contains(node))
        {
            let of = match own.leader == *node {
                true => &mut leads,
                false => &mut follows,
            };
            of.entry(&own.channel).or_default().push(own.partition);
        }
        let lines = |of: BTreeMap<&ChannelName, Vec<u32>>| {
            let line = |(channel, numbers): (&ChannelName, Vec<u32>)| {
                format!("{channel} {}", ranges(&numbers))
            };
            of.into_iter().map(line).collect()
        };
        Self {
            leads: lines(leads),
            follows: lines(follows),
        }
    }
}

/// Rising numbers, neighbours as one range.
fn ranges(numbers: &[u32]) -> String {
    let mut text = String::new();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        if !text.is_empty() {
            text.push(' ');
        }
        // Writing to a string does not fail.
        let _ = match run {
            [first, .., last] => write!(text, "{first}-{last}"),
            _ => write!(text, "{}", run[0]),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range() {
        for (numbers, expected) in [
            (&[][..], ""),
            (&[7], "7"),
            (&[0, 1], "0-1"),
            (&[0, 1, 2, 4, 6, 7], "0-2 4 6-7"),
        ] {
            assert_eq!(ranges(numbers), expected);
        }
    }
}
