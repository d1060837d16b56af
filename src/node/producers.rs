//! What a producer that comes back is told: the sequence after the highest that any partition knows
//! of it, so that what it sends next is not taken for a repeat. A `hello` that names a producer is
//! answered when every partition's leader has said, or after a while without that number.
//!
//! A leader says it only after a majority has confirmed that it leads (Raft's read index: Ongaro,
//! Consensus: Bridging Theory and Practice, 6.4), and counts what it proposed too. A number that is
//! too low would make a new publish a silent repeat of an old one with the same records.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Node;
use super::io::ClientId;
use super::member::{Member, Slot};
use super::route::Asked;
use crate::types::limits::{
    BUSY_RETRY, FETCH_RETRY, FETCH_TIMEOUT, HELLO_WAIT, HELLOS_MAX, PRODUCER_BYTES_MAX, READS_MAX,
};
use crate::types::{NodeName, Partition, Sabotage, Time};
use crate::wire::Code;
use crate::wire::client::{Reply, Welcome};
use crate::wire::peer::{PeerMessage, Refusal, Sequence, Sequenced};

/// Clients that wait for a number.
#[derive(Debug, Default)]
pub(super) struct Hellos {
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
}

/// One of them.
#[derive(Debug)]
struct Waiting {
    client: ClientId,
    producer: Bytes,
    welcome: Welcome,
    /// Partitions that have not answered.
    missing: BTreeSet<Partition>,
    /// Which of them were asked: the number of the question, and when it is put again.
    asked: BTreeMap<Partition, (u64, Time)>,
    /// The highest sequence that any knows.
    highest: Option<u64>,
    until: Time,
}

/// Questions for this leader.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Those of this loop.
    new: Vec<Question>,
    /// Those before it, by the number of the read; the index to apply first, once it is known.
    under_way: Vec<(u64, Option<u64>, Vec<Question>)>,
    last: u64,
}

#[derive(Debug)]
struct Question {
    from: NodeName,
    request: u64,
    producer: Bytes,
}

impl Node {
    /// A client that names a producer is welcomed with its next sequence.
    pub(super) fn welcome_producer(
        &mut self,
        client: &ClientId,
        producer: Bytes,
        welcome: Welcome,
    ) {
        if !(1..=PRODUCER_BYTES_MAX).contains(&producer.len()) {
            let message = format!(
                "a producer has 1 to {PRODUCER_BYTES_MAX} bytes, this one {}",
                producer.len()
            );
            return self.refuse(client, Code::BadProducer.refuse(None, message));
        }
        if self.hellos.waiting.len() >= HELLOS_MAX {
            let message = format!("{HELLOS_MAX} producers wait for their sequences already");
            let mut busy = Code::Busy.refuse(None, message);
            busy.retry_after_ms = Some(BUSY_RETRY.as_millis());
            return self.refuse(client, busy);
        }
        self.hellos.last += 1;
        let waiting = Waiting {
            client: client.clone(),
            producer,
            welcome,
            missing: self.placement.keys().cloned().collect(),
            asked: BTreeMap::new(),
            highest: None,
            until: self.now.mono + HELLO_WAIT,
        };
        let key = self.hellos.last;
        self.hellos.waiting.insert(key, waiting);
        self.ask_sequences(key);
        self.answer_hello(key);
    }

    /// A tick passed: asks again, and answers who waited long enough.
    pub(super) fn tend_hellos(&mut self) {
        for key in self.hellos.waiting.keys().copied().collect::<Vec<_>>() {
            self.ask_sequences(key);
            self.answer_hello(key);
        }
    }

    /// The client is gone: nobody waits for its answer.
    pub(super) fn forget_hellos(&mut self, client: &ClientId) {
        let routes = &mut self.routes;
        self.hellos.waiting.retain(|_, waiting| {
            let stays = waiting.client != *client;
            if !stays {
                waiting.forget_questions(|request| routes.forget(request));
            }
            stays
        });
    }

    /// Asks the leaders, as far as they are known, of the partitions whose turn it is.
    fn ask_sequences(&mut self, key: u64) {
        let now = self.now.mono;
        let Some(waiting) = self.hellos.waiting.get_mut(&key) else {
            return;
        };
        for partition in &waiting.missing {
            let Some(leader) = self.routes.leader(partition).cloned() else {
                continue;
            };
            if let Some((request, again)) = waiting.asked.get(partition) {
                if *again > now {
                    continue;
                }
                self.routes.forget(*request);
            }
            let asked = Asked::Sequence(key, partition.clone());
            let request = self.routes.ask(&leader, asked);
            waiting
                .asked
                .insert(partition.clone(), (request, now + FETCH_TIMEOUT));
            let question = Sequence {
                request,
                channel: partition.channel.clone(),
                partition: partition.number,
                producer: waiting.producer.clone(),
            };
            self.mail.post(&leader, PeerMessage::Sequence(question));
        }
    }

