//! A chart of what was measured: one curve per side, over a logarithmic scale. A value that was not
//! measured is a hole in its curve.

use std::fs;
use std::path::Path;

use super::figures::Report;
use crate::cli::Failure;
use crate::cli::pen::Pen;

/// The sizes of records that a chart goes through, in bytes.
const SIZES: [usize; 7] = [16, 64, 256, 1_024, 4_096, 16_384, 65_536];

/// Where the scale begins, in pixels from the left and from above.
const ORIGIN: (usize, usize) = (70, 60);

/// How far two marks are apart.
const STEP: usize = 90;

/// How high a power of ten is.
const DECADE: usize = 80;

/// What is to be drawn.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What the values are.
    pub(super) unit: &'static str,
    /// What the marks are.
    pub(super) across: &'static str,
    pub(super) marks: Vec<String>,
    pub(super) series: Vec<Series>,
}

/// One curve: a value, or none, for each mark.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) values: Vec<Option<f64>>,
}

/// Measures every size, and draws of each the median of these figures: the name of the curve, the
/// side (0 for Weft, 1 for the reference) and the figure. All of them become part of `report`.
pub(super) fn sizes(
    title: &str,
    lines: &[(&'static str, usize, &str)],
    report: &mut Report,
    mut measure: impl FnMut(usize) -> Result<Report, Failure>,
) -> Result<Chart, Failure> {
    let series = lines.iter().map(|(name, ..)| Series {
        name,
        values: Vec::new(),
    });
    let mut chart = Chart {
        title: title.to_owned(),
        unit: "records a second",
        across: "bytes of a record",
        marks: SIZES.map(|size| size.to_string()).to_vec(),
        series: series.collect(),
    };
    for size in SIZES {
        eprintln!("records of {size} bytes");
        let measured = measure(size)?;
        for (series, (_, side, figure)) in chart.series.iter_mut().zip(lines) {
            series.values.push(measured.medians(figure)[*side]);
        }
        report.take_size(measured);
    }
    Ok(chart)
}

/// Writes the chart as SVG.
pub(super) fn write(file: &Path, chart: &Chart) -> Result<(), Failure> {
    fs::write(file, chart.draw()).map_err(|why| {
        let what = format!("{} cannot be written: {why}", file.display());
        Failure::user(what, "name another file with --plot")
    })
}

impl Chart {
    fn draw(&self) -> String {
        let mut pen = Pen::default();
        let (left, top) = ORIGIN;
        pen.text((16, 24), "strong", &self.title);
        pen.text((16, 44), "faint", self.unit);
        let (low, high) = self.decades();
        let bottom = top + (high - low) as usize * DECADE;
        let right = left + self.marks.len() * STEP;
        for power in low..=high {
            let y = bottom - (power - low) as usize * DECADE;
            pen.line((left, right), y, "row");
            pen.text((16, y + 4), "faint", &power_of_ten(power));
        }
        let x = |at: usize| left + STEP / 2 + at * STEP;
        for (at, mark) in self.marks.iter().enumerate() {
            pen.text((x(at) - 12, bottom + 20), "faint", mark);
        }
        pen.text((left, bottom + 40), "faint", self.across);
        let y = |value: f64| {
            let above = (value.log10() - f64::from(low)) * DECADE as f64;
            bottom - (above.max(0.0) as usize).min(bottom - top)
        };
        for (number, series) in self.series.iter().enumerate() {
            let class = number % 3;
            let points = series.values.iter().enumerate().map(|(at, value)| {
                let value = value.filter(|value| *value > 0.0)?;
                Some(((x(at), y(value)), value))
            });
            let points: Vec<_> = points.collect();
            for run in points.split(Option::is_none) {
                let run: Vec<_> = run.iter().flatten().map(|(point, _)| *point).collect();
                if !run.is_empty() {
                    pen.curve(&run, &format!("curve s{class}"));
                }
            }
            for (point, value) in points.iter().flatten() {
                let title = format!("{}: {value:.0} {}", series.name, self.unit);
                pen.dot(*point, &format!("point p{class}"), &title);
            }
            let row = bottom + 64 + number * 20;
            pen.dot((left + 5, row - 4), &format!("point p{class}"), series.name);
            pen.text((left + 18, row), "", series.name);
        }
        pen.finish(&self.title)
    }

    /// The powers of ten below and above all values.
    fn decades(&self) -> (i32, i32) {
        let values = self.series.iter().flat_map(|series| &series.values);
        let logs = values.flatten().filter(|value| **value > 0.0);
        let logs: Vec<f64> = logs.map(|value| value.log10()).collect();
        let low = logs.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let high = logs.iter().copied().reduce(f64::max).unwrap_or(1.0);
        let low = low.floor() as i32;
        (low, (high.ceil() as i32).max(low + 1))
    }
}

/// As a person reads it.
fn power_of_ten(power: i32) -> String {
    match power {
        0..=2 => 10_u64.pow(power.unsigned_abs()).to_string(),
        3..=5 => format!("{}k", 10_u64.pow((power - 3).unsigned_abs())),
        6..=8 => format!("{}M", 10_u64.pow((power - 6).unsigned_abs())),
        _ => format!("1e{power}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_draws_what_was_measured_and_leaves_holes() {
        let chart = Chart {
            title: "a & b".to_owned(),
            unit: "records a second",
            across: "bytes",
            marks: ["16", "64", "256"].map(str::to_owned).to_vec(),
            series: vec![Series {
                name: "weft",
                values: vec![Some(1_000.0), None, Some(200_000.0)],
            }],
        };
        assert_eq!(chart.decades(), (3, 6));
        let drawn = chart.draw();
        assert!(
            drawn.starts_with("<svg ") && drawn.contains("a &amp; b"),
            "{drawn}"
        );
        assert_eq!(drawn.matches("class=\"curve s0\"").count(), 2, "{drawn}");
        assert!(drawn.contains("weft: 200000 records a second"), "{drawn}");
        assert!(drawn.contains(">1M<") && drawn.contains(">1k<"), "{drawn}");
    }
}
