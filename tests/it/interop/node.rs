//! `examples/node`, with nothing but the packages zeromq and @msgpack/msgpack.

use std::process::Command;

use crate::interop::root;
use crate::interop::stranger::{self, Stranger};
use crate::skips;

/// The programs of `examples/node`, where Node and its packages are.
fn stranger(test: &str) -> Option<Stranger> {
    let packages = skips::node_modules(&format!("interop::node::{test}"))?;
    let command = move |name: &str| {
        let mut command = Command::new("node");
        let script = root().join(format!("examples/node/{name}.js"));
        command.arg(script).env("NODE_PATH", &packages);
        command
    };
    Some(Stranger(Box::new(command)))
}

#[test]
fn node_publishes_again_and_is_stored_once() {
    if let Some(node) = stranger("node_publishes_again_and_is_stored_once") {
        stranger::publishes_again_and_is_stored_once(&node);
    }
}

#[test]
fn node_goes_on_at_its_cursor() {
    if let Some(node) = stranger("node_goes_on_at_its_cursor") {
        stranger::goes_on_at_its_cursor(&node);
    }
}

#[test]
fn node_hears_signals() {
    if let Some(node) = stranger("node_hears_signals") {
        stranger::hears_signals(&node);
    }
}

#[test]
fn node_proves_its_key() {
    if let Some(node) = stranger("node_proves_its_key") {
        stranger::proves_its_key(&node);
    }
}
