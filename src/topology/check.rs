//! What only the whole file can tell: names and endpoints used twice, keys that are missing,
//! subjects that two channels capture.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{ChannelDraft, Draft, NodeDraft, Socket};
use super::endpoint::{Address, Host};
use super::problem::Problems;
use super::table::At;
use crate::types::Pattern;
use crate::types::limits::{NODES_MAX, SUBJECTS_MAX};

/// Addresses that one sentence lists: those of three nodes.
const LISTED_MAX: usize = 9;

/// Reports everything about nodes, clients and subjects.
pub(super) fn check(draft: &Draft, problems: &mut Problems) {
    check_counts(draft, problems);
    if draft.nodes.len() > NODES_MAX {
        // What follows compares all with all.
        return;
    }
    check_names(draft, problems);
    check_public_keys(draft, problems);
    for node in &draft.nodes {
        check_addresses(node, problems);
        check_secrets(node, draft, problems);
        check_reach(node, draft, problems);
    }
    check_open(draft, problems);
    check_endpoints(draft, problems);
    check_http(draft, problems);
    check_clients(draft, problems);
    check_zones(draft, problems);
    check_subjects(&draft.channels, problems);
}

fn check_counts(draft: &Draft, problems: &mut Problems) {
    if draft.nodes.is_empty() {
        problems.error(
            &draft.span,
            "no node is declared",
            "a fabric is made of nodes",
            "add a [[node]] with name, clients, peers and signals",
        );
    }
    if let Some(node) = draft.nodes.get(NODES_MAX) {
        problems.error(
            &node.span,
            format!("{} nodes are declared", draft.nodes.len()),
            format!("links grow with the square of the nodes; at most {NODES_MAX} are allowed"),
            "split the fabric",
        );
    }
    let mut subjects = draft.channels.iter().flat_map(|channel| &channel.subjects);
    if let Some(subject) = subjects.nth(SUBJECTS_MAX) {
        problems.error(
            &subject.span,
            format!("more than {SUBJECTS_MAX} patterns are declared"),
            "every publish is matched against them",
            "use fewer and wider patterns",
        );
    }
}

fn check_names(draft: &Draft, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for name in draft.nodes.iter().filter_map(|node| node.name.as_ref()) {
        if !seen.insert(&name.value) {
            problems.error(
                &name.span,
                format!("node {} is declared twice", name.value),
                "peers, placement and data folders know a node by its name alone",
                "rename one of them",
            );
        }
    }
    let mut seen = BTreeSet::new();
    for (client, span) in &draft.clients {
        if !seen.insert(&client.name) {
            problems.error(
                span,
                format!("client {} is declared twice", client.name),
                "a principal is known by its name",
                "rename one of them",
            );
        }
    }
}

fn check_public_keys(draft: &Draft, problems: &mut Problems) {
    let nodes = draft.nodes.iter().filter_map(|node| {
        let key = node.public_key.as_ref()?;
        Some((&key.value, node.label(), &key.span))
    });
    let clients = draft.clients.iter();
    let clients =
        clients.map(|(client, span)| (&client.public_key, format!("client {}", client.name), span));
    let mut owners: BTreeMap<_, String> = BTreeMap::new();
    for (key, owner, span) in nodes.chain(clients) {
        if let Some(first) = owners.get(key) {
            problems.error(
                span,
                format!("{owner} has the public key of {first}"),
                "who is who is told by the key alone",
                "make a key of its own with `weft keys new`",
            );
        } else {
            owners.insert(key, owner);
        }
    }
}

