//! `examples/python`, with nothing but pyzmq and msgpack, and the client of the protocol's page.

use std::process::Command;

use crate::interop::stranger::{self, Stranger};
use crate::interop::{Talk, root, three, weft_ok};
use crate::skips;
use crate::support::Fabric;

/// The programs of `examples/python`, where a Python can run them.
fn stranger(test: &str) -> Option<Stranger> {
    let python = skips::python(&format!("interop::python::{test}"))?;
    let command = move |name: &str| {
        let mut command = Command::new(&python);
        let script = root().join(format!("examples/python/{name}.py"));
        // No bytecode beside the sources.
        command.arg("-B").arg(script);
        command
    };
    Some(Stranger(Box::new(command)))
}

#[test]
fn python_publishes_again_and_is_stored_once() {
    if let Some(python) = stranger("python_publishes_again_and_is_stored_once") {
        stranger::publishes_again_and_is_stored_once(&python);
    }
}

#[test]
fn python_goes_on_at_its_cursor() {
    if let Some(python) = stranger("python_goes_on_at_its_cursor") {
        stranger::goes_on_at_its_cursor(&python);
    }
}

#[test]
fn python_hears_signals() {
    if let Some(python) = stranger("python_hears_signals") {
        stranger::hears_signals(&python);
    }
}

#[test]
fn python_proves_its_key() {
    if let Some(python) = stranger("python_proves_its_key") {
        stranger::proves_its_key(&python);
    }
}

/// The page's own client: what a stranger starts from. It keeps [C1], [C2], [C9] and [C10], is
/// confirmed by [C21] and [C23], and reads by [C30], [C32], [C33] and [C36].
#[test]
fn the_client_of_the_protocols_page_runs() {
    let test = "interop::python::the_client_of_the_protocols_page_runs";
    let Some(python) = skips::python(test) else {
        return;
    };
    let page = include_str!("../../../src/wire/PROTOCOL.md");
    let (_, rest) = page.split_once("```python\n").expect("an example");
    let (script, _) = rest.split_once("```\n").expect("its end");
    let (fabric, _nodes) = three();
    let mut command = Command::new(python);
    command.args(["-c", script, &fabric.endpoint("b")]);
    let expected = [
        "stored orders/1/0 x 3",
        "orders/1/0 orders.new b'order 0'",
        "orders/1/1 orders.new b'order 1'",
        "orders/1/2 orders.new b'order 2'",
    ];
    assert_eq!(Talk::start(&mut command).end(), expected);
}

#[test]
fn python_reads_history_and_then_what_comes() {
    let Some(python) = stranger("python_reads_history_and_then_what_comes") else {
        return;
    };
    let (fabric, _nodes) = three();
    let publish = ["publish", "orders.eu.new", "--key", "customer-42"];
    for body in ["zero", "一"] {
        weft_ok(&fabric, &[&publish[..], &[body]].concat());
    }
    let args = [&fabric.endpoint("c"), "orders.*.new", "4"];
    let reader = python.start("subscribe", &args);
    assert_eq!(reader.line(), "orders/1/0 orders.eu.new zero");
    assert_eq!(reader.line(), "orders/1/1 orders.eu.new 一");
    let other = [
        "publish",
        "orders.eu",
        "not selected",
        "--key",
        "customer-7",
    ];
    weft_ok(&fabric, &other);
    let published = python.start("publish", &[&fabric.endpoint("a")]).end();
    assert_eq!(published, ["stored orders/1/2"]);
    assert_eq!(reader.line(), "orders/1/2 orders.eu.new two shirts");
    weft_ok(&fabric, &[&publish[..], &["three"]].concat());
    assert_eq!(reader.end(), ["orders/1/3 orders.eu.new three"]);
}

#[test]
fn python_is_told_why_not() {
    let Some(python) = stranger("python_is_told_why_not") else {
        return;
    };
    let fabric = Fabric::new(&["a"]);
    let _node = fabric.serve("a");
    let told = python.start("refusal", &[&fabric.endpoint("a")]).end();
    let expected = [
        "202 no_channel_for_subject final",
        "no channel captures the subject \"nowhere.at.all\"; declared are audit (audit.#); \
         orders (orders.#); ticks (ticks.#)",
    ];
    assert_eq!(told, expected);
}
