//! `weft status`: nodes, links, partitions, clients and disks; exit 1 if anything is not healthy.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use super::Failure;
use super::health::Health;
use super::options::Target;
use super::table::Table;

/// How often `--wait` asks again.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// The columns whose names do not say all.
const COLUMNS: &str = "Columns:
  EPOCH             the generation of the topology that the node runs
  LEADS             the partitions that it leads, of those that it holds a copy of
  INPUTS WAITING    what the node's logic has not come to yet: 0 unless it is busy
  SOCKETS REOPENED  after failures, since the node has started
  HEARD             when the node last heard of the peer
  CLOCK             the peer's calendar minus the node's
  TERM              rises with every election of a leader
  LOG ENTRIES       those that a majority has; several records may share one, and some hold none
  RECORDS KEPT      those that can be read now
  REPLICAS:BEHIND   the nodes that have a copy, and how many log entries each of them lacks yet
  WAITING           subscriptions without credit: their clients do not keep up
  CREDIT USED       what was sent to clients, and not returned by them yet
  IN FLIGHT         what clients published and is not answered yet, of what may be at most
  JOURNAL           the files that hold all partitions of the node
  LAST SYNC         how long the disk took for it";

/// `weft status`
#[derive(Debug, clap::Args)]
#[command(after_help = COLUMNS)]
pub(crate) struct Args {
    /// Ask again until all is healthy, for at most this long
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let resolved = args.target.resolve()?;
    let deadline = Instant::now() + Duration::from_secs(args.wait.unwrap_or(0));
    let health = loop {
        let health = Health::gather(&resolved);
        if health.healthy || Instant::now() >= deadline {
            break health;
        }
        thread::sleep(ASK_EVERY);
    };
    let mut out = io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&health).map_err(Failure::internal)?;
        writeln!(out, "{json}")?;
    } else {
        print(&health, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::from(u8::from(!health.healthy)))
}

fn print(health: &Health, out: &mut impl Write) -> io::Result<()> {
    if let Some(view) = health.views().next() {
        writeln!(out, "fabric {}", view.fabric)?;
    }
    writeln!(out, "\nnodes\n{}", nodes(health))?;
    if health.views().next().is_some() {
        writeln!(out, "links\n{}", links(health))?;
        writeln!(out, "partitions\n{}", partitions(health))?;
        writeln!(out, "clients\n{}", clients(health))?;
        writeln!(out, "disks\n{}", disks(health))?;
    }
    for note in &health.notes {
        writeln!(out, "note: {note}")?;
    }
    for problem in &health.problems {
        writeln!(out, "problem: {problem}")?;
    }
    match health.healthy {
        true => writeln!(out, "healthy"),
        false => writeln!(out, "not healthy"),
    }
}

fn nodes(health: &Health) -> Table<7> {
    let mut table = Table::new([
        "NODE",
        "ENDPOINT",
        "EPOCH",
        "UP",
        "LEADS",
        "INPUTS WAITING",
        "SOCKETS REOPENED",
    ]);
    for node in &health.nodes {
        let name = node.node.clone().unwrap_or("?".to_owned());
        let Some(view) = &node.view else {
            let none = || "-".to_owned();
            let answer = match node.foreign {
                true => "other fabric",
                false => "no answer",
            };
            let cells = [none(), answer.to_owned(), none(), none(), none()];
            let [epoch, up, leads, mailbox, restarts] = cells;
            let endpoint = node.endpoint.clone();
            table.row([name, endpoint, epoch, up, leads, mailbox, restarts]);
            continue;
        };
        let leads = view.partitions.iter().filter(|own| own.role == "leader");
        let uptime = Duration::from_secs(view.uptime_ms / 1_000);
        table.row([
            name,
            node.endpoint.clone(),
            view.epoch.to_string(),
            humantime::format_duration(uptime).to_string(),
            format!("{} of {}", leads.count(), view.partitions.len()),
            view.mailbox.to_string(),
            view.restarts.to_string(),
        ]);
    }
    table
}

fn links(health: &Health) -> Table<6> {
    let mut table = Table::new(["NODE", "PEER", "LINK", "HEARD", "EPOCH", "CLOCK"]);
    for view in health.views() {
        for peer in &view.peers {
            let ago = |ms: u64| format!("{ms} ms ago");
            table.row([
                view.node.clone(),
                peer.node.clone(),
                if peer.up { "up" } else { "down" }.to_owned(),
                peer.heard_ms.map_or("never".to_owned(), ago),
                or_dash(peer.epoch),
                peer.clock_offset_ms
                    .map_or("-".to_owned(), |ms| format!("{ms:+} ms")),
            ]);
        }
    }
    table
}

fn partitions(health: &Health) -> Table<6> {
    let mut table = Table::new([
        "PARTITION",
        "LEADER",
        "TERM",
        "LOG ENTRIES",
        "RECORDS KEPT",
        "REPLICAS:BEHIND",
    ]);
    for ((channel, number), partition) in health.partitions() {
        let view = partition.view;
        let leader = match partition.leader {
            Some(leader) => leader.to_owned(),
            None => format!("none ({})", view.role),
        };
        let replicas = view.replicas.iter().map(|replica| {
            let learner = if replica.learner { "(learner)" } else { "" };
            match replica.lag {
                Some(lag) => format!("{}{learner}:{lag}", replica.node),
                None => format!("{}{learner}", replica.node),
            }
        });
        table.row([
            format!("{channel}/{number}"),
            leader,
            view.term.to_string(),
            view.commit.to_string(),
            (view.next_offset - view.first_offset.min(view.next_offset)).to_string(),
            replicas.collect::<Vec<_>>().join(" "),
        ]);
    }
    table
}

fn clients(health: &Health) -> Table<6> {
    let mut table = Table::new([
        "NODE",
        "SESSIONS",
        "SUBSCRIPTIONS",
        "WAITING",
        "CREDIT USED",
        "IN FLIGHT",
    ]);
    for view in health.views() {
        let own = &view.sessions;
        table.row([
            view.node.clone(),
            own.sessions.to_string(),
            own.subscriptions.to_string(),
            own.waiting_for_credit.to_string(),
            size(own.credit_used_bytes),
            format!(
                "{} of {}",
                size(own.inflight_bytes),
                size(own.inflight_bytes_max)
            ),
        ]);
    }
    table
}

fn disks(health: &Health) -> Table<5> {
    let mut table = Table::new(["NODE", "FREE", "JOURNAL", "SYNCS", "LAST SYNC"]);
    for view in health.views() {
        let disk = &view.disk;
        table.row([
            view.node.clone(),
            size(disk.free_bytes),
            size(disk.journal_bytes),
            disk.syncs.to_string(),
            match &disk.failed {
                Some(error) => format!("failed: {error}"),
                None => format!("{} us", disk.sync_us),
            },
        ]);
    }
    table
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

fn or_dash(number: Option<u64>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}
