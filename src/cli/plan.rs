//! `weft plan`: every socket of every node and every copy of every partition, as tables or JSON.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use super::options::read_topology;
use super::table::Table;
use crate::topology::{NodePlan, Plan, plan};

/// `weft plan`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology file [default: the built-in quickstart]
    #[arg(value_name = "FILE", env = "WEFT_TOPOLOGY")]
    file: Option<PathBuf>,
    /// Show only this node's share
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let topology = read_topology(args.file.as_deref())?;
    let mut plan = plan(&topology);
    if let Some(name) = &args.node {
        let known: Vec<&str> = topology
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        plan.nodes.retain(|node| node.name.as_str() == name);
        plan.partitions
            .retain(|own| own.replicas.iter().any(|node| node.as_str() == name));
        if plan.nodes.is_empty() {
            let help = format!("the topology declares {}", known.join(", "));
            return Err(Failure::user(format!("there is no node {name:?}"), help));
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&plan).map_err(Failure::internal)?;
        writeln!(out, "{json}")?;
    } else {
        print(&plan, &mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "fabric {} epoch {}", plan.fabric, plan.epoch)?;
    for node in &plan.nodes {
        writeln!(out, "\nnode {}", node.name)?;
        write!(out, "{}", sockets(node))?;
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
