//! A plan as a flowchart for Mermaid: nodes in their hosts and zones, the links between them, and
//! who holds which partition. Every text of the topology is escaped.

use std::collections::BTreeMap;
use std::fmt;

use super::holdings::Holdings;
use super::{keep, subjects};
use crate::topology::{ChannelPlan, NodePlan, Plan};

/// Links that are drawn; Mermaid itself refuses charts of more than 500.
const LINKS_MAX: usize = 300;

/// The chart of a plan.
pub(super) struct Flowchart<'a>(pub(super) &'a Plan);

impl fmt::Display for Flowchart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        let title = format!("fabric {}, epoch {}", plan.fabric, plan.epoch);
        // A name holds nothing that YAML would take for more than text between quotes.
        writeln!(f, "---\ntitle: \"{title}\"\n---\nflowchart TB")?;
        let mut zones: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (number, node) in plan.nodes.iter().enumerate() {
            zones.entry(node.zone.as_deref()).or_default().push(number);
        }
        for (at, (zone, nodes)) in zones.iter().enumerate() {
            match zone {
                Some(zone) => {
                    writeln!(
                        f,
                        "  subgraph zone{at}[{}]",
                        label(&[format!("zone {zone}")])
                    )?;
                    self.write_hosts(nodes, &format!("zone{at}"), "    ", f)?;
                    writeln!(f, "  end")?;
                }
                None => self.write_hosts(nodes, "", "  ", f)?,
            }
        }
        self.write_links(f)?;
        self.write_channels(f)
    }
}

impl Flowchart<'_> {
    /// The nodes of one zone, each in its host unless that is just its own name.
    fn write_hosts(
        &self,
        nodes: &[usize],
        zone: &str,
        indent: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let mut hosts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for number in nodes {
            let host = self.0.nodes[*number].host.as_str();
            hosts.entry(host).or_default().push(*number);
        }
        for (at, (host, nodes)) in hosts.iter().enumerate() {
            let alone = |number: &usize| self.0.nodes[*number].name.as_str() == *host;
            if nodes.iter().all(alone) {
                self.write_nodes(nodes, indent, f)?;
                continue;
            }
            let title = label(&[format!("host {host}")]);
            writeln!(f, "{indent}subgraph {zone}host{at}[{title}]")?;
            self.write_nodes(nodes, &format!("{indent}  "), f)?;
            writeln!(f, "{indent}end")?;
        }
        Ok(())
    }

    fn write_nodes(
        &self,
        nodes: &[usize],
        indent: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        for number in nodes {
            let node = &self.0.nodes[*number];
            let holdings = Holdings::of(self.0, &node.name);
            let mut lines = vec![format!("node {}", node.name)];
            lines.extend(node.listeners.iter().map(|own| own.advertise.clone()));
            lines.extend(holdings.leads.iter().map(|own| format!("leads {own}")));
            lines.extend(holdings.follows.iter().map(|own| format!("follows {own}")));
            writeln!(f, "{indent}node{number}[{}]", label(&lines))?;
        }
        Ok(())
    }

    /// A line between every two nodes; where that would be too many, a sentence.
    fn write_links(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = &self.0.nodes;
        let links = nodes.len() * nodes.len().saturating_sub(1) / 2;
        if links > LINKS_MAX {
            let text = format!("each of the {} nodes links to all others", nodes.len());
            return writeln!(f, "  links[{}]", label(&[text]));
        }
        for (number, node) in nodes.iter().enumerate() {
            for (other, peer) in nodes.iter().enumerate().skip(number + 1) {
                let keys = keys(node, peer);
                writeln!(f, "  node{number} <-->|{keys}| node{other}")?;
            }
        }
        Ok(())
    }

    fn write_channels(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.channels.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "  subgraph channels[{}]",
            label(&["channels".to_owned()])
        )?;
        for (number, ChannelPlan { name, declared }) in self.0.channels.iter().enumerate() {
            let mut lines = vec![format!("{name}: {}", declared.kind), subjects(declared)];
            if declared.is_stored() {
                let (partitions, replicas) = (declared.partitions, declared.replicas);
                lines.push(format!("partitions {partitions}, replicas {replicas}"));
                lines.push(format!("keeps {}", keep(&declared.keep)));
            }
            writeln!(f, "    channel{number}[{}]", label(&lines))?;
        }
        writeln!(f, "  end")
    }
}

