//! What this node's disk has lost of a log is asked of the partition's other replicas, and given to
//! the journal to stand where it stood. An entry is the one that was lost if it is committed where
//! it comes from and of the term that this replica knows for its place: Raft's logs hold one entry
//! at most of a term and an index.

use std::collections::VecDeque;

use super::member::{Member, Slot};
use super::serve::LoadFor;
use super::{Node, Output};
use crate::types::limits::{DELIVER_BYTES_MAX, REPAIR_ANSWER, REPAIR_REST};
use crate::types::{
    DamagedSegment, EntryKind, LoadFrom, LoadRequest, LogEntry, LostEntries, NodeName, Partition,
    Sabotage, Time,
};
use crate::wire::entry::EntryContent;
use crate::wire::peer::{PeerMessage, Recall, Recalled, RecalledEntry};

/// What the disk has lost, and how far it is replaced.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// What the journal said last.
    damaged: Vec<DamagedSegment>,
    under_way: Option<Repair>,
    /// The segment that was tried last; the next one has its turn first.
    last: u64,
    retry_at: Time,
    /// Questions so far: the number of the newest, and whose turn it is to answer.
    asked: u64,
    /// Segments that were made whole.
    pub(super) mended: u64,
}

/// The repair of one segment.
#[derive(Debug)]
struct Repair {
    segment: u64,
    /// What was lost when it began.
    lost: Vec<LostEntries>,
    /// What is still to be asked for.
    missing: VecDeque<LostEntries>,
    found: Vec<(Partition, LogEntry)>,
    question: Option<Question>,
    /// Answers in a row that did not help.
    failures: usize,
    /// Whether the journal has what was found.
    given: bool,
}

#[derive(Debug)]
struct Question {
    number: u64,
    whom: NodeName,
    until: Time,
}

impl Node {
    /// The journal says which of its segments are damaged: all of them.
    pub(super) fn handle_damaged(&mut self, damaged: Vec<DamagedSegment>) {
        let is_damaged = |all: &[DamagedSegment], segment| {
            let mut all = all.iter();
            all.any(|damaged| damaged.segment == segment)
        };
        let before = std::mem::replace(&mut self.repairs.damaged, damaged);
        for new in self.repairs.damaged.clone() {
            if !is_damaged(&before, new.segment) {
                self.warn(describe(&new));
            }
        }
        for old in before {
            if !is_damaged(&self.repairs.damaged, old.segment) {
                self.repairs.mended += 1;
                self.info(format!(
                    "segment {} of the journal is whole again",
                    old.segment
                ));
            }
        }
        self.repairs.go_on(self.now.mono);
        self.tend_repairs();
    }

    /// Asks for what is lost, and gives the journal what was found.
    pub(super) fn tend_repairs(&mut self) {
        if self.repairs.damaged.is_empty() || self.journal.failure().is_some() {
            return;
        }
        let now = self.now.mono;
        if self.repairs.under_way.is_none() && now >= self.repairs.retry_at {
            self.repairs.begin();
        }
        let Some(repair) = &mut self.repairs.under_way else {
            return;
        };
        if repair
            .question
            .take_if(|asked| asked.until <= now)
            .is_some()
        {
            repair.failures += 1;
        }
        if repair.given || repair.question.is_some() {
            return;
        }
        match repair.missing.front().cloned() {
            Some(lost) => self.ask_for(&lost),
            None => {
                repair.given = true;
                let segment = repair.segment;
                let entries = std::mem::take(&mut repair.found);
                self.out.push(Output::Mend { segment, entries });
            }
        }
    }

    fn ask_for(&mut self, lost: &LostEntries) {
        let others = match self.slots.get(&lost.partition) {
            Some(Slot::Member(member)) => self.others_of(member),
            _ => Vec::new(),
        };
        let Some(repair) = &mut self.repairs.under_way else {
            return;
        };
        if repair.failures > others.len() || others.is_empty() {
            self.repairs.under_way = None;
            self.repairs.retry_at = self.now.mono + REPAIR_REST;
            return self.forgo(lost);
        }
        self.repairs.asked += 1;
        let number = self.repairs.asked;
        let whom = others[number as usize % others.len()].clone();
        repair.question = Some(Question {
            number,
            whom: whom.clone(),
            until: self.now.mono + REPAIR_ANSWER,
        });
        let recall = Recall {
            request: number,
            channel: lost.partition.channel.clone(),
            partition: lost.partition.number,
            first: lost.first_index,
            end: lost.end_index,
        };
        self.mail.post(&whom, PeerMessage::Recall(recall));
    }

