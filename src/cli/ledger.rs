//! `weft ledger`: the account of every channel, from the log and from the sessions; exit 1 if it
//! does not balance.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use bytesize::ByteSize;
use serde::Serialize;

use super::Failure;
use super::health::Health;
use super::options::Target;
use super::table::Table;
use super::verify;
use crate::node::{ChannelView, CursorView, PartitionView};

/// `weft ledger`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this channel
    #[arg(value_name = "CHANNEL")]
    channel: Option<String>,
    /// Read every retained entry of every replica, compare them, and hold the counters to them
    #[arg(long)]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// The account.
#[derive(Debug, Serialize)]
struct Ledger {
    /// Whether every sum holds and every node answered.
    balanced: bool,
    /// What does not hold, each a sentence.
    problems: Vec<String>,
    /// What each partition's log says, since it was founded.
    stored: Vec<Stored>,
    /// What each cursor was offered, since it began or was moved.
    readers: Vec<Reader>,
    /// What clients published and were delivered, by channel: counted by all nodes, each since its
    /// start.
    sessions: BTreeMap<String, ChannelView>,
}

/// One partition: `accepted = retained + trimmed`.
#[derive(Debug, Serialize)]
struct Stored {
    channel: String,
    partition: u32,
    /// The node whose word it is: the leader.
    leader: String,
    accepted: u64,
    retained: u64,
    retained_bytes: u64,
    trimmed_by_age: u64,
    trimmed_by_size: u64,
    trimmed_by_count: u64,
    producers: u64,
}

/// A cursor in one partition: `offered = acked + waiting + missed`. What is with its holder waits.
#[derive(Debug, Serialize)]
struct Reader {
    channel: String,
    partition: u32,
    cursor: String,
    offered: u64,
    acked: u64,
    waiting: u64,
    missed: u64,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let (resolved, health) = Health::gather_all(args.target.resolve()?);
    if args.verify {
        return verify::run(&resolved, &health, args.channel.as_deref(), args.json);
    }
    let ledger = Ledger::of(&health, args.channel.as_deref());
    if let (Some(channel), true) = (&args.channel, ledger.is_empty()) {
        return Err(unknown(channel));
    }
    let mut out = io::stdout().lock();
    match args.json {
        true => {
            let json = serde_json::to_string_pretty(&ledger).map_err(Failure::internal)?;
            writeln!(out, "{json}")?;
        }
        false => ledger.print(&mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::from(u8::from(!ledger.balanced)))
}

pub(super) fn unknown(channel: &str) -> Failure {
    Failure::user(
        format!("no node that answers knows a channel {channel}"),
        "`weft ledger` without a name shows all of them",
    )
}

impl Ledger {
    fn of(health: &Health, only: Option<&str>) -> Self {
        let wanted = |channel: &str| only.is_none_or(|only| only == channel);
        let mut problems = Vec::new();
        for node in &health.nodes {
            if let Some(error) = &node.error {
                let name = node.node.as_deref().unwrap_or(&node.endpoint);
                problems.push(format!(
                    "{name} does not answer, and its sums lack: {error}"
                ));
            }
        }
        let (mut stored, mut readers) = (Vec::new(), Vec::new());
        for ((channel, partition), found) in health.partitions() {
            let view = found.view;
            match found.leader.filter(|_| view.role == "leader") {
                _ if !wanted(channel) => {}
                None => problems.push(format!("{channel}/{partition}: its leader does not answer")),
                Some(leader) => {
                    stored.push(Stored::of(view, leader));
                    readers.extend(view.cursors.iter().map(|own| Reader::of(view, own)));
                }
            }
        }
        let mut sessions: BTreeMap<String, ChannelView> = BTreeMap::new();
        for view in health.views() {
            for (channel, own) in view.channels.iter().filter(|(channel, _)| wanted(channel)) {
                if let Err(problem) = balances(channel, own) {
                    problems.push(format!("{}: {problem}", view.node));
                }
                add(sessions.entry(channel.clone()).or_default(), own);
            }
        }
        problems.extend(stored.iter().filter_map(|own| own.balances().err()));
        problems.extend(readers.iter().filter_map(|own| own.balances().err()));
        Self {
            balanced: problems.is_empty(),
            problems,
            stored,
            readers,
            sessions,
        }
    }

    fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.sessions.is_empty()
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut stored = Table::new([
            "PARTITION",
            "ACCEPTED",
            "RETAINED",
            "BY AGE",
            "BY SIZE",
            "BY COUNT",
            "BYTES",
            "PRODUCERS",
        ]);
        for own in &self.stored {
            stored.row([
                format!("{}/{}", own.channel, own.partition),
                own.accepted.to_string(),
                own.retained.to_string(),
                own.trimmed_by_age.to_string(),
                own.trimmed_by_size.to_string(),
                own.trimmed_by_count.to_string(),
                ByteSize::b(own.retained_bytes).to_string(),
                own.producers.to_string(),
            ]);
        }
        writeln!(
            out,
            "stored: accepted = retained + trimmed by age, size and count\n{stored}"
        )?;
        self.print_readers(out)?;
        let mut published = Table::new([
            "CHANNEL", "RECEIVED", "ACCEPTED", "REPEATED", "REFUSED", "PENDING", "UNKNOWN",
        ]);
        let mut signals = Table::new(["CHANNEL", "MATCHED", "DELIVERED", "DROPPED"]);
        for (channel, own) in &self.sessions {
            let counts = [
                own.received,
                own.accepted,
                own.repeated,
                own.refused,
                own.pending,
                own.unknown,
            ];
            let [received, accepted, repeated, refused, pending, unknown] =
                counts.map(|count| count.to_string());
            let name = channel.clone();
            published.row([
                name, received, accepted, repeated, refused, pending, unknown,
            ]);
            let counts = [own.matched, own.delivered, own.dropped];
            if own.matched > 0 {
                let [matched, delivered, dropped] = counts.map(|count| count.to_string());
                signals.row([channel.clone(), matched, delivered, dropped]);
            }
        }
        writeln!(
            out,
            "published, since the nodes' starts: received = accepted + repeated + refused + \
             pending + unknown\n{published}"
        )?;
        if self.sessions.values().any(|own| own.matched > 0) {
            writeln!(out, "signals: matched = delivered + dropped\n{signals}")?;
        }
        for problem in &self.problems {
            writeln!(out, "problem: {problem}")?;
        }
        match self.balanced {
            true => writeln!(out, "balanced"),
            false => writeln!(out, "not balanced"),
        }
    }
}

