//! A plan as a drawing: the nodes in a row, in the frames of their hosts and zones; under them the
//! links, an arc for each two nodes; and under those a line for each partition, with a dot below
//! every node that holds it.

use super::{keep, subjects};
use crate::cli::pen::{Pen, fitting, width};
use crate::topology::{ChannelPlan, NodePlan, PartitionPlan, Plan};

/// Nodes between which links are drawn: an arc for each two of more would be a blot.
const LINKED_MAX: usize = 16;

/// Partitions of a channel that are drawn; `weft plan` lists all.
const ROWS_MAX: usize = 64;

/// Where the drawing begins, from the left and from above.
const EDGE: usize = 16;

/// From the baseline of one line to that of the next.
const LINE: usize = 18;

/// The width of a node, at least and at most.
const NODE_WIDTH: (usize, usize) = (130, 300);

/// Between two nodes there is room for the frames of two hosts and two zones.
const GAP: usize = 36;

/// How far a frame lies outside what it frames, and the room for its title.
const FRAME: usize = 8;
const FRAME_TITLE: usize = 20;

/// Draws `plan`.
pub(super) fn draw(plan: &Plan) -> String {
    let sheet = Sheet::new(plan);
    let title = format!("fabric {}, epoch {}", plan.fabric, plan.epoch);
    let mut pen = Pen::default();
    pen.text((EDGE, EDGE + 12), "strong", &title);
    let below = sheet.draw_nodes(&mut pen, EDGE + LINE + 12);
    let below = sheet.draw_links(&mut pen, below);
    let below = sheet.draw_channels(&mut pen, below + LINE);
    draw_legend(&mut pen, below + LINE);
    pen.finish(&title)
}

/// What is drawn, and where its columns are.
struct Sheet<'a> {
    plan: &'a Plan,
    /// Nodes of one zone and of one host stand side by side.
    nodes: Vec<&'a NodePlan>,
    /// Where the first column begins: to its left are the names of partitions.
    left: usize,
    /// The width of a column.
    wide: usize,
}

