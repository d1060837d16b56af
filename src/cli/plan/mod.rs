//! `weft plan`: every socket of every node, every channel and every copy of every partition, as
//! tables, as a drawing or as JSON.

mod holdings;
mod mermaid;
mod svg;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use humantime::format_duration;

use super::Failure;
use super::options::read_topology;
use super::table::Table;
use crate::topology::{Channel, ChannelPlan, Keep, NodePlan, Plan, plan};
use crate::types::NodeName;

/// `weft plan`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology file [default: the built-in quickstart]
    #[arg(value_name = "FILE", env = "WEFT_TOPOLOGY")]
    file: Option<PathBuf>,
    /// Show only this node's share
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// What to print: tables, a flowchart for Mermaid, or a drawing for a browser
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// What a plan is printed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Mermaid,
    Svg,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    if args.format != Format::Text && args.node.is_some() {
        let help = "leave the node out, or `--format`";
        return Err(Failure::user("a drawing shows the whole fabric", help));
    }
    let topology = read_topology(args.file.as_deref())?;
    let mut plan = plan(&topology);
    if let Some(name) = &args.node {
        plan = plan.of(&NodeName::from(name.as_str())).ok_or_else(|| {
            let known = topology.nodes.iter().map(|node| node.name.as_str());
            let known = known.collect::<Vec<_>>().join(", ");
            let help = format!("the topology declares {known}");
            Failure::user(format!("there is no node {name:?}"), help)
        })?;
    }
    let mut out = io::stdout().lock();
    match (args.json, args.format) {
        (true, _) => {
            let json = serde_json::to_string_pretty(&plan).map_err(Failure::internal)?;
            writeln!(out, "{json}")?;
        }
        (false, Format::Text) => print(&plan, &mut out)?,
        (false, Format::Mermaid) => write!(out, "{}", mermaid::Flowchart(&plan))?,
        (false, Format::Svg) => write!(out, "{}", svg::draw(&plan))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "fabric {} epoch {}", plan.fabric, plan.epoch)?;
    for node in &plan.nodes {
        writeln!(out, "\nnode {}{}", node.name, place(node))?;
        write!(out, "{}", sockets(node))?;
    }
    if !plan.channels.is_empty() {
        write!(out, "\nchannels\n{}", channels(&plan.channels))?;
    }
    if plan.partitions.is_empty() {
        return Ok(());
    }
    writeln!(out, "\npartitions")?;
    let mut table = Table::new(["PARTITION", "LEADER", "REPLICAS"]);
    for own in &plan.partitions {
        let replicas: Vec<&str> = own.replicas.iter().map(|node| node.as_str()).collect();
        table.row([
            format!("{}/{}", own.channel, own.partition),
            own.leader.to_string(),
            replicas.join(" "),
        ]);
    }
    write!(out, "{table}")
}

/// Where a node is, unless its host is just its own name.
fn place(node: &NodePlan) -> String {
    let host = match node.host == node.name.as_str() {
        true => String::new(),
        false => format!("  host {}", node.host),
    };
    let zone = node.zone.iter().map(|zone| format!("  zone {zone}"));
    host + &zone.collect::<String>()
}

fn sockets(node: &NodePlan) -> Table<6> {
    let mut table = Table::new(["SOCKET", "DOES", "ENDPOINT", "PEER", "KEYS", "WHY"]);
    for socket in &node.sockets {
        table.row([
            socket.kind.to_string(),
            socket.action.to_string(),
            socket.endpoint.clone(),
            socket
                .peer
                .as_ref()
                .map_or("-".to_owned(), |peer| peer.to_string()),
            if socket.curve { "CURVE" } else { "open" }.to_owned(),
            socket.why.to_owned(),
        ]);
    }
    table
}

fn channels(channels: &[ChannelPlan]) -> Table<8> {
    let mut table = Table::new([
        "CHANNEL",
        "KIND",
        "SUBJECTS",
        "PARTITIONS",
        "REPLICAS",
        "CONFIRM",
        "MAX RECORD",
        "KEEP",
    ]);
    for ChannelPlan { name, declared } in channels {
        let stored = |text: String| match declared.is_stored() {
            true => text,
            false => "-".to_owned(),
        };
        table.row([
            name.to_string(),
            declared.kind.to_string(),
            subjects(declared),
            stored(declared.partitions.to_string()),
            stored(declared.replicas.to_string()),
            declared.confirm.to_string(),
            ByteSize::b(declared.max_record).to_string(),
            stored(keep(&declared.keep)),
        ]);
    }
    table
}

fn subjects(channel: &Channel) -> String {
    let subjects = channel.subjects.iter().map(|subject| subject.as_str());
    subjects.collect::<Vec<_>>().join(" ")
}

/// How long, how much or how many; `all` where nothing is let go of.
fn keep(keep: &Keep) -> String {
    let age = keep.age.map(|age| Duration::from_nanos(age.0));
    let parts = [
        age.map(|age| format_duration(age).to_string()),
        keep.size.map(|size| ByteSize::b(size).to_string()),
        keep.count.map(|count| format!("{count} records")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => "all".to_owned(),
        false => parts.join(", "),
    }
}
