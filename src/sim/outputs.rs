//! Does what a node asks of its shell, in the order asked, with the network and the disk that the
//! run provides. Between any two outputs the power may go.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::eraftpb::MessageType;

use super::heap::{ClientNo, ConnectionId, Event, Mend};
use super::machine::{Commit, MachineId};
use super::network::Road;
use super::oracle::{Verdict, broken, speech};
use super::world::{Life, World};
use crate::node::{ClientId, Droppable, Input, Lane, Level, Output};
use crate::types::{JournalItem, LoadRequest, NodeName, Partition, Time};
use crate::wire::client::Request;
use crate::wire::peer::{PeerMessage, RaftMessage};
use crate::wire::signal::decode_signal;
use crate::wire::{decode_peer, decode_request};

impl World {
    /// Executes the outputs of one step.
    pub(super) fn execute(&mut self, machine: MachineId, outbox: Vec<Output>) -> Verdict {
        let life = self.machines[machine].life;
        for output in outbox {
            let Some(running) = &mut self.machines[machine].running else {
                return Ok(());
            };
            match &mut running.fuse {
                Some(0) => {
                    self.report.fired("power cut within a step");
                    return self.crash(machine, false, "loses power within a step");
                }
                Some(left) => *left -= 1,
                None => {}
            }
            self.do_output(machine, output)?;
            if self.machines[machine].life != life {
                return Ok(());
            }
        }
        Ok(())
    }

    fn do_output(&mut self, machine: MachineId, output: Output) -> Verdict {
        match output {
            Output::ToClient {
                client,
                frames,
                droppable,
            } => self.send_client(machine, &client, frames, droppable),
            Output::ToPeer { peer, lane, frame } => self.send_peer(machine, &peer, lane, frame),
            Output::Signal { topic, frame } => self.signal(machine, &topic, &frame),
            Output::Interest { topic, wanted } => {
                self.interest(machine, topic, wanted);
                Ok(())
            }
            Output::Persist { sequence, items } => self.persist(machine, sequence, items),
            Output::Load(request) => {
                self.plan_load(machine, request);
                Ok(())
            }
            Output::Mend { segment, entries } => {
                let life = self.machines[machine].life;
                let delay = self.dice.millis(1, 50);
                let mend = Mend { segment, entries };
                let event = Event::Mend {
                    machine,
                    life,
                    mend,
                };
                self.heap.after(delay, event);
                Ok(())
            }
            Output::Note { level, text } => {
                let level = match level {
                    Level::Info => "",
                    Level::Warn => "warning: ",
                    Level::Error => "error: ",
                };
                self.tell(machine, format!("{level}{text}"));
                Ok(())
            }
            Output::Stopped => self.stopped(machine),
        }
    }

    fn tell_of_checkpoint(&mut self, machine: MachineId, item: &JournalItem) {
        let (partition, text) = match item {
            JournalItem::Checkpoint {
                partition,
                checkpoint,
            } => {
                let (index, from) = (checkpoint.index, checkpoint.keep_from);
                let text = format!(
                    "writes the checkpoint of entry {index}, which keeps entries from {from}"
                );
                (partition, text)
            }
            JournalItem::Snapshot {
                partition,
                checkpoint,
            } => {
                self.report.snapshots += 1;
                let (index, from) = (checkpoint.index, checkpoint.keep_from);
                let text =
                    format!("begins anew with a snapshot of entry {index}, from entry {from} on");
                (partition, text)
            }
            _ => return,
        };
        let name = self.machines[machine].name.clone();
        self.story
            .tell(self.heap.now(), name.as_str(), Some(partition), text);
    }

