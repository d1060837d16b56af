//! The client's side of publishing: finds the channel, splits by key, hands each part to its
//! partition's leader, and answers the client when every part is decided. No publish that wants an
//! answer goes without one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Node;
use super::accept::Checked;
use super::io::ClientId;
use super::route::Asked;
use crate::topology::Confirm;
use crate::types::limits::{BUSY_RETRY, PUBLISH_OVERHEAD, PUBLISH_TIMEOUT};
use crate::types::{ChannelName, NodeName, Partition, Sabotage, Time};
use crate::wire::client::{ConfirmLevel, Confirmed, Publish, Refuse, Reply, Run};
use crate::wire::peer::{Accepted, Forward, PeerMessage, Refusal};
use crate::wire::{Code, records};

/// Publishes not yet answered.
#[derive(Debug, Default)]
pub(super) struct Publishes {
    next: u64,
    open: BTreeMap<u64, Open>,
    /// Parts not decided, by who published them and where they belong.
    lanes: BTreeMap<(ClientId, Partition), PublishLane>,
    /// Bytes of all of them.
    pub(super) bytes: u64,
    /// Spreads publishes that name neither key, partition nor producer.
    pub(super) rotation: u32,
}

/// The parts that one client published to one partition, as (publish, part). They keep their order:
/// while one waits, what comes after it waits behind it.
#[derive(Debug, Default)]
struct PublishLane {
    /// With a leader.
    asked: BTreeSet<(u64, usize)>,
    /// Waiting for one.
    parked: BTreeSet<(u64, usize)>,
}

/// One publish.
#[derive(Debug)]
struct Open {
    client: ClientId,
    id: Option<u64>,
    confirm: bool,
    channel: ChannelName,
    producer: Option<(Bytes, u64)>,
    after: Option<u64>,
    parts: Vec<Part>,
    undecided: usize,
    bytes: u64,
    deadline: Time,
}

/// What of it goes to one partition.
#[derive(Debug)]
struct Part {
    partition: Partition,
    /// The positions of its records in the publish.
    positions: Vec<u64>,
    records: Bytes,
    crc: u32,
    /// Whom it was sent to, under which request.
    asked: Option<(NodeName, u64)>,
    /// Whether a leader that never answered may have stored it.
    doubtful: bool,
    result: Option<Result<Accepted, Refusal>>,
}

/// A refusal with its hint.
pub(super) type No = (Code, String);

impl Node {
    /// A client publishes.
    pub(super) fn handle_publish(&mut self, client: &ClientId, publish: Publish, body: &Bytes) {
        let id = publish.id;
        match self.check_publish(client, &publish, body) {
            Ok(checked) if self.topology.channels[&checked.channel].is_stored() => {
                self.open_publish(client, publish, checked);
            }
            Ok(checked) => self.publish_signal(client, publish, checked),
            Err((code, message)) => self.refuse(client, refuse(code, id, message)),
        }
    }

    fn open_publish(&mut self, client: &ClientId, publish: Publish, checked: Checked) {
        let channel = &self.topology.channels[&checked.channel];
        let confirm = match publish.confirm {
            Some(level) => level == ConfirmLevel::Quorum,
            None => channel.confirm == Confirm::Quorum,
        };
        let parts: Vec<Part> = checked
            .splits
            .into_iter()
            .map(|(number, split)| Part {
                partition: Partition::new(&checked.channel, number),
                positions: split.positions,
                crc: records::crc(&split.records),
                records: split.records,
                asked: None,
                doubtful: false,
                result: None,
            })
            .collect();
        let weight = |part: &Part| part.records.len() as u64 + PUBLISH_OVERHEAD;
        let bytes = parts.iter().map(weight).sum();
        let open = Open {
            client: client.clone(),
            id: publish.id,
            confirm,
            channel: checked.channel,
            producer: publish
                .producer
                .map(|p| p.into_vec().into())
                .zip(publish.sequence),
            after: publish.after,
            undecided: parts.len(),
            parts,
            bytes,
            deadline: self.now.mono + PUBLISH_TIMEOUT,
        };
        self.ledger.entry(open.channel.clone()).or_default().pending += checked.records;
        self.publishes.bytes += bytes;
        if let Some(session) = self.sessions.get_mut(client) {
            session.inflight_bytes += bytes;
        }
        self.publishes.next += 1;
        let key = self.publishes.next;
        let count = open.parts.len();
        self.publishes.open.insert(key, open);
        for part in 0..count {
            let lane = self.publishes.lane(key, part);
            if lane.is_some_and(|lane| lane.parked.is_empty()) {
                self.send_part(key, part);
            } else {
                self.park_part(key, part);
            }
        }
    }

    fn park_part(&mut self, key: u64, index: usize) {
        if let Some(lane) = self.publishes.lane(key, index) {
            lane.asked.remove(&(key, index));
            lane.parked.insert((key, index));
        }
    }

