//! Channels with the defaults filled in, and what is asked of each and of their copies.

use std::collections::{BTreeMap, BTreeSet};

use bytesize::ByteSize;

use super::draft::{ChannelDraft, Draft};
use super::model::{Channel, Confirm, Keep, Kind};
use super::placement::{Seat, place};
use super::problem::Problems;
use super::table::{At, Declared};
use crate::types::ChannelName;
use crate::types::limits::{
    FRAME_OVERHEAD, NODES_MAX, PARTITIONS_MAX, PARTITIONS_TOTAL_MAX, RECORD_MAX,
    RECORD_MAX_DEFAULT, REPLICAS_MAX,
};

/// Copies of each partition where nobody says how many: the least that survive the loss of one.
const REPLICAS_DEFAULT: u32 = 3;

/// What the file says of channels, as far as it could be read.
pub(super) struct Channels {
    /// Every channel of which all could be read.
    pub(super) declared: BTreeMap<ChannelName, Channel>,
    /// The largest record of any channel, those aside that are reported as too large.
    pub(super) record_max: u64,
}

/// One channel's values with their places, those of the defaults where it has none. What could not
/// be read is absent, and the rest is checked all the same.
struct Resolved<'a> {
    draft: &'a ChannelDraft,
    kind: Option<Kind>,
    partitions: Option<At<u32>>,
    replicas: Option<At<u32>>,
    max_record: Option<At<u64>>,
    channel: Option<Channel>,
}

/// Reports what is wrong with each channel, and with its copies.
pub(super) fn check(draft: &Draft, problems: &mut Problems) -> Channels {
    let mut resolved: Vec<Resolved> = draft
        .channels
        .iter()
        .map(|channel| Resolved::new(channel, &draft.defaults, problems))
        .collect();
    resolved.sort_by_key(|channel| channel.draft.span.start);
    check_keep(draft, problems);
    let seats = seats(draft).filter(|seats| seats.len() <= NODES_MAX);
    let mut total = 0u32;
    for channel in &resolved {
        check_record(channel, draft, problems);
        match channel.kind {
            Some(Kind::Signal) => check_signal(channel, problems),
            Some(Kind::Stream) => {
                // A count that cannot be says nothing against the copies of the first partition.
                let partitions = check_partitions(channel, &mut total, problems).unwrap_or(1);
                let replicas = check_replicas(channel, draft.nodes.len(), problems);
                if let (Some(replicas), Some(seats)) = (replicas, &seats) {
                    check_copies(channel, (partitions, &replicas), seats, problems);
                }
            }
            None => check_unknown(channel, draft.nodes.len(), problems),
        }
    }
    let frame_max = draft.limits.frame_max;
    let records = resolved.iter().filter_map(|own| own.max_record.as_ref());
    let fitting = records
        .map(|at| at.value)
        .filter(|bytes| fits(*bytes, frame_max));
    let record_max = fitting.max().unwrap_or(RECORD_MAX_DEFAULT);
    let declared = resolved
        .into_iter()
        .filter_map(|own| Some((own.draft.name.as_str().into(), own.channel?)))
        .collect();
    Channels {
        declared,
        record_max,
    }
}

/// Whether a record of so many bytes goes into a frame.
fn fits(bytes: u64, frame_max: u64) -> bool {
    bytes <= RECORD_MAX && bytes + FRAME_OVERHEAD <= frame_max
}

impl<'a> Resolved<'a> {
    fn new(draft: &'a ChannelDraft, defaults: &ChannelDraft, problems: &mut Problems) -> Self {
        let kind = draft.kind.or(&defaults.kind);
        if matches!(kind, Declared::Absent) {
            problems.error(
                &draft.span,
                format!("channel {} has no `kind`", draft.name),
                "whether records are stored must be said",
                "add `kind = \"stream\"` (stored, replicated) or `kind = \"signal\"` (not stored)",
            );
        }
        let here = |value: u32| move || At::new(value, draft.span.clone());
        let partitions = draft.partitions.or(&defaults.partitions).or_else(here(1));
        let replicas = draft.replicas.or(&defaults.replicas);
        let replicas = replicas.or_else(here(REPLICAS_DEFAULT));
        let max_record = draft.max_record.or(&defaults.max_record);
        let max_record = max_record.or_else(|| At::new(RECORD_MAX_DEFAULT, draft.span.clone()));
        let mut resolved = Self {
            draft,
            kind: kind.value().map(|kind| kind.value),
            partitions,
            replicas,
            max_record,
            channel: None,
        };
        resolved.channel = resolved.whole(defaults);
        resolved
    }

    /// The channel, if all of it could be read.
    fn whole(&self, defaults: &ChannelDraft) -> Option<Channel> {
        let (draft, kind) = (self.draft, self.kind?);
        let stored = kind != Kind::Signal;
        let confirm = draft.confirm.or(&defaults.confirm);
        let confirm = confirm.or_else(|| At::new(Confirm::Quorum, draft.span.clone()))?;
        let keep = draft.keep.or(&defaults.keep);
        let keep = keep.or_else(|| At::new(Keep::default(), draft.span.clone()))?;
        let subjects = draft.subjects.iter();
        Some(Channel {
            kind,
            subjects: subjects.map(|subject| subject.value.clone()).collect(),
            partitions: if stored {
                self.partitions.as_ref()?.value
            } else {
                1
            },
            replicas: if stored {
                self.replicas.as_ref()?.value
            } else {
                0
            },
            confirm: if stored { confirm.value } else { Confirm::None },
            keep: if stored { keep.value } else { Keep::default() },
            max_record: self.max_record.as_ref()?.value,
        })
    }
}

