//! `weft ledger --verify`: has every replica read what it retains, entry by entry, compares what
//! they found, and holds each replica's counters to its own entries. Names the first difference of
//! each partition. It reads beside the live traffic, a part at a time, and stops nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::ProgressBar;
use serde::Serialize;

use super::Failure;
use super::connect::connect_to;
use super::health::Health;
use super::ledger::unknown;
use super::options::Resolved;
use super::table::Table;
use super::wait::wait;
use crate::client::{Client, ClientError};
use crate::types::{Offset, TrimCause};
use crate::wire::Code;
use crate::wire::audit::{Account, Audit, Audited, EntriesRead};

/// How often a partition is begun anew that lets go of entries before they are read.
const ATTEMPTS: u32 = 5;
/// The pause before: followers hear of the last commit with a heartbeat, ten times a second.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// How often a node that reads for others is asked again, and after which pause: a minute in all.
const BUSY_ATTEMPTS: u32 = 600;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What was read and what is wrong with it.
#[derive(Debug, Serialize)]
struct Verified {
    /// Whether every replica was read, all agree, and every counter is right.
    verified: bool,
    /// What is not, each a sentence.
    problems: Vec<String>,
    /// What was read.
    partitions: Vec<Row>,
}

/// A partition whose replicas agree, as far as they were read.
#[derive(Debug, Serialize)]
struct Row {
    channel: String,
    partition: u32,
    /// The nodes whose replicas were read.
    replicas: Vec<String>,
    /// Those whose replicas were not, because they do not answer.
    not_read: Vec<String>,
    /// The retained offsets that were compared, the last not included.
    from: Offset,
    to: Offset,
    /// Records and bytes read from each replica.
    records: u64,
    bytes: u64,
}

/// Why a partition's replicas were not read to their end.
enum Stop {
    /// Entries went while they were read: begin anew.
    Moved,
    /// The first difference, or what else is wrong.
    Problem(String),
}

/// The replicas of one partition, and how to ask their nodes.
struct Replicas<'a> {
    channel: &'a str,
    partition: u32,
    nodes: Vec<&'a str>,
    ask: &'a dyn Fn(&str, Audit) -> Result<Audited, String>,
}

/// One replica as it is read.
struct Walk<'a> {
    node: &'a str,
    account: Account,
    /// The offset at which the entries read begin, and where they end so far.
    begins: Option<Offset>,
    next: Offset,
    records: u64,
    bytes: u64,
    /// The first record that the entries read retain.
    first: Offset,
    /// What they let go of after the entry up to which all replicas are: by age, size and count.
    since: [u64; 3],
    since_first: Offset,
}

pub(super) fn run(
    resolved: &Resolved,
    health: &Health,
    only: Option<&str>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let verified = verify(resolved, health, only)?;
    let mut out = io::stdout().lock();
    match json {
        true => {
            let json = serde_json::to_string_pretty(&verified).map_err(Failure::internal)?;
            writeln!(out, "{json}")?;
        }
        false => verified.print(&mut out)?,
    }
    out.flush()?;
    Ok(ExitCode::from(u8::from(!verified.verified)))
}

fn verify(resolved: &Resolved, health: &Health, only: Option<&str>) -> Result<Verified, Failure> {
    let mut problems = Vec::new();
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    for (server, node) in resolved.servers.iter().zip(&health.nodes) {
        let name = node.node.as_deref().unwrap_or(&node.endpoint);
        let connected = match &node.error {
            Some(error) => Err(error.clone()),
            None => connect_to(server, resolved).map_err(|error| error.to_string()),
        };
        match connected {
            Ok(client) => drop(clients.insert(name, client)),
            Err(error) => problems.push(format!("{name} does not answer: {error}")),
        }
    }
    let ask = |node: &str, audit: Audit| match clients.get(node) {
        Some(client) => ask(client, &audit),
        None => Err("it was not asked".to_owned()),
    };
    let wanted = |channel: &str| only.is_none_or(|only| only == channel);
    let holders = holders(health);
    if let (Some(channel), false) = (only, holders.keys().any(|(channel, _)| wanted(channel))) {
        return Err(not_held(health, channel));
    }
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(Duration::from_millis(100));
    let mut partitions = Vec::new();
    for ((channel, partition), nodes) in holders {
        if !wanted(channel) {
            continue;
        }
        progress.set_message(format!("{channel}/{partition}"));
        let answers = |node: &&str| clients.contains_key(node);
        let (nodes, not_read): (Vec<&str>, Vec<&str>) = nodes.into_iter().partition(answers);
        for node in &not_read {
            problems.push(format!(
                "{channel}/{partition} on {node}: not read: it does not answer"
            ));
        }
        if nodes.is_empty() {
            continue;
        }
        let replicas = Replicas {
            channel,
            partition,
            nodes,
            ask: &ask,
        };
        let not_read = not_read.into_iter().map(str::to_owned).collect();
        match replicas.verify() {
            Ok(row) => partitions.push(Row { not_read, ..row }),
            Err(problem) => problems.push(problem),
        }
    }
    progress.finish_and_clear();
    Ok(Verified {
        verified: problems.is_empty(),
        problems,
        partitions,
    })
}