    fn persist(&mut self, machine: MachineId, sequence: u64, items: Vec<JournalItem>) -> Verdict {
        let life = self.machines[machine].life;
        let under_way = self.machines[machine].running.as_ref();
        if under_way.is_some_and(|running| running.commit.is_some()) {
            let says = format!("machine {machine} asked for persist {sequence} before the last");
            return broken("one persist is under way at a time", None, says);
        }
        self.oracles.written(machine, &items)?;
        for item in &items {
            self.tell_of_checkpoint(machine, item);
            let JournalItem::Entry { partition, entry } = item else {
                continue;
            };
            let text = format!(
                "writes entry {} of term {}, offsets {} x{}",
                entry.index, entry.term, entry.first_offset, entry.count
            );
            let name = self.machines[machine].name.clone();
            self.story
                .tell(self.heap.now(), name.as_str(), Some(partition), text);
        }
        if let Some(running) = &mut self.machines[machine].running {
            running.commit = Some(Commit {
                sequence,
                items,
                written: false,
            });
        }
        let delay = self.dice.micros(5, 100);
        self.heap.after(delay, Event::Write { machine, life });
        Ok(())
    }

    fn plan_load(&mut self, machine: MachineId, request: LoadRequest) {
        let life = self.machines[machine].life;
        let delay = self.machines[machine].sync_span(&mut self.dice);
        self.heap.after(
            delay,
            Event::Load {
                machine,
                life,
                request,
            },
        );
    }

    fn send_client(
        &mut self,
        machine: MachineId,
        client: &ClientId,
        frames: Vec<Bytes>,
        droppable: Option<Droppable>,
    ) -> Verdict {
        let mut all = self.connections.iter();
        let is_it =
            |found: &super::world::Connection| found.machine == machine && found.id == *client;
        let Some(connection) = all.find_map(|(id, found)| is_it(found).then_some(*id)) else {
            // It is gone, and the node knows, or will with what it takes next.
            return Ok(());
        };
        let number = self.connections[&connection].client;
        if !self.connections[&connection].held {
            // The router finds nobody there.
            self.heap
                .after(crate::types::Span(1_000), Event::Gone { connection });
            return Ok(());
        }
        if let Some(what) = &droppable {
            let key = (number, what.subscription);
            self.oracles.signals.spent(key, what.bytes);
        }
        if let Some(what) = droppable.filter(|_| self.faults.pipes_are_full(&mut self.dice)) {
            self.report.fired("client's pipe full");
            let key = (number, what.subscription);
            self.oracles.signals.dropped(key, what.count);
            let now = crate::types::Span(1_000);
            self.heap.after(now, Event::Dropped { connection, what });
            return Ok(());
        }
        self.plan_reply(connection, frames);
        Ok(())
    }

    /// What these inputs give back of the windows of listeners.
    pub(super) fn gives_back(
        &self,
        machine: MachineId,
        inputs: &[Input],
    ) -> Vec<((ClientNo, u64), u64)> {
        let who = |client: &ClientId| {
            let mut all = self.connections.values();
            all.find(|found| found.machine == machine && found.id == *client)
                .map(|found| found.client)
        };
        let given = inputs.iter().filter_map(|input| match input {
            Input::Dropped { client, what } => {
                Some(((who(client)?, what.subscription), what.bytes))
            }
            Input::ClientFrame { client, frames, .. } => {
                let frame = frames.last()?;
                if !frame.starts_with(b"\x81\xa6credit") {
                    return None;
                }
                match decode_request(frame).ok()?.header {
                    Request::Credit(credit) => Some(((who(client)?, credit.id), credit.bytes)),
                    _ => None,
                }
            }
            _ => None,
        });
        given.collect()
    }

    fn plan_reply(&mut self, connection: ConnectionId, frames: Vec<Bytes>) {
        let delay = self.dice.micros(50, 1_000);
        let now = self.heap.now();
        for frame in &frames {
            self.story.hash(now, 11, frame);
        }
        if let Some(found) = self.connections.get_mut(&connection) {
            found.back = (now + delay).max(found.back);
            let arrival = found.back;
            self.heap.at(arrival, Event::Reply { connection, frames });
        }
    }

