//! What people get wrong at a shell: each command says what it is, in words, and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::fabric::{NAMES, code, healthy, ok, refused, run, text, three};
use crate::support::{Fabric, Keys, flat, free_port, weft};

/// Less than connecting may take: whoever ends before has not waited for its deadline.
const AT_ONCE: Duration = Duration::from_secs(9);

/// Runs `weft` with no topology but what `args` name.
fn bare(args: &[&str]) -> Output {
    weft().args(args).output().expect("weft runs")
}

#[test]
fn a_topology_file_of_another_fabric_is_not_talked_with() {
    let fabric = Fabric::new(&["a"]);
    let _node = fabric.start("a");
    healthy(&fabric);
    ok(&fabric, &["publish", "audit.x", "hello"]);
    let own = fabric.text();

    fabric.rewrite(&own.replace("\"test\"", "\"other\""));
    for args in [
        &["publish", "audit.x", "hello"][..],
        &["subscribe", "audit.#", "--from", "start", "--count", "1"],
    ] {
        let asked = Instant::now();
        let error = refused(&fabric, args);
        assert!(
            error.contains("of the fabric test, not of other"),
            "{error}"
        );
        assert!(error.contains("--topology"), "{error}");
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    }
    let output = run(&fabric, &["status"]);
    let told = text(&output.stdout);
    assert_eq!(code(&output), 1, "{told}");
    assert!(told.contains("is no node of this topology"), "{told}");
    assert!(told.contains("of the fabric test, not of other"), "{told}");
    assert!(told.contains("other fabric"), "{told}");

    // A file that the nodes do not run yet is worth a word, and no harm.
    fabric.rewrite(&own.replace("epoch = 1", "epoch = 2"));
    let told = ok(&fabric, &["status"]);
    assert!(
        told.contains("note: a: epoch 1 of the topology runs there"),
        "{told}"
    );
    assert!(told.contains("newer"), "{told}");
    ok(&fabric, &["publish", "audit.x", "hello"]);
}

#[test]
fn connecting_takes_no_longer_than_a_publish_may() {
    let nobody = format!("tcp://127.0.0.1:{}", free_port());
    let output = bare(&[
        "publish",
        "a.x",
        "x",
        "--timeout",
        "2",
        "--connect",
        &nobody,
    ]);
    let error = flat(&text(&output.stderr));
    assert_eq!(code(&output), 1, "{error}");
    assert!(error.contains("no node answered within 2000 ms"), "{error}");
    for wrong in ["-1", "0", "soon"] {
        let output = bare(&["publish", "a.x", "x", "--timeout", wrong]);
        let error = text(&output.stderr);
        assert_eq!(code(&output), 1, "{error}");
        let named = format!("invalid value '{wrong}' for '--timeout <SECONDS>'");
        assert!(error.contains(&named) && !error.contains("tip:"), "{error}");
        assert!(error.contains("seconds from 1 to 86400"), "{error}");
    }
}

#[test]
fn a_key_that_is_no_secret_or_that_no_node_lists_is_told() {
    let fabric = Fabric::with_keys(&NAMES);
    let known = fabric.folder.path().join("known.secret");
    fabric.client_keys().write(&known);
    let known = known.to_str().expect("UTF-8");
    let _nodes = NAMES.map(|name| fabric.start(name));
    ok(&fabric, &["status", "--wait", "60", "--identity", known]);

    // A node warns of its own secret, and so does a client.
    let shared = fabric.folder.path().join("shared.secret");
    fs::copy(known, &shared).expect("copied");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o644)).expect("ours");
    let shared = shared.to_str().expect("UTF-8");
    let warned = |path| {
        let output = run(&fabric, &["cursor", "list", "--identity", path]);
        assert_eq!(code(&output), 0);
        let told = text(&output.stderr);
        told.matches("may be read by others (mode 644): chmod 600")
            .count()
    };
    assert_eq!((warned(shared), warned(known)), (1, 0));

    let stranger = Keys::new();
    let path = fabric.folder.path().join("stranger.secret");
    stranger.write(&path);
    let asked = Instant::now();
    let publish = |identity: &Path| {
        let identity = identity.to_str().expect("UTF-8");
        refused(
            &fabric,
            &["publish", "audit.x", "x", "--identity", identity],
        )
    };
    let error = publish(&path);
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    let why = "topology does not list this client's public key";
    assert_eq!(error.matches(why).count(), 1, "{error}");
    // A long key may be broken across lines.
    let key = stranger.public_key.to_string();
    assert!(error.replace(' ', "").contains(&key), "{error}");

    let error = publish(&fabric.folder.path().join("b.secret"));
    assert!(
        error.contains("the key of node b, not of a client"),
        "{error}"
    );
    assert!(error.contains("--for client"), "{error}");
}

#[test]
fn a_wrong_place_is_told_with_the_right_ones() {
    let (fabric, _nodes) = three();
    ok(&fabric, &["publish", "audit.x", "zero"]);
    let cursor = ["--cursor", "billing", "--from", "start", "--count", "1"];
    ok(&fabric, &[&["subscribe", "audit.#"], &cursor[..]].concat());
    for (args, parts) in [
        (
            &["subscribe", "#", "--cursor", "tk"][..],
            &["keep to a stream", "--channel NAME"][..],
        ),
        (
            &["subscribe", "orders.#", "--from", "orders/9/1"],
            &["no partition 9: orders has 0 to 3", "weft plan"],
        ),
        (
            &["subscribe", "audit.#", "--partition", "7"],
            &["no partition 7: audit has only 0", "weft plan"],
        ),
        (
            &["subscribe", "audit.#", "--from", "audit/0/99"],
            &["audit/0 ends before offset 1, and 99 is beyond that"],
        ),
        (
            &["cursor", "seek", "billing", "audit/0/99"],
            &["99 is beyond the end", "seek start or end"],
        ),
        (
            &["cursor", "seek", "billing", "end", "--channel", "nope"],
            &["there is no stream nope", "streams are audit, orders"],
        ),
        (
            &[
                "cursor",
                "show",
                "billing",
                "--channel",
                "orders",
                "--partition",
                "4",
            ],
            &[
                "there is no partition 4",
                "orders/0 orders/1 orders/2 orders/3",
            ],
        ),
        (&["cursor", "list", "ticks"], &["there is no stream ticks"]),
        (
            &["cursor", "show", "printer"],
            &["there is no cursor printer"],
        ),
    ] {
        let error = refused(&fabric, args);
        for part in parts {
            assert!(error.contains(part), "{args:?}: no {part:?} in {error}");
        }
    }
}

/// Whoever greets at the endpoint for peers hears nothing, and harms nobody.
#[test]
fn a_client_at_the_port_for_peers_is_told_so_and_leaves_the_fabric_healthy() {
    let (fabric, nodes) = three();
    let wrong = fabric.peers_endpoint("a");
    let output = bare(&[
        "publish",
        "audit.x",
        "x",
        "--timeout",
        "3",
        "--connect",
        &wrong,
    ]);
    let error = flat(&text(&output.stderr));
    assert_eq!(code(&output), 1, "{error}");
    assert!(error.contains("no Weft client endpoint there"), "{error}");
    let log = nodes["a"].flat_log();
    assert!(log.contains("a client that took the wrong port?"), "{log}");
    ok(&fabric, &["status"]);
}