impl<'a> Sheet<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut nodes: Vec<&NodePlan> = plan.nodes.iter().collect();
        nodes.sort_by(|a, b| (&a.zone, &a.host).cmp(&(&b.zone, &b.host)));
        let texts = nodes.iter().flat_map(|node| node_lines(node));
        let widest = texts.map(|text| width(&text)).max().unwrap_or(0);
        let names = plan.partitions.iter().map(|own| width(&name(own)));
        Self {
            plan,
            nodes,
            left: EDGE + names.max().unwrap_or(0).min(NODE_WIDTH.1) + GAP,
            wide: (widest + 16).clamp(NODE_WIDTH.0, NODE_WIDTH.1),
        }
    }

    /// Where the column of a node begins.
    fn column(&self, at: usize) -> usize {
        self.left + at * (self.wide + GAP)
    }

    fn middle(&self, at: usize) -> usize {
        self.column(at) + self.wide / 2
    }

    /// The nodes with their frames, from `top` on; returns where they end.
    fn draw_nodes(&self, pen: &mut Pen, top: usize) -> usize {
        let zoned = self.nodes.iter().any(|node| node.zone.is_some());
        let lines = self.nodes.iter().map(|node| node_lines(node).len());
        let high = lines.max().unwrap_or(0) * LINE + 12;
        let host_top = top + if zoned { FRAME_TITLE + FRAME } else { 0 };
        let node_top = host_top + FRAME_TITLE;
        let host_bottom = node_top + high + FRAME;
        let bottom = host_bottom + if zoned { FRAME } else { 0 };
        let zone = |node: &NodePlan| node.zone.clone().map(|zone| format!("zone {zone}"));
        let host = |node: &NodePlan| Some(format!("host {}", node.host));
        self.draw_frames(pen, zone, (2 * FRAME, "zone"), (top, bottom));
        self.draw_frames(pen, host, (FRAME, "host"), (host_top, host_bottom));
        for (at, node) in self.nodes.iter().enumerate() {
            let x = self.column(at);
            let title = format!("node {}", node.name);
            pen.frame((x, node_top), (self.wide, high), "node", &title);
            for (number, line) in node_lines(node).iter().enumerate() {
                let class = if number == 0 { "strong" } else { "faint" };
                let line = fitting(line, self.wide - 16);
                pen.text((x + 8, node_top + LINE * (number + 1)), class, &line);
            }
        }
        bottom
    }

    /// A frame around each run of nodes for which `of` says the same.
    fn draw_frames(
        &self,
        pen: &mut Pen,
        of: impl Fn(&NodePlan) -> Option<String>,
        (outside, class): (usize, &str),
        (top, bottom): (usize, usize),
    ) {
        let mut at = 0;
        for run in self.nodes.chunk_by(|one, next| of(one) == of(next)) {
            let (first, last) = (at, at + run.len() - 1);
            at += run.len();
            let Some(title) = of(run[0]) else {
                continue;
            };
            let x = self.column(first) - outside;
            let wide = self.column(last) + self.wide + outside - x;
            pen.frame((x, top), (wide, bottom - top), class, &title);
            pen.text(
                (x + FRAME, top + 14),
                "faint",
                &fitting(&title, wide - 2 * FRAME),
            );
        }
    }

    /// An arc between each two nodes; returns where the lowest ends.
    fn draw_links(&self, pen: &mut Pen, top: usize) -> usize {
        let count = self.nodes.len();
        if count > LINKED_MAX {
            let text = format!("each of the {count} nodes links to all others");
            pen.text((self.left, top + LINE), "faint", &text);
            return top + LINE;
        }
        let deep = |span: usize| 16 + 24 * span;
        for (at, node) in self.nodes.iter().enumerate() {
            for (other, peer) in self.nodes.iter().enumerate().skip(at + 1) {
                let closed = [node, peer]
                    .iter()
                    .all(|own| own.peers.curve && own.signals.curve);
                let (class, keys) = match closed {
                    true => ("link", "CURVE"),
                    false => ("link open", "open"),
                };
                let title = format!("{} and {}: {keys}", node.name, peer.name);
                let ends = (self.middle(at), self.middle(other));
                pen.arc(ends, (top, deep(other - at)), class, &title);
            }
        }
        top + deep(count.saturating_sub(1))
    }

    /// The channels, with a line for each partition; returns where they end.
    fn draw_channels(&self, pen: &mut Pen, mut y: usize) -> usize {
        for channel in &self.plan.channels {
            y += LINE;
            pen.text((EDGE, y), "strong", &channel.name.to_string());
            let beside = EDGE + width(channel.name.as_str()) + GAP;
            pen.text((beside, y), "faint", &described(channel));
            let own = self.plan.partitions.iter();
            let own: Vec<&PartitionPlan> = own.filter(|own| own.channel == channel.name).collect();
            for partition in own.iter().take(ROWS_MAX) {
                y += LINE;
                self.draw_partition(pen, y, partition);
            }
            if own.len() > ROWS_MAX {
                y += LINE;
                let text = format!(
                    "… and {} more, which `weft plan` lists",
                    own.len() - ROWS_MAX
                );
                pen.text((EDGE, y), "faint", &text);
            }
            y += LINE / 2;
        }
        y
    }

    fn draw_partition(&self, pen: &mut Pen, y: usize, partition: &PartitionPlan) {
        let end = self.column(self.nodes.len().saturating_sub(1)) + self.wide;
        pen.line((self.left, end), y - 4, "row");
        pen.text((EDGE, y), "", &fitting(&name(partition), NODE_WIDTH.1));
        for (at, node) in self.nodes.iter().enumerate() {
            if !partition.replicas.contains(&node.name) {
                continue;
            }
            let does = match partition.leader == node.name {
                true => "leads",
                false => "follows",
            };
            let title = format!("{} {does} {}", node.name, name(partition));
            pen.dot((self.middle(at), y - 4), does, &title);
        }
    }
}

fn draw_legend(pen: &mut Pen, y: usize) {
    pen.dot((EDGE + 5, y - 4), "leads", "leads");
    pen.text((EDGE + 16, y), "faint", "leads when all is well");
    let x = EDGE + 16 + width("leads when all is well") + GAP;
    pen.dot((x + 5, y - 4), "follows", "follows");
    pen.text((x + 16, y), "faint", "follows");
    let x = x + 16 + width("follows") + GAP;
    pen.line((x, x + 24), y - 4, "link");
    pen.text((x + 32, y), "faint", "link with keys (CURVE)");
    let x = x + 32 + width("link with keys (CURVE)") + GAP;
    pen.line((x, x + 24), y - 4, "link open");
    pen.text((x + 32, y), "faint", "open link");
}

