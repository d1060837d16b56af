//! The whole fabric at one glance: what every node says of itself, and what is wrong in words.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use serde::Serialize;

use super::connect::connect_to;
use super::options::{Resolved, Server};
use super::wait::wait;
use crate::client::{Cause, ClientError};
use crate::node::{NodeView, PartitionView};
use crate::wire::client::NodeEndpoints;

/// A replica this many entries behind its leader is told: it is not merely in the middle of things.
const LAG_MAX: u64 = 1_000;

/// What all nodes asked say together.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    /// Whether nothing is wrong.
    pub(crate) healthy: bool,
    /// What is wrong, each a sentence.
    pub(crate) problems: Vec<String>,
    /// What is worth knowing and not wrong.
    pub(crate) notes: Vec<String>,
    /// Every node that was asked, in the order of the topology.
    pub(crate) nodes: Vec<NodeHealth>,
}

/// One node that was asked.
#[derive(Debug, Serialize)]
pub(crate) struct NodeHealth {
    /// Its name, as far as anybody knows it.
    pub(crate) node: Option<String>,
    /// Where it was asked.
    pub(crate) endpoint: String,
    /// Why it did not answer.
    pub(crate) error: Option<String>,
    /// Whether it answered, as a node of another fabric.
    #[serde(skip)]
    pub(crate) foreign: bool,
    /// What it says.
    pub(crate) view: Option<NodeView>,
    /// Every node of its topology, as it told when it was connected to.
    #[serde(skip)]
    named: Vec<NodeEndpoints>,
}

/// One partition, from whoever knows most of it.
pub(crate) struct PartitionHealth<'a> {
    /// The view of the leader, or of any replica where none was reached.
    pub(crate) view: &'a PartitionView,
    /// The leader: a node that says so itself, or one that was not asked and that a replica names.
    pub(crate) leader: Option<&'a str>,
}

impl Health {
    /// Asks every server, all at once.
    pub(crate) fn gather(resolved: &Resolved) -> Self {
        let nodes = thread::scope(|scope| {
            let asked: Vec<_> = resolved
                .servers
                .iter()
                .map(|server| (server, scope.spawn(move || inspect(server, resolved))))
                .collect();
            asked
                .into_iter()
                .map(|(server, answer)| {
                    let answer = answer.join().unwrap_or(Err(ClientError::Closed));
                    NodeHealth::new(server, answer)
                })
                .collect()
        });
        let mut health = Self {
            healthy: false,
            problems: Vec::new(),
            notes: Vec::new(),
            nodes,
        };
        health.problems = health.find_problems();
        let epoch = resolved.meant.as_ref().map(|meant| meant.epoch);
        health.notes = health.find_notes(epoch);
        health.healthy = health.problems.is_empty();
        health
    }

    /// Asks every server, and the other nodes that those name: an account takes all of them. Says
    /// also who was asked, in the order of the answers.
    pub(crate) fn gather_all(resolved: Resolved) -> (Resolved, Self) {
        let health = Self::gather(&resolved);
        let others = health.others(&resolved);
        if others.is_empty() {
            return (resolved, health);
        }
        let resolved = Resolved {
            servers: resolved.servers.into_iter().chain(others).collect(),
            ..resolved
        };
        let health = Self::gather(&resolved);
        (resolved, health)
    }

    /// Where the nodes are that were named and not asked.
    fn others(&self, resolved: &Resolved) -> Vec<Server> {
        let mut others: BTreeMap<&str, Server> = BTreeMap::new();
        for (server, node) in resolved.servers.iter().zip(&self.nodes) {
            for named in &node.named {
                let was_asked = self.nodes.iter().any(|asked| {
                    asked.node.as_deref() == Some(&named.name)
                        || named.endpoints.contains(&asked.endpoint)
                });
                if let Some(other) = Server::named(named, server).filter(|_| !was_asked) {
                    others.entry(&named.name).or_insert(other);
                }
            }
        }
        others.into_values().collect()
    }

    /// The views of the nodes that answered.
    pub(crate) fn views(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.iter().filter_map(|node| node.view.as_ref())
    }