    /// Nobody has an entry that was lost. If it holds nothing that is retained, it is let go of
    /// with the next checkpoint, which is due now; a replica that lacks it is sent a snapshot.
    fn forgo(&mut self, lost: &LostEntries) {
        let Some(Slot::Member(member)) = self.slots.get_mut(&lost.partition) else {
            return;
        };
        let unretained = member.stream.unretained(member.replica.applied());
        if lost.first_index <= unretained {
            member.forgone = unretained.min(lost.end_index - 1);
            self.checkpoints_due.push_back(lost.partition.clone());
        }
    }

    /// The nodes that may hold what this replica has lost.
    fn others_of(&self, member: &Member) -> Vec<NodeName> {
        let members = member.replica.members();
        let mut others: Vec<NodeName> = members.voters.iter().map(|m| m.node.clone()).collect();
        others.retain(|node| *node != self.name && self.peers.is_up(node, self.now.mono));
        others
    }

    /// Another replica has lost entries, and asks for them.
    pub(super) fn handle_recall(&mut self, from: &NodeName, recall: &Recall) {
        let partition = Partition::new(&recall.channel, recall.partition);
        let (first, request) = (recall.first, recall.request);
        let nothing = PeerMessage::Recalled(Recalled {
            request,
            entries: Vec::new(),
        });
        let Some(Slot::Member(member)) = self.slots.get(&partition) else {
            return self.mail.post(from, nothing);
        };
        let (start, committed) = (member.replica.start().index, member.replica.applied());
        let (first, end) = match Sabotage::StaleRepair.is_on() {
            true => (
                first.min(committed).max(start + 1),
                recall.end.max(start + 2),
            ),
            false => (first, recall.end),
        };
        let index_end = end.min(committed + 1);
        let has = start < first && first < index_end;
        if !has || self.loads.recalls_of(from) {
            return self.mail.post(from, nothing);
        }
        let load = LoadRequest {
            id: 0,
            partition,
            from: LoadFrom::Index(first),
            index_end,
            bytes_max: DELIVER_BYTES_MAX,
        };
        let from = from.clone();
        let wanted = LoadFor::Recall { from, request };
        self.loads.start(load, wanted, &mut self.out);
    }

    /// What another replica asked for came back from the journal, or did not.
    pub(super) fn answer_recall(
        &mut self,
        partition: &Partition,
        from: &NodeName,
        request: u64,
        result: Result<Vec<LogEntry>, String>,
    ) {
        let entries = result.unwrap_or_else(|error| {
            self.error(format!("{partition} cannot be read for {from}: {error}"));
            Vec::new()
        });
        let entries = entries.into_iter().map(|entry| RecalledEntry {
            term: entry.term,
            index: entry.index,
            first_offset: entry.first_offset,
            time: entry.time,
            data: entry.data,
        });
        let recalled = Recalled {
            request,
            entries: entries.collect(),
        };
        self.mail.post(from, PeerMessage::Recalled(recalled));
    }