    /// Sends a part to its leader, or parks it until one is known.
    fn send_part(&mut self, key: u64, index: usize) {
        let Some(open) = self.publishes.open.get(&key) else {
            return;
        };
        let Some(leader) = self.routes.leader(&open.parts[index].partition).cloned() else {
            self.park_part(key, index);
            return;
        };
        if let Some(lane) = self.publishes.lane(key, index) {
            lane.parked.remove(&(key, index));
            lane.asked.insert((key, index));
        }
        let Some(open) = self.publishes.open.get_mut(&key) else {
            return;
        };
        let part = &mut open.parts[index];
        let request = self.routes.ask(&leader, Asked::Publish(key, index));
        part.asked = Some((leader.clone(), request));
        let forward = Forward {
            request,
            channel: part.partition.channel.clone(),
            partition: part.partition.number,
            // A publish holds at most RECORDS_PER_PUBLISH records.
            count: part.positions.len() as u32,
            crc: part.crc,
            producer: open.producer.clone(),
            after: open.after,
            records: part.records.clone(),
        };
        self.mail.post(&leader, PeerMessage::Forward(forward));
    }

    /// A leader decided on a part. A refusal that says nothing was stored because nobody leads is
    /// tried again elsewhere until the deadline.
    pub(super) fn handle_part(
        &mut self,
        key: u64,
        index: usize,
        result: Result<Accepted, Refusal>,
    ) {
        let now = self.now.mono;
        let Some(open) = self.publishes.open.get_mut(&key) else {
            return;
        };
        let retry = matches!(&result, Err(no) if no.code == Code::NoLeader.number());
        if retry && now < open.deadline && !self.stopping {
            open.parts[index].asked = None;
            self.park_part(key, index);
            return;
        }
        let stored = matches!(&result, Ok(accepted) if !accepted.repeated);
        if stored {
            self.refuse_overtaken(key, index);
        }
        self.decide(key, index, result);
    }

    /// A part was stored: those of its lane that wait and came before it are too late for their
    /// place.
    fn refuse_overtaken(&mut self, key: u64, index: usize) {
        let Some(lane) = self.publishes.lane(key, index) else {
            return;
        };
        let overtaken: Vec<(u64, usize)> = lane.parked.range(..(key, index)).copied().collect();
        for (key, index) in overtaken {
            let message = "no leader took it before the publish after it; nothing was stored";
            let no = Refusal {
                code: Code::NoLeader.number(),
                message: message.to_owned(),
            };
            self.decide(key, index, Err(no));
        }
    }

    /// Tries the parked parts again: a leader may be known now. While a later one is with a leader
    /// they wait, since it may be stored.
    pub(super) fn send_parked(&mut self) {
        let ready = |lane: &PublishLane| lane.asked.is_empty() && !lane.parked.is_empty();
        let ready: Vec<(u64, usize)> = self
            .publishes
            .lanes
            .iter()
            .filter(|((_, partition), lane)| ready(lane) && self.routes.leader(partition).is_some())
            .flat_map(|(_, lane)| lane.parked.iter().copied())
            .collect();
        for (key, index) in ready {
            self.send_part(key, index);
        }
    }

    /// A partition has another leader: what was asked of the old one waits to be asked of the new
    /// one if a repeat is harmless, else nobody can tell what became of it.
    pub(super) fn reroute_parts(&mut self, partition: &Partition) {
        let leader = self.routes.leader(partition).cloned();
        let mut moved = Vec::new();
        for (key, open) in &self.publishes.open {
            for (index, part) in open.parts.iter().enumerate() {
                let Some((asked, request)) = &part.asked else {
                    continue;
                };
                if part.partition == *partition
                    && part.result.is_none()
                    && leader.as_ref().is_some_and(|leader| leader != asked)
                {
                    moved.push((*key, index, *request, open.producer.is_some()));
                }
            }
        }
        for (key, index, request, repeatable) in moved {
            self.routes.forget(request);
            if repeatable {
                if let Some(open) = self.publishes.open.get_mut(&key) {
                    open.parts[index].asked = None;
                    open.parts[index].doubtful = true;
                }
                self.park_part(key, index);
            } else {
                let message = format!("{partition} lost its leader before it answered");
                self.decide(key, index, Err(unknown(message)));
            }
        }
    }

    /// Gives up on publishes that waited too long.
    pub(super) fn expire_publishes(&mut self) {
        let now = self.now.mono;
        let late = self
            .publishes
            .open
            .iter()
            .filter(|(_, open)| open.deadline <= now && !Sabotage::SilentPublish.is_on());
        let late: Vec<u64> = late.map(|(key, _)| *key).collect();
        for key in late {
            self.abandon(key);
        }
    }

    /// Answers everything still open: the node is about to stop.
    pub(super) fn abandon_publishes(&mut self) {
        for key in self.publishes.open.keys().copied().collect::<Vec<_>>() {
            self.abandon(key);
        }
    }

    /// Whether no publish waits for an answer.
    pub(super) fn all_answered(&self) -> bool {
        self.publishes.open.is_empty()
    }

