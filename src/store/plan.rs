//! Which sealed segments are worth writing anew, and what the index says once they are. Pure.

use crate::types::{Partition, Sabotage};

use super::index::{
    Fence, Follows, Index, Log, Run, Sealed, SegmentIndex, entry_head_bytes, footer_share,
};
use super::layout::{BlockKind, MARK, PAGE};

/// Neighbouring sealed segments that become one.
#[derive(Debug)]
pub(super) struct Plan {
    /// The first of them, whose number the new one has.
    pub(super) first: u64,
    /// What that one follows.
    pub(super) follows: Follows,
    /// The segment after the last of them.
    pub(super) next: u64,
    /// What that one follows: the end of what the new one stands for.
    pub(super) ends: Follows,
    /// What stays, in the order in which it stands.
    pub(super) kept: Vec<Kept>,
    /// What their blocks take, headers included.
    pub(super) bytes: u64,
    /// What those of the new one will take, by estimate.
    pub(super) bytes_after: u64,
}

/// Entries of one log that stay, in one segment.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) partition: Partition,
    pub(super) fence: Fence,
    /// The first of them; all later ones of the fence stay.
    pub(super) first_index: u64,
}

/// A segment, or neighbours together: what they take, and what of it stays.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    /// Bytes of their blocks, headers included.
    bytes: u64,
    /// The same of the largest.
    largest: u64,
    /// How many they are.
    segments: u64,
    /// Bytes of the items that stay.
    kept: u64,
    /// What these add to a footer.
    footer: u64,
}

impl Share {
    fn with(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            largest: self.largest.max(other.largest),
            segments: self.segments + other.segments,
            kept: self.kept + other.kept,
            footer: self.footer + other.footer,
        }
    }

    /// What a segment of what stays takes, without its footer.
    fn bytes_after(self) -> u64 {
        let pages = |bytes: u64| bytes.div_ceil(PAGE - MARK as u64);
        match self.kept {
            0 => PAGE,
            // A block loses a page at most to its header and to rounding up.
            kept => PAGE * (1 + pages(kept) + 1 + kept / super::rewrite::BLOCK_BYTES),
        }
    }

    /// Whether writing them anew is worth it: it gives back at least as much as it writes, or it
    /// makes one of several of which the largest at least doubles. So a byte that stays is written
    /// again a few times at most, and of neighbours that fit into one segment a few remain.
    fn is_worth_it(self) -> bool {
        let after = self.bytes_after();
        2 * after <= self.bytes || (self.segments > 1 && 2 * self.largest <= after)
    }

    /// Whether they fit into a segment of this size.
    fn fits(self, segment_bytes: u64) -> bool {
        let footer = (self.footer / (PAGE - MARK as u64) + 2) * PAGE;
        self.bytes_after() + footer <= segment_bytes
    }
}

impl Index {
    /// The neighbours whose rewriting gives back most for what it writes, if any are worth it. One
    /// that is larger than `segment_bytes` only gets smaller.
    pub(super) fn plan(&self, segment_bytes: u64) -> Option<Plan> {
        let shares = self.shares();
        let mut best: Option<(usize, usize, Share)> = None;
        for from in 0..shares.len() {
            let mut all = Share::default();
            for (to, (number, share)) in shares.iter().enumerate().skip(from) {
                all = all.with(*share);
                let stays = self.unreadable.contains(number) || self.holds_snapshot(*number);
                if stays || (all.segments > 1 && !all.fits(segment_bytes)) {
                    break;
                }
                let better = |(_, _, best): &(usize, usize, Share)| gain(all) > gain(*best);
                if all.is_worth_it() && best.as_ref().is_none_or(better) {
                    best = Some((from, to, all));
                }
            }
        }
        let (from, to, all) = best?;
        let first = shares[from].0;
        let next = shares
            .get(to + 1)
            .map_or(self.tail_number, |(next, _)| *next);
        Some(Plan {
            first,
            follows: self.follows(first),
            next,
            ends: self.follows(next),
            kept: self.kept_in(first, next),
            bytes: all.bytes,
            bytes_after: all.bytes_after(),
        })
    }

    /// A segment that was found damaged becomes one that holds what is to stay of it; `None` if it
    /// is no longer there, or cannot be written anew yet.
    pub(super) fn plan_to_mend(&self, segment: u64) -> Option<Plan> {
        let shares = self.shares();
        let at = shares.iter().position(|(number, _)| *number == segment)?;
        let share = shares[at].1;
        let next = shares
            .get(at + 1)
            .map_or(self.tail_number, |(next, _)| *next);
        (!self.holds_snapshot(segment)).then(|| Plan {
            first: segment,
            follows: self.follows(segment),
            next,
            ends: self.follows(next),
            kept: self.kept_in(segment, next),
            bytes: share.bytes,
            bytes_after: share.bytes_after(),
        })
    }

    /// What the segment of this number follows, which is there.
    fn follows(&self, segment: u64) -> Follows {
        let sealed = self.sealed.get(&segment);
        sealed.map_or(self.tail_follows, |sealed| sealed.follows)
    }