    fn send_peer(&mut self, from: MachineId, peer: &NodeName, lane: Lane, frame: Bytes) -> Verdict {
        let Some(to) = self.by_name.get(peer).copied() else {
            let says = format!("machine {from} speaks to the node {peer}, which nobody declared");
            return broken("what a node says is well formed", None, says);
        };
        self.overhear(from, &frame)?;
        let now = self.heap.now();
        let fate = self
            .network
            .send(now, (from, to, Road::Peer(lane)), &mut self.dice);
        if let Some(fault) = fate.fault {
            self.report.fired(fault);
        }
        let cut_short = self.faults.cuts_short(&mut self.dice);
        for arrival in fate.arrivals {
            let mut frame = frame.clone();
            if cut_short {
                self.report.fired("peer frame cut short");
                frame.truncate(self.dice.below(frame.len().max(1)));
            }
            self.heap.at(arrival, Event::Peer { to, lane, frame });
        }
        Ok(())
    }

    /// What a frame between nodes tells the oracles.
    fn overhear(&mut self, from: MachineId, frame: &Bytes) -> Verdict {
        let (_, messages) = match decode_peer(frame) {
            Ok(read) => read,
            Err(error) => {
                let says = format!("machine {from} to a peer: {error}");
                return broken("what a node says is well formed", None, says);
            }
        };
        for message in messages {
            match message {
                PeerMessage::State(state) => {
                    for leads in state.leads {
                        let partition = Partition::new(&leads.channel, leads.partition);
                        self.leads(from, &partition, leads.term)?;
                    }
                }
                PeerMessage::Raft(message) => self.overhear_raft(from, &message)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn overhear_raft(&mut self, from: MachineId, message: &RaftMessage) -> Verdict {
        let Some(channel) = &message.channel else {
            return Ok(());
        };
        let partition = Partition::new(channel, message.partition);
        speech::check(&self.oracles.logs, from, &partition, message)?;
        let leads = [MessageType::MsgAppend, MessageType::MsgHeartbeat];
        if leads.iter().any(|kind| *kind as i32 == message.kind) {
            self.leads(from, &partition, message.term)?;
        }
        Ok(())
    }

    fn leads(&mut self, machine: MachineId, partition: &Partition, term: u64) -> Verdict {
        if self.oracles.leaders.seen(partition, term, machine)? {
            self.report.elections += 1;
            let name = self.machines[machine].name.clone();
            let text = format!("leads term {term}");
            let now = self.heap.now();
            self.story.tell(now, name.as_str(), Some(partition), text);
        }
        Ok(())
    }

    fn signal(&mut self, from: MachineId, topic: &Bytes, frame: &Bytes) -> Verdict {
        let header = match decode_signal(frame) {
            Ok((header, _)) => header,
            Err(error) => {
                let says = format!("machine {from} signals: {error}");
                return broken("what a node says is well formed", None, says);
            }
        };
        let Some(running) = &self.machines[from].running else {
            return Ok(());
        };
        // SUB matches by prefix.
        let asked = running.asked.iter();
        let asked = asked.filter(|(asked, _)| topic.starts_with(asked));
        let sent_to: BTreeSet<MachineId> = asked.flat_map(|(_, who)| who).copied().collect();
        let now = self.heap.now();
        let source = (from, self.machines[from].life);
        let numbers = (header.sequence, header.count);
        let passed = self.oracles.signals.passed_over(source, topic, numbers);
        for to in 0..self.machines.len() {
            let wants = self.machines[to].running.as_ref();
            if to == from || !wants.is_some_and(|running| running.wants.contains(topic)) {
                continue;
            }
            // Its wish has not arrived yet, or had not when those numbers passed.
            let unsent = match sent_to.contains(&to) {
                true => passed,
                false => passed + header.count,
            };
            let target = (to, self.machines[to].life);
            self.oracles.signals.lost(source, target, topic, unsent);
        }
        for to in sent_to {
            let cut = (from, to, Road::Signal);
            let fate = self.network.send(now, cut, &mut self.dice);
            let target = (to, self.machines[to].life);
            if let Some(fault) = fate.fault {
                self.report.fired(fault);
                let signals = &mut self.oracles.signals;
                signals.lost(source, target, topic, header.count);
            }
            for arrival in fate.arrivals {
                self.plan_signal(arrival, source, target, topic, frame);
            }
        }
        Ok(())
    }

    fn plan_signal(&mut self, arrival: Time, from: Life, to: Life, topic: &Bytes, frame: &Bytes) {
        let event = Event::Signal {
            from,
            to,
            topic: topic.clone(),
            frame: frame.clone(),
            lost: self.oracles.signals.lost_so_far(from, to, topic),
        };
        self.heap.at(arrival, event);
    }

    /// A signal reaches a SUB socket; one that no longer wants it drops it.
    pub(super) fn signal_arrives(
        &mut self,
        from: Life,
        to: Life,
        (topic, frame): (Bytes, Bytes),
        lost: u64,
    ) -> Verdict {
        let found = &self.machines[to.0];
        let (true, Some(running)) = (found.life == to.1, &found.running) else {
            return Ok(());
        };
        if !running.wants.iter().any(|wanted| topic.starts_with(wanted)) {
            return Ok(());
        }
        self.story.hash(self.heap.now(), 12, &frame);
        self.oracles.signals.arrived(from, to, &topic, lost);
        self.step(to.0, Input::SignalFrame { topic, frame })
    }

    fn interest(&mut self, from: MachineId, topic: Bytes, wanted: bool) {
        let life = self.machines[from].life;
        let Some(running) = &mut self.machines[from].running else {
            return;
        };
        match wanted {
            true => running.wants.insert(topic.clone()),
            false => running.wants.remove(&topic),
        };
        if !wanted {
            self.oracles.signals.forgotten((from, life), &topic);
        }
        for to in (0..self.machines.len()).filter(|to| *to != from) {
            let now = self.heap.now();
            let cut = (from, to, Road::Interest);
            let fate = self.network.send(now, cut, &mut self.dice);
            for arrival in fate.arrivals {
                let event = Event::Topic {
                    from,
                    life,
                    to,
                    topic: topic.clone(),
                    wanted,
                };
                self.heap.at(arrival, event);
            }
        }
    }

    /// A wish reaches an XPUB socket.
    pub(super) fn topic(
        &mut self,
        from: Life,
        to: MachineId,
        topic: Bytes,
        wanted: bool,
    ) -> Verdict {
        if self.machines[from.0].life != from.1 {
            return Ok(());
        }
        let Some(running) = &mut self.machines[to].running else {
            return Ok(());
        };
        let who = running.asked.entry(topic.clone()).or_default();
        let last = match wanted {
            true => {
                who.insert(from.0);
                false
            }
            false => who.remove(&from.0) && who.is_empty(),
        };
        if who.is_empty() {
            running.asked.remove(&topic);
        }
        // XPUB is verbose about wishes, and says of an end only that of the last.
        match wanted || last {
            true => self.step(to, Input::Interest { topic, wanted }),
            false => Ok(()),
        }
    }

    /// A SUB socket connected anew, or is seen to be gone.
    pub(super) fn topics(&mut self, from: MachineId, to: MachineId) -> Verdict {
        if !self.is_joined(from, to, Road::Signal) {
            return Ok(());
        }
        let life = self.machines[from].life;
        let wants = self.machines[from].running.as_ref();
        let wants = wants.map_or(Default::default(), |running| running.wants.clone());
        let Some(running) = &self.machines[to].running else {
            return Ok(());
        };
        let asked = running.asked.iter();
        let stale: Vec<Bytes> = asked
            .filter(|(topic, who)| who.contains(&from) && !wants.contains(*topic))
            .map(|(topic, _)| topic.clone())
            .collect();
        for topic in stale {
            self.topic((from, life), to, topic, false)?;
        }
        for topic in wants {
            self.topic((from, life), to, topic, true)?;
        }
        Ok(())
    }
}
