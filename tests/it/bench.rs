//! `weft bench`: each subcommand with very little to do. What it reaches is not looked at here;
//! that it shows every figure it promises, and that every record is accounted for, is.

use serde_json::Value;

use crate::readme::page::{blocks, section};
use crate::support::weft;

/// Runs a bench with little to do, and checks that every one of these figures was measured, on the
/// side of Weft (`w`), of the reference (`r`) or both.
fn bench(args: &[&str], figures: &[(&str, &str)]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = weft();
    command.arg("bench").args(args).arg("--json");
    command.args(["--runs", "1", "--seconds", "1", "--data"]);
    let output = command.arg(folder.path()).output().expect("weft runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}{talk}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!(told["good"], true, "{told}");
    assert_eq!(told["bench"], args[0]);
    assert_eq!(told["faults"], serde_json::json!([]));
    assert!(told["settings"]["cores"].as_u64() > Some(0), "{told}");
    for (name, sides) in figures {
        for (letter, side) in [('w', "weft"), ('r', "raw")] {
            let figure = &told["figures"][*name][side];
            let measured = figure["median"].is_number() && figure["runs"][0].is_number();
            assert_eq!(measured, sides.contains(letter), "{name} of {side}: {told}");
        }
    }
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "what a bench writes goes with it");
    told
}

fn median(told: &Value, name: &str, side: &str) -> f64 {
    let median = told["figures"][name][side]["median"].as_f64();
    median.unwrap_or_else(|| panic!("{name} of {side}: {told}"))
}

