//! The plot: four figures of one node against the size, both axes logarithmic, one line for each
//! dimension. SVG as text, nothing else needed.

use std::fmt::Write;

use super::Measured;
use super::growth::{METRICS, Metric};

/// The figures that are drawn, by their place in [`METRICS`].
const DRAWN: [usize; 4] = [1, 3, 4, 7];

/// Colours that most people tell apart (Okabe and Ito, 2008).
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

/// One panel, in the plot's units.
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 60.0;

/// A logarithmic axis: where its powers of ten begin and end, and on which length.
#[derive(Debug, Clone, Copy)]
struct Axis {
    first: i32,
    last: i32,
    length: f64,
}

impl Axis {
    /// One that holds all of these.
    fn of(values: impl Iterator<Item = f64>, length: f64) -> Self {
        let (mut first, mut last) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| *value > 0.0) {
            first = first.min(value.log10());
            last = last.max(value.log10());
        }
        if first > last {
            (first, last) = (0.0, 1.0);
        }
        let first = first.floor() as i32;
        Self {
            first,
            last: (last.ceil() as i32).max(first + 1),
            length,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let span = f64::from(self.last - self.first);
        (value.log10() - f64::from(self.first)) / span * self.length
    }

    fn tens(&self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| 10f64.powi(power))
    }
}

/// The whole plot.
pub(super) fn svg(measured: &[Measured]) -> String {
    let width = 2.0 * (WIDTH + 1.5 * MARGIN);
    let legend = 20.0 * measured.len().div_ceil(3) as f64;
    let height = 2.0 * (HEIGHT + 1.7 * MARGIN) + legend + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        escaped("What one node costs as a fabric grows")
    );
    for (place, metric) in DRAWN.into_iter().map(|drawn| &METRICS[drawn]).enumerate() {
        let (column, row) = ((place % 2) as f64, (place / 2) as f64);
        let left = MARGIN + column * (WIDTH + 1.5 * MARGIN);
        let top = 0.7 * MARGIN + row * (HEIGHT + 1.7 * MARGIN);
        panel(&mut svg, (left, top), metric, measured);
    }
    let top = height - legend - 20.0;
    for (place, one) in measured.iter().enumerate() {
        let x = MARGIN + (place % 3) as f64 * width / 3.3;
        let y = top + 20.0 * (place / 3) as f64;
        let colour = COLOURS[place % COLOURS.len()];
        line(&mut svg, &[(x, y), (x + 24.0, y)], colour, "2");
        text(&mut svg, (x + 30.0, y + 4.0), "start", one.name);
    }
    let _ = writeln!(svg, "</svg>");
    svg
}

/// One figure of one node.
fn panel(svg: &mut String, (left, top): (f64, f64), metric: &Metric, measured: &[Measured]) {
    let sizes = measured.iter().flat_map(|one| &one.costs);
    let values = sizes.clone().map(|(_, cost)| (metric.of)(cost));
    let across = Axis::of(sizes.map(|(size, _)| *size as f64), WIDTH);
    let up = Axis::of(values, HEIGHT);
    let x = |value: f64| left + across.at(value);
    let y = |value: f64| top + HEIGHT - up.at(value);
    for ten in across.tens() {
        line(
            svg,
            &[(x(ten), top), (x(ten), top + HEIGHT)],
            "#dddddd",
            "1",
        );
        let place = (x(ten), top + HEIGHT + 18.0);
        text(svg, place, "middle", &power_of_ten(ten));
    }
    for ten in up.tens() {
        line(
            svg,
            &[(left, y(ten)), (left + WIDTH, y(ten))],
            "#dddddd",
            "1",
        );
        text(svg, (left - 6.0, y(ten) + 4.0), "end", &power_of_ten(ten));
    }
    let title = format!("{} of one node", metric.name);
    text(svg, (left, top - 10.0), "start", &title);
    let place = (left + WIDTH / 2.0, top + HEIGHT + 36.0);
    text(svg, place, "middle", "how many there are of what grows");
    for (place, one) in measured.iter().enumerate() {
        let points = one
            .costs
            .iter()
            .map(|(size, cost)| (*size as f64, (metric.of)(cost)));
        let points: Vec<(f64, f64)> = points
            .filter(|(_, value)| *value > 0.0)
            .map(|(size, value)| (x(size), y(value)))
            .collect();
        let colour = COLOURS[place % COLOURS.len()];
        line(svg, &points, colour, "2");
        for (x, y) in points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
    }
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str, width: &str) {
    let points = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
    let points = points.collect::<Vec<_>>().join(" ");
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{text}</text>"
    );
}

fn power_of_ten(value: f64) -> String {
    let below_one = (-value.log10()).round().max(0.0) as usize;
    format!("{value:.below_one$}")
}

/// Text as XML holds it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scale::{BASE, Cost, Rates, Start};

    fn cost(messages: f64) -> Cost {
        let idle = Rates {
            messages,
            ..Rates::default()
        };
        Cost {
            point: BASE,
            start: Start::default(),
            idle,
            load: Rates::default(),
            memory_bytes: 1e6,
            confirmed: 0,
            delivered: 0,
        }
    }

    #[test]
    fn a_name_cannot_break_the_plot_and_what_is_nothing_is_not_drawn() {
        let measured = [Measured {
            name: "a<b> & \"c\"",
            costs: vec![(1, cost(0.0)), (10, cost(5.0)), (100, cost(50.0))],
        }];
        let svg = svg(&measured);
        assert!(svg.contains("a&lt;b&gt; &amp; &quot;c&quot;"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        // Two of the messages, three of the memory; nothing of the others.
        assert_eq!(svg.matches("<circle").count(), 5);
    }

    #[test]
    fn equal_steps_on_an_axis_are_equal_factors() {
        let axis = Axis::of([3.0, 2_000.0].into_iter(), 400.0);
        assert_eq!((axis.first, axis.last), (0, 4));
        assert_eq!(axis.at(10.0), 100.0);
        assert_eq!(axis.at(1_000.0), 300.0);
        let told = [0.001, 0.1, 1.0, 100.0].map(power_of_ten);
        assert_eq!(told, ["0.001", "0.1", "1", "100"]);
    }
}
