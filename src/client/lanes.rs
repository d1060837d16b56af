//! All lanes of a client: one for each producer and channel, since a publish goes to one channel
//! and partitions of different channels know no order. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bundle::Bundle;
use super::error::PublishError;
use super::lane::{Lane, Sending};
use super::options::{Level, ProducerOptions};
use crate::types::{ChannelName, Pattern, Span, Time};
use crate::wire::client::DeclaredChannel;

/// Producers, their lanes, and which channel captures a subject.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    producers: BTreeMap<u64, Numbered>,
    lanes: BTreeMap<(u64, Road), Lane>,
    /// Lanes made so far.
    made: u64,
    channels: Vec<Known>,
}

/// What the records of a lane have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Road {
    /// They go to one channel.
    Channel(ChannelName),
    /// They have this subject, which no channel captures that the node declared. They keep their
    /// order among themselves.
    Subject(String),
}

/// A producer as its lanes need it.
#[derive(Debug)]
struct Numbered {
    options: ProducerOptions,
    id: [u8; 16],
    /// No more records come.
    closed: bool,
}

#[derive(Debug)]
struct Known {
    name: ChannelName,
    subjects: Vec<Pattern>,
    /// Whether a publish to it may ask for a confirm.
    confirms: bool,
    /// The most bytes that a record may have, if the node said so.
    max_record: Option<u64>,
}

impl Lanes {
    /// A new producer.
    pub(super) fn open(&mut self, producer: u64, options: ProducerOptions, id: [u8; 16]) {
        let numbered = Numbered {
            options,
            id,
            closed: false,
        };
        self.producers.insert(producer, numbered);
    }

    /// No more records come of this producer. Those that wait go on.
    pub(super) fn close(&mut self, producer: u64) {
        if let Some(numbered) = self.producers.get_mut(&producer) {
            numbered.closed = true;
        }
        self.forget_closed();
    }

    /// A node tells which channels there are.
    pub(super) fn learn(&mut self, channels: &[DeclaredChannel]) {
        let known = channels.iter().map(|channel| {
            let subjects = channel.subjects.iter();
            Known {
                name: channel.name.as_str().into(),
                // What this client cannot read it cannot match either.
                subjects: subjects
                    .filter_map(|text| Pattern::parse(text).ok())
                    .collect(),
                confirms: channel.kind != "signal",
                max_record: channel.max_record,
            }
        });
        self.channels = known.collect();
    }

    /// Records to publish.
    pub(super) fn handle_bundle(&mut self, producer: u64, mut bundle: Bundle, now: Time) {
        let Some(numbered) = self.producers.get(&producer) else {
            let closed = "the producer is closed".to_owned();
            return bundle.refuse(PublishError::NotSent(closed));
        };
        bundle.since = now;
        let captures = |known: &&Known| known.subjects.iter().any(|p| p.matches(&bundle.subject));
        let known = self.channels.iter().find(captures);
        let record_max = known.and_then(|known| known.max_record);
        let road = match known {
            Some(known) if !self.is_alone(producer, &bundle.subject) => {
                Road::Channel(known.name.clone())
            }
            _ => Road::Subject(bundle.subject.clone()),
        };
        let lane = self.lanes.entry((producer, road)).or_insert_with(|| {
            let level = match (numbered.options.level, known) {
                (Level::Best, Some(known)) if !known.confirms => Level::None,
                (level, _) => level,
            };
            // Each lane has its own sequences, so it is a producer of its own.
            self.made += 1;
            let id = [&numbered.id[..], &self.made.to_be_bytes()].concat();
            let signals = known.is_some_and(|known| !known.confirms && record_max.is_some());
            Lane::new(level, signals, numbered.options.timeout, Bytes::from(id))
        });
        lane.handle_bundle(bundle, record_max);
    }

    /// Whether records of this subject are on their way by themselves, since a node before this one
    /// did not declare the channel: then the next ones follow them.
    fn is_alone(&self, producer: u64, subject: &str) -> bool {
        let lanes = self.lanes.range((producer, Road::Subject(String::new()))..);
        let own = lanes.take_while(|((of, _), _)| *of == producer);
        let same = |road: &Road| matches!(road, Road::Subject(own) if own == subject);
        own.into_iter()
            .any(|((_, road), lane)| same(road) && lane.is_busy())
    }

    /// The lane whose publish of this `id` is on its way.
    pub(super) fn of(&mut self, publish: Option<u64>) -> Option<&mut Lane> {
        let publish = publish?;
        let mut lanes = self.lanes.values_mut();
        lanes.find(|lane| lane.carries(publish))
    }

    /// The connection is lost.
    pub(super) fn handle_lost(&mut self) {
        self.lanes.values_mut().for_each(Lane::handle_lost);
    }

    /// Moves all on; see [`Lane::advance`].
    pub(super) fn advance(&mut self, now: Time, frame_max: Option<u64>, next_id: &mut u64) {
        for lane in self.lanes.values_mut() {
            lane.advance(now, frame_max, next_id);
        }
        self.forget_closed();
    }

    /// What to send, in order.
    pub(super) fn take_sending(&mut self) -> Vec<Sending> {
        let lanes = self.lanes.values_mut();
        lanes.flat_map(Lane::take_sending).collect()
    }

    /// When `advance` must be called next, at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        self.lanes.values().filter_map(Lane::due).min()
    }

    /// Whether records wait or are in flight.
    pub(super) fn are_busy(&self) -> bool {
        self.lanes.values().any(Lane::is_busy)
    }

    /// Whether an answer of the node is awaited now.
    pub(super) fn await_answer(&self) -> bool {
        self.lanes.values().any(Lane::awaits_answer)
    }

    /// How long what was published may take.
    pub(super) fn patience(&self) -> Span {
        let busy = self.lanes.values().filter(|lane| lane.is_busy());
        busy.map(Lane::timeout).max().unwrap_or_default()
    }

    /// Gives everything up.
    pub(super) fn give_up(&mut self, why: &str) {
        self.lanes.values_mut().for_each(|lane| lane.give_up(why));
    }

    /// What the node in use says for long about why it can store nothing.
    pub(super) fn cut_off(&self, now: Time) -> Option<String> {
        self.lanes.values().find_map(|lane| lane.cut_off(now))
    }

    fn forget_closed(&mut self) {
        let producers = &self.producers;
        let open = |id: &u64| producers.get(id).is_some_and(|producer| !producer.closed);
        self.lanes.retain(|(producer, road), lane| {
            // Few channels are declared; subjects there may be without end.
            let lasts = matches!(road, Road::Channel(_)) && open(producer);
            lasts || lane.is_busy()
        });
        let lanes = &self.lanes;
        self.producers.retain(|id, producer| {
            let has_lane = || lanes.keys().any(|(of, _)| of == id);
            !producer.closed || has_lane()
        });
    }
}
