//! How a figure grows with a size: the power between neighbouring points, and what that is called.

use serde::Serialize;

use super::Measured;
use crate::sim::scale::Cost;

/// A figure of one node.
pub(super) struct Metric {
    /// What it is.
    pub(super) name: &'static str,
    /// Where it stands.
    pub(super) of: fn(&Cost) -> f64,
    /// What is as good as nothing.
    nothing: f64,
}

/// Those that are compared.
pub(super) const METRICS: [Metric; 9] = [
    metric("control frames/s, idle", |cost| cost.idle.control, 0.1),
    metric("messages/s, idle", |cost| cost.idle.messages, 0.1),
    metric("bulk frames/s, idle", |cost| cost.idle.bulk, 0.1),
    metric(
        "peer KiB/s, idle",
        |cost| cost.idle.peer_bytes / 1024.0,
        0.01,
    ),
    metric("CPU ms/s, idle", |cost| cost.idle.processor_ms, 0.01),
    metric(
        "peer KiB/s, load",
        |cost| cost.load.peer_bytes / 1024.0,
        0.01,
    ),
    metric("CPU ms/s, load", |cost| cost.load.processor_ms, 0.01),
    metric("memory, MiB", |cost| cost.memory_bytes / MIB, 0.01),
    metric("CPU ms, start", |cost| cost.start.processor_ms, 0.01),
];

const MIB: f64 = (1 << 20) as f64;

const fn metric(name: &'static str, of: fn(&Cost) -> f64, nothing: f64) -> Metric {
    Metric { name, of, nothing }
}

/// How a figure grows with a size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Growth {
    /// What grows.
    pub(super) grows: &'static str,
    /// What of one node follows.
    pub(super) figure: &'static str,
    /// From each point to the next; absent where it is as good as nothing.
    pub(super) powers: Vec<Option<f64>>,
    /// What the last step is called.
    pub(super) verdict: &'static str,
}

impl Growth {
    /// The powers for a person.
    pub(super) fn powers(&self) -> String {
        let powers = self.powers.iter().map(|power| match power {
            // No minus before a zero.
            Some(power) => format!("{:.1}", power + 0.0),
            None => "-".to_owned(),
        });
        powers.collect::<Vec<_>>().join(" ").replace("-0.0", "0.0")
    }
}

/// Every figure of every series.
pub(super) fn growths(measured: &[Measured]) -> Vec<Growth> {
    let one = |series: &Measured| -> Vec<Growth> {
        let growth = |metric: &Metric| {
            let points = series.costs.iter();
            let points: Vec<(f64, f64)> = points
                .map(|(size, cost)| (*size as f64, (metric.of)(cost)))
                .collect();
            let pairs = points.windows(2);
            let powers: Vec<Option<f64>> = pairs
                .map(|pair| power(pair[0], pair[1], metric.nothing))
                .collect();
            let last = powers.last().copied().flatten();
            Growth {
                grows: series.name,
                figure: metric.name,
                verdict: verdict(last),
                powers,
            }
        };
        METRICS.iter().map(growth).collect()
    };
    measured.iter().flat_map(one).collect()
}

/// The power `p` with which `y` grows as `x` to the power of `p`.
fn power(from: (f64, f64), to: (f64, f64), nothing: f64) -> Option<f64> {
    let is_there = from.1 >= nothing && to.1 >= nothing && from.0 > 0.0 && to.0 > from.0;
    is_there.then(|| (to.1 / from.1).ln() / (to.0 / from.0).ln())
}

/// A power in words. What two runs differ by is no growth.
fn verdict(power: Option<f64>) -> &'static str {
    match power {
        None => "none",
        Some(power) if power < -0.15 => "falls",
        Some(power) if power < 0.15 => "constant",
        Some(power) if power < 0.85 => "less than linear",
        Some(power) if power < 1.15 => "linear",
        Some(power) if power < 1.85 => "more than linear",
        Some(_) => "square",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_is_that_of_its_two_points() {
        for (from, to, expected, words) in [
            ((10.0, 7.0), (100.0, 7.0), Some(0.0), "constant"),
            ((10.0, 7.0), (100.0, 70.0), Some(1.0), "linear"),
            ((3.0, 2.0), (30.0, 200.0), Some(2.0), "square"),
            ((4.0, 8.0), (16.0, 4.0), Some(-0.5), "falls"),
            ((1.0, 1.0), (100.0, 10.0), Some(0.5), "less than linear"),
            ((1.0, 0.0), (100.0, 10.0), None, "none"),
        ] {
            let found = power(from, to, 0.1);
            let near = |(a, b): (f64, f64)| (a - b).abs() < 1e-9;
            assert_eq!(found.is_some(), expected.is_some());
            assert!(found.zip(expected).is_none_or(near), "{found:?}");
            assert_eq!(verdict(found), words);
        }
    }

    #[test]
    fn powers_are_told_without_a_minus_before_a_zero() {
        let growth = Growth {
            grows: "nodes",
            figure: "memory, MiB",
            powers: vec![Some(-0.01), None, Some(1.04), Some(-0.5)],
            verdict: "falls",
        };
        assert_eq!(growth.powers(), "0.0 - 1.0 -0.5");
    }
}