    /// A leader says how far a producer has come, or that it cannot.
    pub(super) fn handle_sequenced(
        &mut self,
        (key, partition): (u64, &Partition),
        result: Result<Option<u64>, Refusal>,
    ) {
        let now = self.now.mono;
        let Some(waiting) = self.hellos.waiting.get_mut(&key) else {
            return;
        };
        match result {
            Ok(highest) => {
                waiting.missing.remove(partition);
                waiting.asked.remove(partition);
                waiting.highest = waiting.highest.max(highest);
            }
            Err(_) => {
                if let Some((_, again)) = waiting.asked.get_mut(partition) {
                    *again = now + FETCH_RETRY;
                }
            }
        }
        self.answer_hello(key);
    }

    /// Answers if there is nothing to wait for, or no more time.
    fn answer_hello(&mut self, key: u64) {
        let now = self.now.mono;
        let is_done = |waiting: &Waiting| {
            let hasty = Sabotage::HastyWelcome.is_on() && waiting.highest.is_some();
            waiting.missing.is_empty() || hasty
        };
        let ends = |waiting: &&Waiting| is_done(waiting) || waiting.until <= now;
        if self.hellos.waiting.get(&key).filter(ends).is_none() {
            return;
        }
        let Some(mut waiting) = self.hellos.waiting.remove(&key) else {
            return;
        };
        waiting.forget_questions(|request| self.routes.forget(request));
        // The first sequence is 1.
        let next = waiting
            .highest
            .map_or(Some(1), |highest| highest.checked_add(1));
        waiting.welcome.next_sequence = next.filter(|_| is_done(&waiting));
        self.reply(&waiting.client, &Reply::Welcome(waiting.welcome), &[]);
    }

    /// Somebody's node asks how far a producer has come in a partition that this one leads.
    pub(super) fn handle_sequence(&mut self, from: &NodeName, sequence: Sequence) {
        let partition = Partition::new(&sequence.channel, sequence.partition);
        let request = sequence.request;
        let member = match self.slots.get_mut(&partition) {
            Some(Slot::Member(member)) if member.replica.is_serving() => member,
            _ => {
                let message = format!("{} does not lead {partition} now", self.name);
                return self.mail.post(from, no(request, Code::NoLeader, message));
            }
        };
        if member.reads.new.len() >= READS_MAX || member.reads.under_way.len() >= READS_MAX {
            let message = format!("{partition} is asked for {READS_MAX} producers at a time");
            return self.mail.post(from, no(request, Code::Busy, message));
        }
        member.reads.new.push(Question {
            from: from.clone(),
            request,
            producer: sequence.producer,
        });
        self.dirty.insert(partition);
    }
}

impl Waiting {
    fn forget_questions(&mut self, mut forget: impl FnMut(u64)) {
        for (request, _) in std::mem::take(&mut self.asked).into_values() {
            forget(request);
        }
    }
}

impl Member {
    /// Begins to make sure that this replica leads, for the questions of this loop together.
    pub(super) fn begin_reads(&mut self) {
        if self.reads.new.is_empty() {
            return;
        }
        self.reads.last += 1;
        let (number, questions) = (self.reads.last, std::mem::take(&mut self.reads.new));
        self.replica.read_index(number);
        self.reads.under_way.push((number, None, questions));
    }

    /// Answers what a majority has confirmed by now, once as much is applied.
    pub(super) fn answer_reads(
        &mut self,
        confirmed: &[(u64, u64)],
        post: &mut impl FnMut(&NodeName, PeerMessage),
    ) {
        for (number, index) in confirmed {
            let mut reads = self.reads.under_way.iter_mut();
            if let Some(read) = reads.find(|(of, ..)| of == number) {
                read.1 = Some(*index);
            }
        }
        let applied = self.replica.applied();
        let is_due = |(_, index, _): &mut (u64, Option<u64>, Vec<Question>)| {
            index.is_some_and(|index| index <= applied)
        };
        for (.., questions) in self.reads.under_way.extract_if(.., is_due) {
            for question in questions {
                let highest = self.stream.highest(&question.producer);
                let answer = Sequenced {
                    request: question.request,
                    result: Ok(highest),
                };
                post(&question.from, PeerMessage::Sequenced(answer));
            }
        }
    }

    /// This replica leads no more, or another term.
    pub(super) fn give_up_reads(&mut self, post: &mut impl FnMut(&NodeName, PeerMessage)) {
        let under_way = self.reads.under_way.drain(..).flat_map(|(.., all)| all);
        for question in under_way.chain(self.reads.new.drain(..)) {
            let message = format!("{} has lost its leader", self.founding.partition);
            post(
                &question.from,
                no(question.request, Code::NoLeader, message),
            );
        }
    }
}

fn no(request: u64, code: Code, message: String) -> PeerMessage {
    let code = code.number();
    PeerMessage::Sequenced(Sequenced {
        request,
        result: Err(Refusal { code, message }),
    })
}
