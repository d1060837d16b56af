//! What lies at the top of the repository, and what the sockets are made of.

use std::fs;

use super::{assert_none, root};

/// Everything that may lie at the top, with what git ignores.
const TOP: &[&str] = &[
    ".ci",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "deploy",
    "examples",
    "rustfmt.toml",
    "src",
    "target",
    "tests",
    "topology",
    "weft-data",
    "zeromq-src",
];

/// What has to be there.
const REQUIRED: &[&str] = &["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"];

#[test]
fn only_what_is_known_lies_at_the_top() {
    let entries: Vec<String> = fs::read_dir(root())
        .expect("the root is readable")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_none(&problems(&entries));
}

fn problems(entries: &[String]) -> Vec<String> {
    let is_known = |entry: &&String| TOP.contains(&&***entry) || entry.starts_with(".git");
    let unknown = entries
        .iter()
        .filter(|entry| !is_known(entry))
        .map(|entry| format!("{entry}: does not belong at the top"));
    let missing = REQUIRED
        .iter()
        .filter(|name| !entries.iter().any(|entry| entry == **name))
        .map(|name| format!("{name}: missing"));
    unknown.chain(missing).collect()
}

#[test]
fn a_stray_and_a_missing_file_are_seen() {
    let mut entries = [REQUIRED, &[".gitignore", "src"]].concat();
    let check =
        |entries: &[&str]| problems(&entries.iter().map(|e| (*e).into()).collect::<Vec<_>>());
    assert_eq!(check(&entries), Vec::<String>::new());
    entries.push("notes.txt");
    assert_eq!(check(&entries), ["notes.txt: does not belong at the top"]);
    assert_eq!(
        check(&entries[1..entries.len() - 1]),
        ["Cargo.lock: missing"]
    );
}

/// Over a libzmq without CURVE, keys would be worth nothing.
#[test]
fn libzmq_is_4_3_5_with_curve() {
    assert_eq!(zmq::version(), (4, 3, 5));
    assert_eq!(zmq::has("curve"), Some(true));
}
