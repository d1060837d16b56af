//! What changes between two topologies, and which of it a running fabric can take.
//!
//! Every node reads its file when it starts, so a change arrives node by node as they are
//! restarted, and meanwhile nodes of both files work with what both know. A node refuses to start
//! where its journal holds a partition that the file counts or places otherwise; what is called
//! refused here is what a node refuses then, and a file whose epoch was not raised.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::limits;
use super::model::{Channel, Endpoint, Keep, Node, Topology};
use crate::types::{ChannelName, NodeName, Partition, Pattern};

/// All that changes between two topologies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The epoch of the old one.
    pub old_epoch: u64,
    /// The epoch of the new one.
    pub new_epoch: u64,
    /// Every change but that of the epoch: fabric, nodes, channels, clients, limits.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whether a running fabric takes it.
    pub verdict: Verdict,
    /// What changes.
    pub what: String,
    /// What comes of it, and what to do where something is to be done.
    pub why: String,
}

/// What a running fabric does with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Takes it, node by node as they are restarted.
    Taken,
    /// Takes it too, and somebody notices: a pause, or something that is gone.
    Disturbs,
    /// Does not take it.
    Refused,
}

/// Compares what `old` and `new` declare.
pub fn diff(old: &Topology, new: &Topology) -> Diff {
    let mut changes = Changes::default();
    changes.compare_fabrics(old, new);
    changes.compare_nodes(old, new);
    changes.compare_channels(old, new);
    changes.compare_clients(old, new);
    for (name, had, says) in limits::differences(&old.limits, &new.limits) {
        let (verdict, why) = limit(name);
        changes.add(verdict, format!("limit `{name}` from {had} to {says}"), why);
    }
    let (old_epoch, new_epoch) = (old.fabric.epoch, new.fabric.epoch);
    let raised = new_epoch > old_epoch;
    let lowered = new_epoch < old_epoch;
    let mut changes = changes.0;
    if lowered || (!raised && !changes.is_empty()) {
        let what = match lowered {
            true => format!("`epoch` from {old_epoch} down to {new_epoch}"),
            false => format!("`epoch` is {new_epoch} in both files"),
        };
        let why = format!(
            "nodes tell by it whether they run one file, and found what is new only among those \
             that do: write `epoch = {}`, or more",
            old_epoch.saturating_add(1)
        );
        let verdict = Verdict::Refused;
        changes.insert(0, Change { verdict, what, why });
    }
    Diff {
        old_epoch,
        new_epoch,
        changes,
    }
}

impl Diff {
    /// Whether a running fabric takes all of it.
    pub fn is_taken(&self) -> bool {
        self.count(Verdict::Refused) == 0
    }

    /// How many changes have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let changes = self.changes.iter();
        changes.filter(|change| change.verdict == verdict).count()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "taken",
            Self::Disturbs => "disturbs",
            Self::Refused => "refused",
        })
    }
}