/// Whether the links of two nodes are closed to others.
fn keys(node: &NodePlan, peer: &NodePlan) -> &'static str {
    match [node, peer]
        .iter()
        .all(|own| own.peers.curve && own.signals.curve)
    {
        true => "CURVE",
        false => "open",
    }
}

/// A text in quotes. What could end it, be Markdown or be taken for HTML stands as its code.
fn label(lines: &[String]) -> String {
    let mut text = String::from("\"");
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            text += "<br/>";
        }
        for c in line.chars() {
            match c {
                _ if c.is_alphanumeric() || " -.,:/()".contains(c) => text.push(c),
                _ => text += &format!("#{};", u32::from(c)),
            }
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::topology::{parse, plan};

    fn chart(text: &str) -> String {
        let topology = parse(text, Path::new("/etc/weft/shop.toml")).topology;
        Flowchart(&plan(&topology.expect("sound"))).to_string()
    }

    #[test]
    fn a_chart_shows_places_links_and_holders() {
        let chart = chart(include_str!("../../../topology/three-hosts.toml"));
        let lines: Vec<&str> = chart.lines().map(str::trim_start).collect();
        assert_eq!(
            lines[..4],
            [
                "---",
                "title: \"fabric shop, epoch 1\"",
                "---",
                "flowchart TB"
            ]
        );
        for line in [
            "subgraph zone0[\"zone east\"]",
            "subgraph zone0host0[\"host beta.example.net\"]",
            "node0 <-->|CURVE| node1",
            "node1 <-->|CURVE| node2",
            "channel2[\"presence: signal<br/>presence.#42;\"]",
        ] {
            assert!(lines.contains(&line), "no {line} in {chart}");
        }
        let alpha = lines
            .iter()
            .find(|line| line.starts_with("node0["))
            .expect("alpha");
        assert!(
            alpha.contains("node alpha<br/>tcp://alpha.example.net:7101<br/>"),
            "{alpha}"
        );
        assert!(alpha.contains("<br/>leads orders "), "{alpha}");
        let opened = lines
            .iter()
            .filter(|line| line.starts_with("subgraph "))
            .count();
        let closed = lines.iter().filter(|line| **line == "end").count();
        assert_eq!((opened, closed), (7, 7));
    }

    /// Whatever a host or zone is called, it ends no label.
    #[test]
    fn hostile_names_stay_inside_their_labels() {
        let evil = "x\\\"]; click node0 \\\"javascript:1\\\" `%%`<b>";
        let text = include_str!("../../../topology/quickstart.toml").replace(
            "name = \"a\"",
            &format!("name = \"a\"\nhost = \"{evil}\"\nzone = \"{evil}\""),
        );
        let chart = chart(&text);
        for line in chart.lines().filter(|line| line.contains("click")) {
            assert_eq!(line.matches('"').count(), 2, "{line}");
            assert!(!line.contains(['<', '`', '%']), "{line}");
        }
        assert!(chart.contains("click"), "{chart}");
    }

    #[test]
    fn a_mesh_beyond_what_mermaid_draws_is_a_sentence() {
        let node = |number: usize| {
            format!(
                "[[node]]\nname = \"n{number}\"\nclients = \"ipc://c{number}\"\n\
                 peers = \"ipc://p{number}\"\nsignals = \"ipc://s{number}\"\n"
            )
        };
        let nodes: String = (0..40).map(node).collect();
        let chart = chart(&format!("[fabric]\nname = \"wide\"\n{nodes}"));
        assert!(!chart.contains("<-->"), "{chart}");
        assert!(
            chart.contains("each of the 40 nodes links to all others"),
            "{chart}"
        );
    }
}
