//! Who may import whom. A core room decides and touches nothing outside; only shells own sockets,
//! disks, clocks and threads.

use super::source::{code, segments_after, words};
use super::{assert_none, rust_files};

/// Every room, whether it is core, and the rooms it may import.
const ROOMS: &[(&str, bool, &[&str])] = &[
    ("types", true, &[]),
    ("topology", true, &["types"]),
    ("wire", true, &["types"]),
    ("replica", true, &["types", "wire"]),
    ("channel", true, &["types"]),
    (
        "node",
        true,
        &["types", "topology", "wire", "replica", "channel"],
    ),
    ("store", false, &["types"]),
    ("http", false, &["node", "types"]),
    (
        "actor",
        false,
        &["http", "node", "store", "topology", "types"],
    ),
    ("client", false, &["wire", "types", "topology"]),
    ("embed", false, &["actor", "client", "topology"]),
    (
        "sim",
        false,
        &["node", "store", "wire", "topology", "types"],
    ),
    (
        "cli",
        false,
        &[
            "client", "actor", "embed", "sim", "store", "wire", "topology", "node", "types",
        ],
    ),
];

/// Words that a core room never says: runtimes, sockets, clocks, ambient randomness.
const NOT_IN_CORE: &[&str] = &[
    "tokio",
    "actix",
    "zmq",
    "Instant",
    "SystemTime",
    "thread_rng",
    "OsRng",
    "from_entropy",
    "getrandom",
];

/// Paths that a core room never takes.
const PATHS_NOT_IN_CORE: &[(&str, &[&str])] =
    &[("std::", &["net", "fs", "thread"]), ("rand::", &["random"])];

/// Words of the shell around a node, for the rooms beside it that must run without sockets.
const ACTOR_ONLY: &[&str] = &["tokio", "actix", "zmq"];

#[test]
fn every_room_keeps_to_its_imports() {
    let problems: Vec<String> = rust_files(&["src"])
        .iter()
        .flat_map(|file| problems(&file.path, &file.text))
        .collect();
    assert_none(&problems);
}

fn problems(path: &str, text: &str) -> Vec<String> {
    let below = path.strip_prefix("src/").expect("a file under src");
    let room = below.split(['/', '.']).next().expect("a first part");
    if room == "lib" || room == "main" {
        return Vec::new();
    }
    let Some((_, is_core, may_import)) = ROOMS.iter().find(|(name, ..)| *name == room) else {
        return vec![format!(
            "{path}: the room `{room}` is not in the table of rooms"
        )];
    };
    let code = code(text);
    let mut problems = Vec::new();
    let mut imports = segments_after(&code, "crate::");
    if below == format!("{room}/mod.rs") || below == format!("{room}.rs") {
        // One level up from here is the crate itself.
        let above = segments_after(&code, "super::");
        let is_room = |name: &str| ROOMS.iter().any(|(room, ..)| *room == name);
        imports.extend(above.into_iter().filter(|(_, name)| is_room(name)));
    }
    for (line, name) in imports {
        if name != room && !may_import.contains(&&*name) {
            problems.push(format!("{path}:{line}: `{room}` may not import `{name}`"));
        }
    }
    if code.contains("super::super") {
        problems.push(format!(
            "{path}: write `crate::…` instead of `super::super`"
        ));
    }
    let banned = match (*is_core, room) {
        (true, _) => NOT_IN_CORE,
        (false, "store" | "sim") => ACTOR_ONLY,
        (false, "http") => &["actix", "zmq"],
        _ => &[],
    };
    for (line, word) in words(&code).filter(|(_, word)| banned.contains(word)) {
        problems.push(format!("{path}:{line}: `{room}` may not use `{word}`"));
    }
    for (prefix, names) in PATHS_NOT_IN_CORE.iter().filter(|_| *is_core) {
        for (line, name) in segments_after(&code, prefix) {
            if names.contains(&&*name) {
                problems.push(format!(
                    "{path}:{line}: `{room}` may not use `{prefix}{name}`"
                ));
            }
        }
    }
    problems
}

#[test]
fn a_forbidden_import_is_seen() {
    for (path, text, culprit) in [
        ("src/types/a.rs", "use crate::wire::Code;", "wire"),
        ("src/wire/a.rs", "use crate::{types, node::Node};", "node"),
        ("src/sim/a.rs", "fn f() { crate::actor::run() }", "actor"),
        ("src/store/mod.rs", "use super::node::Node;", "node"),
        ("src/node/a.rs", "use super::super::store;", "super::super"),
        ("src/node/a.rs", "use std::time::Instant;", "Instant"),
        ("src/node/a.rs", "use std::{fmt, fs::File};", "std::fs"),
        (
            "src/node/a.rs",
            "let x: u8 = rand::random();",
            "rand::random",
        ),
        (
            "src/node/a.rs",
            "let x = std::thread::spawn(f);",
            "std::thread",
        ),
        ("src/channel/a.rs", "use tokio::sync;", "tokio"),
        ("src/store/a.rs", "use zmq::Context;", "zmq"),
        ("src/attic/a.rs", "", "attic"),
    ] {
        let found = problems(path, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(culprit), "{found:?}");
    }
    for (path, text) in [
        (
            "src/node/a.rs",
            "//! Reads no Instant.\nuse crate::types::Time;",
        ),
        ("src/node/a.rs", "const TEXT: &str = \"std::fs and zmq\";"),
        ("src/node/mod.rs", "mod io;\npub use io::Input;"),
        ("src/store/real.rs", "use std::fs::File;"),
        (
            "src/actor/a.rs",
            "use actix::Actor;\nuse crate::node::Node;",
        ),
        ("src/main.rs", "fn main() { weft::cli::run() }"),
    ] {
        assert_eq!(problems(path, text), Vec::<String>::new(), "{text}");
    }
}
