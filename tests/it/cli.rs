//! The commands as a person or a script calls them: what they print, where, and the exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const BAD: &str = "[fabric]\nname = 'shop'\n[[node]]\nname = 'a'\n\
    clients = 'tcp://127.0.0.1:7101'\npeers = 'tcp://127.0.0.1:7101'\n\
    signal = 'tcp://10.0.0.1:1'\n";

/// Runs `weft` in `folder`, without the caller's environment having a say.
fn weft(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(args).current_dir(folder);
    command.env_remove("WEFT_TOPOLOGY").env("NO_COLOR", "1");
    command.output().expect("the binary runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal ended it")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON on stdout")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn shipped(name: &str) -> String {
    format!("{}/topology/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_passes_the_shipped_files() {
    let (quickstart, hosts) = (shipped("quickstart.toml"), shipped("three-hosts.toml"));
    let output = weft(folder().path(), &["check", &quickstart, &hosts]);
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
    let lines = text(&output.stdout);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines.contains("0 errors, 0 warnings; fabric quickstart epoch 1: 3 nodes"),
        "{lines}"
    );
    let limits = "for clients that do not read, by `sessions_max` and `session_window_bytes`";
    assert!(
        lines.contains("of memory (") && lines.contains(limits),
        "{lines}"
    );
}

#[test]
fn check_shows_no_line_whole_that_no_terminal_would() {
    let folder = folder();
    let long = format!("[fabric]\nname = '{}'\nepoch = 1\n", "x".repeat(900_000));
    fs::write(folder.path().join("long.toml"), long).expect("written");
    for args in [
        &["check", "long.toml"][..],
        &["check", "--json", "long.toml"],
    ] {
        let output = weft(folder.path(), args);
        let told = output.stdout.len() + output.stderr.len();
        assert!(code(&output) == 1 && told < 4_000, "{told} bytes");
    }
    let told = text(&weft(folder.path(), &["check", "long.toml"]).stderr);
    assert!(told.contains("[long.toml:2:8]"), "{told}");
}

#[test]
fn check_tells_every_problem_with_its_file_and_line() {
    let folder = folder();
    fs::write(folder.path().join("bad.toml"), BAD).expect("written");
    let output = weft(folder.path(), &["check", "bad.toml"]);
    assert_eq!(code(&output), 1);
    assert_eq!(text(&output.stdout), "bad.toml: 3 errors, 0 warnings\n");
    let talk = text(&output.stderr);
    for part in [
        "[[node]] has no `signals`",
        "[bad.toml:6:9]",
        "tcp://127.0.0.1:7101 is used twice",
        "[bad.toml:7:1]",
        "signal = 'tcp://10.0.0.1:1'",
        "did you mean `signals`?",
    ] {
        assert!(talk.contains(part), "no {part:?} in {talk}");
    }
    assert!(!talk.contains('\u{1b}'), "NO_COLOR is respected: {talk:?}");

    let output = weft(
        folder.path(),
        &["check", "--json", "bad.toml", "missing.toml"],
    );
    assert_eq!(code(&output), 1);
    let answer = json(&output);
    let lines: Vec<u64> = answer["files"][0]["problems"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|problem| problem["line"].as_u64())
        .collect();
    assert_eq!(lines, [3, 6, 7]);
    assert_eq!(answer["files"][1]["ok"], Value::Bool(false));
    assert!(text(&output.stderr).contains("missing.toml cannot be read"));
}

#[test]
fn check_passes_a_file_with_warnings() {
    let folder = folder();
    let quickstart = fs::read_to_string(shipped("quickstart.toml")).expect("shipped");
    let warned = quickstart.replacen("sessions_max = 1000 ", "sessions_max = 900000 ", 1);
    fs::write(folder.path().join("warned.toml"), warned).expect("written");
    let output = weft(folder.path(), &["check", "warned.toml"]);
    assert_eq!(code(&output), 0);
    assert!(text(&output.stdout).contains("0 errors, 1 warning;"));
    let told = text(&output.stderr);
    assert!(told.contains("the limits let one node hold"), "{told}");
    let remedy = "most of it comes from `sessions_max` and `session_window_bytes`";
    assert!(told.contains(remedy), "{told}");
}