/// Why there is nothing of a channel to read.
fn not_held(health: &Health, channel: &str) -> Failure {
    let is_declared = health
        .views()
        .any(|view| view.channels.contains_key(channel));
    let silent = health.nodes.iter().filter(|node| node.error.is_some());
    let silent: Vec<&str> = silent
        .map(|node| node.node.as_deref().unwrap_or(&node.endpoint))
        .collect();
    match (is_declared, silent.is_empty()) {
        (false, _) => unknown(channel),
        // Somebody holds each partition of every other kind.
        (true, true) => Failure::user(
            format!(
                "{channel} is a signal channel: signals are not stored, so there is nothing to \
                 verify"
            ),
            format!("`weft ledger {channel}` shows how many were delivered and dropped"),
        ),
        (true, false) => Failure::user(
            format!(
                "no node that answers holds anything of {channel}; {} may",
                silent.join(", ")
            ),
            "signals are not stored; `weft status` shows who does not answer",
        ),
    }
}

/// The nodes that hold a replica of each partition, as anybody who answers tells.
fn holders(health: &Health) -> BTreeMap<(&str, u32), BTreeSet<&str>> {
    let mut holders: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for view in health.views() {
        for held in &view.partitions {
            let name = (held.channel.as_str(), held.partition);
            let nodes = holders.entry(name).or_default();
            nodes.insert(&view.node);
            nodes.extend(held.replicas.iter().map(|replica| replica.node.as_str()));
        }
    }
    holders
}