/// Collects changes.
#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, verdict: Verdict, what: impl Into<String>, why: impl Into<String>) {
        let (what, why) = (what.into(), why.into());
        self.0.push(Change { verdict, what, why });
    }

    fn compare_fabrics(&mut self, old: &Topology, new: &Topology) {
        let (had, says) = (&old.fabric.name, &new.fabric.name);
        if had != says {
            self.add(
                Verdict::Refused,
                format!("the fabric's name from {had} to {says}"),
                "data folders belong to one fabric, and nodes of another are refused: a new name \
                 is a new fabric, with empty folders",
            );
        }
    }

    fn compare_nodes(&mut self, old: &Topology, new: &Topology) {
        for node in &old.nodes {
            match new.node(&node.name) {
                Some(says) => self.compare_node(node, says),
                None => self.add(
                    Verdict::Disturbs,
                    format!("node {} is removed", node.name),
                    "stop it; nodes with the old file report it as away until they are restarted",
                ),
            }
        }
        let added = |node: &&Node| old.node(&node.name).is_none();
        for node in new.nodes.iter().filter(added) {
            self.add(
                Verdict::Taken,
                format!("node {} is added", node.name),
                "start it last: nodes with the old file do not let it in",
            );
        }
    }

    fn compare_node(&mut self, old: &Node, new: &Node) {
        let name = &old.name;
        if (&old.host, &old.zone) != (&new.host, &new.zone) {
            let place = |node: &Node| match &node.zone {
                Some(zone) => format!("host {}, zone {zone}", node.host),
                None => format!("host {}", node.host),
            };
            self.add(
                Verdict::Taken,
                format!("node {name} from {} to {}", place(old), place(new)),
                "it decides where copies belong; channels whose copies would move are named below",
            );
        }
        self.compare_endpoints(old, new);
        if old.public_key != new.public_key {
            self.add(
                Verdict::Disturbs,
                format!("`public_key` of node {name}"),
                "nodes and clients with the old file do not know it by the new key, so that it \
                 counts as away: change one node's at a time, and restart that one first",
            );
        }
        if old.data != new.data {
            self.add(
                Verdict::Disturbs,
                format!("`data` of node {name}"),
                "move the folder there while the node is stopped: with an empty one it would be a \
                 stranger without a vote",
            );
        }
        for (key, differs) in [
            ("http", old.http != new.http),
            (
                "secret_key_file",
                old.secret_key_file != new.secret_key_file,
            ),
        ] {
            if differs {
                let what = format!("`{key}` of node {name}");
                self.add(Verdict::Taken, what, "it counts once the node is restarted");
            }
        }
    }

    fn compare_endpoints(&mut self, old: &Node, new: &Node) {
        let name = &old.name;
        if old.clients != new.clients {
            self.add(
                Verdict::Disturbs,
                format!(
                    "`clients` of node {name} {}",
                    from_to(&old.clients, &new.clients)
                ),
                "clients reach it there once it is restarted: give them the new address",
            );
        }
        for (key, had, says) in [
            ("peers", &old.peers, &new.peers),
            ("signals", &old.signals, &new.signals),
        ] {
            if had != says {
                let (had, says) = (std::slice::from_ref(had), std::slice::from_ref(says));
                self.add(
                    Verdict::Disturbs,
                    format!("`{key}` of node {name} {}", from_to(had, says)),
                    "nodes with the old file do not reach it there, so that it counts as away: \
                     change one node's at a time, and restart that one first",
                );
            }
        }
    }

    fn compare_channels(&mut self, old: &Topology, new: &Topology) {
        let (held, wanted) = (old.placement(), new.placement());
        let names: BTreeSet<&ChannelName> =
            old.channels.keys().chain(new.channels.keys()).collect();
        for name in names {
            match (old.channels.get(name), new.channels.get(name)) {
                (Some(had), Some(says)) => {
                    self.compare_channel(name, had, says);
                    self.compare_copies(name, (had, says), (&held, &wanted));
                }
                (Some(had), None) => self.remove_channel(name, had),
                (None, Some(says)) => self.add_channel(name, says),
                (None, None) => {}
            }
        }
    }

    fn add_channel(&mut self, name: &ChannelName, channel: &Channel) {
        let why = match channel.is_stored() {
            true => {
                "its partitions are founded once all their nodes run the new file; until then \
                 nodes with the old one refuse its subjects"
            }
            false => "nodes with the old file refuse its subjects",
        };
        let what = format!("channel {name} is added, a {}", channel.kind);
        self.add(Verdict::Taken, what, why);
    }

    fn remove_channel(&mut self, name: &ChannelName, channel: &Channel) {
        let why = match channel.is_stored() {
            true => {
                "nobody can publish to it or read it any more; its records stay on disk, and it \
                 goes on where it is declared again"
            }
            false => "its subjects are refused",
        };
        self.add(Verdict::Disturbs, format!("channel {name} is removed"), why);
    }

    /// All but where the copies are.
    fn compare_channel(&mut self, name: &ChannelName, old: &Channel, new: &Channel) {
        if old.kind != new.kind && !old.is_stored() {
            self.add(
                Verdict::Disturbs,
                format!("channel {name} from {} to {}", old.kind, new.kind),
                "until all its nodes run the new file its partitions are not founded, and nodes \
                 with the old one still pass its records on without storing them",
            );
        }
        self.compare_subjects(name, &old.subjects, &new.subjects);
        if old.confirm != new.confirm && old.kind == new.kind {
            self.add(
                Verdict::Taken,
                format!(
                    "`confirm` of channel {name} from {} to {}",
                    old.confirm, new.confirm
                ),
                "it counts at each node once that is restarted, where a publish names none itself",
            );
        }
        if old.keep != new.keep && old.kind == new.kind {
            let what = format!("`keep` of channel {name}");
            match narrows(&old.keep, &new.keep) {
                true => self.add(
                    Verdict::Disturbs,
                    what,
                    "what it keeps no more is let go of for good, as soon as a leader runs the \
                     new file",
                ),
                false => self.add(Verdict::Taken, what, "more is kept from then on"),
            }
        }
        let what = || {
            let (had, says) = (old.max_record, new.max_record);
            format!("`max_record` of channel {name} from {had} to {says} bytes")
        };
        if new.max_record > old.max_record {
            let why = "each node accepts larger records once it is restarted";
            self.add(Verdict::Taken, what(), why);
        } else if new.max_record < old.max_record {
            let why = "larger records are refused from then on; those that are stored stay";
            self.add(Verdict::Disturbs, what(), why);
        }
    }

    fn compare_subjects(&mut self, name: &ChannelName, old: &[Pattern], new: &[Pattern]) {
        let without = |all: &[Pattern], other: &[Pattern]| {
            let own = all.iter().filter(|own| !other.contains(own));
            let own: Vec<String> = own.map(|own| format!("{:?}", own.as_str())).collect();
            own.join(", ")
        };
        let (gone, come) = (without(old, new), without(new, old));
        if !gone.is_empty() {
            self.add(
                Verdict::Disturbs,
                format!("channel {name} captures {gone} no more"),
                "such subjects are refused, unless a channel captures them; what is stored stays \
                 where it is",
            );
        }
        if !come.is_empty() {
            self.add(
                Verdict::Taken,
                format!("channel {name} captures {come} too"),
                "each node takes such subjects once it is restarted",
            );
        }
    }

    /// Whether the nodes that hold the copies would start on the new file.
    fn compare_copies(
        &mut self,
        name: &ChannelName,
        (had, says): (&Channel, &Channel),
        (held, wanted): (&Placement, &Placement),
    ) {
        if !had.is_stored() {
            return;
        }
        if !says.is_stored() {
            return self.add(
                Verdict::Refused,
                format!("channel {name} from {} to {}", had.kind, says.kind),
                "its nodes hold records of it and do not start where it stores none: declare a new \
                 channel, and remove this one",
            );
        }
        if had.partitions != says.partitions {
            let (had, says) = (had.partitions, says.partitions);
            return self.add(
                Verdict::Refused,
                format!("`partitions` of channel {name} from {had} to {says}"),
                "the count decides where keys belong, so it never changes, and its nodes do not \
                 start: declare a new channel",
            );
        }
        let own = (0..had.partitions).map(|number| Partition::new(name, number));
        let places: Vec<_> = own
            .filter_map(|own| Some((held.get(&own)?, wanted.get(&own)?, own)))
            .collect();
        let set = |nodes: &[NodeName]| nodes.iter().cloned().collect::<BTreeSet<_>>();
        let moved = places.iter().filter(|(had, says, _)| set(had) != set(says));
        let moved: Vec<_> = moved.collect();
        if let Some((from, to, first)) = moved.first() {
            let replicas = match had.replicas == says.replicas {
                true => String::new(),
                false => format!(", by `replicas` from {} to {}", had.replicas, says.replicas),
            };
            return self.add(
                Verdict::Refused,
                format!(
                    "{} of {} partitions of channel {name} would move{replicas}: {first} from {} \
                     to {}",
                    moved.len(),
                    had.partitions,
                    names(from),
                    names(to)
                ),
                "moving partitions is not built yet, and the nodes that hold them do not start: \
                 give the channel, nodes, hosts and zones back their former declaration",
            );
        }
        let led = places
            .iter()
            .filter(|(had, says, _)| had.first() != says.first());
        let led = led.count();
        if led > 0 {
            self.add(
                Verdict::Taken,
                format!(
                    "{led} of {} partitions of channel {name} prefer another leader",
                    had.partitions
                ),
                "it is handed over by itself",
            );
        }
    }

    fn compare_clients(&mut self, old: &Topology, new: &Topology) {
        let keys = |topology: &Topology| -> BTreeMap<_, _> {
            let clients = topology.clients.iter();
            clients
                .map(|own| (own.name.clone(), own.public_key.clone()))
                .collect()
        };
        let (had, says) = (keys(old), keys(new));
        for (name, key) in &had {
            match says.get(name) {
                Some(other) if other == key => {}
                Some(_) => self.add(
                    Verdict::Disturbs,
                    format!("`public_key` of client {name}"),
                    "each node lets in the new key instead of the old one once it is restarted",
                ),
                None => self.add(
                    Verdict::Disturbs,
                    format!("client {name} is removed"),
                    "each node shuts it out once it is restarted",
                ),
            }
        }
        for name in says.keys().filter(|name| !had.contains_key(*name)) {
            let why = "each node lets it in once it is restarted";
            self.add(Verdict::Taken, format!("client {name} is added"), why);
        }
    }
}