/// Wildcards and names, which are bound or advertised but not both.
fn check_addresses(node: &NodeDraft, problems: &mut Problems) {
    for (key, socket) in node.sockets() {
        let bind = &socket.bind;
        if let Address::Tcp {
            host: Host::Name(name),
            ..
        } = &bind.value
        {
            problems.error(
                &bind.span,
                format!("{} cannot bind {}", node.label(), bind.value),
                format!("{name} is a name, and a name may stand for any address or none"),
                format!(
                    "bind an address (tcp://127.0.0.1:PORT, tcp://*:PORT) and write \
                     `advertise = {{ {key} = \"{}\" }}`",
                    bind.value
                ),
            );
        }
        let Some(advertise) = &socket.advertise else {
            if bind.value.is_wildcard() {
                problems.error(
                    &bind.span,
                    format!(
                        "{} binds {} and does not say where that is",
                        node.label(),
                        bind.value
                    ),
                    "others cannot connect to a wildcard",
                    format!("add `advertise = {{ {key} = \"tcp://HOST:PORT\" }}`"),
                );
            }
            continue;
        };
        if !matches!(&advertise.value, Address::Tcp { host, .. } if *host != Host::Any) {
            problems.error(
                &advertise.span,
                format!("{} cannot advertise {}", node.label(), advertise.value),
                "others connect to a tcp address or name",
                "write `tcp://HOST:PORT` with the address or name that others see",
            );
        }
    }
}

/// Closed by default: beyond loopback, both sides need keys.
fn check_secrets(node: &NodeDraft, draft: &Draft, problems: &mut Problems) {
    let (public, secret) = (node.public_key.is_some(), node.secret_key_file.is_some());
    let missing = match (public, secret) {
        (true, true) => return,
        (false, false) => "`public_key` and `secret_key_file`",
        (false, true) => "`public_key`",
        (true, false) => "`secret_key_file`",
    };
    let remedy = match &node.name {
        Some(name) => {
            format!(
                "run `weft keys new --for node {}` and add the lines it prints",
                name.value
            )
        }
        None => "run `weft keys new --for node NAME` and add the lines it prints".to_owned(),
    };
    let why = "every tcp endpoint beyond loopback speaks CURVE and lets in only declared keys";
    if let Some((_, socket)) = node.sockets().find(|(_, socket)| socket.curve()) {
        let message = format!(
            "{} binds {} without {missing}",
            node.label(),
            socket.bind.value
        );
        problems.error(&socket.bind.span, message, why, remedy);
        return;
    }
    // Two nodes of one name are one that was declared twice, which is told already.
    let name = |node: &NodeDraft| node.name.as_ref().map(|name| name.value.clone());
    let same = |other: &NodeDraft| name(node).is_some() && name(node) == name(other);
    let links = |other: &&NodeDraft| !std::ptr::eq(*other, node) && !same(other);
    let demanding = draft.nodes.iter().filter(links).find_map(|other| {
        let peers = other.peers.iter().map(|socket| ("peers", socket));
        let signals = other.signals.iter().map(|socket| ("signals", socket));
        let mut sockets = peers.chain(signals);
        let (key, socket) = sockets.find(|(_, socket)| socket.curve())?;
        Some((other, key, socket))
    });
    if let Some((other, key, socket)) = demanding {
        let reached = match socket.reached_at() {
            // It is told already that nobody could connect to a wildcard.
            wild if wild.is_wildcard() => format!("`{key}`"),
            reached => reached.to_string(),
        };
        let message = format!(
            "{} connects to {reached} of {} without {missing}",
            node.label(),
            other.label()
        );
        problems.error(&node.span, message, why, remedy);
    } else if public != secret {
        problems.error(
            &node.span,
            format!("{} has no {missing}", node.label()),
            "one half of a key pair is of no use",
            remedy,
        );
    }
}

