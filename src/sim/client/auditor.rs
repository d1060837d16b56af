//! Has nodes read their own replicas, anywhere in what they retain, while everything else goes on.

use bytes::Bytes;

use super::{Act, Client, Desk, Mood, Scene};
use crate::sim::heap::ClientNo;
use crate::sim::oracle::silence::Question;
use crate::sim::oracle::{Oracles, Verdict, audits, broken};
use crate::types::{Partition, Span};
use crate::wire::audit::{Account, Audit};
use crate::wire::client::{Reply, Request};
use crate::wire::{Code, encode_request};

/// One auditor.
#[derive(Debug, Default)]
pub(super) struct Auditor {
    next_id: u64,
    /// What it asked last and waits for.
    asked: Option<Audit>,
    /// What its node says of a partition.
    knows: Option<(Partition, Account)>,
}

impl Auditor {
    fn ask(&mut self, desk: &mut Desk<'_>) {
        let (Some(connection), None) = (desk.connection, &self.asked) else {
            return;
        };
        let all: Vec<Partition> = desk.oracles.logs.partitions().cloned().collect();
        if all.is_empty() {
            return;
        }
        let (partition, from, to) = match self.knows.take() {
            Some((partition, account)) if account.start <= account.applied => {
                let from = desk.dice.between(account.start, account.applied + 1);
                let to = desk.dice.between(from + 1, account.applied + 3);
                (partition, from, to)
            }
            _ => (desk.dice.pick(&all).clone(), 0, 0),
        };
        self.next_id += 1;
        let audit = Audit {
            id: Some(self.next_id),
            channel: partition.channel,
            partition: partition.number,
            from,
            to,
        };
        let frame = encode_request(&Request::Audit(audit.clone()), &[]);
        desk.acts.push(Act::Send(frame));
        let question = Question::Audit(self.next_id);
        desk.oracles.silence.asked(desk.now, connection, question);
        self.asked = Some(audit);
    }
}

impl Client for Auditor {
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span> {
        if desk.connection.is_none() || desk.dice.chance(30) {
            desk.acts.push(Act::Connect);
        } else if desk.mood != Mood::Calm {
            self.ask(desk);
        }
        Ok(desk.dice.millis(20, 300))
    }

    fn connected(&mut self, _: &mut Desk<'_>) {
        self.asked = None;
        self.knows = None;
    }

    fn lost(&mut self, _: &mut Desk<'_>) {
        self.asked = None;
        self.knows = None;
    }

    fn reply(&mut self, desk: &mut Desk<'_>, reply: Reply, _: Bytes) -> Verdict {
        let id = match &reply {
            Reply::Audited(audited) => audited.id,
            Reply::Refuse(refuse) => refuse.id,
            _ => return Ok(()),
        };
        let Some(audit) = self.asked.take_if(|asked| asked.id == id) else {
            return Ok(());
        };
        desk.answered(Question::Audit(self.next_id));
        let partition = Partition::new(&audit.channel, audit.partition);
        match reply {
            Reply::Audited(audited) => {
                let known = (&desk.oracles.commits, &desk.oracles.rotten);
                audits::check(known, &partition, audit.from, &audited)?;
                self.knows = Some((partition, audited.account));
                Ok(())
            }
            // Reads of connections that it has left may still be under way.
            Reply::Refuse(refuse) if refuse.code == Code::Busy.number() => Ok(()),
            Reply::Refuse(refuse) if refuse.code == Code::NoPartition.number() => Ok(()),
            other => {
                let says = format!("an audit is answered with {other:?}");
                broken("an audit tells what is committed", None, says)
            }
        }
    }

    fn lacks(&self, _: ClientNo, _: &Scene, _: &Oracles) -> Option<String> {
        None
    }
}
