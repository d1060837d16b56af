//! Topology files: each is answered, with a plan that holds or with problems whose places lie in
//! the text.

use std::path::Path;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use weft::topology::{parse, plan};

use super::{damage, fuzz};

const SHIPPED: [&str; 2] = [
    include_str!("../../../topology/quickstart.toml"),
    include_str!("../../../topology/three-hosts.toml"),
];

/// Pieces that mean something.
const PIECES: [&str; 20] = [
    "0",
    "-1",
    "18446744073709551616",
    "1e999",
    "true",
    "\"\"",
    "\"#\"",
    "\"*\"",
    "[]",
    "{}",
    "[[node]]\n",
    "[channel.x]\n",
    "keep = { age = \"1s\", size = \"1\", count = 0 }\n",
    "partitions = 1024\n",
    "replicas = 7\n",
    "kind = \"stream\"\n",
    "http = \"http://*:1\"\n",
    "http_open = true\n",
    "\"tcp://[::1]:1\"",
    "\"99999999999 EiB\"",
];

#[test]
fn topology() {
    let make = |random: &mut ChaCha8Rng| -> String {
        let shipped = SHIPPED[random.gen_range(0..2)];
        let mut lines: Vec<&str> = shipped.lines().collect();
        for _ in 0..random.gen_range(0..4) {
            let (from, to) = (
                random.gen_range(0..lines.len()),
                random.gen_range(0..lines.len()),
            );
            match random.gen_range(0..3) {
                0 => lines.swap(from, to),
                1 => lines.insert(to, lines[from]),
                _ if lines.len() > 1 => drop(lines.remove(from)),
                _ => {}
            }
        }
        let mut text = lines.join("\n");
        if random.gen_bool(0.6) {
            let piece = PIECES[random.gen_range(0..PIECES.len())];
            let values: Vec<usize> = text.match_indices("= ").map(|(at, _)| at + 2).collect();
            if !values.is_empty() {
                let at = values[random.gen_range(0..values.len())];
                let end = text[at..].find('\n').map_or(text.len(), |len| at + len);
                text.replace_range(at..end, piece);
            }
        }
        let mut bytes = text.into_bytes();
        if random.gen_bool(0.5) {
            damage(&mut bytes, random);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    fuzz("topology", make, |text| {
        let parsed = parse(text, Path::new("/etc/weft/weft.toml"));
        assert!(parsed.topology.is_some() || !parsed.problems.is_empty());
        for problem in &parsed.problems {
            assert!(text.get(problem.span.clone()).is_some(), "{problem:?}");
        }
        if let Some(topology) = parsed.topology {
            let plan = plan(&topology);
            assert_eq!(plan.nodes.len(), topology.nodes.len());
            for partition in &plan.partitions {
                let channel = &topology.channels[&partition.channel];
                assert_eq!(partition.replicas.len(), channel.replicas as usize);
            }
            for node in topology.nodes.iter().filter_map(|node| node.http) {
                assert!(!node.is_exposed(), "{node} was let through");
            }
        }
    });
}
