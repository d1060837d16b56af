//! Channels with the defaults filled in, and what is asked of each and of their copies.

use std::collections::{BTreeMap, BTreeSet};

use bytesize::ByteSize;

use super::draft::{ChannelDraft, Draft};
use super::model::{Channel, Confirm, Keep, Kind};
use super::placement::{Seat, place};
use super::problem::Problems;
use super::table::At;
use crate::types::ChannelName;
use crate::types::limits::{
    FRAME_OVERHEAD, NODES_MAX, PARTITIONS_MAX, PARTITIONS_TOTAL_MAX, RECORD_MAX,
    RECORD_MAX_DEFAULT, REPLICAS_MAX,
};

/// Copies of each partition where nobody says how many: the least that survive the loss of one.
const REPLICAS_DEFAULT: u32 = 3;

/// One channel with every value and its place.
struct Resolved<'a> {
    draft: &'a ChannelDraft,
    kind: Kind,
    partitions: At<u32>,
    replicas: At<u32>,
    max_record: At<u64>,
    channel: Channel,
}

/// Every channel that could be read. Reports what is wrong with each, and with its copies.
pub(super) fn check(draft: &Draft, problems: &mut Problems) -> BTreeMap<ChannelName, Channel> {
    let mut resolved: Vec<Resolved> = draft
        .channels
        .iter()
        .filter_map(|channel| resolve(channel, &draft.defaults, problems))
        .collect();
    resolved.sort_by_key(|channel| channel.draft.span.start);
    check_keep(draft, problems);
    let seats = seats(draft).filter(|seats| seats.len() <= NODES_MAX);
    let mut total = 0u32;
    for channel in &resolved {
        check_record(channel, draft, problems);
        if channel.kind == Kind::Signal {
            check_signal(channel, problems);
            continue;
        }
        total = total.saturating_add(channel.partitions.value);
        let sound = check_counts(channel, draft.nodes.len(), total, problems);
        if let (true, Some(seats)) = (sound, &seats) {
            check_copies(channel, seats, problems);
        }
    }
    resolved
        .into_iter()
        .map(|channel| (channel.draft.name.as_str().into(), channel.channel))
        .collect()
}

/// The largest record of any channel, those aside that are reported as too large anyway.
pub(super) fn record_max(channels: &BTreeMap<ChannelName, Channel>, frame_max: u64) -> u64 {
    let records = channels.values().map(|channel| channel.max_record);
    let largest = records.filter(|bytes| fits(*bytes, frame_max)).max();
    largest.unwrap_or(RECORD_MAX_DEFAULT)
}

/// Whether a record of so many bytes goes into a frame.
fn fits(bytes: u64, frame_max: u64) -> bool {
    bytes <= RECORD_MAX && bytes + FRAME_OVERHEAD <= frame_max
}

fn resolve<'a>(
    draft: &'a ChannelDraft,
    defaults: &ChannelDraft,
    problems: &mut Problems,
) -> Option<Resolved<'a>> {
    let Some(kind) = draft.kind.as_ref().or(defaults.kind.as_ref()) else {
        if draft.complete {
            problems.error(
                &draft.span,
                format!("channel {} has no `kind`", draft.name),
                "whether records are stored must be said",
                "add `kind = \"stream\"` (stored, replicated) or `kind = \"signal\"` (not stored)",
            );
        }
        return None;
    };
    if !draft.complete {
        return None;
    }
    let kind = kind.value;
    let pick = |own: &Option<At<u32>>, default: &Option<At<u32>>, otherwise: u32| {
        let declared = own.clone().or(default.clone());
        declared.unwrap_or_else(|| At::new(otherwise, draft.span.clone()))
    };
    let partitions = pick(&draft.partitions, &defaults.partitions, 1);
    let replicas = pick(&draft.replicas, &defaults.replicas, REPLICAS_DEFAULT);
    let max_record = draft.max_record.clone().or(defaults.max_record.clone());
    let max_record = max_record.unwrap_or_else(|| At::new(RECORD_MAX_DEFAULT, draft.span.clone()));
    let confirm = draft.confirm.as_ref().or(defaults.confirm.as_ref());
    let keep = draft.keep.as_ref().or(defaults.keep.as_ref());
    let stored = kind != Kind::Signal;
    let channel = Channel {
        kind,
        subjects: draft
            .subjects
            .iter()
            .map(|subject| subject.value.clone())
            .collect(),
        partitions: if stored { partitions.value } else { 1 },
        replicas: if stored { replicas.value } else { 0 },
        confirm: match confirm {
            Some(confirm) if stored => confirm.value,
            None if stored => Confirm::Quorum,
            _ => Confirm::None,
        },
        keep: keep
            .filter(|_| stored)
            .map_or(Keep::default(), |keep| keep.value),
        max_record: max_record.value,
    };
    Some(Resolved {
        draft,
        kind,
        partitions,
        replicas,
        max_record,
        channel,
    })
}