fn check_keep(draft: &Draft, problems: &mut Problems) {
    for channel in draft.channels.iter().chain([&draft.defaults]) {
        let Some(keep) = channel.keep.value() else {
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
    let Some(At { value, span }) = &channel.max_record else {
        return;
    };
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
    let counts = |declared: &Declared<u32>, none: u32| {
        let at = declared.value().filter(|at| at.value != none);
        at.map(|at| at.span.clone())
    };
    let confirm = draft.confirm.value();
    let quorum = confirm.filter(|at| at.value == Confirm::Quorum);
    let asked = [
        ("partitions", counts(&draft.partitions, 1)),
        ("replicas", counts(&draft.replicas, 0)),
        ("confirm", quorum.map(|at| at.span.clone())),
        ("keep", draft.keep.value().map(|at| at.span.clone())),
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

/// What is wrong with a channel whatever its kind may have been meant to be.
fn check_unknown(channel: &Resolved, nodes: usize, problems: &mut Problems) {
    let declared = |at: &At<u32>| at.span != channel.draft.span;
    if channel.partitions.as_ref().is_some_and(declared) {
        check_partitions(channel, &mut 0, problems);
    }
    // A signal has no replicas, and may say so.
    let some = |at: &At<u32>| declared(at) && at.value != 0;
    if channel.replicas.as_ref().is_some_and(some) {
        check_replicas(channel, nodes, problems);
    }
}

/// The number of partitions, if it may be; `total` counts those of all channels.
fn check_partitions(channel: &Resolved, total: &mut u32, problems: &mut Problems) -> Option<u32> {
    let name = &channel.draft.name;
    let At { value, span } = channel.partitions.as_ref()?;
    if !(1..=PARTITIONS_MAX).contains(value) {
        problems.error(
            span,
            format!("channel {name} cannot have {value} partitions"),
            "each is a log of its own, replicated on its own",
            format!("write a number from 1 to {PARTITIONS_MAX}; it never changes later"),
        );
        return None;
    }
    *total = total.saturating_add(*value);
    if *total > PARTITIONS_TOTAL_MAX {
        problems.error(
            span,
            format!("with channel {name} there are {total} partitions"),
            format!("at most {PARTITIONS_TOTAL_MAX} are allowed in one fabric"),
            "use fewer partitions per channel",
        );
        return None;
    }
    Some(*value)
}

/// The number of replicas and its place, if there are nodes for so many.
fn check_replicas(channel: &Resolved, nodes: usize, problems: &mut Problems) -> Option<At<u32>> {
    let name = &channel.draft.name;
    let At { value, span } = channel.replicas.as_ref()?;
    if !(1..=REPLICAS_MAX).contains(value) {
        problems.error(
            span,
            format!("channel {name} cannot have {value} replicas"),
            "a stored record has at least one copy; many copies make every commit slower",
            format!("write 3, or any number from 1 to {REPLICAS_MAX}"),
        );
        return None;
    }
    if *value as usize > nodes {
        problems.error(
            span,
            format!("channel {name} wants {value} replicas, but there are {nodes} nodes"),
            match *span == channel.draft.span {
                true => format!("{value} is the default; a node holds at most one copy"),
                false => "a node holds at most one copy of a partition".to_owned(),
            },
            format!("write `replicas = {}`, or declare more nodes", nodes.max(1)),
        );
        return None;
    }
    Some(At::new(*value, span.clone()))
}

/// What the loss of one host or zone does to a channel.
fn check_copies(
    channel: &Resolved,
    (partitions, replicas): (u32, &At<u32>),
    seats: &[Seat],
    problems: &mut Problems,
) {
    let name: ChannelName = channel.draft.name.as_str().into();
    let (replicas, span) = (replicas.value, &replicas.span);
    let quorum = replicas as usize / 2 + 1;
    let places = place(&name, partitions, replicas, seats);
    let gather = |of: fn(&Seat) -> String| Crowd::find(&places, seats, of);
    let host = gather(|seat| seat.host.to_owned());
    let zone = gather(|seat| seat.zone().to_owned());
    let breaks = |copies: usize| replicas as usize - copies < quorum;
    if breaks(host.copies) {
        let (message, why) = still(channel, replicas, ("host", &host));
        let remedy = "write `replicas = 3` or more, on nodes of at least 3 hosts: then any one \
                      host may fail";
        return problems.warning(span, message, why, remedy);
    }
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
    if breaks(zone.copies) && seats.iter().any(|seat| seat.zone.is_some()) {
        let (message, why) = still(channel, replicas, ("zone", &zone));
        let remedy = "write `replicas = 3` or more, on nodes of at least 3 zones: then any one \
                      zone may fail";
        problems.warning(span, message, why, remedy);
    }
}

/// What stops a channel, and why, for somebody who has never heard of a quorum.
fn still(channel: &Resolved, replicas: u32, (what, crowd): (&str, &Crowd)) -> (String, String) {
    let name = &channel.draft.name;
    let place = &crowd.name;
    if replicas == 1 {
        return (
            format!("channel {name} has one copy of each record: lose its disk, and it is lost"),
            "with `replicas = 1` nobody can read or write while the one node that has it is away"
                .to_owned(),
        );
    }
    let counts = "a record counts once more than half of its copies are on disk";
    if replicas == 2 && crowd.copies == 1 {
        return (
            format!("channel {name} stands still while either of its 2 copies is away"),
            format!("{counts}, and more than half of 2 is both"),
        );
    }
    (
        format!("channel {name} stands still while {what} {place} is away"),
        format!(
            "{counts}, and {what} {place} has {} of the {replicas} copies of {name}/{}",
            crowd.copies, crowd.partition
        ),
    )
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
