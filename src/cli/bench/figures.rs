//! What a bench has measured: samples of both sides, one per run, with their median, range and
//! ratio. A figure without a sample is not shown at all.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::cli::table::Table;

/// What came of a bench.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Its name.
    pub(super) bench: &'static str,
    /// What was measured, and what it was measured beside, in one line each.
    pub(super) about: [String; 2],
    /// How it was done: sizes, levels, processes.
    settings: Vec<(&'static str, Value)>,
    figures: Vec<Figure>,
    faults: Vec<String>,
    /// The same with records of other sizes.
    sizes: Vec<Report>,
}

/// One figure of both sides.
#[derive(Debug)]
struct Figure {
    /// Its name, the unit last.
    name: &'static str,
    weft: Vec<f64>,
    raw: Vec<f64>,
}

impl Report {
    pub(super) fn new(bench: &'static str, weft: &str, raw: &str) -> Self {
        Self {
            bench,
            about: [weft.to_owned(), raw.to_owned()],
            ..Self::default()
        }
    }

    /// Says how it was done.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.settings.push((name, value.into()));
    }

    /// Adds what a run of Weft came to.
    pub(super) fn weft(&mut self, name: &'static str, value: impl Into<Option<f64>>) {
        let figure = self.figure(name);
        figure.weft.extend(value.into());
    }

    /// Adds what a run of the reference came to.
    pub(super) fn raw(&mut self, name: &'static str, value: impl Into<Option<f64>>) {
        let figure = self.figure(name);
        figure.raw.extend(value.into());
    }

    /// Adds what does not add up.
    pub(super) fn fault(&mut self, faults: impl IntoIterator<Item = String>) {
        self.faults.extend(faults);
    }

    /// Adds what came of the same bench with records of another size.
    pub(super) fn take_size(&mut self, report: Report) {
        self.sizes.push(report);
    }

    pub(super) fn is_good(&self) -> bool {
        self.faults.is_empty() && self.sizes.iter().all(Self::is_good)
    }

    /// The median of a figure of Weft, and of the reference.
    pub(super) fn medians(&self, name: &str) -> [Option<f64>; 2] {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        figure.map_or([None; 2], |own| [median(&own.weft), median(&own.raw)])
    }

    fn figure(&mut self, name: &'static str) -> &mut Figure {
        let found = self.figures.iter().position(|figure| figure.name == name);
        let at = found.unwrap_or(self.figures.len());
        if at == self.figures.len() {
            self.figures.push(Figure {
                name,
                weft: Vec::new(),
                raw: Vec::new(),
            });
        }
        &mut self.figures[at]
    }

    /// All of it for programs.
    pub(super) fn as_json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| {
            let value = json!({
                "weft": side(&figure.weft),
                "raw": side(&figure.raw),
                "ratio": figure.ratio(),
            });
            (figure.name.to_owned(), value)
        });
        let settings = self.settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), value.clone()));
        json!({
            "bench": self.bench,
            "good": self.is_good(),
            "weft": self.about[0],
            "raw": self.about[1],
            "settings": settings.collect::<Map<_, _>>(),
            "figures": figures.collect::<Map<_, _>>(),
            "faults": self.faults,
            "sizes": self.sizes.iter().map(Self::as_json).collect::<Vec<_>>(),
        })
    }

    /// All of it for people.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.bench)?;
        writeln!(out, "  weft  {}", self.about[0])?;
        writeln!(out, "  raw   {}", self.about[1])?;
        let setting = |(name, value): &(&str, Value)| {
            let value = value.as_str().map_or(value.to_string(), str::to_owned);
            format!("{} {value}", name.replace('_', " "))
        };
        let settings: Vec<String> = self.settings.iter().map(setting).collect();
        writeln!(out, "  {}", settings.join(" · "))?;
        let mut table = Table::new(["", "WEFT", "RANGE", "RAW", "RANGE", "RATIO"]);
        for figure in self.figures.iter().filter(|figure| figure.is_measured()) {
            let [weft, weft_range] = shown(&figure.weft);
            let [raw, raw_range] = shown(&figure.raw);
            let ratio = figure
                .ratio()
                .map_or(String::new(), |ratio| format!("{ratio:.3}"));
            let name = figure.name.replace('_', " ");
            table.row([name, weft, weft_range, raw, raw_range, ratio]);
        }
        write!(out, "{table}")?;
        for report in &self.sizes {
            writeln!(out)?;
            report.print(out)?;
        }
        match self.faults.len() {
            0 => writeln!(out, "every record is accounted for"),
            _ => self
                .faults
                .iter()
                .try_for_each(|why| writeln!(out, "{why}")),
        }
    }
}

impl Figure {
    fn is_measured(&self) -> bool {
        !(self.weft.is_empty() && self.raw.is_empty())
    }

    /// Weft's median in units of the reference's.
    fn ratio(&self) -> Option<f64> {
        let (weft, raw) = (median(&self.weft)?, median(&self.raw)?);
        (raw > 0.0).then(|| weft / raw)
    }
}

/// The middle of these; between the two middle ones if they are of even number.
pub(super) fn median(samples: &[f64]) -> Option<f64> {
    let sorted = sorted(samples);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn side(samples: &[f64]) -> Value {
    let sorted = sorted(samples);
    json!({
        "median": median(samples),
        "min": sorted.first(),
        "max": sorted.last(),
        "runs": samples,
    })
}

/// Median and range as a person reads them.
fn shown(samples: &[f64]) -> [String; 2] {
    let sorted = sorted(samples);
    let (Some(median), [least, .., most]) = (median(samples), &sorted[..]) else {
        return [
            median(samples).map(number).unwrap_or_default(),
            String::new(),
        ];
    };
    let range = format!("{} to {}", number(*least), number(*most));
    [number(median), range]
}

/// A number with as many digits as it is worth.
fn number(value: f64) -> String {
    if value.abs() < 1_000.0 && value.fract() != 0.0 {
        let places = if value.abs() < 10.0 { 3 } else { 1 };
        return format!("{value:.places$}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{grouped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_ranges_and_ratios_come_from_samples_alone() {
        let mut report = Report::new("signal", "a", "b");
        for value in [4.0, 2.0, 3.0] {
            report.weft("records_per_s", value);
            report.raw("records_per_s", 2.0 * value);
        }
        report.weft("cpu_s", None);
        assert_eq!(report.medians("records_per_s"), [Some(3.0), Some(6.0)]);
        assert_eq!(report.medians("cpu_s"), [None, None]);
        let told = report.as_json();
        assert_eq!(told["figures"]["records_per_s"]["ratio"], 0.5);
        assert_eq!(told["figures"]["records_per_s"]["weft"]["max"], 4.0);
        assert_eq!(told["figures"]["cpu_s"]["weft"]["median"], Value::Null);
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        let mut text = Vec::new();
        report.print(&mut text).expect("written");
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(
            text.contains("records per s") && !text.contains("cpu s"),
            "{text}"
        );
        assert!(text.contains("2 to 4"), "{text}");
    }

    #[test]
    fn a_fault_makes_a_report_bad() {
        let mut report = Report::new("signal", "a", "b");
        assert!(report.is_good());
        report.fault(["weft: 1 records are unread".to_owned()]);
        assert!(!report.is_good());
        assert_eq!(report.as_json()["good"], false);
    }

    #[test]
    fn numbers_have_the_digits_that_they_are_worth() {
        for (value, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (12.34, "12.3"),
            (1_234.5, "1,234"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