/// What stands in a node's box: its name and where clients connect.
fn node_lines(node: &NodePlan) -> Vec<String> {
    let listeners = node.listeners.iter().map(|own| own.advertise.clone());
    let name = format!("node {}", node.name);
    [name].into_iter().chain(listeners).collect()
}

fn name(partition: &PartitionPlan) -> String {
    format!("{}/{}", partition.channel, partition.partition)
}

fn described(channel: &ChannelPlan) -> String {
    let declared = &channel.declared;
    let what = format!("{} of {}", declared.kind, subjects(declared));
    match declared.is_stored() {
        false => what,
        true => format!(
            "{what}; partitions {}, replicas {}; keeps {}",
            declared.partitions,
            declared.replicas,
            keep(&declared.keep)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::topology::{parse, plan};

    const QUICKSTART: &str = include_str!("../../../topology/quickstart.toml");
    const THREE_HOSTS: &str = include_str!("../../../topology/three-hosts.toml");

    fn drawn(text: &str) -> String {
        let topology = parse(text, Path::new("/etc/weft/shop.toml")).topology;
        draw(&plan(&topology.expect("sound")))
    }

    #[test]
    fn every_node_link_and_copy_is_drawn() {
        let svg = drawn(THREE_HOSTS);
        let count = |part: &str| svg.matches(part).count();
        assert_eq!(count("class=\"zone\""), 3, "{svg}");
        assert_eq!(count("class=\"host\""), 3, "{svg}");
        assert_eq!(count("class=\"node\""), 3, "{svg}");
        assert_eq!(count("CURVE</title></path>"), 3, "{svg}");
        // Fifteen partitions of three copies, and the legend.
        assert_eq!(count("class=\"leads\""), 15 + 1, "{svg}");
        assert_eq!(count("class=\"follows\""), 30 + 1, "{svg}");
        assert!(svg.contains(">signal of presence.*</text>"), "{svg}");
        assert!(drawn(QUICKSTART).contains("a and b: open</title>"));
    }

    #[test]
    fn nodes_of_one_zone_share_a_frame() {
        let text = QUICKSTART
            .replace("name = \"a\"", "name = \"a\"\nhost = \"x\"\nzone = \"n\"")
            .replace("name = \"b\"", "name = \"b\"\nhost = \"y\"\nzone = \"s\"")
            .replace("name = \"c\"", "name = \"c\"\nhost = \"x\"\nzone = \"n\"");
        let svg = drawn(&text);
        assert_eq!(svg.matches("class=\"zone\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"host\"").count(), 2, "{svg}");
    }

    /// Whatever a host is called, the drawing stays well formed.
    #[test]
    fn hostile_names_stay_texts() {
        let evil = "</text><script>alert(1)</script> & \\\" x";
        let text = QUICKSTART.replace("name = \"a\"", &format!("name = \"a\"\nhost = \"{evil}\""));
        let svg = drawn(&text);
        assert!(!svg.contains("<script"), "{svg}");
        assert!(svg.contains("&lt;script&gt;"), "{svg}");
        for tag in ["text", "title", "svg", "style"] {
            let open = svg.matches(&format!("<{tag}")).count();
            assert_eq!(open, svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn what_would_be_a_blot_is_a_sentence() {
        let more = "[channel.wide]\nkind = \"stream\"\nsubjects = \"wide\"\npartitions = 100\n";
        let svg = drawn(&QUICKSTART.replace("[limits]", &format!("{more}[limits]")));
        assert!(
            svg.contains("… and 36 more, which `weft plan` lists"),
            "{svg}"
        );
        let node = |number: usize| {
            format!(
                "[[node]]\nname = \"n{number}\"\nclients = \"ipc://c{number}\"\n\
                 peers = \"ipc://p{number}\"\nsignals = \"ipc://s{number}\"\n"
            )
        };
        let nodes: String = (0..17).map(node).collect();
        let svg = drawn(&format!("[fabric]\nname = \"wide\"\n{nodes}"));
        assert!(
            svg.contains("each of the 17 nodes links to all others"),
            "{svg}"
        );
    }
}
