//! `weft simulate --scale`: the smallest fabrics, and that what it counts is the same on every run.

use std::fs;

use serde_json::Value;
use weft::sim::scale::{Cost, Meter, Point, measure};
use weft::types::Span;

use crate::support::weft;

/// A clock that stands still: only what is counted is left.
struct NoClock;

impl Meter for NoClock {
    fn processor(&mut self) -> Span {
        Span(0)
    }

    fn resident_bytes(&mut self) -> u64 {
        0
    }
}

const SMALL: Point = Point {
    nodes: 3,
    partitions: 6,
    clients: 4,
    readers: 4,
    listeners: 4,
};

fn cost(point: Point) -> Cost {
    measure(point, &mut NoClock).expect("a fabric without faults")
}

#[test]
fn what_a_fabric_costs_is_counted_alike_on_every_run() {
    let first = cost(SMALL);
    assert_eq!(first, cost(SMALL));
    assert!(first.confirmed > 0 && first.delivered > 0, "{first:?}");
    assert!(first.load.bulk > first.idle.bulk, "{first:?}");
    assert!(first.load.commits > first.idle.commits, "{first:?}");
}

/// The two figures that README's section tells first: beats go from every node to every other, and
/// each partition has heartbeats of its own.
#[test]
fn beats_grow_with_the_nodes_and_heartbeats_with_the_partitions() {
    let base = cost(SMALL).idle;
    let nodes = cost(Point { nodes: 12, ..SMALL }).idle;
    // Two beats a second to each of eleven peers.
    assert!(nodes.control >= 22.0, "{nodes:?}");
    let partitions = cost(Point {
        partitions: 60,
        ..SMALL
    });
    let factor = partitions.idle.messages / base.messages;
    assert!((8.0..10.5).contains(&factor), "{factor}");
    let frames = partitions.idle.control / base.control;
    assert!((0.9..1.1).contains(&frames), "they share frames: {frames}");
}

/// A number that is there.
fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    let found = found.unwrap_or_else(|| panic!("no {path} in {value}"));
    assert!(found.is_finite() && found >= 0.0, "{path}: {found}");
    found
}

#[test]
fn the_smallest_fabrics_are_measured_told_and_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let plot = folder.path().join("scale.svg");
    let mut command = weft();
    command.args(["simulate", "--scale", "--smallest", "--json", "--plot"]);
    let output = command.arg(&plot).output().expect("weft runs");
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let series = told["series"].as_array().expect("series");
    assert_eq!(series.len(), 6);
    for one in series {
        let points = one["points"].as_array().expect("points");
        assert_eq!(points.len(), 2, "{one}");
        for point in points {
            for path in ["/cost/start/messages", "/cost/confirmed", "/size"] {
                assert!(number(point, path) > 0.0, "{path}");
            }
            for state in ["idle", "load"] {
                for figure in ["control", "peer_bytes", "messages", "steps", "processor_ms"] {
                    let path = format!("/cost/{state}/{figure}");
                    assert!(number(point, &path) > 0.0, "{path}");
                }
            }
            assert!(number(point, "/cost/memory_bytes") > 0.0);
        }
    }
    let growth = told["growth"].as_array().expect("growth");
    assert_eq!(growth.len() % series.len(), 0);
    assert!(growth.iter().all(|one| one["verdict"].is_string()));
    assert!(!told["left_out"].as_array().expect("a list").is_empty());

    let plot = fs::read_to_string(plot).expect("the plot");
    assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>\n"));
    for one in series {
        let name = one["grows"].as_str().expect("a name");
        assert!(plot.contains(&format!(">{name}</text>")), "no {name}");
    }
    assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
}

#[test]
fn a_plot_that_cannot_be_written_is_told_before_anything_is_measured() {
    let mut command = weft();
    command.args(["simulate", "--scale", "--plot", "/nowhere/scale.svg"]);
    let output = command.output().expect("weft runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/nowhere/scale.svg"), "{said}");
}
