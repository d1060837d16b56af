//! Moving and deleting cursors for a client: each partition's leader is asked, and the client
//! answered when all of them have.

use std::collections::BTreeMap;

use super::Node;
use super::io::ClientId;
use super::publish::{No, refuse};
use super::route::Asked;
use crate::types::limits::{CURSOR_MOVES_MAX, PUBLISH_TIMEOUT};
use crate::types::{ChannelName, Offset, Partition, Time};
use crate::wire::Code;
use crate::wire::client::{CursorPlace, CursorReply, Delete, From, Reply, Seek};
use crate::wire::peer::{CursorAct, CursorAsk, CursorStands, FetchFrom, PeerMessage, Refusal};

/// A `seek` or `delete` not answered yet.
#[derive(Debug)]
pub(super) struct Move {
    client: ClientId,
    id: Option<u64>,
    channel: ChannelName,
    cursor: String,
    does: CursorAct,
    parts: BTreeMap<u32, Part>,
    deadline: Time,
}

/// What of it concerns one partition.
#[derive(Debug, Default)]
struct Part {
    /// The request under which its leader was asked.
    asked: Option<u64>,
    result: Option<Result<Offset, Refusal>>,
}

impl Node {
    /// A client moves a cursor.
    pub(super) fn handle_seek(&mut self, client: &ClientId, seek: Seek) {
        let to = match seek.to {
            From::Start => FetchFrom::Start,
            From::End => FetchFrom::End,
            From::Offset(offset) => FetchFrom::Offset(offset),
            From::Time(time) => FetchFrom::Time(time),
        };
        let act = CursorAct::Seek { to };
        let of = (seek.id, seek.channel, seek.cursor);
        self.begin_move(client, of, seek.partition, act);
    }

    /// A client deletes a cursor.
    pub(super) fn handle_delete(&mut self, client: &ClientId, delete: Delete) {
        let of = (delete.id, delete.channel, delete.cursor);
        self.begin_move(client, of, delete.partition, CursorAct::Delete);
    }

    fn begin_move(
        &mut self,
        client: &ClientId,
        (id, channel, cursor): (Option<u64>, ChannelName, String),
        partition: Option<u32>,
        does: CursorAct,
    ) {
        let parts = match self.check_move(&channel, &cursor, partition, &does) {
            Ok(numbers) => numbers.map(|number| (number, Part::default())).collect(),
            Err((code, message)) => return self.refuse(client, refuse(code, id, message)),
        };
        let key = self.routes.number();
        let begun = Move {
            client: client.clone(),
            id,
            channel,
            cursor,
            does,
            parts,
            deadline: self.now.mono + PUBLISH_TIMEOUT,
        };
        self.cursors.moves.insert(key, begun);
        self.ask_moves(key);
    }

    /// The partitions that it concerns.
    fn check_move(
        &self,
        name: &ChannelName,
        cursor: &str,
        partition: Option<u32>,
        does: &CursorAct,
    ) -> Result<std::ops::Range<u32>, No> {
        super::lead_cursors::check_name(cursor)?;
        let declared = self.topology.channels.get(name);
        let Some(channel) = declared.filter(|channel| channel.is_stored()) else {
            let message = format!("{name} is no declared stream, so it has no cursors");
            return Err((Code::NoChannel, message));
        };
        let count = channel.partitions;
        if let Some(number) = partition.filter(|number| *number >= count) {
            let declared = super::report::declared_partitions(&[(name, channel)]);
            let message = format!("there is no partition {number}: {declared}");
            return Err((Code::NoPartition, message));
        }
        let to_offset = matches!(
            does,
            CursorAct::Seek {
                to: FetchFrom::Offset(_)
            }
        );
        if to_offset && partition.is_none() && count > 1 {
            let message = format!(
                "an offset is of one partition, and {name} has {count}; name the partition"
            );
            return Err((Code::BadPosition, message));
        }
        if self.cursors.moves.len() >= CURSOR_MOVES_MAX {
            let message = format!("{CURSOR_MOVES_MAX} moves of cursors wait for their leaders");
            return Err((Code::Busy, message));
        }
        Ok(partition.map_or(0..count, |number| number..number + 1))
    }

