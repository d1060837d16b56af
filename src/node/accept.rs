//! What of a publish is checked before anything is done with it: its header, the channel that
//! captures it, the bounds, every record; and where each record belongs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use super::io::ClientId;
use super::publish::No;
use super::report::declared_partitions;
use crate::topology::{Channel, Topology};
use crate::types::limits::{PRODUCER_BYTES_MAX, RECORDS_PER_PUBLISH};
use crate::types::{ChannelName, Sabotage, Subject, key_partition};
use crate::wire::client::{ConfirmLevel, Publish};
use crate::wire::{Code, RawRecord, RawRecords, WireError, records};

/// Records on their way into one partition.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) positions: Vec<u64>,
    pub(super) records: Bytes,
}

/// Puts records where they belong. As long as all of them belong to one partition, and have their
/// subjects, none is copied.
#[derive(Debug)]
struct Sorting<'b> {
    body: &'b Bytes,
    /// The partition of the first ones, their positions, and how many bytes they are.
    first: u32,
    positions: Vec<u64>,
    bytes: usize,
    /// All of them, once they differ.
    copied: BTreeMap<u32, (Vec<u64>, Vec<u8>)>,
}

/// A publish that has passed every check.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) channel: ChannelName,
    pub(super) records: u64,
    pub(super) splits: BTreeMap<u32, Split>,
    /// The subjects of signals, in order.
    pub(super) runs: Vec<SubjectRun>,
}

/// Records beside each other that have one subject.
#[derive(Debug)]
pub(super) struct SubjectRun {
    pub(super) subject: String,
    pub(super) count: u64,
    /// Where the last of them ends.
    pub(super) end: usize,
}

impl Node {
    pub(super) fn check_publish(
        &mut self,
        client: &ClientId,
        publish: &Publish,
        body: &Bytes,
    ) -> Result<Checked, No> {
        records::check_crc(body, publish.crc).map_err(wire)?;
        let checked = self.check_records(client, publish, body);
        let sound = |checked: &Checked| {
            let declared = publish.count.unwrap_or(checked.records);
            checked.records == declared && declared <= RECORDS_PER_PUBLISH
        };
        let (name, count) = match &checked {
            Ok(checked) if sound(checked) => (checked.channel.clone(), checked.records),
            // What is wrong with the frame as a whole comes before what is wrong with a record.
            _ => {
                let count = check_whole(publish, body)?;
                let (name, _) = channel_of(&self.topology, publish, body)?;
                (name.clone(), count)
            }
        };
        let ledger = self.ledger.entry(name).or_default();
        ledger.received += count;
        if checked.is_err() {
            ledger.refused += count * u64::from(!Sabotage::UncountedRefusal.is_on());
        }
        checked
    }

    /// Looks at every record once.
    fn check_records(
        &mut self,
        client: &ClientId,
        publish: &Publish,
        body: &Bytes,
    ) -> Result<Checked, No> {
        let topology = Arc::clone(&self.topology);
        let (name, channel) = channel_of(&topology, publish, body)?;
        let keyless = self.keyless(publish, channel);
        self.check_bounds(client, body.len() as u64, channel.is_stored())?;
        check_header(name, channel, publish)?;
        split(publish, &topology, name, keyless, body)
    }

    /// The partition of all records without a key of one publish. That of a numbered one follows
    /// from its producer, so that a retry through any node finds the first.
    fn keyless(&mut self, publish: &Publish, channel: &Channel) -> u32 {
        if !channel.is_stored() {
            return 0;
        }
        match (publish.partition, &publish.producer) {
            (Some(named), _) => named,
            (None, Some(producer)) => key_partition(producer, channel.partitions),
            (None, None) => {
                self.publishes.rotation = self.publishes.rotation.wrapping_add(1);
                self.publishes.rotation % channel.partitions
            }
        }
    }

    fn check_bounds(&self, client: &ClientId, bytes: u64, stored: bool) -> Result<(), No> {
        if self.stopping {
            return Err((Code::Stopping, format!("{} is about to stop", self.name)));
        }
        if !stored {
            return Ok(());
        }
        let limits = &self.topology.limits;
        let session = self
            .sessions
            .get(client)
            .map_or(0, |session| session.inflight_bytes);
        // A bound is a mark: one publish may pass it, so that the largest frame always fits.
        if session >= limits.session_inflight_bytes {
            let bound = limits.session_inflight_bytes;
            let message = format!("{session} bytes of this session wait for an answer, of {bound}");
            return Err((Code::Busy, message));
        }
        let all = self.publishes.bytes;
        if all >= limits.node_inflight_bytes {
            let bound = limits.node_inflight_bytes;
            let message = format!(
                "{all} bytes wait for an answer on {}, of {bound}",
                self.name
            );
            return Err((Code::Busy, message));
        }
        debug_assert!(bytes <= limits.frame_max, "the transport bounds a frame");
        Ok(())
    }
}