/// Asks one node; waits where it reads for others.
fn ask(client: &Client, audit: &Audit) -> Result<Audited, String> {
    let mut attempt = 1;
    loop {
        match wait(client.audit(audit.clone())) {
            Ok(audited) => return Ok(audited),
            Err(ClientError::Refused(refusal))
                if refusal.code == Code::Busy.number() && attempt < BUSY_ATTEMPTS =>
            {
                attempt += 1;
                thread::sleep(BUSY_PAUSE);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

impl Replicas<'_> {
    fn verify(&self) -> Result<Row, String> {
        for _ in 0..ATTEMPTS {
            match self.read_all() {
                Ok(row) => return Ok(row),
                Err(Stop::Moved) => thread::sleep(ATTEMPT_PAUSE),
                Err(Stop::Problem(problem)) => return Err(problem),
            }
        }
        Err(format!(
            "{self}: its replicas let go of entries before they could be compared; ask again, or \
             keep more"
        ))
    }

    fn read_all(&self) -> Result<Row, Stop> {
        let mut walks = Vec::new();
        for node in &self.nodes {
            let account = self.asked(node, 0, 0)?.account;
            walks.push(Walk::new(node, account));
        }
        let Some(since) = walks
            .iter()
            .map(|walk| &walk.account)
            .min_by_key(|a| a.applied)
        else {
            return Err(Stop::Problem(format!("{self}: nobody holds it")));
        };
        let since = since.clone();
        let low = walks.iter().map(|walk| walk.account.start).max();
        let (low, high) = (low.unwrap_or(since.start), since.applied + 1);
        if low > high {
            return Err(Stop::Moved);
        }
        for walk in &mut walks {
            walk.since_first = since.first_offset;
            self.read(walk, walk.account.start, low, &since)?;
        }
        self.compare(&mut walks, low, high, &since)?;
        for walk in &mut walks {
            self.read(walk, high, walk.account.applied + 1, &since)?;
            walk.check(&since)
                .map_err(|problem| Stop::Problem(format!("{self}: {problem}")))?;
        }
        Ok(Row {
            channel: self.channel.to_owned(),
            partition: self.partition,
            replicas: self.nodes.iter().map(|node| (*node).to_owned()).collect(),
            not_read: Vec::new(),
            from: since.first_offset,
            to: since.next_offset,
            records: walks[0].records,
            bytes: walks[0].bytes,
        })
    }

    /// Reads what only one replica is asked for.
    fn read(&self, walk: &mut Walk<'_>, from: u64, to: u64, since: &Account) -> Result<(), Stop> {
        let mut at = from;
        while at < to {
            let read = self.part(walk.node, at, to)?;
            at = read.to;
            self.take(walk, &read, since)?;
        }
        Ok(())
    }

    /// Has all replicas read the same entries, and compares what they found.
    fn compare(
        &self,
        walks: &mut [Walk<'_>],
        from: u64,
        to: u64,
        since: &Account,
    ) -> Result<(), Stop> {
        let mut at = from;
        while at < to {
            let mut first: Option<EntriesRead> = None;
            for walk in walks.iter_mut() {
                let end = first.as_ref().map_or(to, |first| first.to);
                let read = self.part(walk.node, at, end)?;
                let same = |first: &EntriesRead| first.digest == read.digest;
                if let Some(first) = first.as_ref().filter(|first| !same(first)) {
                    return Err(self.differ(walk.node, at, first.to));
                }
                self.take(walk, &read, since)?;
                first.get_or_insert(read);
            }
            at = first.map_or(to, |first| first.to);
        }
        Ok(())
    }

    /// Finds the first of the entries from `from` on at which `node` and the first replica differ.
    fn differ(&self, node: &str, from: u64, to: u64) -> Stop {
        let (mut same, mut end) = (from, to);
        while end - same > 1 {
            let middle = same + (end - same) / 2;
            let found = [self.nodes[0], node].map(|node| self.part(node, same, middle));
            match found {
                [Ok(one), Ok(other)] if one.digest == other.digest => same = middle,
                [Ok(_), Ok(_)] => end = middle,
                [Err(stop), _] | [_, Err(stop)] => return stop,
            }
        }
        let mut found = Vec::new();
        let mut place = None;
        for node in &self.nodes {
            let read = match self.part(node, same, same + 1) {
                Ok(read) => read,
                Err(stop) => return stop,
            };
            let (first, records, bytes) = (read.first_offset, read.records, read.bytes);
            place.get_or_insert(first);
            let digest: String = read.digest[..4]
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            found.push(format!(
                "{node} has {records} records of {bytes} bytes ({digest})"
            ));
        }
        Stop::Problem(format!(
            "{self}/{}: the replicas differ from here on, in entry {same}: {}",
            place.unwrap_or(0),
            found.join(", ")
        ))
    }

    fn take(&self, walk: &mut Walk<'_>, read: &EntriesRead, since: &Account) -> Result<(), Stop> {
        let taken = walk.take(read, since);
        taken.map_err(|problem| Stop::Problem(format!("{self}: {problem}")))
    }

    /// Some of these entries, at least one.
    fn part(&self, node: &str, from: u64, to: u64) -> Result<EntriesRead, Stop> {
        let audited = self.asked(node, from, to)?;
        let read = audited.read.unwrap_or_default();
        match &read.wrong {
            Some(wrong) => Err(Stop::Problem(format!("{self} on {node}: {wrong}"))),
            None if (read.from, read.to > from) == (from, true) => Ok(read),
            None if audited.account.start > from => Err(Stop::Moved),
            None => Err(Stop::Problem(format!(
                "{self} on {node}: entry {from} is not there"
            ))),
        }
    }

    fn asked(&self, node: &str, from: u64, to: u64) -> Result<Audited, Stop> {
        let audit = Audit {
            id: None,
            channel: self.channel.into(),
            partition: self.partition,
            from,
            to,
        };
        let failed = |error| Stop::Problem(format!("{self} on {node}: not read: {error}"));
        let audited = (self.ask)(node, audit).map_err(failed)?;
        match audited.node == node {
            true => Ok(audited),
            false => Err(failed(format!("{} answered instead", audited.node))),
        }
    }
}

impl std::fmt::Display for Replicas<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.channel, self.partition)
    }
}

impl<'a> Walk<'a> {
    fn new(node: &'a str, account: Account) -> Self {
        Self {
            node,
            account,
            begins: None,
            next: 0,
            records: 0,
            bytes: 0,
            first: 0,
            since: [0; 3],
            since_first: 0,
        }
    }

    /// Adds what was read next. `since` is what the replica counted that is behind the others.
    fn take(&mut self, read: &EntriesRead, since: &Account) -> Result<(), String> {
        if self.begins.is_some() && read.first_offset != self.next {
            let (node, from) = (self.node, read.from);
            let (begins, next) = (read.first_offset, self.next);
            return Err(format!(
                "on {node} entry {from} begins at offset {begins} instead of {next}"
            ));
        }
        self.begins.get_or_insert(read.first_offset);
        self.next = read.next_offset;
        self.records += read.records;
        self.bytes += read.bytes;
        for trim in &read.trims {
            self.first = self.first.max(trim.first);
            if trim.index > since.applied && trim.first > self.since_first {
                let cause = match trim.cause {
                    TrimCause::Age => 0,
                    TrimCause::Size => 1,
                    TrimCause::Count => 2,
                };
                self.since[cause] += trim.first - self.since_first;
                self.since_first = trim.first;
            }
        }
        Ok(())
    }

    /// Holds the counters to the entries, all of which were read.
    fn check(&self, since: &Account) -> Result<(), String> {
        let own = &self.account;
        let counted = |what: &str, counted: u64, found: u64| match counted == found {
            true => Ok(()),
            false => Err(format!(
                "{} counts {counted} {what}, its entries say {found}",
                self.node
            )),
        };
        if let Some(begins) = self.begins {
            counted("as the next offset", own.next_offset, self.next)?;
            counted(
                "as the first offset",
                own.first_offset,
                self.first.max(begins),
            )?;
            counted("records from there on", self.next - begins, self.records)?;
        }
        counted("bytes retained", own.retained_bytes, self.bytes)?;
        let causes = |account: &Account| {
            let Account {
                trimmed_by_age: age,
                trimmed_by_size: size,
                trimmed_by_count: count,
                ..
            } = account;
            [*age, *size, *count]
        };
        let trimmed = causes(own).into_iter().sum();
        counted("records trimmed", trimmed, own.first_offset)?;
        // What was trimmed before can no longer be read: the replicas must agree on it.
        if own.start <= since.applied + 1 {
            let names = ["by age", "by size", "by count"];
            let expected = causes(since).into_iter().zip(self.since);
            for ((own, (before, after)), name) in causes(own).into_iter().zip(expected).zip(names) {
                counted(&format!("records trimmed {name}"), own, before + after)?;
            }
        }
        Ok(())
    }
}

impl Verified {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new([
            "PARTITION",
            "REPLICAS",
            "NOT READ",
            "FROM",
            "TO",
            "RECORDS",
            "BYTES",
        ]);
        for row in &self.partitions {
            table.row([
                format!("{}/{}", row.channel, row.partition),
                row.replicas.join(" "),
                row.not_read.join(" "),
                row.from.to_string(),
                row.to.to_string(),
                row.records.to_string(),
                ByteSize::b(row.bytes).to_string(),
            ]);
        }
        let is_whole = |row: &Row| row.not_read.is_empty();
        let heading = match &self.partitions[..] {
            [] => "no partition was read whose replicas are the same",
            rows if rows.iter().all(is_whole) => "read from every replica, and the same",
            _ => "read from the replicas that answer, and the same",
        };
        writeln!(out, "{heading}")?;
        if !self.partitions.is_empty() {
            writeln!(out, "{table}")?;
        }
        for problem in &self.problems {
            writeln!(out, "problem: {problem}")?;
        }
        match self.verified {
            true => writeln!(out, "verified"),
            false => writeln!(out, "not verified"),
        }
    }
}
