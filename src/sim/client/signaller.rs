//! Publishes signals, and now and then asks its node how it is.

use bytes::Bytes;

use super::{Act, Client, Desk, Mood, Scene};
use crate::node::NodeView;
use crate::sim::heap::{ClientNo, ConnectionId};
use crate::sim::oracle::silence::Question;
use crate::sim::oracle::{Oracles, Verdict, broken};
use crate::sim::tag;
use crate::types::{Record, Span};
use crate::wire::client::{Inspect, Publish, Reply, Request};
use crate::wire::encode_request;
use crate::wire::records::encode_record;

/// Probes of one signaller after the heal.
const PROBES: usize = 8;

/// One publisher of signals.
#[derive(Debug, Default)]
pub(super) struct Signaller {
    probes: usize,
    next_id: u64,
    /// The connection on which a node answered after the heal. A signal sent on one whose node is
    /// gone reaches nobody, and nobody says so.
    answered: Option<ConnectionId>,
}

impl Signaller {
    fn signal(&mut self, desk: &mut Desk<'_>) {
        let Some(connection) = desk.connection else {
            return;
        };
        let scene = desk.scene;
        let stage = desk.dice.pick(&scene.signals);
        let mut bytes = Vec::new();
        for position in 0..=desk.dice.below(3) {
            let number = desk.oracles.signals.next();
            let record = Record {
                subject: desk.dice.pick(&stage.subjects).as_str().into(),
                key: None,
                headers: tag::headers(desk.dice),
                body: tag::body('s', number, position, desk.dice),
            };
            encode_record(&record, &mut bytes);
            desk.oracles.signals.begin(connection, record);
            desk.report.signals += 1;
        }
        self.next_id += 1;
        let header = Request::Publish(Publish {
            id: Some(self.next_id),
            ..Publish::default()
        });
        desk.acts.push(Act::Send(encode_request(&header, &bytes)));
    }
}

impl Client for Signaller {
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span> {
        let Some(connection) = desk.connection else {
            desk.acts.push(Act::Connect);
            return Ok(desk.dice.millis(50, 500));
        };
        match desk.mood {
            Mood::Storm => self.signal(desk),
            Mood::Probe if self.probes < PROBES && self.answered == Some(connection) => {
                self.probes += 1;
                self.signal(desk);
            }
            _ => {}
        }
        let unproven = desk.mood == Mood::Probe && self.answered != Some(connection);
        if unproven || desk.dice.chance(50) {
            self.next_id += 1;
            let id = Some(self.next_id);
            let frame = encode_request(&Request::Inspect(Inspect { id }), &[]);
            desk.acts.push(Act::Send(frame));
            let question = Question::Inspect(self.next_id);
            desk.oracles.silence.asked(desk.now, connection, question);
        }
        Ok(desk.dice.millis(20, 300))
    }

    fn connected(&mut self, _: &mut Desk<'_>) {}

    fn lost(&mut self, _: &mut Desk<'_>) {}

    fn reply(&mut self, desk: &mut Desk<'_>, reply: Reply, _: Bytes) -> Verdict {
        match reply {
            Reply::View(view) => {
                if desk.mood == Mood::Probe {
                    self.answered = desk.connection;
                }
                if let Some(id) = view.id {
                    desk.answered(Question::Inspect(id));
                }
                match rmp_serde::from_slice::<NodeView>(&view.body) {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        broken("what a node says is well formed", None, error.to_string())
                    }
                }
            }
            Reply::Refuse(refusal) if !refusal.retry => broken(
                "a good publish is never refused for good",
                None,
                format!("a signal of client {}: {refusal:?}", desk.me),
            ),
            _ => Ok(()),
        }
    }

    fn lacks(&self, _: ClientNo, _: &Scene, _: &Oracles) -> Option<String> {
        None
    }
}