fn wire(error: WireError) -> No {
    (error.code(), error.to_string())
}

/// How many objects there are, which is what was declared, and may be.
fn check_whole(publish: &Publish, body: &Bytes) -> Result<u64, No> {
    let count = records::count(body).map_err(wire)?;
    records::check_count(count, publish.count).map_err(wire)?;
    if count == 0 {
        let message = "no record follows the header".to_owned();
        return Err((Code::CountMismatch, message));
    }
    if count > RECORDS_PER_PUBLISH {
        let message = format!("{count} records in one publish, {RECORDS_PER_PUBLISH} may be");
        return Err((Code::TooLarge, message));
    }
    Ok(count)
}

/// The channel that captures the first record; [`split`] holds the others to it.
fn channel_of<'t>(
    topology: &'t Topology,
    publish: &Publish,
    body: &Bytes,
) -> Result<(&'t ChannelName, &'t Channel), No> {
    let first = RawRecords::new(body).next();
    let first = first.ok_or((Code::BadFrame, "no record".to_owned()))?;
    let first = first.map_err(wire)?;
    let subject = subject_of(&first, publish, 0)?;
    Subject::parse(subject).map_err(|error| (Code::BadSubject, error.to_string()))?;
    let channel = topology.channel_for(subject);
    channel.ok_or_else(|| no_channel(topology, subject))
}

/// What can be said of the header alone.
fn check_header(name: &ChannelName, channel: &Channel, publish: &Publish) -> Result<(), No> {
    if !channel.is_stored() && publish.confirm == Some(ConfirmLevel::Quorum) {
        let message =
            format!("{name} is a signal channel: nothing is stored, so nothing is confirmed");
        return Err((Code::ConfirmNotOffered, message));
    }
    match (&publish.producer, publish.sequence, publish.after) {
        (None, None, None) | (Some(_), Some(_), None) => {}
        (Some(_), Some(sequence), Some(after)) if after < sequence => {}
        (Some(_), Some(sequence), Some(after)) => {
            let message = format!("sequence {sequence} cannot come after {after}");
            return Err((Code::BadProducer, message));
        }
        _ => {
            let message =
                "producer and sequence come together, and after only with them".to_owned();
            return Err((Code::BadProducer, message));
        }
    }
    let producer = publish.producer.as_ref().map(|producer| producer.len());
    if producer.is_some_and(|len| len == 0 || len > PRODUCER_BYTES_MAX) {
        let message = format!("a producer has 1 to {PRODUCER_BYTES_MAX} bytes");
        return Err((Code::BadProducer, message));
    }
    match publish.partition {
        Some(number) if !channel.is_stored() => Err((
            Code::NoPartition,
            format!("{name} is a signal channel and has no partition {number}; leave it out"),
        )),
        Some(number) if number >= channel.partitions => {
            let declared = declared_partitions(&[(name, channel)]);
            let message = format!("there is no partition {number}: {declared}");
            Err((Code::NoPartition, message))
        }
        _ => Ok(()),
    }
}

/// Checks every record and puts it, with its subject, where its key belongs.
fn split(
    publish: &Publish,
    topology: &Topology,
    name: &ChannelName,
    keyless: u32,
    body: &Bytes,
) -> Result<Checked, No> {
    let channel = &topology.channels[name];
    let mut sorting = Sorting::new(body);
    let mut runs: Vec<SubjectRun> = Vec::new();
    let mut last: Option<RawRecord<'_>> = None;
    let mut known = None;
    let (mut rest, mut position) = (&body[..], 0);
    while !rest.is_empty() {
        let alike = last.as_ref().and_then(|last| last.next_alike(rest));
        // Not handed from one to the other: a record's parts are many words.
        let record = match alike {
            Some(alike) => alike,
            None => match RawRecord::first(rest) {
                Ok(record) => record,
                Err(problem) => {
                    let record = position;
                    return Err(wire(WireError::BadRecord { record, problem }));
                }
            },
        };
        rest = &rest[record.bytes.len()..];
        let subject = subject_of(&record, publish, position)?;
        if alike.is_none() && known != Some(subject) {
            check_subject(topology, name, subject, position)?;
            known = Some(subject);
            runs.extend((!channel.is_stored()).then(|| SubjectRun::new(subject)));
        }
        last = Some(record);
        let number = partition_of(&record, publish, channel, keyless, position)?;
        let (bytes, all) = sorting.push(number, position, &record, subject);
        if bytes > channel.max_record || all > topology.limits.frame_max {
            return Err(too_large(topology, name, position, bytes));
        }
        position += 1;
        if let Some(run) = runs.last_mut() {
            run.push(all);
        }
    }
    Ok(Checked {
        channel: name.clone(),
        records: position,
        splits: sorting.finish(),
        runs,
    })
}

