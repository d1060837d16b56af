//! The leader's side of reading: answers fetches with committed entries, from memory where they are
//! new, from the journal where they are old, and holds those that wait for the next record.

use std::collections::BTreeMap;

use super::Node;
use super::io::{ClientId, Outbox, Output};
use super::member::{HeldFetch, Member, Slot};
use crate::types::limits::{ELECTION_TICKS, FETCH_WAIT, FETCHES_HELD_MAX};
use crate::types::{LoadFrom, LoadRequest, LogEntry, NodeName, Offset, Partition};
use crate::wire::Code;
use crate::wire::peer::{CursorAsk, Fetch, FetchFrom, Fetched, PeerMessage, Refusal};

/// Reads from the journal under way.
#[derive(Debug, Default)]
pub(super) struct Loads {
    next_id: u64,
    under_way: BTreeMap<u64, (Partition, LoadFor)>,
}

/// Who wanted a read.
#[derive(Debug)]
pub(super) enum LoadFor {
    /// Raft, for a follower that lags.
    Raft,
    /// A reader on this node.
    Fetch {
        from: NodeName,
        request: u64,
        /// See [`Fetched::start`].
        start: Option<Offset>,
        bytes_max: u64,
    },
    /// A client that audits this replica.
    Audit {
        client: ClientId,
        id: Option<u64>,
        from: u64,
    },
    /// Another replica that has lost them.
    Recall { from: NodeName, request: u64 },
    /// A cursor that is to go to a time.
    Cursor(NodeName, CursorAsk),
}

impl Loads {
    pub(super) fn start(&mut self, mut load: LoadRequest, wanted: LoadFor, out: &mut Outbox) {
        self.next_id += 1;
        load.id = self.next_id;
        self.under_way
            .insert(load.id, (load.partition.clone(), wanted));
        out.push(Output::Load(load));
    }

    /// How many reads are under way for audits.
    pub(super) fn audits(&self) -> usize {
        let all = self.under_way.values();
        all.filter(|(_, wanted)| matches!(wanted, LoadFor::Audit { .. }))
            .count()
    }

    /// Whether entries that this node has lost are read for it.
    pub(super) fn recalls_of(&self, node: &NodeName) -> bool {
        let mut all = self.under_way.values();
        all.any(|(_, wanted)| matches!(wanted, LoadFor::Recall { from, .. } if from == node))
    }

    fn finish(&mut self, id: u64) -> Option<(Partition, LoadFor)> {
        self.under_way.remove(&id)
    }
}

/// Before a leader refuses a position beyond its end: two rounds of Raft's check for a quorum, and
/// a little. One that still leads then did lead when it was asked, and had every committed entry.
/// Counted in ticks, as Raft counts: a process that was frozen has missed time, and no ticks.
const BEYOND_TICKS: u32 = 2 * ELECTION_TICKS as u32 + 2;

impl Node {
    /// A reader's node asks for entries.
    pub(super) fn handle_fetch(&mut self, from: &NodeName, fetch: Fetch) {
        let partition = Partition::new(&fetch.channel, fetch.partition);
        let now = self.now.mono;
        let member = match self.slots.get_mut(&partition) {
            Some(Slot::Member(member)) if member.replica.is_serving() => member,
            _ => {
                let message = format!("{} does not lead {partition} now", self.name);
                self.mail
                    .post(from, not_served(fetch.request, Code::NoLeader, message));
                return;
            }
        };
        let next = member.stream.next_offset();
        let at_end = |from| match from {
            FetchFrom::End => true,
            FetchFrom::Start | FetchFrom::Offset(_) => false,
            FetchFrom::Time(time) => {
                let newest = member.stream.newest_record();
                newest.is_none_or(|newest| newest < time)
            }
        };
        match fetch.from {
            from_end if at_end(from_end) => {
                self.mail
                    .post(from, fetched(fetch.request, Vec::new(), next, None));
            }
            // One that lies beyond the end waits too: a leader that is one no more, and does not
            // know it yet, must not refuse a reader who knows better.
            FetchFrom::Offset(offset) if offset >= next => {
                if member.held.len() >= FETCHES_HELD_MAX {
                    self.mail
                        .post(from, fetched(fetch.request, Vec::new(), next, None));
                    return;
                }
                let (request, bytes_max) = (fetch.request, fetch.bytes_max);
                let (until, ticks) = match offset == next {
                    true => (now + FETCH_WAIT, 0),
                    false => (now, BEYOND_TICKS),
                };
                member.held.push(HeldFetch {
                    from: from.clone(),
                    request,
                    offset,
                    bytes_max,
                    until,
                    ticks,
                    cursor: fetch.cursor,
                });
            }
            FetchFrom::Offset(offset) => {
                let wanted = Some(offset);
                self.serve(&partition, from, fetch.request, wanted, fetch.bytes_max);
            }
            FetchFrom::Start => {
                self.serve(&partition, from, fetch.request, None, fetch.bytes_max);
            }
            FetchFrom::Time(time) => {
                let load = load(member, LoadFrom::Time(time), fetch.bytes_max);
                let wanted = LoadFor::Fetch {
                    from: from.clone(),
                    request: fetch.request,
                    start: None,
                    bytes_max: fetch.bytes_max,
                };
                self.loads.start(load, wanted, &mut self.out);
            }
            // Answered by the first arm.
            FetchFrom::End => {}
        }
    }