    /// Whether a snapshot stands in this segment that no checkpoint has followed: it counts in its
    /// place, and only there.
    fn holds_snapshot(&self, segment: u64) -> bool {
        let mut logs = self.logs.values();
        logs.any(|log| log.snapshot == Some(segment))
    }

    /// Of the log of `partition`, the first entry that a segment written anew holds. The newest of
    /// a log always stays: it withdraws whatever older segments may still hold in its place.
    fn stays_from(&self, partition: &Partition, log: &Log) -> u64 {
        let last = log.end_index().unwrap_or(0).saturating_sub(1);
        match Sabotage::HoardingCompaction.is_on() {
            true => 0,
            false => self.keep_from(partition).min(last),
        }
    }

    /// The sealed segments in order.
    fn shares(&self) -> Vec<(u64, Share)> {
        let share = |(number, sealed): (&u64, &Sealed)| {
            let share = Share {
                bytes: sealed.end,
                largest: sealed.end,
                segments: 1,
                ..Share::default()
            };
            (*number, share)
        };
        let mut shares: Vec<(u64, Share)> = self.sealed.iter().map(share).collect();
        for (partition, log) in &self.logs {
            let from = self.stays_from(partition, log);
            for fence in log.fences.iter().filter(|fence| fence.end_index > from) {
                let at = shares.binary_search_by_key(&fence.segment, |(number, _)| *number);
                let Ok(at) = at else { continue };
                let entries = fence.end_index - from.max(fence.first_index);
                let share = &mut shares[at].1;
                share.kept += fence.bytes_from(from);
                share.footer += entries * footer_share(partition);
            }
        }
        shares
    }

    pub(super) fn kept_in(&self, first: u64, next: u64) -> Vec<Kept> {
        let mut kept = Vec::new();
        for (partition, log) in &self.logs {
            let from = self.stays_from(partition, log);
            let here = |fence: &&Fence| (first..next).contains(&fence.segment);
            let fences = log.fences.iter().filter(here);
            for fence in fences.filter(|fence| fence.end_index > from) {
                kept.push(Kept {
                    partition: partition.clone(),
                    fence: *fence,
                    first_index: from.max(fence.first_index),
                });
            }
        }
        // One segment after the other: each footer is read once.
        kept.sort_by_key(|kept| kept.fence.segment);
        kept
    }

    /// The segments of `plan` are one now, whose blocks end at `end` and hold `runs`. Entries that
    /// were withdrawn since the plan was made are in them, and not in the index.
    pub(super) fn replace(&mut self, plan: &Plan, end: u64, runs: &SegmentIndex) {
        let replaced = plan.first..plan.next;
        self.sealed.retain(|number, _| !replaced.contains(number));
        self.unreadable.retain(|number| !replaced.contains(number));
        let sealed = Sealed {
            end,
            follows: plan.follows,
            kind: BlockKind::Kept,
            version: self.changes,
        };
        self.sealed.insert(plan.first, sealed);
        for (partition, log) in &mut self.logs {
            let count = |segment| log.fences.partition_point(|fence| fence.segment < segment);
            let here = count(plan.first)..count(plan.next);
            let Some(last) = here.clone().next_back() else {
                continue;
            };
            let end_index = log.fences[last].end_index;
            let run = runs.get(partition);
            let fence = run.and_then(|run| fence(partition, run, (plan.first, end), end_index));
            let from = here.start;
            log.fences.splice(here, fence);
            log.forget_before_hole(from);
        }
    }
}

impl Log {
    /// If something lacks before the fence at `at`, or before the tail if there is none, then what
    /// is before the hole may go: it is forgotten, so that a log has no hole.
    fn forget_before_hole(&mut self, at: usize) {
        let tail = (!self.tail.slots.is_empty()).then_some(self.tail.first_index);
        let next = self.fences.get(at).map(|fence| fence.first_index).or(tail);
        let before = at
            .checked_sub(1)
            .map(|before| self.fences[before].end_index);
        if before.zip(next).is_some_and(|(end, first)| end < first) {
            self.fences.drain(..at);
        }
    }
}

/// The fence of a run of `segment`, a number and where its blocks end, as far as `end_index`.
fn fence(partition: &Partition, run: &Run, segment: (u64, u64), end_index: u64) -> Option<Fence> {
    let kept = end_index.saturating_sub(run.first_index);
    let kept = run
        .slots
        .len()
        .min(usize::try_from(kept).unwrap_or(usize::MAX));
    let slots = &run.slots[..kept];
    let first = slots.first()?;
    let data: u64 = slots.iter().map(|slot| u64::from(slot.data_bytes)).sum();
    Some(Fence {
        segment: segment.0,
        segment_end: segment.1,
        first_index: run.first_index,
        end_index: run.first_index + slots.len() as u64,
        bytes: data + entry_head_bytes(partition) * slots.len() as u64,
        first_offset: first.first_offset,
        first_time: first.time,
    })
}

/// Bytes given back, in thousandths of those written.
fn gain(share: Share) -> u64 {
    let after = share.bytes_after();
    share.bytes.saturating_sub(after) * 1_000 / after
}
