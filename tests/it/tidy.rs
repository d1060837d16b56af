//! Keeps the house in order: what each room may import, the shape of files, the clauses of the
//! protocol that tests cite, examples in docs, what lies where, and the libzmq that is built.
//!
//! Every check is a function from text to problems, so that each is also shown to fail.

mod clauses;
mod examples;
mod house;
mod rooms;
mod shape;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file of this repository.
struct SourceFile {
    /// From the root, with `/` between its parts.
    path: String,
    /// Its text.
    text: String,
}

/// Every Rust file under `folders`, which are named from the root.
fn rust_files(folders: &[&str]) -> Vec<SourceFile> {
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a readable folder");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(root()).expect("below the root");
            files.push(SourceFile {
                path: below.to_string_lossy().replace('\\', "/"),
                text: fs::read_to_string(&path).expect("a readable file"),
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 10, "the walk finds the sources");
    files
}

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with all of `problems`.
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