impl Ledger {
    fn print_readers(&self, out: &mut impl Write) -> io::Result<()> {
        if self.readers.is_empty() {
            return Ok(());
        }
        let mut readers = Table::new([
            "CURSOR",
            "PARTITION",
            "OFFERED",
            "ACKED",
            "WAITING",
            "MISSED",
        ]);
        for own in &self.readers {
            let counts = [own.offered, own.acked, own.waiting, own.missed];
            let [offered, acked, waiting, missed] = counts.map(|count| count.to_string());
            let partition = format!("{}/{}", own.channel, own.partition);
            readers.row([
                own.cursor.clone(),
                partition,
                offered,
                acked,
                waiting,
                missed,
            ]);
        }
        writeln!(
            out,
            "read by cursors: offered = acked + waiting + missed\n{readers}"
        )
    }
}

impl Reader {
    fn of(view: &PartitionView, cursor: &CursorView) -> Self {
        Self {
            channel: view.channel.clone(),
            partition: view.partition,
            cursor: cursor.name.clone(),
            offered: cursor.offered,
            acked: cursor.acked,
            waiting: cursor.waiting,
            missed: cursor.missed,
        }
    }

    fn balances(&self) -> Result<(), String> {
        let sum = self.acked + self.waiting + self.missed;
        match self.offered == sum {
            true => Ok(()),
            false => Err(format!(
                "{}/{} offered {} records to the cursor {}, {sum} have an account",
                self.channel, self.partition, self.offered, self.cursor
            )),
        }
    }
}

impl Stored {
    fn of(view: &PartitionView, leader: &str) -> Self {
        Self {
            channel: view.channel.clone(),
            partition: view.partition,
            leader: leader.to_owned(),
            accepted: view.next_offset,
            retained: view.next_offset.saturating_sub(view.first_offset),
            retained_bytes: view.retained_bytes,
            trimmed_by_age: view.trimmed.age,
            trimmed_by_size: view.trimmed.size,
            trimmed_by_count: view.trimmed.count,
            producers: view.producers,
        }
    }

    fn balances(&self) -> Result<(), String> {
        let trimmed = self.trimmed_by_age + self.trimmed_by_size + self.trimmed_by_count;
        match self.accepted == self.retained + trimmed {
            true => Ok(()),
            false => Err(format!(
                "{}/{} accepted {} records, {} are retained and {trimmed} trimmed",
                self.channel, self.partition, self.accepted, self.retained
            )),
        }
    }
}

fn balances(channel: &str, own: &ChannelView) -> Result<(), String> {
    let decided = own.accepted + own.repeated + own.refused;
    let sum = decided + own.pending + own.unknown;
    if own.received != sum {
        let received = own.received;
        return Err(format!(
            "{received} records of {channel} were received, {sum} have an account"
        ));
    }
    let (matched, sum) = (own.matched, own.delivered + own.dropped);
    match matched == sum {
        true => Ok(()),
        false => Err(format!(
            "{matched} signals of {channel} matched, {sum} have an account"
        )),
    }
}

fn add(sum: &mut ChannelView, own: &ChannelView) {
    sum.received += own.received;
    sum.accepted += own.accepted;
    sum.repeated += own.repeated;
    sum.refused += own.refused;
    sum.pending += own.pending;
    sum.unknown += own.unknown;
    sum.matched += own.matched;
    sum.delivered += own.delivered;
    sum.dropped += own.dropped;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_1_what_has_no_account_is_told() {
        let mut own = ChannelView {
            received: 10,
            accepted: 6,
            repeated: 1,
            refused: 2,
            pending: 1,
            matched: 5,
            delivered: 3,
            dropped: 2,
            ..ChannelView::default()
        };
        assert_eq!(balances("orders", &own), Ok(()));
        own.dropped = 1;
        assert!(balances("orders", &own).is_err_and(|told| told.contains("5 signals")));
        own.pending = 0;
        assert!(balances("orders", &own).is_err_and(|told| told.contains("10 records")));
        let mut stored = Stored {
            channel: "orders".to_owned(),
            partition: 3,
            leader: "a".to_owned(),
            accepted: 10,
            retained: 4,
            retained_bytes: 400,
            trimmed_by_age: 1,
            trimmed_by_size: 2,
            trimmed_by_count: 3,
            producers: 1,
        };
        assert_eq!(stored.balances(), Ok(()));
        let mut reader = Reader {
            channel: "orders".to_owned(),
            partition: 3,
            cursor: "billing".to_owned(),
            offered: 9,
            acked: 4,
            waiting: 3,
            missed: 2,
        };
        assert_eq!(reader.balances(), Ok(()));
        reader.missed = 1;
        assert!(
            reader
                .balances()
                .is_err_and(|told| told.contains("billing"))
        );
        stored.trimmed_by_count = 2;
        assert!(
            stored
                .balances()
                .is_err_and(|told| told.contains("orders/3"))
        );
    }
}