/// What is too large: the record of so many bytes, or all of its partition with it.
fn too_large(topology: &Topology, name: &ChannelName, position: u64, bytes: u64) -> No {
    let allowed = topology.channels[name].max_record;
    let message = match bytes > allowed {
        true => {
            format!("record {position} has {bytes} bytes, {name} allows {allowed} (max_record)")
        }
        false => format!(
            "the records, each with its subject, have more than {} bytes (frame_max): send fewer \
             at a time",
            topology.limits.frame_max
        ),
    };
    (Code::TooLarge, message)
}

/// Whether this channel captures the subject.
fn check_subject(
    topology: &Topology,
    name: &ChannelName,
    subject: &str,
    position: u64,
) -> Result<(), No> {
    Subject::parse(subject).map_err(|error| (Code::BadSubject, error.to_string()))?;
    let channel = &topology.channels[name];
    if channel.subjects.iter().any(|own| own.matches(subject)) {
        return Ok(());
    }
    if topology.channel_for(subject).is_none() {
        return Err(no_channel(topology, subject));
    }
    let message = format!("record {position}, subject {subject:?}, is not for {name}");
    Err((Code::MixedChannels, message))
}

fn no_channel(topology: &Topology, subject: &str) -> No {
    let declared = super::report::declared_subjects(topology);
    let message = format!("no channel captures the subject {subject:?}; declared are {declared}");
    (Code::NoChannelForSubject, message)
}

/// Where a record goes: where its key belongs, which must be where the publish says, if it does; a
/// record without a key goes to `keyless`.
fn partition_of(
    record: &RawRecord<'_>,
    publish: &Publish,
    channel: &Channel,
    keyless: u32,
    position: u64,
) -> Result<u32, No> {
    if !channel.is_stored() {
        return Ok(0);
    }
    let belongs = record.key.map(|key| key_partition(key, channel.partitions));
    match (publish.partition, belongs) {
        (Some(named), Some(belongs)) if named != belongs => {
            let message =
                format!("the key of record {position} belongs to partition {belongs}, not {named}");
            Err((Code::WrongPartition, message))
        }
        (_, belongs) => Ok(belongs.unwrap_or(keyless)),
    }
}

fn subject_of<'a>(
    record: &RawRecord<'a>,
    publish: &'a Publish,
    position: u64,
) -> Result<&'a str, No> {
    let subject = record
        .subject
        .or(publish.subject.as_deref())
        .ok_or_else(|| {
            let message = format!("record {position} has no subject, nor has the header");
            (Code::BadSubject, message)
        })?;
    Ok(subject)
}

impl SubjectRun {
    fn new(subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            count: 0,
            end: 0,
        }
    }

    fn push(&mut self, end: u64) {
        self.count += 1;
        self.end = end as usize;
    }
}

impl<'b> Sorting<'b> {
    fn new(body: &'b Bytes) -> Self {
        Self {
            body,
            first: 0,
            positions: Vec::new(),
            bytes: 0,
            copied: BTreeMap::new(),
        }
    }

    /// Takes the next record. How many bytes it has with its subject, and all of its partition.
    fn push(
        &mut self,
        number: u32,
        position: u64,
        record: &RawRecord<'_>,
        subject: &str,
    ) -> (u64, u64) {
        let alike = self.bytes == 0 || self.first == number;
        if self.copied.is_empty() && alike && record.subject.is_some() {
            self.first = number;
            self.positions.push(position);
            self.bytes += record.bytes.len();
            return (record.bytes.len() as u64, self.bytes as u64);
        }
        if self.bytes > 0 {
            let positions = std::mem::take(&mut self.positions);
            let records = self.body[..std::mem::take(&mut self.bytes)].to_vec();
            self.copied.insert(self.first, (positions, records));
        }
        let (positions, records) = self.copied.entry(number).or_default();
        let before = records.len();
        match record.subject {
            Some(_) => records.extend_from_slice(record.bytes),
            None => records::splice_subject(record, subject, records),
        }
        positions.push(position);
        ((records.len() - before) as u64, records.len() as u64)
    }

    fn finish(self) -> BTreeMap<u32, Split> {
        if self.copied.is_empty() {
            let split = Split {
                positions: self.positions,
                records: self.body.slice(..self.bytes),
            };
            return [(self.first, split)].into();
        }
        let copied = self.copied.into_iter();
        let split = |(number, (positions, records)): (u32, (Vec<u64>, Vec<u8>))| {
            let records = Bytes::from(records);
            (number, Split { positions, records })
        };
        copied.map(split).collect()
    }
}