    /// Every partition that a node reached is declared to hold.
    pub(crate) fn partitions(&self) -> BTreeMap<(&str, u32), PartitionHealth<'_>> {
        let mut partitions: BTreeMap<_, PartitionHealth<'_>> = BTreeMap::new();
        let asked = |node: &str| {
            let mut known = self.nodes.iter().filter_map(|asked| asked.node.as_deref());
            known.any(|known| known == node)
        };
        for node in self.views() {
            for view in &node.partitions {
                let leads = view.role == "leader";
                let named = view.leader.as_deref().filter(|leader| !asked(leader));
                let leader = leads.then_some(node.node.as_str()).or(named);
                let name = (view.channel.as_str(), view.partition);
                let known = partitions
                    .entry(name)
                    .or_insert(PartitionHealth { view, leader });
                let tells_more = known.leader.is_none() && leader.is_some();
                if tells_more || (leads && view.term > known.view.term) {
                    *known = PartitionHealth { view, leader };
                }
            }
        }
        partitions
    }

    fn find_problems(&self) -> Vec<String> {
        let mut problems = self.find_silent();
        for view in self.views() {
            let own = view.problems.iter();
            problems.extend(own.map(|problem| format!("{}: {problem}", view.node)));
            if view.stopping {
                problems.push(format!("{}: the node is about to stop", view.node));
            }
        }
        for ((channel, number), partition) in self.partitions() {
            let Some(leader) = partition.leader else {
                problems.push(format!("{channel}/{number}: nobody is known to lead it"));
                continue;
            };
            let replicas = &partition.view.replicas;
            for replica in replicas.iter().filter(|replica| !replica.learner) {
                let lag = replica.lag.unwrap_or(0);
                if lag > LAG_MAX {
                    let node = &replica.node;
                    problems.push(format!(
                        "{channel}/{number}: the replica on {node} is {lag} entries behind {leader}"
                    ));
                }
            }
        }
        problems
    }

    /// Why nodes gave no view, each reason once.
    fn find_silent(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, bool, Vec<String>)> = Vec::new();
        for node in &self.nodes {
            let Some(error) = node.error.as_deref() else {
                continue;
            };
            match reasons.iter_mut().find(|(known, ..)| *known == error) {
                Some((_, _, labels)) => labels.push(node.label()),
                None => reasons.push((error, node.foreign, vec![node.label()])),
            }
        }
        let told = |(error, foreign, labels): (&str, bool, Vec<String>)| {
            let what = match (foreign, labels.len()) {
                (true, 1) => "is no node of this topology",
                (true, _) => "are no nodes of this topology",
                (false, 1) => "does not answer",
                (false, _) => "do not answer",
            };
            format!("{} {what}: {error}", labels.join(", "))
        };
        reasons.into_iter().map(told).collect()
    }

    /// `epoch`: that of the topology file.
    fn find_notes(&self, epoch: Option<u64>) -> Vec<String> {
        let epochs: BTreeSet<u64> = self.views().map(|view| view.epoch).collect();
        let mut notes = Vec::new();
        if epochs.len() > 1 {
            let all: Vec<String> = epochs.iter().map(u64::to_string).collect();
            notes.push(format!(
                "the nodes run different epochs of the topology: {}",
                all.join(", ")
            ));
        }
        for runs in epochs {
            let of_it = self.views().filter(|view| view.epoch == runs);
            let nodes: Vec<&str> = of_it.map(|view| view.node.as_str()).collect();
            let remedy = match epoch.map(|own| own.cmp(&runs)) {
                Some(Ordering::Greater) => "newer: it counts once a node is started anew with it",
                Some(Ordering::Less) => "older: another one is meant",
                Some(Ordering::Equal) | None => continue,
            };
            notes.push(format!(
                "{}: epoch {runs} of the topology runs there, and the file named here is {remedy}",
                nodes.join(", ")
            ));
        }
        for ((channel, number), partition) in self.partitions() {
            let preferred = partition.view.preferred.as_str();
            if let Some(leader) = partition.leader
                && leader != preferred
            {
                notes.push(format!(
                    "{channel}/{number} is led by {leader}, not by its preferred {preferred}"
                ));
            }
        }
        notes
    }
}

impl NodeHealth {
    fn new(server: &Server, answer: Result<(NodeView, Vec<NodeEndpoints>), ClientError>) -> Self {
        let mut named = Vec::new();
        let mut foreign = false;
        let (view, error) = match answer {
            Ok((view, nodes)) => {
                named = nodes;
                (Some(view), None)
            }
            Err(ClientError::Unreachable { failures, .. }) => {
                let cause = failures.first().map(|failure| &failure.cause);
                foreign = matches!(cause, Some(Cause::OtherFabric { .. }));
                let cause = cause.map_or("no answer in time".to_owned(), Cause::to_string);
                (None, Some(cause))
            }
            Err(error) => (None, Some(error.to_string())),
        };
        let told = view.as_ref().map(|view| view.node.clone());
        Self {
            node: told.or_else(|| server.node.clone()),
            endpoint: server.endpoint.clone(),
            error,
            foreign,
            view,
            named,
        }
    }

    fn label(&self) -> String {
        match &self.node {
            Some(node) => format!("{node} at {}", self.endpoint),
            None => self.endpoint.clone(),
        }
    }
}

/// What the node says of itself, and every node of its topology.
fn inspect(
    server: &Server,
    resolved: &Resolved,
) -> Result<(NodeView, Vec<NodeEndpoints>), ClientError> {
    let client = connect_to(server, resolved)?;
    let view = rmp_serde::from_slice(&wait(client.inspect())?)
        .map_err(|error| ClientError::Protocol(error.to_string()))?;
    Ok((view, client.welcome().nodes.clone()))
}
