//! The leader's side of cursors: gathers what one loop asks of them into one command, and answers
//! when it is committed.

use super::Node;
use super::member::{CursorsDone, HeldFetch, Member, Slot};
use super::publish::No;
use super::serve::LoadFor;
use super::view::CursorView;
use crate::channel::{CursorAccount, CursorError, CursorPosition};
use crate::types::limits::{APPEND_BYTES_MAX, CURSOR_BYTES_MAX, CURSOR_RANGES_MAX};
use crate::types::{
    Command, CursorChange, CursorDoes, CursorStart, LoadFrom, LogEntry, NodeName, Partition,
    Sabotage, Wall,
};
use crate::wire::Code;
use crate::wire::entry::CommandHead;
use crate::wire::peer::{
    CursorAct, CursorAsk, CursorStands, Cursored, Fetch, FetchFrom, PeerMessage, Refusal,
};

/// A change in front of the leader.
pub(super) struct CursorIntake {
    from: NodeName,
    request: u64,
    change: CursorChange,
}

/// A proposed command, and who asked for each of its changes.
pub(super) struct WaitingCursors {
    index: u64,
    term: u64,
    askers: Vec<(NodeName, u64)>,
}

impl Node {
    /// A change of a cursor for a partition that this node is believed to lead.
    pub(super) fn handle_cursor(&mut self, from: &NodeName, ask: CursorAsk) {
        let request = ask.request;
        if let Err((code, message)) = self.accept_cursor(from, ask) {
            self.mail.post(from, refused(request, code, message));
        }
    }

    /// A reader's node asks for entries: for the holder of a cursor, if it names one.
    pub(super) fn handle_reader(&mut self, from: &NodeName, fetch: Fetch) {
        let partition = Partition::new(&fetch.channel, fetch.partition);
        if let Some(held) = &fetch.cursor
            && let Some(Slot::Member(member)) = self.slots.get(&partition)
            && member.replica.is_serving()
            && let Err(error) = member.stream.check_cursor(&held.name, held.token)
        {
            let (code, message) = explain(error);
            let no = super::serve::not_served(fetch.request, code, message);
            return self.mail.post(from, no);
        }
        self.handle_fetch(from, fetch);
    }

    fn accept_cursor(&mut self, from: &NodeName, ask: CursorAsk) -> Result<(), No> {
        let partition = Partition::new(&ask.channel, ask.partition);
        check_name(&ask.cursor)?;
        let (name, free) = (&self.name, self.gauges.disk_free);
        let Some(Slot::Member(member)) = self.slots.get_mut(&partition) else {
            let message = format!("{name} is no replica of {partition}");
            return Err((Code::NoLeader, message));
        };
        if !member.replica.is_serving() || member.replica.is_transferring() || self.stopping {
            let message = format!("{name} does not lead {partition} now");
            return Err((Code::NoLeader, message));
        }
        if self.measured && free < self.topology.limits.disk_free_min {
            let message = format!("{name} has {free} bytes of disk left and moves no cursor");
            return Err((Code::DiskFull, message));
        }
        let place = |member: &Member, from| match from {
            FetchFrom::Start => Ok(CursorStart::Start),
            FetchFrom::End => Ok(CursorStart::End),
            FetchFrom::Offset(offset) => Ok(CursorStart::Offset(offset)),
            FetchFrom::Time(time) => match member.stream.newest_record() {
                Some(newest) if newest >= time => Err(time),
                _ => Ok(CursorStart::End),
            },
        };
        let does = match &ask.does {
            CursorAct::Open { from, holder } => place(member, *from).map(|from| {
                let holder = *holder;
                CursorDoes::Open { from, holder }
            }),
            CursorAct::Seek { to } => place(member, *to).map(|to| CursorDoes::Seek { to }),
            CursorAct::Delete => Ok(CursorDoes::Delete),
            CursorAct::Ack { token, ranges } => {
                // What is known to be in vain is not written.
                if !Sabotage::StaleToken.is_on() {
                    let known = member.stream.check_cursor(&ask.cursor, *token);
                    known.map_err(explain)?;
                }
                if ranges.len() > CURSOR_RANGES_MAX {
                    let message = format!("{} ranges in one ack", ranges.len());
                    return Err((Code::TooLarge, message));
                }
                let (token, ranges) = (*token, ranges.clone());
                Ok(CursorDoes::Ack { token, ranges })
            }
        };
        match does {
            Ok(does) => {
                member.asks.push(CursorIntake {
                    from: from.clone(),
                    request: ask.request,
                    change: CursorChange {
                        name: ask.cursor,
                        does,
                    },
                });
                self.intakes.insert(partition);
            }
            Err(time) => {
                let load = super::serve::load(member, LoadFrom::Time(time), 1);
                let wanted = LoadFor::Cursor(from.clone(), ask);
                self.loads.start(load, wanted, &mut self.out);
            }
        }
        Ok(())
    }