/// Who holds what.
type Placement = BTreeMap<Partition, Vec<NodeName>>;

/// Whether something that was kept is not kept any more.
fn narrows(old: &Keep, new: &Keep) -> bool {
    let less =
        |old: Option<u64>, new: Option<u64>| new.is_some_and(|new| old.is_none_or(|old| new < old));
    let age = |keep: &Keep| keep.age.map(|age| age.0);
    less(age(old), age(new)) || less(old.size, new.size) || less(old.count, new.count)
}

/// What comes of another value of a limit.
fn limit(name: &str) -> (Verdict, &'static str) {
    match name {
        "frame_max" => (
            Verdict::Disturbs,
            "a frame beyond a node's own bound costs its sender the connection: send none beyond \
             the smaller one before all nodes run the new file",
        ),
        "producers_max" | "producer_window" | "producer_idle" => (
            Verdict::Disturbs,
            "until all nodes run the new file they may remember different producers: what is sent \
             again meanwhile may be stored twice or refused",
        ),
        _ => (
            Verdict::Taken,
            "it counts at each node once that is restarted",
        ),
    }
}

fn from_to(old: &[Endpoint], new: &[Endpoint]) -> String {
    let all = |endpoints: &[Endpoint]| {
        let one = |own: &Endpoint| match own.bind == own.advertise {
            true => own.bind.clone(),
            false => format!("{} ({})", own.advertise, own.bind),
        };
        endpoints.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    format!("from {} to {}", all(old), all(new))
}

fn names(nodes: &[NodeName]) -> String {
    let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
    names.join(", ")
}