/// Keys that nobody is asked for: who wrote them may think that they are.
fn check_open(draft: &Draft, problems: &mut Problems) {
    let keyed = |node: &&NodeDraft| node.public_key.is_some() && node.secret_key_file.is_some();
    let open =
        |socket: &Socket| !socket.curve() && matches!(socket.bind.value, Address::Tcp { .. });
    let nodes: Vec<(String, Vec<&Socket>)> = draft
        .nodes
        .iter()
        .filter(keyed)
        .map(|node| (node.label(), node.sockets().map(|(_, socket)| socket)))
        .map(|(label, sockets)| (label, sockets.filter(|socket| open(socket)).collect()))
        .filter(|(_, sockets): &(_, Vec<_>)| !sockets.is_empty())
        .collect();
    let Some((first, sockets)) = nodes.first() else {
        return;
    };
    let (owner, verb) = match nodes.len() {
        1 => (first.clone(), "has"),
        count => (format!("{first} and {} more", count - 1), "have"),
    };
    let addresses = nodes.iter().flat_map(|(_, sockets)| sockets);
    let addresses: Vec<String> = addresses.map(|own| own.bind.value.to_string()).collect();
    let are = if addresses.len() == 1 { "is" } else { "are" };
    problems.warning(
        &sockets[0].bind.span,
        format!("{owner} {verb} keys, and {} {are} open", listed(&addresses)),
        "loopback speaks no CURVE: whoever is on this host may connect, with any key or none",
        "bind another address to have keys checked, or leave the keys out",
    );
}

/// The first of many, for a sentence.
fn listed(texts: &[String]) -> String {
    match texts.len() {
        0..=LISTED_MAX => texts.join(", "),
        count => format!(
            "{} and {} more",
            texts[..LISTED_MAX].join(", "),
            count - LISTED_MAX
        ),
    }
}

/// Peers on another declared host cannot reach a local address.
fn check_reach(node: &NodeDraft, draft: &Draft, problems: &mut Problems) {
    let Some(host) = &node.host else {
        return;
    };
    let elsewhere = |other: &&NodeDraft| {
        other
            .host
            .as_ref()
            .is_some_and(|theirs| theirs.value != host.value)
    };
    let Some(other) = draft.nodes.iter().find(elsewhere) else {
        return;
    };
    for socket in node.peers.iter().chain(&node.signals) {
        if socket.reached_at().is_local() {
            problems.warning(
                &socket.bind.span,
                format!("{} cannot reach {}", other.label(), socket.reached_at()),
                format!(
                    "{} runs on another host, {}, by its `host`",
                    node.label(),
                    host.value
                ),
                "bind an address that the other hosts see, or declare one host",
            );
        }
    }
}