    /// The journal gave back what lies at the time that a cursor is to go to.
    pub(super) fn handle_cursor_place(
        &mut self,
        from: &NodeName,
        mut ask: CursorAsk,
        result: Result<Vec<LogEntry>, String>,
    ) {
        let partition = Partition::new(&ask.channel, ask.partition);
        let first = match self.slots.get(&partition) {
            Some(Slot::Member(member)) => member.stream.first_offset(),
            _ => 0,
        };
        let at = match result {
            // By time the journal may find more than is retained.
            Ok(entries) => match entries.first() {
                Some(entry) => FetchFrom::Offset(entry.first_offset.max(first)),
                None => FetchFrom::End,
            },
            Err(error) => {
                self.error(format!("{partition} cannot be read: {error}"));
                let no = refused(ask.request, Code::NoLeader, error);
                return self.mail.post(from, no);
            }
        };
        match &mut ask.does {
            CursorAct::Open { from, .. } => *from = at,
            CursorAct::Seek { to } => *to = at,
            CursorAct::Ack { .. } | CursorAct::Delete => {}
        }
        self.handle_cursor(from, ask);
    }
}

impl Member {
    /// Proposes what was asked of cursors in this loop.
    pub(super) fn propose_cursors(
        &mut self,
        wall: Wall,
        post: &mut impl FnMut(&NodeName, PeerMessage),
    ) {
        let mut asks = std::mem::take(&mut self.asks).into_iter().peekable();
        while asks.peek().is_some() {
            let (mut changes, mut askers, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(ask) = asks.next_if(|ask| bytes + weight(&ask.change) <= COMMAND_BYTES) {
                bytes += weight(&ask.change);
                changes.push(ask.change);
                askers.push((ask.from, ask.request));
            }
            self.stamp_time(wall);
            let head = CommandHead {
                time: self.last_stamp,
                does: Command::Cursors {
                    changes: changes.clone(),
                },
            };
            match self.replica.propose(head.encode()) {
                Ok(index) => {
                    if Sabotage::EarlyAck.is_on() {
                        answer_early(&changes, &askers, post);
                    }
                    let term = self.replica.term();
                    self.asked.push_back(WaitingCursors {
                        index,
                        term,
                        askers,
                    });
                }
                Err(error) => {
                    for (from, request) in askers {
                        post(&from, refused(request, Code::NoLeader, error.to_string()));
                    }
                }
            }
        }
    }

    /// Tells the askers of a committed command what became of its changes, and the readers whose
    /// cursor they took.
    pub(super) fn confirm_cursors(
        &mut self,
        index: u64,
        term: u64,
        done: CursorsDone,
        post: &mut impl FnMut(&NodeName, PeerMessage),
    ) {
        if !done.is_empty() {
            self.refuse_stale(post);
        }
        if self.asked.front().is_none_or(|asked| asked.index != index) {
            return;
        }
        let Some(asked) = self.asked.pop_front() else {
            return;
        };
        if asked.term != term {
            let message = "another leader's entry took its place";
            for (from, request) in asked.askers {
                post(
                    &from,
                    refused(request, Code::OutcomeUnknown, message.to_owned()),
                );
            }
            return;
        }
        for ((from, request), done) in asked.askers.into_iter().zip(done) {
            let message = match done {
                Ok(position) => cursored(request, position),
                Err(error) => {
                    let (code, message) = explain(error);
                    refused(request, code, message)
                }
            };
            post(&from, message);
        }
    }

    /// This replica leads no more: what was asked of it may or may not be done.
    pub(super) fn give_up_cursors(&mut self, post: &mut impl FnMut(&NodeName, PeerMessage)) {
        let partition = &self.founding.partition;
        for (from, request) in self.asked.drain(..).flat_map(|asked| asked.askers) {
            let message = format!("{partition} lost its leader before the commit was known");
            post(&from, refused(request, Code::OutcomeUnknown, message));
        }
        for ask in self.asks.drain(..) {
            let message = format!("{partition} has lost its leader");
            post(&ask.from, refused(ask.request, Code::NoLeader, message));
        }
    }

    /// Answers the fetches whose cursor somebody else has now.
    fn refuse_stale(&mut self, post: &mut impl FnMut(&NodeName, PeerMessage)) {
        let stream = &self.stream;
        let lost = |held: &mut HeldFetch| {
            let cursor = held.cursor.as_ref();
            cursor.is_some_and(|held| stream.check_cursor(&held.name, held.token).is_err())
        };
        for held in self.held.extract_if(.., lost) {
            let Some(cursor) = &held.cursor else { continue };
            if let Err(error) = self.stream.check_cursor(&cursor.name, cursor.token) {
                let (code, message) = explain(error);
                let answer = super::serve::not_served(held.request, code, message);
                post(&held.from, answer);
            }
        }
    }
}

/// Bytes of changes in one command: a small part of an append.
const COMMAND_BYTES: u64 = APPEND_BYTES_MAX / 4;

/// About the bytes of a change: far below [`COMMAND_BYTES`], whatever its ranges.
fn weight(change: &CursorChange) -> u64 {
    let ranges = match &change.does {
        CursorDoes::Ack { ranges, .. } => ranges.len() as u64,
        _ => 0,
    };
    CURSOR_BYTES_MAX as u64 + 64 + 20 * ranges
}

/// Whether a cursor may have this name.
pub(super) fn check_name(name: &str) -> Result<(), No> {
    let strange = |c: char| c.is_whitespace() || c.is_control();
    match name.is_empty() || name.len() > CURSOR_BYTES_MAX || name.chars().any(strange) {
        true => {
            let name: String = name.chars().take(CURSOR_BYTES_MAX).collect();
            let message = format!(
                "{name:?} is no name for a cursor: it has 1 to {CURSOR_BYTES_MAX} bytes without \
                 white space"
            );
            Err((Code::BadCursor, message))
        }
        false => Ok(()),
    }
}

/// The refusal that an error is.
pub(super) fn explain(error: CursorError) -> No {
    let code = match &error {
        CursorError::NotYet(_) => Code::NoLeader,
        CursorError::Absent(_) => Code::NoCursor,
        CursorError::TakenOver(_) => Code::StaleToken,
        CursorError::Moved(_) => Code::CursorMoved,
        CursorError::TooMany => Code::TooManyCursors,
        CursorError::Full(_) => Code::CursorFull,
        CursorError::Beyond { .. } => Code::BadPosition,
    };
    (code, error.to_string())
}

/// A cursor's account for the node's view.
pub(super) fn view((name, account): (&str, CursorAccount)) -> CursorView {
    CursorView {
        name: name.to_owned(),
        token: account.token,
        floor: account.floor,
        ranges: account.ranges,
        offered: account.offered,
        acked: account.acked,
        waiting: account.waiting,
        missed: account.missed,
    }
}

fn cursored(request: u64, position: CursorPosition) -> PeerMessage {
    PeerMessage::Cursored(Cursored {
        request,
        result: Ok(CursorStands {
            token: position.token,
            floor: position.floor,
            acked: position.acked.iter().collect(),
            missed: position.missed,
        }),
    })
}

fn refused(request: u64, code: Code, message: String) -> PeerMessage {
    let refusal = Refusal {
        code: code.number(),
        message,
    };
    PeerMessage::Cursored(Cursored {
        request,
        result: Err(refusal),
    })
}

/// The fault [`Sabotage::EarlyAck`].
fn answer_early(
    changes: &[CursorChange],
    askers: &[(NodeName, u64)],
    post: &mut impl FnMut(&NodeName, PeerMessage),
) {
    for (change, (from, request)) in changes.iter().zip(askers) {
        if let CursorDoes::Ack { token, .. } = change.does {
            let stands = CursorStands {
                token,
                ..CursorStands::default()
            };
            let (request, result) = (*request, Ok(stands));
            post(from, PeerMessage::Cursored(Cursored { request, result }));
        }
    }
}