    /// Another replica answers what this one asked for.
    pub(super) fn handle_recalled(&mut self, from: &NodeName, recalled: Recalled) {
        let Some(repair) = &mut self.repairs.under_way else {
            return;
        };
        let answers =
            |asked: &mut Question| (asked.number, &asked.whom) == (recalled.request, from);
        if repair.question.take_if(answers).is_none() {
            return;
        }
        let Some(lost) = repair.missing.front_mut() else {
            return;
        };
        let Some(Slot::Member(member)) = self.slots.get(&lost.partition) else {
            return;
        };
        let mut helped = false;
        for mut recalled in recalled.entries {
            if Sabotage::StaleRepair.is_on() {
                recalled.index = lost.first_index;
            }
            let is_next = recalled.index == lost.first_index && lost.first_index < lost.end_index;
            let Some(entry) = is_next.then(|| member.recognise(recalled)).flatten() else {
                break;
            };
            lost.first_index += 1;
            repair.found.push((lost.partition.clone(), entry));
            helped = true;
        }
        if lost.first_index == lost.end_index {
            repair.missing.pop_front();
        }
        repair.failures = if helped { 0 } else { repair.failures + 1 };
        self.tend_repairs();
    }

    /// What of this node's disk is damaged, in words.
    pub(super) fn damage_problems(&self) -> impl Iterator<Item = String> + '_ {
        self.repairs.damaged.iter().map(|damaged| {
            let mut lost = damaged.lost.iter();
            let alone = lost.find(|lost| !self.has_others(&lost.partition));
            match alone {
                Some(lost) => format!(
                    "{}; of {} there is no other replica: only a copy of the file brings it back",
                    describe(damaged),
                    lost.partition
                ),
                None => describe(damaged),
            }
        })
    }

    /// Whether the partition has another replica.
    fn has_others(&self, partition: &Partition) -> bool {
        match self.slots.get(partition) {
            Some(Slot::Member(member)) => member.replica.members().voters.len() > 1,
            _ => false,
        }
    }

    /// How many segments are damaged.
    pub(super) fn damaged_segments(&self) -> u64 {
        self.repairs.damaged.len() as u64
    }
}

impl Repairs {
    /// The repair under way is over, or asks for other entries than are lost now, or goes on.
    fn go_on(&mut self, now: Time) {
        let Some(repair) = self.under_way.take() else {
            return;
        };
        let mut damaged = self.damaged.iter();
        let Some(damaged) = damaged.find(|damaged| damaged.segment == repair.segment) else {
            return;
        };
        if repair.given {
            self.retry_at = now + REPAIR_REST;
        } else if repair.lost == damaged.lost {
            self.under_way = Some(repair);
        }
    }

    /// Begins with the next damaged segment.
    fn begin(&mut self) {
        let after = self.damaged.iter().find(|d| d.segment > self.last);
        let Some(damaged) = after.or(self.damaged.first()) else {
            return;
        };
        self.last = damaged.segment;
        self.under_way = Some(Repair {
            segment: damaged.segment,
            lost: damaged.lost.clone(),
            missing: damaged.lost.iter().cloned().collect(),
            found: Vec::new(),
            question: None,
            failures: 0,
            given: false,
        });
    }
}

impl Member {
    /// The entry as the journal keeps it, if it is the one of this replica's log.
    fn recognise(&self, recalled: RecalledEntry) -> Option<LogEntry> {
        let known = self.replica.term_at(recalled.index) == Some(recalled.term);
        if !known && !Sabotage::StaleRepair.is_on() {
            return None;
        }
        let (kind, count) = match EntryContent::decode(&recalled.data).ok()? {
            EntryContent::Blank => (EntryKind::Blank, 0),
            EntryContent::Command(_) => (EntryKind::Command, 0),
            EntryContent::Records(head) => (EntryKind::Records, head.count()),
        };
        Some(LogEntry {
            term: recalled.term,
            index: recalled.index,
            kind,
            first_offset: recalled.first_offset,
            count,
            time: recalled.time,
            data: recalled.data,
        })
    }
}

/// What is lost with a segment.
fn describe(damaged: &DamagedSegment) -> String {
    let segment = damaged.segment;
    let entries = |lost: &LostEntries| lost.end_index - lost.first_index;
    let Some(first) = damaged.lost.first() else {
        return format!(
            "segment {segment} of the journal is damaged, and is written anew: nothing is lost"
        );
    };
    format!(
        "segment {segment} of the journal is damaged: {} entries cannot be read, the first is \
         entry {} of {}; they are fetched from other replicas",
        damaged.lost.iter().map(entries).sum::<u64>(),
        first.first_index,
        first.partition,
    )
}
