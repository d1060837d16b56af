//! What `deploy/` tells people to run is there, and fits what a node does.

use std::path::Path;

use weft::types::Limits;
use weft::types::limits::STOP_MAX;

use crate::readme::page::{blocks, links};
use crate::support::weft;

const PAGE: &str = include_str!("../../deploy/README.md");
const UNIT: &str = include_str!("../../deploy/weft@.service");
const CONTAINER: &str = include_str!("../../deploy/Containerfile");

/// The value of a key of the unit.
fn unit(key: &str) -> &'static str {
    let mut values = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values
        .next()
        .unwrap_or_else(|| panic!("the unit has no {key}"));
    assert_eq!(values.next(), None, "{key} is there twice");
    value
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A supervisor that kills a node before it has handed over makes every restart a crash.
#[test]
fn the_unit_waits_until_a_node_has_stopped() {
    let seconds: u64 = unit("TimeoutStopSec").parse().expect("a number");
    assert!(seconds * 1_000_000_000 > STOP_MAX.0);
    let told = CONTAINER.split_once("--stop-timeout ").expect("told").1;
    assert!(told.starts_with(unit("TimeoutStopSec")), "{told}");
}

#[test]
fn the_unit_allows_as_many_files_as_sessions_need() {
    let files: u64 = unit("LimitNOFILE").parse().expect("a number");
    assert!(files > Limits::default().sessions_max + 1_024);
}

/// `weft node FILE NAME` as the unit calls it: what it lacks is the file, not an argument.
#[test]
fn the_unit_calls_a_command_that_is_there() {
    let mut words = unit("ExecStart").split(' ');
    assert_eq!(words.next(), Some("/usr/local/bin/weft"));
    let words = words.map(|word| match word {
        "%i" => "alpha",
        "$WEFT_NODE_ARGS" => "--replace",
        "/etc/weft/fabric.toml" => "no-such-file.toml",
        word => word,
    });
    let output = weft().args(words).output().expect("weft runs");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("no-such-file.toml cannot be read"), "{told}");
    assert!(PAGE.contains("WEFT_NODE_ARGS=--replace"));
}

#[test]
fn the_pages_commands_and_links_are_there() {
    let blocks = blocks(PAGE);
    let lines = blocks.iter().flat_map(|block| block.text.lines());
    let commands: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("weft "))
        .collect();
    for name in ["keys", "check", "plan", "status", "diff"] {
        let used = commands.iter().any(|command| command.starts_with(name));
        assert!(used, "{name} is not shown");
    }
    for command in commands {
        // With `--help` beside them the arguments are read and nothing is done.
        let words = command.split(" > ").next().unwrap_or(command).split(' ');
        let output = weft().args(words).arg("--help").output();
        let output = output.expect("weft runs");
        assert!(output.status.success(), "weft {command}");
    }
    let links = links(PAGE);
    assert!(links.len() >= 3);
    for link in links {
        assert!(root().join("deploy").join(link).exists(), "{link}");
    }
}

#[test]
fn the_container_copies_what_is_there() {
    let copies = CONTAINER
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "));
    let copies: Vec<&str> = copies.filter(|copy| !copy.starts_with("--from")).collect();
    for copy in &copies {
        let words: Vec<&str> = copy.split(' ').collect();
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{source}");
        }
    }
    // What the build needs and the text of the program holds.
    for needed in ["Cargo.toml Cargo.lock ./", "src src", "topology topology"] {
        assert!(copies.contains(&needed), "{needed}");
    }
    let rust = include_str!("../../Cargo.toml");
    let version = rust.split_once("rust-version = \"").expect("a version").1;
    let version = version.split('"').next().expect("its end");
    assert!(
        CONTAINER.contains(&format!("FROM rust:{version}-")),
        "{version}"
    );
}