    /// Asks the leaders of the partitions that are neither decided nor asked.
    fn ask_moves(&mut self, key: u64) {
        let Some(begun) = self.cursors.moves.get_mut(&key) else {
            return;
        };
        for (number, part) in &mut begun.parts {
            let partition = Partition::new(&begun.channel, *number);
            let leader = self.routes.leader(&partition).cloned();
            let Some(leader) = leader.filter(|_| part.asked.is_none() && part.result.is_none())
            else {
                continue;
            };
            let request = self.routes.ask(&leader, Asked::Move(key, partition));
            part.asked = Some(request);
            let ask = CursorAsk {
                request,
                channel: begun.channel.clone(),
                partition: *number,
                cursor: begun.cursor.clone(),
                does: begun.does.clone(),
            };
            self.mail.post(&leader, PeerMessage::Cursor(ask));
        }
    }

    /// A leader answered. That nobody leads is asked again until the deadline.
    pub(super) fn handle_moved(
        &mut self,
        key: u64,
        partition: &Partition,
        result: Result<CursorStands, Refusal>,
    ) {
        let now = self.now.mono;
        let Some(begun) = self.cursors.moves.get_mut(&key) else {
            return;
        };
        let waits = now < begun.deadline;
        let Some(part) = begun.parts.get_mut(&partition.number) else {
            return;
        };
        part.asked = None;
        let again = matches!(&result, Err(no) if no.code == Code::NoLeader.number());
        if !(again && waits) {
            part.result = Some(result.map(|stands| stands.floor));
            self.finish_move(key);
        }
    }

    /// A partition has another leader: whether the old one did what it was asked is not known.
    pub(super) fn reroute_moves(&mut self, partition: &Partition) {
        let mut finished = Vec::new();
        for (key, begun) in &mut self.cursors.moves {
            let part = begun.parts.get_mut(&partition.number);
            let Some(part) = part.filter(|_| begun.channel == partition.channel) else {
                continue;
            };
            if let Some(request) = part.asked.take() {
                self.routes.forget(request);
                part.result = Some(Err(unknown(partition)));
                finished.push(*key);
            }
        }
        for key in finished {
            self.finish_move(key);
        }
    }

    /// Time passed: asks where a leader is known by now, and gives up on what waited for too long.
    pub(super) fn tend_moves(&mut self) {
        let now = self.now.mono;
        for key in self.cursors.moves.keys().copied().collect::<Vec<_>>() {
            self.ask_moves(key);
            let Some(begun) = self.cursors.moves.get_mut(&key) else {
                continue;
            };
            if begun.deadline > now {
                continue;
            }
            for (number, part) in &mut begun.parts {
                let partition = Partition::new(&begun.channel, *number);
                let why = match part.asked.take() {
                    Some(request) => {
                        self.routes.forget(request);
                        unknown(&partition)
                    }
                    None => Refusal {
                        code: Code::NoLeader.number(),
                        message: format!("{partition} has no leader; nothing was done"),
                    },
                };
                part.result.get_or_insert(Err(why));
            }
            self.finish_move(key);
        }
    }

    /// Answers the client, if every partition is decided. One that has no such cursor counts only
    /// if none has.
    fn finish_move(&mut self, key: u64) {
        let decided = |begun: &Move| begun.parts.values().all(|part| part.result.is_some());
        if !self.cursors.moves.get(&key).is_some_and(decided) {
            return;
        }
        let Some(begun) = self.cursors.moves.remove(&key) else {
            return;
        };
        let (mut positions, mut refusals) = (Vec::new(), BTreeMap::new());
        for (partition, part) in begun.parts {
            match part.result {
                Some(Ok(floor)) => positions.push(CursorPlace { partition, floor }),
                Some(Err(no)) => drop(refusals.insert(partition, no)),
                None => {}
            }
        }
        let absent = |no: &Refusal| no.code == Code::NoCursor.number();
        let whole = refusals.values().all(absent);
        if !positions.is_empty() {
            refusals.retain(|_, no| !absent(no));
            let reply = CursorReply {
                id: begun.id,
                request: None,
                channel: begun.channel.to_string(),
                cursor: begun.cursor,
                positions,
            };
            self.reply(&begun.client, &Reply::Cursor(reply), &[]);
        } else if whole && let Some((_, no)) = refusals.pop_first() {
            let no = refuse(Code::NoCursor, begun.id, no.message);
            return self.refuse(&begun.client, no);
        }
        for (partition, no) in refusals {
            // Codes between nodes of one version are known; another version's are shown as busy.
            let code = Code::from_number(no.code).unwrap_or(Code::Busy);
            let mut no = refuse(code, begun.id, no.message);
            no.partition = Some(partition);
            self.refuse(&begun.client, no);
        }
    }
}

fn unknown(partition: &Partition) -> Refusal {
    Refusal {
        code: Code::OutcomeUnknown.number(),
        message: format!("the leader of {partition} did not answer; look where the cursor stands"),
    }
}
