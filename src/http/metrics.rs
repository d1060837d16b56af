//! Every figure that a node shows to Prometheus, in its text format. README lists the same ones.

use std::fmt::Write as _;

use crate::node::{ChannelView, NodeView, PartitionView};

/// One figure.
#[derive(Debug)]
pub struct Metric {
    /// Its name; the last word is the unit, `_total` after it where it only grows.
    pub name: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// What it says.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    samples: fn(&NodeView, &mut Samples<'_>),
}

/// The lines of one figure.
struct Samples<'a> {
    metric: &'a Metric,
    text: &'a mut String,
}

impl Samples<'_> {
    /// A line with these values of the figure's labels.
    fn add(&mut self, labels: &[&str], value: impl Into<f64>) {
        assert_eq!(labels.len(), self.metric.labels.len(), "a value each");
        self.text.push_str(self.metric.name);
        for (at, (name, value)) in self.metric.labels.iter().zip(labels).enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            let value = value.replace('\n', "\\n");
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{value}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        // A string takes all. Rust writes a float without an exponent, and as exactly as it is.
        let _ = writeln!(self.text, "{close} {}", value.into());
    }

    fn count(&mut self, labels: &[&str], value: u64) {
        // Exact up to 2^53, as Prometheus itself is.
        self.add(labels, value as f64);
    }

    fn partitions(&mut self, view: &NodeView, value: fn(&PartitionView) -> u64) {
        for own in &view.partitions {
            let number = own.partition.to_string();
            self.count(&[&own.channel, &number], value(own));
        }
    }

    fn channels(&mut self, view: &NodeView, value: fn(&ChannelView) -> u64) {
        for (channel, own) in &view.channels {
            self.count(&[channel], value(own));
        }
    }
}