/// What the system does not tell everywhere.
fn where_told(sides: &'static str) -> &'static str {
    if cfg!(target_os = "linux") { sides } else { "" }
}

#[test]
fn bench_signal_accounts_for_every_record_of_both_sides() {
    let figures = [
        ("records_per_s", "wr"),
        ("offered_per_s", "w"),
        ("cpu_s_per_million", where_told("wr")),
        ("handovers_per_million", where_told("wr")),
        ("journal_syncs", "w"),
        ("frames_sent", "wr"),
        ("records_per_frame_in", "wr"),
        ("records_per_frame_out", "wr"),
    ];
    let told = bench(&["signal", "--records", "20000", "--size", "16"], &figures);
    for side in ["weft", "raw"] {
        let [sent, received, lost] = ["records_sent", "records_received", "records_lost"]
            .map(|name| median(&told, name, side));
        assert!(sent >= 20_000.0, "{told}");
        assert_eq!(sent, received + lost, "{told}");
    }
}

// Under CURVE both sides prove keys, and the raw one sends frames as long as Weft's.
#[test]
fn bench_signal_has_keys_on_both_sides() {
    let figures = [("records_per_s", "wr"), ("records_per_frame_out", "wr")];
    let told = bench(&["signal", "--curve", "--records", "20000"], &figures);
    assert_eq!(told["settings"]["curve"], "on");
    let [weft, raw] = ["weft", "raw"].map(|side| median(&told, "records_per_frame_out", side));
    assert!((weft - raw).abs() < 1.0, "{told}");
}

#[test]
fn bench_stream_counts_every_confirm_and_reads_every_record_back() {
    let figures = [
        ("records_per_s", "wr"),
        ("p50_us", "wr"),
        ("p99_us", "wr"),
        ("cpu_s_per_million", where_told("wr")),
        ("journal_syncs", "wr"),
        ("syncs_per_confirm", "w"),
        ("group_bytes", "r"),
        ("forwarded_per_s", "r"),
        ("frames_sent", "w"),
        ("read_back_per_s", "w"),
        ("read_and_acked_per_s", "w"),
    ];
    let told = bench(
        &["stream", "--records", "3000", "--window", "100"],
        &figures,
    );
    let count = |name| median(&told, name, "weft");
    assert_eq!(count("records_sent"), 3_000.0);
    assert_eq!(count("records_confirmed"), 3_000.0);
    assert_eq!(count("records_received"), 3_000.0);
    assert_eq!(count("records_lost"), 0.0);
    assert!(count("journal_syncs") > 0.0, "{told}");
    assert_eq!(told["settings"]["confirm"], "quorum");
}

#[test]
fn bench_latency_shows_what_the_way_is_made_of() {
    let figures = [
        ("p50_us", "wr"),
        ("p99_us", "wr"),
        ("sync_p50_us", "r"),
        ("round_trip_p50_us", "r"),
        ("handovers_per_confirm", where_told("w")),
        ("journal_syncs", "w"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let plot = folder.path().join("latency.svg");
    let plot = plot.to_str().expect("UTF-8");
    let told = bench(&["latency", "--records", "100", "--plot", plot], &figures);
    let drawn = std::fs::read_to_string(plot).expect("a drawing");
    assert!(
        drawn.starts_with("<svg ") && drawn.contains(">one raw round trip<"),
        "{drawn}"
    );
    assert_eq!(median(&told, "records_confirmed", "weft"), 100.0);
    assert_eq!(median(&told, "records_received", "weft"), 100.0);
    let parts = ["sync_p50_us", "round_trip_p50_us"].map(|name| median(&told, name, "raw"));
    // As far as its digits in the text go.
    let sum = median(&told, "p50_us", "raw");
    assert!((sum - parts[0] - parts[1]).abs() < 0.001, "{told}");
}

#[test]
fn bench_fanout_accounts_for_every_delivery_of_both_sides() {
    let figures = [
        ("records_per_s", "wr"),
        ("cpu_s_per_million", where_told("wr")),
    ];
    let told = bench(
        &["fanout", "--records", "5000", "--consumers", "3"],
        &figures,
    );
    for side in ["weft", "raw"] {
        let [sent, received, lost] = ["records_sent", "records_received", "records_lost"]
            .map(|name| median(&told, name, side));
        assert_eq!(3.0 * sent, received + lost, "{told}");
    }
}

#[test]
fn bench_history_reads_all_of_it_alone_and_beside_a_producer() {
    let figures = [
        ("mb_per_s", "wr"),
        ("records_per_frame", "w"),
        ("node_cpu_s_per_million", where_told("w")),
        ("confirmed_alone_per_s", "w"),
        ("confirmed_beside_a_reader_per_s", "w"),
        ("mb_per_s_beside_a_producer", "w"),
    ];
    let told = bench(&["history", "--records", "500", "--mib", "2"], &figures);
    assert_eq!(median(&told, "records_received", "weft"), 2_048.0);
    assert_eq!(median(&told, "records_lost", "weft"), 0.0);
}

#[test]
fn bench_connections_are_all_answered_and_weighed() {
    let figures = [
        ("kib_per_client", where_told("wr")),
        ("resident_mib_after", where_told("wr")),
        ("clients_answered", "wr"),
    ];
    let told = bench(&["connections", "--count", "20"], &figures);
    for side in ["weft", "raw"] {
        assert_eq!(median(&told, "clients_answered", side), 20.0);
    }
}

#[test]
fn bench_recovery_loses_nothing_to_a_killed_leader_and_a_restart() {
    let figures = [
        ("kill_to_confirm_s", "w"),
        ("healthy_after_restart_s", "w"),
        ("restart_s", "wr"),
        ("read_mib", "r"),
    ];
    let told = bench(&["recovery", "--gib", "0.001"], &figures);
    let count = |name| median(&told, name, "weft");
    assert_eq!(count("records_sent"), count("records_confirmed"));
    assert_eq!(count("records_sent"), count("records_received"));
    assert_eq!(count("held_records_sent"), count("held_records_read"));
}

#[test]
fn bench_idle_weighs_every_node() {
    let figures = [
        ("cpu_percent_per_node", where_told("wr")),
        ("resident_mib_per_node", where_told("wr")),
        ("journal_syncs", "w"),
    ];
    let told = bench(&["idle", "--partitions", "4"], &figures);
    let nodes = told["figures"]["resident_mib_per_node"]["weft"]["runs"].as_array();
    assert_eq!(
        nodes.map(Vec::len),
        Some(if cfg!(target_os = "linux") { 3 } else { 0 })
    );
}

// README's lines run as they are written, if not for as long.
#[test]
fn the_lines_of_readme_run() {
    let readme = include_str!("../../README.md");
    let block = blocks(section(readme, "Measure it yourself")).remove(0);
    assert_eq!(block.text.lines().count(), 2, "{}", block.text);
    for line in block.text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], ["weft", "bench"]);
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = weft();
        command.args(&words[1..]);
        command.args(["--runs", "1", "--seconds", "1", "--data"]);
        let output = command.arg(folder.path()).output().expect("weft runs");
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    }
}