fn check_endpoints(draft: &Draft, problems: &mut Problems) {
    let mut seen: Vec<(&NodeDraft, &'static str, &Socket)> = Vec::new();
    for node in &draft.nodes {
        for (key, socket) in node.sockets() {
            let twin = seen
                .iter()
                .find(|(other, _, theirs)| share(node, socket, other, theirs));
            if let Some((other, other_key, theirs)) = twin {
                let message = if socket.bind.value == theirs.bind.value {
                    format!("{} is used twice", socket.bind.value)
                } else if socket.bind.value.collides(&theirs.bind.value) {
                    format!("{} covers {}", socket.bind.value, theirs.bind.value)
                } else {
                    format!("{} is advertised twice", socket.reached_at())
                };
                problems.error(
                    &socket.bind.span,
                    message,
                    format!("it is `{other_key}` of {} already", other.label()),
                    format!("give `{key}` of {} an endpoint of its own", node.label()),
                );
            }
            seen.push((node, key, socket));
        }
    }
}

/// Http has no keys: beyond loopback it is open to everybody, which must be said. And it takes a
/// port as everything does.
fn check_http(draft: &Draft, problems: &mut Problems) {
    let served = |node: &NodeDraft| node.http.as_ref().map(|at| (at.value, at.span.clone()));
    for (position, node) in draft.nodes.iter().enumerate() {
        let Some((http, span)) = served(node) else {
            continue;
        };
        if http.is_exposed() {
            problems.error(
                &span,
                format!("{} shows itself to everybody at {http}", node.label()),
                "http has no keys: who reaches the address reads every figure and name",
                "bind loopback, as in http://127.0.0.1:7104, or add `http_open = true` if that is \
                 meant",
            );
        }
        let address = Address::of(http.bind);
        let near = |other: &&NodeDraft| std::ptr::eq(*other, node) || one_machine(node, other);
        let mut sockets = draft.nodes.iter().filter(near).flat_map(|other| {
            let bound = other
                .sockets()
                .map(|(key, socket)| (key, socket.bind.value.clone()));
            bound.map(move |(key, bound)| (other, key, bound))
        });
        let mut before = draft.nodes[..position].iter().filter(near);
        let twin = sockets
            .find(|(_, _, bound)| address.collides(bound))
            .map(|(other, key, _)| (other, key));
        let twin = twin.or_else(|| {
            let same = |other: &&NodeDraft| {
                served(other).is_some_and(|(own, _)| address.collides(&Address::of(own.bind)))
            };
            before.find(same).map(|other| (other, "http"))
        });
        if let Some((other, key)) = twin {
            problems.error(
                &span,
                format!("{http} is used twice"),
                format!("it is `{key}` of {} already", other.label()),
                format!("give `http` of {} a port of its own", node.label()),
            );
        }
    }
}

/// Whether two endpoints cannot both be had.
fn share(node: &NodeDraft, ours: &Socket, other: &NodeDraft, theirs: &Socket) -> bool {
    let binds_collide = ours.bind.value.collides(&theirs.bind.value);
    let (ours, theirs) = (ours.reached_at(), theirs.reached_at());
    if one_machine(node, other) {
        return binds_collide || ours == theirs;
    }
    ours == theirs && !ours.is_local()
}

/// Nodes of one host are on one machine, and so are nodes that speak to each other locally.
fn one_machine(node: &NodeDraft, other: &NodeDraft) -> bool {
    let local = |node: &NodeDraft| {
        node.peers
            .as_ref()
            .is_some_and(|socket| socket.reached_at().is_local())
    };
    (node.host().is_some() && node.host() == other.host()) || (local(node) && local(other))
}

fn check_clients(draft: &Draft, problems: &mut Problems) {
    if draft.client_count > 0 {
        return;
    }
    let sockets = draft.nodes.iter().flat_map(|node| &node.clients);
    if let Some(socket) = sockets.into_iter().find(|socket| socket.curve()) {
        problems.warning(
            &socket.bind.span,
            format!("nobody is let in at {}", socket.bind.value),
            "it lets in only declared clients, and none is declared",
            "run `weft keys new --for client NAME` and add the [[client]] it prints",
        );
    }
}

fn check_zones(draft: &Draft, problems: &mut Problems) {
    if draft.nodes.iter().all(|node| node.zone.is_none()) {
        return;
    }
    for node in draft.nodes.iter().filter(|node| node.zone.is_none()) {
        problems.warning(
            &node.span,
            format!("{} has no `zone` while others have", node.label()),
            "copies are spread over zones first; its host counts as a zone of its own",
            "add `zone = \"…\"`",
        );
    }
}

fn check_subjects(channels: &[ChannelDraft], problems: &mut Problems) {
    let mut seen: Vec<(&ChannelDraft, &At<Pattern>)> = Vec::new();
    let mut in_order: Vec<&ChannelDraft> = channels.iter().collect();
    in_order.sort_by_key(|channel| channel.span.start);
    let patterns = in_order.iter().flat_map(|channel| {
        channel
            .subjects
            .iter()
            .map(move |subject| (*channel, subject))
    });
    for (channel, subject) in patterns.take(SUBJECTS_MAX) {
        let first = seen
            .iter()
            .find(|(_, other)| other.value.overlaps(&subject.value));
        if let Some((other, pattern)) = first {
            let (message, why) = if other.name == channel.name {
                (
                    format!(
                        "{:?} overlaps {:?} of the same channel",
                        subject.value.as_str(),
                        pattern.value.as_str()
                    ),
                    "one of them is not needed, or not meant",
                )
            } else {
                (
                    format!(
                        "{:?} overlaps {:?} of channel {}",
                        subject.value.as_str(),
                        pattern.value.as_str(),
                        other.name
                    ),
                    "a subject belongs to one channel",
                )
            };
            problems.error(
                &subject.span,
                message,
                why,
                "make one of the two patterns narrower",
            );
        }
        seen.push((channel, subject));
    }
}