/// All figures as Prometheus reads them.
pub(super) fn render(view: &NodeView) -> String {
    let mut text = String::with_capacity(16 << 10);
    for metric in METRICS {
        let Metric {
            name, kind, help, ..
        } = metric;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let mut samples = Samples {
            metric,
            text: &mut text,
        };
        (metric.samples)(view, &mut samples);
    }
    text
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&NodeView, &mut Samples<'_>),
) -> Metric {
    Metric {
        name,
        kind: "gauge",
        help,
        labels,
        samples,
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&NodeView, &mut Samples<'_>),
) -> Metric {
    Metric {
        name,
        kind: "counter",
        help,
        labels,
        samples,
    }
}

const OF_PARTITION: &[&str] = &["channel", "partition"];

/// Every figure, in the order in which they are shown.
pub const METRICS: &[Metric] = &[
    gauge("weft_healthy", &[], "1 if nothing is wrong", |view, to| {
        to.add(&[], u8::from(view.problems.is_empty() && !view.stopping));
    }),
    gauge(
        "weft_problems",
        &[],
        "what is wrong, as /health tells it",
        |view, to| {
            to.count(&[], view.problems.len() as u64);
        },
    ),
    gauge("weft_uptime_seconds", &[], "since the start", |view, to| {
        to.add(&[], view.uptime_ms as f64 / 1e3);
    }),
    gauge(
        "weft_peer_up",
        &["peer"],
        "1 if the peer was heard lately",
        |view, to| {
            for peer in &view.peers {
                to.add(&[&peer.node], u8::from(peer.up));
            }
        },
    ),
    gauge(
        "weft_peer_heard_seconds",
        &["peer"],
        "since the peer was last heard",
        |view, to| {
            for peer in &view.peers {
                if let Some(heard) = peer.heard_ms {
                    to.add(&[&peer.node], heard as f64 / 1e3);
                }
            }
        },
    ),
    gauge(
        "weft_peer_clock_offset_seconds",
        &["peer"],
        "the peer's calendar minus this node's",
        |view, to| {
            for peer in &view.peers {
                if let Some(offset) = peer.clock_offset_ms {
                    to.add(&[&peer.node], offset as f64 / 1e3);
                }
            }
        },
    ),
    gauge(
        "weft_partition_leads",
        OF_PARTITION,
        "1 if this node leads it",
        |view, to| {
            to.partitions(view, |own| u64::from(own.role == "leader"));
        },
    ),
    gauge(
        "weft_partition_term",
        OF_PARTITION,
        "Raft's term",
        |view, to| {
            to.partitions(view, |own| own.term);
        },
    ),
    counter(
        "weft_partition_committed_entries_total",
        OF_PARTITION,
        "entries of the log known to be committed",
        |view, to| to.partitions(view, |own| own.commit),
    ),
    counter(
        "weft_partition_accepted_records_total",
        OF_PARTITION,
        "records stored since the partition was founded",
        |view, to| to.partitions(view, |own| own.next_offset),
    ),
    gauge(
        "weft_partition_retained_records",
        OF_PARTITION,
        "records kept now",
        |view, to| {
            to.partitions(view, |own| own.next_offset.saturating_sub(own.first_offset));
        },
    ),
    gauge(
        "weft_partition_retained_bytes",
        OF_PARTITION,
        "what holds them",
        |view, to| {
            to.partitions(view, |own| own.retained_bytes);
        },
    ),
    counter(
        "weft_partition_trimmed_records_total",
        &["channel", "partition", "cause"],
        "records let go of, by `age`, `size` or `count`",
        |view, to| {
            for own in &view.partitions {
                let number = own.partition.to_string();
                let trimmed = own.trimmed;
                let causes = [
                    ("age", trimmed.age),
                    ("size", trimmed.size),
                    ("count", trimmed.count),
                ];
                for (cause, records) in causes {
                    to.count(&[&own.channel, &number, cause], records);
                }
            }
        },
    ),
    gauge(
        "weft_partition_producers",
        OF_PARTITION,
        "producers remembered",
        |view, to| {
            to.partitions(view, |own| own.producers);
        },
    ),
    gauge(
        "weft_replica_lag_entries",
        &["channel", "partition", "replica"],
        "how far a voter is behind; told by the leader",
        |view, to| {
            for own in &view.partitions {
                // One that is filled has the node of the voter whose place it takes.
                for replica in own.replicas.iter().filter(|replica| !replica.learner) {
                    if let Some(lag) = replica.lag {
                        let number = own.partition.to_string();
                        to.count(&[&own.channel, &number, &replica.node], lag);
                    }
                }
            }
        },
    ),
    counter(
        "weft_received_records_total",
        &["channel"],
        "records that clients published here",
        |view, to| to.channels(view, |own| own.received),
    ),
    counter(
        "weft_published_records_total",
        &["channel", "outcome"],
        "what became of them: `accepted`, `repeated`, `refused` or `unknown`",
        |view, to| {
            for (channel, own) in &view.channels {
                let outcomes = [
                    ("accepted", own.accepted),
                    ("repeated", own.repeated),
                    ("refused", own.refused),
                    ("unknown", own.unknown),
                ];
                for (outcome, records) in outcomes {
                    to.count(&[channel, outcome], records);
                }
            }
        },
    ),
    gauge(
        "weft_pending_records",
        &["channel"],
        "those without an answer yet",
        |view, to| {
            to.channels(view, |own| own.pending);
        },
    ),
    counter(
        "weft_signals_total",
        &["channel", "outcome"],
        "signals that matched a subscription here: `delivered` or `dropped`",
        |view, to| {
            for (channel, own) in &view.channels {
                to.count(&[channel, "delivered"], own.delivered);
                to.count(&[channel, "dropped"], own.dropped);
            }
        },
    ),
    gauge("weft_sessions", &[], "clients", |view, to| {
        to.count(&[], view.sessions.sessions);
    }),
    gauge("weft_subscriptions", &[], "of all clients", |view, to| {
        to.count(&[], view.sessions.subscriptions);
    }),
    gauge(
        "weft_subscriptions_waiting",
        &[],
        "those without credit",
        |view, to| {
            to.count(&[], view.sessions.waiting_for_credit);
        },
    ),
    gauge(
        "weft_credit_used_bytes",
        &[],
        "sent to clients and not returned",
        |view, to| {
            to.count(&[], view.sessions.credit_used_bytes);
        },
    ),
    gauge(
        "weft_inflight_bytes",
        &[],
        "published and not yet answered",
        |view, to| {
            to.count(&[], view.sessions.inflight_bytes);
        },
    ),
    counter(
        "weft_bad_frames_total",
        &[],
        "frames of clients that were refused",
        |view, to| {
            to.count(&[], view.sessions.bad_frames);
        },
    ),
    gauge(
        "weft_disk_free_bytes",
        &[],
        "free on the data disk",
        |view, to| {
            to.count(&[], view.disk.free_bytes);
        },
    ),
    gauge(
        "weft_journal_bytes",
        &[],
        "the journal's files",
        |view, to| {
            to.count(&[], view.disk.journal_bytes);
        },
    ),
    counter(
        "weft_journal_syncs_total",
        &[],
        "commits synced",
        |view, to| {
            to.count(&[], view.disk.syncs);
        },
    ),
    gauge(
        "weft_journal_sync_seconds",
        &[],
        "how long the last one took",
        |view, to| {
            to.add(&[], view.disk.sync_us as f64 / 1e6);
        },
    ),
    gauge(
        "weft_journal_failed",
        &[],
        "1 if it cannot be written",
        |view, to| {
            to.add(&[], u8::from(view.disk.failed.is_some()));
        },
    ),
    gauge(
        "weft_journal_damaged_segments",
        &[],
        "those that do not read as they were written",
        |view, to| {
            to.count(&[], view.disk.damaged_segments);
        },
    ),
    counter(
        "weft_journal_mended_segments_total",
        &[],
        "those that were made whole with what other nodes hold",
        |view, to| {
            to.count(&[], view.disk.mended_segments);
        },
    ),
    gauge(
        "weft_mailbox_inputs",
        &[],
        "what waits for the node's logic",
        |view, to| {
            to.count(&[], view.mailbox);
        },
    ),
    counter(
        "weft_socket_restarts_total",
        &[],
        "sockets opened again",
        |view, to| {
            to.count(&[], view.restarts);
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_their_unit_and_counters_in_total() {
        for metric in METRICS {
            let total = metric.name.ends_with("_total");
            assert_eq!(metric.kind == "counter", total, "{}", metric.name);
            assert!(metric.name.starts_with("weft_"), "{}", metric.name);
        }
    }

    #[test]
    fn every_value_has_its_labels_and_nothing_breaks_a_line() {
        let mut view = NodeView::default();
        view.partitions.push(PartitionView {
            channel: "or\"d\\ers".to_owned(),
            partition: 3,
            next_offset: 12_345_678_901,
            ..PartitionView::default()
        });
        view.uptime_ms = 1_500;
        let text = render(&view);
        let line = "weft_partition_accepted_records_total\
                    {channel=\"or\\\"d\\\\ers\",partition=\"3\"} 12345678901\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("\nweft_uptime_seconds 1.5\n"), "{text}");
        assert!(text.contains("# TYPE weft_bad_frames_total counter\n"));
    }
}