#[test]
fn plan_shows_sockets_and_copies() {
    let folder = folder();
    let output = weft(folder.path(), &["plan"]);
    let lines = text(&output.stdout);
    assert_eq!(code(&output), 0);
    assert!(lines.starts_with("fabric quickstart epoch 1\n"), "{lines}");
    assert_eq!(lines.matches("DEALER").count(), 12, "{lines}");
    assert_eq!(lines.matches("ROUTER").count(), 6, "{lines}");
    assert_eq!(lines.matches("XPUB").count(), 3, "{lines}");
    assert_eq!(lines.matches(" SUB ").count(), 6, "{lines}");
    assert!(lines.contains("orders/3"), "{lines}");
    let channel = |name: &str| {
        let mut rows = lines
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.len() > 5 && row[0] == name);
        row.unwrap_or_else(|| panic!("no {name} in {lines}"))
    };
    assert_eq!(
        channel("orders")[1..6],
        ["stream", "orders.#", "4", "3", "quorum"]
    );
    assert_eq!(
        channel("ticks")[1..6],
        ["signal", "ticks.#", "-", "-", "none"]
    );

    let hosts = shipped("three-hosts.toml");
    let output = weft(folder.path(), &["plan", &hosts, "beta", "--json"]);
    let answer = json(&output);
    assert_eq!(answer["nodes"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        answer["nodes"][0]["links"][0]["peers"]["advertise"],
        "tcp://alpha.example.net:7102"
    );
    assert_eq!(answer["nodes"][0]["sockets"][0]["kind"], "ROUTER");
    assert_eq!(answer["nodes"][0]["zone"], "east");
    assert_eq!(answer["channels"][2]["name"], "presence");
    assert_eq!(answer["channels"][2]["kind"], "signal");

    let output = weft(folder.path(), &["plan", &hosts, "delta"]);
    assert_eq!((code(&output), text(&output.stdout)), (1, String::new()));
    assert!(text(&output.stderr).contains("the topology declares alpha, beta, gamma"));
}

#[test]
fn plan_draws_the_whole_fabric() {
    let folder = folder();
    let mermaid = weft(folder.path(), &["plan", "--format", "mermaid"]);
    assert_eq!((code(&mermaid), text(&mermaid.stderr)), (0, String::new()));
    assert!(text(&mermaid.stdout).contains("\nflowchart TB\n"));
    let hosts = shipped("three-hosts.toml");
    let svg = weft(folder.path(), &["plan", &hosts, "--format", "svg"]);
    assert_eq!((code(&svg), text(&svg.stderr)), (0, String::new()));
    let svg = text(&svg.stdout);
    assert!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
        "{svg}"
    );
    for args in [
        &["plan", &hosts, "beta", "--format", "svg"][..],
        &["plan", "--format", "svg", "--json"],
        &["plan", "--format", "png"],
    ] {
        let output = weft(folder.path(), args);
        assert_eq!((code(&output), text(&output.stdout)), (1, String::new()));
    }
}