    fn abandon(&mut self, key: u64) {
        let Some(open) = self.publishes.open.get(&key) else {
            return;
        };
        let undecided = open
            .parts
            .iter()
            .enumerate()
            .filter(|(_, part)| part.result.is_none());
        let undecided: Vec<(usize, Refusal)> = undecided
            .map(|(index, part)| match &part.asked {
                Some((node, _)) => {
                    let message = format!("{node}, which leads {}, did not answer", part.partition);
                    (index, unknown(message))
                }
                None => {
                    let message = format!("{} has no leader; nothing was stored", part.partition);
                    (
                        index,
                        Refusal {
                            code: Code::NoLeader.number(),
                            message,
                        },
                    )
                }
            })
            .collect();
        for (index, refusal) in undecided {
            self.decide(key, index, Err(refusal));
        }
    }

    fn decide(&mut self, key: u64, index: usize, result: Result<Accepted, Refusal>) {
        self.publishes.leave_lane(key, index);
        let Some(open) = self.publishes.open.get_mut(&key) else {
            return;
        };
        let part = &mut open.parts[index];
        if part.result.is_some() {
            return;
        }
        let result = result.map_err(|no| match part.doubtful {
            // What was asked of one leader is not refused by what another says.
            true if no.code != Code::SequenceReused.number() => unknown(no.message),
            _ => no,
        });
        if let Some((_, request)) = part.asked.take() {
            self.routes.forget(request);
        }
        let count = part.positions.len() as u64;
        let ledger = self.ledger.entry(open.channel.clone()).or_default();
        ledger.pending -= count;
        match &result {
            Ok(accepted) if accepted.repeated => ledger.repeated += count,
            Ok(_) => ledger.accepted += count,
            Err(no) if no.code == Code::OutcomeUnknown.number() => ledger.unknown += count,
            Err(_) => ledger.refused += count,
        }
        part.result = Some(result);
        // The bytes are no longer needed, whatever becomes of the other parts.
        part.records = Bytes::new();
        open.undecided -= 1;
        if open.undecided == 0 {
            self.answer(key);
        }
    }

    fn answer(&mut self, key: u64) {
        let Some(open) = self.publishes.open.remove(&key) else {
            return;
        };
        self.publishes.bytes -= open.bytes;
        if let Some(session) = self.sessions.get_mut(&open.client) {
            session.inflight_bytes = session.inflight_bytes.saturating_sub(open.bytes);
        }
        let whole = open.parts.len() == 1;
        if open.confirm {
            let confirmed = confirmed(&open);
            if !confirmed.runs.is_empty() {
                self.reply(&open.client, &Reply::Confirm(confirmed), &[]);
            }
        }
        for part in open.parts {
            let Some(Err(no)) = part.result else { continue };
            // Codes between nodes of one version are known; another version's are shown as busy.
            let code = Code::from_number(no.code).unwrap_or(Code::Busy);
            let mut refuse = refuse(code, open.id, no.message);
            if !whole {
                refuse.partition = Some(part.partition.number);
                refuse.records = part.positions;
            }
            self.refuse(&open.client, refuse);
        }
    }
}

impl Publishes {
    /// The lane of a part, made if need be.
    fn lane(&mut self, key: u64, index: usize) -> Option<&mut PublishLane> {
        let open = self.open.get(&key)?;
        let place = (open.client.clone(), open.parts[index].partition.clone());
        Some(self.lanes.entry(place).or_default())
    }

    fn leave_lane(&mut self, key: u64, index: usize) {
        let Some(open) = self.open.get(&key) else {
            return;
        };
        let place = (open.client.clone(), open.parts[index].partition.clone());
        if let Some(lane) = self.lanes.get_mut(&place) {
            lane.asked.remove(&(key, index));
            lane.parked.remove(&(key, index));
            if lane.asked.is_empty() && lane.parked.is_empty() {
                self.lanes.remove(&place);
            }
        }
    }
}

/// A refusal with the hint that goes with its code.
pub(super) fn refuse(code: Code, id: Option<u64>, message: String) -> Refuse {
    let mut refuse = code.refuse(id, message);
    if code.retry() {
        refuse.retry_after_ms = Some(BUSY_RETRY.as_millis());
    }
    refuse
}

fn unknown(message: String) -> Refusal {
    Refusal {
        code: Code::OutcomeUnknown.number(),
        message,
    }
}

fn confirmed(open: &Open) -> Confirmed {
    let mut runs: Vec<Run> = Vec::new();
    let mut repeated = false;
    for part in &open.parts {
        let Some(Ok(accepted)) = &part.result else {
            continue;
        };
        repeated |= accepted.repeated;
        for (record, offset) in part.positions.iter().copied().zip(accepted.offset..) {
            let partition = part.partition.number;
            match runs.last_mut() {
                Some(run) if run.partition == partition && run.record + run.count == record => {
                    run.count += 1;
                }
                _ => runs.push(Run {
                    record,
                    partition,
                    offset,
                    count: 1,
                }),
            }
        }
    }
    runs.sort_by_key(|run| run.record);
    Confirmed {
        id: open.id,
        channel: open.channel.to_string(),
        runs,
        repeated,
    }
}
