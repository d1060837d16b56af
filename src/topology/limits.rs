//! `[limits]`: each one's range, and what they ask of each other and of the channels.

use std::ops::Range;
use std::time::Duration;

use bytesize::ByteSize;

use super::problem::Problems;
use super::table::Value;
use crate::types::Limits;
use crate::types::limits::{DELIVER_BYTES_MAX, FRAME_OVERHEAD};

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Things,
    Nanos,
}

/// One limit: its name, its unit, its least and largest value, and its place in [`Limits`].
type Row = (&'static str, Unit, u64, u64, fn(&mut Limits) -> &mut u64);

const MINUTE: u64 = 60_000_000_000;
const DAY: u64 = 24 * 60 * MINUTE;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Every limit a topology may change. `frame_max` holds an append message twice; the other least
/// values keep a node able to work at all, the largest ones are beyond any sane machine. A place in
/// a segment is a number of 32 bits, so a segment has less than 4 GiB.
const TABLE: &[Row] = &[
    ("frame_max", Unit::Bytes, 2 * MIB, 256 * MIB, |l| {
        &mut l.frame_max
    }),
    ("sessions_max", Unit::Things, 1, 1_000_000, |l| {
        &mut l.sessions_max
    }),
    ("subscriptions_max", Unit::Things, 1, 65_536, |l| {
        &mut l.subscriptions_max
    }),
    (
        "session_inflight_bytes",
        Unit::Bytes,
        64 * KIB,
        4 * GIB,
        |l| &mut l.session_inflight_bytes,
    ),
    (
        "node_inflight_bytes",
        Unit::Bytes,
        64 * KIB,
        64 * GIB,
        |l| &mut l.node_inflight_bytes,
    ),
    ("subscription_window_bytes", Unit::Bytes, KIB, GIB, |l| {
        &mut l.subscription_window_bytes
    }),
    ("session_window_bytes", Unit::Bytes, KIB, 4 * GIB, |l| {
        &mut l.session_window_bytes
    }),
    ("cache_bytes", Unit::Bytes, 64 * KIB, 4 * GIB, |l| {
        &mut l.cache_bytes
    }),
    ("uncommitted_bytes", Unit::Bytes, 64 * KIB, 4 * GIB, |l| {
        &mut l.uncommitted_bytes
    }),
    ("segment_bytes", Unit::Bytes, 4 * MIB, 3 * GIB, |l| {
        &mut l.segment_bytes
    }),
    ("disk_free_min", Unit::Bytes, 0, 1024 * GIB, |l| {
        &mut l.disk_free_min
    }),
    ("producers_max", Unit::Things, 1, 1_000_000, |l| {
        &mut l.producers_max
    }),
    ("producer_window", Unit::Things, 1, 65_536, |l| {
        &mut l.producer_window
    }),
    ("producer_idle", Unit::Nanos, MINUTE, 500 * 366 * DAY, |l| {
        &mut l.producer_idle.0
    }),
    ("catch_up_rate", Unit::Bytes, 64 * KIB, 64 * GIB, |l| {
        &mut l.catch_up_rate
    }),
];

/// Reads `[limits]`: the limits, and where each declared one stands.
pub(super) fn read(
    value: Value,
    problems: &mut Problems,
) -> (Limits, Vec<(&'static str, Range<usize>)>) {
    let mut limits = Limits::default();
    let mut places = Vec::new();
    let Some(mut table) = value.table("[limits]", "{ frame_max = \"8 MiB\" }", problems) else {
        return (limits, places);
    };
    for (name, unit, least, largest, field) in TABLE {
        let Some(value) = table.take(name) else {
            continue;
        };
        let value = match unit {
            Unit::Bytes => value.size(problems),
            Unit::Things => value.count(problems),
            Unit::Nanos => value.age(problems),
        };
        let Some(value) = value else {
            continue;
        };
        if (*least..=*largest).contains(&value.value) {
            *field(&mut limits) = value.value;
            places.push((*name, value.span));
        } else {
            problems.error(
                &value.span,
                format!("`{name}` cannot be {}", show(*unit, value.value)),
                format!(
                    "it lies between {} and {}",
                    show(*unit, *least),
                    show(*unit, *largest)
                ),
                format!(
                    "the default is {}",
                    show(*unit, *field(&mut Limits::default()))
                ),
            );
        }
    }
    table.finish(problems);
    (limits, places)
}

/// Reports limits that do not fit each other. `anywhere` is the place of limits that are not
/// declared; `record_max` is the largest `max_record` of all channels.
pub(super) fn check(
    limits: &Limits,
    places: &[(&'static str, Range<usize>)],
    anywhere: &Range<usize>,
    record_max: u64,
    problems: &mut Problems,
) {
    let frames = 2 * (limits.frame_max + FRAME_OVERHEAD);
    let rules = [
        (
            "session_inflight_bytes",
            limits.session_inflight_bytes,
            record_max,
            "a session could never publish the largest record",
        ),
        (
            "session_window_bytes",
            limits.session_window_bytes,
            limits
                .subscription_window_bytes
                .max(record_max)
                .max(DELIVER_BYTES_MAX),
            "a session could never be sent the largest record, or the window of one subscription",
        ),
        (
            "uncommitted_bytes",
            limits.uncommitted_bytes,
            record_max,
            "a partition could never take the largest record",
        ),
        (
            "node_inflight_bytes",
            limits.node_inflight_bytes,
            limits.session_inflight_bytes,
            "a node holds at least what one session (`session_inflight_bytes`) may have in flight",
        ),
        (
            "segment_bytes",
            limits.segment_bytes,
            frames,
            "a segment holds two of the largest commits, each a frame of `frame_max`",
        ),
    ];
    for (name, value, least, why) in rules {
        if value >= least {
            continue;
        }
        let place = places.iter().find(|(declared, _)| *declared == name);
        problems.error(
            place.map_or(anywhere, |(_, span)| span),
            format!(
                "`{name}` is {}, too small beside the rest",
                show(Unit::Bytes, value)
            ),
            why,
            format!(
                "in [limits], raise `{name}` to {} or more",
                show(Unit::Bytes, least)
            ),
        );
    }
}

/// Every limit that differs: its name, what it was and what it is.
pub(super) fn differences(old: &Limits, new: &Limits) -> Vec<(&'static str, String, String)> {
    let (mut old, mut new) = (old.clone(), new.clone());
    let values = TABLE.iter().map(|(name, unit, _, _, field)| {
        let (had, says) = (*field(&mut old), *field(&mut new));
        (*name, *unit, had, says)
    });
    values
        .filter(|(_, _, had, says)| had != says)
        .map(|(name, unit, had, says)| (name, show(unit, had), show(unit, says)))
        .collect()
}

fn show(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Bytes => ByteSize::b(value).to_string(),
        Unit::Things => value.to_string(),
        Unit::Nanos => humantime::format_duration(Duration::from_nanos(value)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_row_that_holds_its_default() {
        let json = serde_json::to_value(Limits::default()).expect("limits");
        let fields: Vec<&String> = json.as_object().expect("a map").keys().collect();
        let mut names: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
        names.sort_unstable();
        assert_eq!(fields, names);
        for (name, _, least, largest, field) in TABLE {
            let value = *field(&mut Limits::default());
            assert_eq!(json[*name], value);
            assert!((*least..=*largest).contains(&value), "{name}");
        }
    }
}