/// What is refused here is what nodes refuse: `node::diff` holds one to the other.
#[test]
fn diff_tells_what_a_running_fabric_takes() {
    let folder = folder();
    let quickstart = fs::read_to_string(shipped("quickstart.toml")).expect("shipped");
    let raised = quickstart.replacen("epoch = 1 ", "epoch = 2 ", 1);
    let more = "[channel.later]\nkind = \"stream\"\nsubjects = [\"later.#\"]\n";
    for (name, text) in [
        ("old.toml", quickstart.clone()),
        (
            "more.toml",
            raised.replacen("[limits]", &format!("{more}[limits]"), 1),
        ),
        (
            "recounted.toml",
            raised.replacen("partitions = 4", "partitions = 5", 1),
        ),
        (
            "forgotten.toml",
            quickstart.replacen("sessions_max = 1000 ", "sessions_max = 900 ", 1),
        ),
        ("bad.toml", BAD.to_owned()),
    ] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let diff = |new: &str| weft(folder.path(), &["diff", "old.toml", new]);
    for (new, expected, part) in [
        ("old.toml", 0, "nothing else changes"),
        ("more.toml", 0, "taken     channel later is added, a stream"),
        (
            "more.toml",
            0,
            "1 change: restart the nodes with it, one at a time",
        ),
        (
            "recounted.toml",
            1,
            "refused   `partitions` of channel orders from 4 to 5",
        ),
        (
            "recounted.toml",
            1,
            "a running fabric cannot take this file",
        ),
        ("forgotten.toml", 1, "refused   `epoch` is 1 in both files"),
    ] {
        let output = diff(new);
        let told = text(&output.stdout);
        assert_eq!(
            (code(&output), text(&output.stderr)),
            (expected, String::new()),
            "{told}"
        );
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let output = diff("bad.toml");
    assert_eq!((code(&output), text(&output.stdout)), (1, String::new()));
    assert!(text(&output.stderr).contains("did you mean `signals`?"));
    let output = weft(
        folder.path(),
        &["diff", "old.toml", "recounted.toml", "--json"],
    );
    assert_eq!(
        (code(&output), &json(&output)["ok"]),
        (1, &Value::Bool(false))
    );
    assert_eq!(json(&output)["diff"]["changes"][0]["verdict"], "refused");
}

#[test]
fn plan_of_a_bad_file_tells_what_is_wrong() {
    let folder = folder();
    fs::write(folder.path().join("bad.toml"), BAD).expect("written");
    let output = weft(folder.path(), &["plan", "bad.toml"]);
    assert_eq!((code(&output), text(&output.stdout)), (1, String::new()));
    assert!(text(&output.stderr).contains("did you mean `signals`?"));
    fs::write(folder.path().join("bytes.toml"), [0xff, 0xfe]).expect("written");
    let output = weft(folder.path(), &["plan", "bytes.toml"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("no UTF-8 text"));
}

#[test]
fn new_keys_are_private_and_never_overwritten() {
    let folder = folder();
    let output = weft(folder.path(), &["keys", "new", "--for", "node", "alpha"]);
    assert_eq!(code(&output), 0);
    let file = folder.path().join("alpha.secret");
    let mode = fs::metadata(&file).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = fs::read_to_string(&file).expect("readable");
    let key = weft::topology::SecretKey::parse(&kept).expect("a key pair");
    let lines = format!(
        "public_key = \"{}\"\nsecret_key_file = \"alpha.secret\"\n",
        key.public()
    );
    assert_eq!(text(&output.stdout), lines);
    assert!(!text(&output.stderr).contains(key.secret_z85()));

    let again = weft(folder.path(), &["keys", "new", "--for", "node", "alpha"]);
    assert_eq!(code(&again), 1);
    assert!(text(&again.stderr).contains("never overwritten"));
    assert_eq!(fs::read_to_string(&file).expect("readable"), kept);

    let other = [
        "keys", "new", "--for", "client", "app", "--out", "k", "--json",
    ];
    let answer = json(&weft(folder.path(), &other));
    assert_eq!(
        (&answer["for"], &answer["name"]),
        (&"client".into(), &"app".into())
    );
    assert_ne!(answer["public_key"], key.public().as_str());
    assert!(folder.path().join("k").exists());
}

#[test]
fn bad_arguments_are_the_users() {
    let folder = folder();
    for args in [
        &["bogus"][..],
        &["check"],
        &["keys", "new", "--for", "king", "x"],
        &["keys", "new", "--for", "node", "../x"],
        &["keys", "new", "--out", "no/such/folder"],
    ] {
        let output = weft(folder.path(), args);
        assert_eq!(
            (code(&output), text(&output.stdout)),
            (1, String::new()),
            "{args:?}"
        );
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    assert_eq!(code(&weft(folder.path(), &["--help"])), 0);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn the_help_fits_a_screen_and_groups_the_commands() {
    let help = text(&weft(folder().path(), &["--help"]).stdout);
    assert!(help.lines().count() <= 40, "{help}");
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    for group in [
        "Run a fabric:",
        "Publish and read:",
        "Look inside:",
        "Try to break it:",
    ] {
        assert!(
            help.lines().any(|line| line == group),
            "no {group:?} in {help}"
        );
    }
}

#[test]
fn there_is_a_man_page_for_each_command_with_its_examples() {
    let folder = folder();
    let output = weft(folder.path(), &["manual", "--out", "pages/man1"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let written: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    for page in [
        "weft.1",
        "weft-publish.1",
        "weft-cursor.1",
        "weft-cursor-seek.1",
    ] {
        let path = format!("pages/man1/{page}");
        assert!(written.contains(&path), "no {path} in {written:?}");
    }
    for path in &written {
        let page = fs::read_to_string(folder.path().join(path)).expect("written");
        assert!(page.contains(".SH NAME\nweft"), "{path}: {page}");
        let version = format!("\"weft {}\" Weft", env!("CARGO_PKG_VERSION"));
        assert!(page.contains(&version), "{path}: {page}");
        assert!(
            path.ends_with("weft.1") || page.contains(".SH EXAMPLES\n.nf\nweft "),
            "{page}"
        );
    }
    fs::write(folder.path().join("file"), "").expect("written");
    let output = weft(folder.path(), &["manual", "--out", "file"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("no page can be written to file"));
}

#[test]
fn completions_are_made_for_every_shell() {
    let folder = folder();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = weft(folder.path(), &["completions", shell]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let script = text(&output.stdout);
        for part in ["publish", "subscribe", "server-key"] {
            assert!(script.contains(part), "{shell} does not complete {part}");
        }
        fs::write(folder.path().join(shell), script).expect("written");
    }
    let mut bash = Command::new("bash");
    bash.args(["-c", "source ./bash && complete -p weft"]);
    let output = bash.current_dir(folder.path()).output().expect("bash runs");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("weft"));
    assert_eq!(code(&weft(folder.path(), &["completions", "cmd"])), 1);
}