    /// The journal gave entries back, or could not.
    pub(super) fn handle_loaded(&mut self, id: u64, result: Result<Vec<LogEntry>, String>) {
        let Some((partition, wanted)) = self.loads.finish(id) else {
            return;
        };
        let Some(Slot::Member(member)) = self.slots.get_mut(&partition) else {
            return;
        };
        match wanted {
            LoadFor::Raft => {
                self.catch_up.spend(result.as_deref().unwrap_or_default());
                let read = member.replica.handle_loaded(result);
                let told = std::mem::replace(&mut member.unreadable, read.is_err());
                // Raft asks again and again.
                if let Err(error) = read
                    && !told
                {
                    self.error(format!(
                        "{partition} cannot be read for a lagging peer: {error}"
                    ));
                }
                self.dirty.insert(partition);
            }
            LoadFor::Fetch {
                from,
                request,
                start,
                bytes_max,
            } => self.answer_loaded(&partition, &from, request, (start, bytes_max), result),
            LoadFor::Audit { client, id, from } => {
                self.answer_audit(&partition, &client, id, from, result);
            }
            LoadFor::Recall { from, request } => {
                self.answer_recall(&partition, &from, request, result);
            }
            LoadFor::Cursor(from, ask) => self.handle_cursor_place(&from, ask, result),
        }
    }

    /// A reader's entries came back from the journal.
    fn answer_loaded(
        &mut self,
        partition: &Partition,
        from: &NodeName,
        request: u64,
        (start, bytes_max): (Option<Offset>, u64),
        result: Result<Vec<LogEntry>, String>,
    ) {
        let Some(Slot::Member(member)) = self.slots.get(partition) else {
            return;
        };
        let (first, next) = (member.stream.first_offset(), member.stream.next_offset());
        let message = match result {
            Ok(mut entries)
                if !entries.is_empty()
                    && entries.iter().all(|entry| member.replica.holds(entry)) =>
            {
                // What was retained when it was asked for by offset may be read. By time the
                // journal may find more than is retained.
                if start.is_none() {
                    entries.retain(|entry| entry.first_offset + u64::from(entry.count) > first);
                }
                let Some(oldest) = entries.first() else {
                    return self.serve(partition, from, request, None, bytes_max);
                };
                let begins = oldest.first_offset.max(first);
                fetched(request, entries, next, start.or(Some(begins)))
            }
            // Something was there when it was asked for.
            Ok(_) => {
                let message = "the log has changed, ask again".to_owned();
                not_served(request, Code::NoLeader, message)
            }
            Err(error) => {
                let place = start.map_or(String::new(), |start| format!("/{start}"));
                self.error(format!("{partition}{place} cannot be read: {error}"));
                not_served(request, Code::NoLeader, error)
            }
        };
        self.mail.post(from, message);
    }