fn check_keep(draft: &Draft, problems: &mut Problems) {
    for channel in draft.channels.iter().chain([&draft.defaults]) {
        let Some(keep) = &channel.keep else {
            continue;
        };
        let zero = Keep {
            age: keep.value.age.filter(|age| age.0 == 0),
            ..Keep::default()
        };
        if zero.age.is_some() || keep.value.size == Some(0) || keep.value.count == Some(0) {
            problems.error(
                &keep.span,
                format!("{} would keep nothing", label(channel)),
                "a record that is not kept at all is a signal",
                "raise it above zero, or leave it out to keep everything",
            );
        }
    }
}

fn label(channel: &ChannelDraft) -> String {
    match channel.name.as_str() {
        "defaults" => "[defaults]".to_owned(),
        name => format!("channel {name}"),
    }
}

fn check_record(channel: &Resolved, draft: &Draft, problems: &mut Problems) {
    let At { value, span } = &channel.max_record;
    let frame_max = draft.limits.frame_max;
    let name = &channel.draft.name;
    if *value == 0 || *value > RECORD_MAX {
        problems.error(
            span,
            format!(
                "`max_record` of channel {name} cannot be {}",
                ByteSize::b(*value)
            ),
            "a record must not hold a link for long",
            format!("write a size from 1 B to {}", ByteSize::b(RECORD_MAX)),
        );
    } else if !fits(*value, frame_max) {
        problems.error(
            span,
            format!(
                "a record of channel {name} may have {}, a frame only {}",
                ByteSize::b(*value),
                ByteSize::b(frame_max)
            ),
            "the largest record and its header go into one frame",
            format!(
                "lower `max_record`, or raise `frame_max` in [limits] to {} or more",
                ByteSize::b(*value + FRAME_OVERHEAD)
            ),
        );
    }
}

/// A signal is not stored, so nothing that stores it can be asked for.
fn check_signal(channel: &Resolved, problems: &mut Problems) {
    let draft = channel.draft;
    let one = |at: &Option<At<u32>>| at.clone().filter(|at| at.value != 1).map(|at| at.span);
    let quorum = draft
        .confirm
        .as_ref()
        .filter(|at| at.value == Confirm::Quorum);
    let asked = [
        ("partitions", one(&draft.partitions)),
        (
            "replicas",
            draft
                .replicas
                .as_ref()
                .filter(|at| at.value != 0)
                .map(|at| at.span.clone()),
        ),
        ("confirm", quorum.map(|at| at.span.clone())),
        ("keep", draft.keep.as_ref().map(|at| at.span.clone())),
    ];
    for (key, span) in asked {
        if let Some(span) = span {
            problems.error(
                &span,
                format!("channel {} is a signal and cannot have `{key}`", draft.name),
                "signals go to whoever is connected and are stored nowhere",
                format!("remove `{key}`, or write `kind = \"stream\"`"),
            );
        }
    }
}

