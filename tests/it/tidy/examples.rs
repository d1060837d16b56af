//! Every public item of the Rust client and of the embedded node has an example in its docs, which
//! `cargo test` runs.

use super::source::code_part;
use super::{assert_none, rust_files};

#[test]
fn every_public_item_of_the_client_has_an_example() {
    let files = rust_files(&["src/client", "src/embed"]);
    let problems = files.iter().flat_map(|file| {
        let missing = without_example(code_part(&file.text));
        missing.map(|item| format!("{}: `{item}` has no example", file.path))
    });
    assert_none(&problems.collect::<Vec<_>>());
}

#[test]
fn an_item_without_an_example_is_seen() {
    let text = "/// ```\n/// ```\n#[derive(\n    Debug,\n)]\npub struct Shown;\n\n\
                impl Shown {\n    /// Words.\n    pub async fn tell() {}\n    \
                pub(crate) fn own() {}\n}\n\n\
                #[cfg(test)]\nmod tests {\n    pub fn ready() {}\n}\n";
    let missing: Vec<&str> = without_example(code_part(text)).collect();
    assert_eq!(missing, ["pub async fn tell() {}"]);
}

/// The lines that declare a public item whose docs show no code.
fn without_example(code: &str) -> impl Iterator<Item = &str> {
    let mut shown = false;
    code.lines().filter_map(move |line| {
        let line = line.trim();
        let begins = ["fn", "async fn", "struct", "enum", "trait", "type", "const"];
        let item = line.strip_prefix("pub ");
        let item = item.filter(|rest| {
            begins
                .iter()
                .any(|kind| rest.starts_with(&format!("{kind} ")))
        });
        match item {
            Some(_) => (!std::mem::take(&mut shown)).then_some(line),
            None => {
                // Docs and attributes belong to the item below them, anything else ends them.
                let belongs = line.starts_with("///") || !line.ends_with(['{', '}', ';']);
                shown = belongs && !line.is_empty() && (shown || line.starts_with("/// ```"));
                None
            }
        }
    })
}