    /// Answers the held fetches that have something to read now.
    pub(super) fn serve_held(&mut self, partition: &Partition) {
        let Some(Slot::Member(member)) = self.slots.get_mut(partition) else {
            return;
        };
        if !member.replica.is_serving() {
            return;
        }
        let next = member.stream.next_offset();
        let ready = |held: &mut HeldFetch| held.offset < next;
        let held: Vec<HeldFetch> = member.held.extract_if(.., ready).collect();
        for held in held {
            self.serve(
                partition,
                &held.from,
                held.request,
                Some(held.offset),
                held.bytes_max,
            );
        }
    }

    /// A tick passed: answers the held fetches that waited long enough.
    pub(super) fn expire_held(&mut self) {
        let now = self.now.mono;
        for (partition, slot) in &mut self.slots {
            let Slot::Member(member) = slot else { continue };
            let next = member.stream.next_offset();
            // What waits for a slow disk of its own is there, and not yet to be seen.
            let sees_all = member.replica.applied() == member.replica.commit();
            let leads = member.replica.is_serving() && sees_all;
            let waited = |held: &mut HeldFetch| {
                held.ticks = held.ticks.saturating_sub(1);
                held.until <= now && held.ticks == 0
            };
            for held in member.held.extract_if(.., waited) {
                let (request, offset) = (held.request, held.offset);
                let answer = match offset > next {
                    false => fetched(request, Vec::new(), next, None),
                    true if leads => {
                        let message = format!(
                            "{partition} ends before offset {next}, and {offset} is beyond that"
                        );
                        not_served(request, Code::BadPosition, message)
                    }
                    true => {
                        let message = format!("{} does not know yet where it ends", self.name);
                        not_served(request, Code::NoLeader, message)
                    }
                };
                self.mail.post(&held.from, answer);
            }
        }
    }

    /// Answers with entries from the offset wanted on, or from the first that is retained.
    fn serve(
        &mut self,
        partition: &Partition,
        from: &NodeName,
        request: u64,
        wanted: Option<Offset>,
        bytes_max: u64,
    ) {
        let Some(Slot::Member(member)) = self.slots.get_mut(partition) else {
            return;
        };
        let (first, next) = (member.stream.first_offset(), member.stream.next_offset());
        let offset = wanted.map_or(first, |wanted| wanted.max(first));
        let start = (wanted != Some(offset)).then_some(offset);
        if offset >= next {
            let nothing = fetched(request, Vec::new(), next, start);
            return self.mail.post(from, nothing);
        }
        match member.replica.cached(offset, bytes_max) {
            Some(entries) => self.mail.post(from, fetched(request, entries, next, start)),
            None => {
                let load = load(member, LoadFrom::Offset(offset), bytes_max);
                let wanted = LoadFor::Fetch {
                    from: from.clone(),
                    request,
                    start: start.or(Some(offset)),
                    bytes_max,
                };
                self.loads.start(load, wanted, &mut self.out);
            }
        }
    }
}

/// An answer without entries, and why.
pub(super) fn not_served(request: u64, code: Code, message: String) -> PeerMessage {
    let refusal = Some(Refusal {
        code: code.number(),
        message,
    });
    PeerMessage::Fetched(Fetched {
        request,
        entries: Vec::new(),
        next: 0,
        start: None,
        refusal,
    })
}

/// An answer with these entries; `end` is the partition's next offset, where there are none.
fn fetched(
    request: u64,
    entries: Vec<LogEntry>,
    end: Offset,
    start: Option<Offset>,
) -> PeerMessage {
    let next = entries
        .last()
        .map_or(end, |entry| entry.first_offset + u64::from(entry.count));
    let entries = entries
        .into_iter()
        .filter(|entry| entry.count > 0)
        .map(|entry| entry.data);
    PeerMessage::Fetched(Fetched {
        request,
        entries: entries.collect(),
        next,
        start,
        refusal: None,
    })
}

/// A read of applied entries, which are synced on this node.
pub(super) fn load(member: &Member, from: LoadFrom, bytes_max: u64) -> LoadRequest {
    LoadRequest {
        id: 0,
        partition: member.founding.partition.clone(),
        from,
        index_end: member.replica.applied() + 1,
        bytes_max,
    }
}