/// Whether the counts of partitions and replicas can be placed at all.
fn check_counts(channel: &Resolved, nodes: usize, total: u32, problems: &mut Problems) -> bool {
    let name = &channel.draft.name;
    let At {
        value: partitions,
        span,
    } = &channel.partitions;
    let mut sound = true;
    if !(1..=PARTITIONS_MAX).contains(partitions) {
        problems.error(
            span,
            format!("channel {name} cannot have {partitions} partitions"),
            "each is a log of its own, replicated on its own",
            format!("write a number from 1 to {PARTITIONS_MAX}; it never changes later"),
        );
        sound = false;
    } else if total > PARTITIONS_TOTAL_MAX {
        problems.error(
            span,
            format!("with channel {name} there are {total} partitions"),
            format!("at most {PARTITIONS_TOTAL_MAX} are allowed in one fabric"),
            "use fewer partitions per channel",
        );
        sound = false;
    }
    let At {
        value: replicas,
        span,
    } = &channel.replicas;
    if !(1..=REPLICAS_MAX).contains(replicas) {
        problems.error(
            span,
            format!("channel {name} cannot have {replicas} replicas"),
            "a stored record has at least one copy; many copies make every commit slower",
            format!("write 3, or any number from 1 to {REPLICAS_MAX}"),
        );
        sound = false;
    } else if *replicas as usize > nodes {
        problems.error(
            span,
            format!("channel {name} wants {replicas} replicas, but there are {nodes} nodes"),
            match *span == channel.draft.span {
                true => format!("{replicas} is the default; a node holds at most one copy"),
                false => "a node holds at most one copy of a partition".to_owned(),
            },
            format!("write `replicas = {}`, or declare more nodes", nodes.max(1)),
        );
        sound = false;
    }
    sound
}

/// What the loss of one host or zone does to a channel.
fn check_copies(channel: &Resolved, seats: &[Seat], problems: &mut Problems) {
    let name: ChannelName = channel.draft.name.as_str().into();
    let replicas = channel.replicas.value;
    let span = &channel.replicas.span;
    let quorum = replicas as usize / 2 + 1;
    let places = place(&name, channel.partitions.value, replicas, seats);
    let gather = |of: fn(&Seat) -> String| Crowd::find(&places, seats, of);
    let host = gather(|seat| seat.host.to_owned());
    let zone = gather(|seat| seat.zone().to_owned());
    if host.copies > 1 {
        problems.warning(
            span,
            format!(
                "host {} holds {} copies of {name}/{}",
                host.name, host.copies, host.partition
            ),
            format!("the {replicas} replicas of channel {name} find too few hosts"),
            format!("declare nodes on {replicas} hosts"),
        );
    }
    let breaks = |copies: usize| replicas as usize - copies < quorum;
    if breaks(host.copies) {
        problems.warning(
            span,
            format!("channel {name} does not survive the loss of one host"),
            format!(
                "{name}/{} has {} of its {replicas} replicas on host {}, and {quorum} must stay",
                host.partition, host.copies, host.name
            ),
            "use 3 replicas or more, on nodes of 3 hosts or more",
        );
    } else if breaks(zone.copies) && seats.iter().any(|seat| seat.zone.is_some()) {
        problems.warning(
            span,
            format!("channel {name} does not survive the loss of one zone"),
            format!(
                "{name}/{} has {} of its {replicas} replicas in zone {}, and {quorum} must stay",
                zone.partition, zone.copies, zone.name
            ),
            "use 3 replicas or more, on nodes of 3 zones or more",
        );
    }
}

/// The place that holds the most copies of one partition.
struct Crowd {
    name: String,
    copies: usize,
    partition: usize,
}

impl Crowd {
    fn find(places: &[Vec<usize>], seats: &[Seat], of: fn(&Seat) -> String) -> Self {
        let mut worst = Self {
            name: String::new(),
            copies: 0,
            partition: 0,
        };
        for (partition, nodes) in places.iter().enumerate() {
            let mut copies: BTreeMap<String, usize> = BTreeMap::new();
            for node in nodes {
                *copies.entry(of(&seats[*node])).or_default() += 1;
            }
            for (name, copies) in copies {
                if copies > worst.copies {
                    worst = Self {
                        name,
                        copies,
                        partition,
                    };
                }
            }
        }
        worst
    }
}

/// All nodes as placement sees them; `None` if some have no name, or one name twice.
fn seats(draft: &Draft) -> Option<Vec<Seat<'_>>> {
    let mut names = BTreeSet::new();
    let seats = draft.nodes.iter().map(|node| {
        let name = node.name.as_ref()?.value.as_str();
        names.insert(name).then_some(Seat {
            name,
            host: node.host()?,
            zone: node.zone.as_ref().map(|zone| zone.value.as_str()),
        })
    });
    seats.collect()
}
