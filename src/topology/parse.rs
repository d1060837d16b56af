//! From the text of a topology file to a [`Topology`], or to all that is wrong with it.

use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;

use super::draft::{Draft, NodeDraft, Socket};
use super::estimate::Estimate;
use super::model::{Channel, Endpoint, Node, Topology};
use super::problem::{Parsed, Problem, Problems};
use super::table::Table;
use super::{channels, check, limits};

/// Reads a topology file. `path` is where the text comes from: relative paths in it start at its
/// folder, so it should be absolute. Every problem is reported at once, with its place in `text`.
pub fn parse(text: &str, path: &Path) -> Parsed {
    let mut problems = Problems::default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let (root, errors) = DeTable::parse_recoverable(text);
    let syntactic = !errors.is_empty();
    for error in errors {
        problems.error(
            &error.span().unwrap_or(0..0),
            error.message().lines().collect::<Vec<_>>().join(", "),
            "the file is no TOML here, so what follows on the line is not read",
            "see https://toml.io for how tables, keys and values are written",
        );
    }
    if syntactic {
        // What could be recovered has holes that are nobody's fault but the syntax error's.
        return Parsed {
            topology: None,
            problems: clamp(problems.sorted(), text),
        };
    }
    let draft = Draft::read(
        Table::new("the file", 0..0, root.get_ref()),
        folder,
        &mut problems,
    );
    check::check(&draft, &mut problems);
    let channels = channels::check(&draft, &mut problems);
    let anywhere = anywhere(&draft);
    limits::check(
        &draft.limits,
        &draft.limits_at,
        &anywhere,
        channels.record_max,
        &mut problems,
    );

    let mut topology = None;
    if !problems.has_error() {
        let whole = channels.declared.len() == draft.channels.len();
        topology = build(&draft).filter(|_| whole).map(|rest| Topology {
            channels: channels.declared,
            ..rest
        });
        // A value can only be missing if that was reported.
        assert!(
            topology.is_some(),
            "a file without errors declares a whole topology"
        );
    }
    if let Some(topology) = &topology {
        Estimate::of(topology).check(&anywhere, &mut problems);
        let stored = topology.channels.values().any(Channel::is_stored);
        if stored {
            Estimate::check_checkpoint(&topology.limits, &anywhere, &mut problems);
        }
    }
    Parsed {
        topology,
        problems: clamp(problems.sorted(), text),
    }
}

/// Where a problem of the limits is shown if the limit itself is not declared.
fn anywhere(draft: &Draft) -> Range<usize> {
    draft
        .limits_at
        .first()
        .map_or(draft.span.clone(), |(_, span)| span.clone())
}

/// Spans that lie in the text, whatever the parser said.
fn clamp(mut problems: Vec<Problem>, text: &str) -> Vec<Problem> {
    for problem in &mut problems {
        let start = problem.span.start.min(text.len());
        problem.span = start..problem.span.end.clamp(start, text.len());
    }
    problems
}

fn build(draft: &Draft) -> Option<Topology> {
    Some(Topology {
        fabric: draft.fabric.clone()?,
        nodes: draft.nodes.iter().map(build_node).collect::<Option<_>>()?,
        clients: draft
            .clients
            .iter()
            .map(|(client, _)| client.clone())
            .collect(),
        channels: Default::default(),
        limits: draft.limits.clone(),
    })
}

fn build_node(node: &NodeDraft) -> Option<Node> {
    Some(Node {
        name: node.name.as_ref()?.value.clone(),
        host: node.host()?.to_owned(),
        zone: node.zone.as_ref().map(|zone| zone.value.clone()),
        clients: node.clients.iter().map(build_endpoint).collect(),
        peers: node.peers.as_ref().map(build_endpoint)?,
        signals: node.signals.as_ref().map(build_endpoint)?,
        http: node.http.as_ref().map(|at| at.value),
        data: node.data.clone(),
        public_key: node.public_key.as_ref().map(|key| key.value.clone()),
        secret_key_file: node.secret_key_file.as_ref().map(|path| path.value.clone()),
    })
}

fn build_endpoint(socket: &Socket) -> Endpoint {
    Endpoint {
        bind: socket.bind.value.to_string(),
        advertise: socket.reached_at().to_string(),
        curve: socket.curve(),
    }
}
