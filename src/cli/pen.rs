//! Writes the few shapes of SVG that plans and charts are drawn with, every text escaped.

use std::fmt::Write;

/// The width of a character of the type that is used, in tenths of a pixel: 12 pixels high, in
/// which every character is as wide as the others.
const CHARACTER_TENTHS: usize = 73;

/// What is left free around the drawing, in pixels.
const MARGIN: usize = 16;

const STYLE: &str = "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2933}\
    .strong{font-weight:bold}.faint{fill:#5b6770}\
    .zone{fill:#f3f6f9;stroke:#c3ccd5}.host{fill:#e6ecf2;stroke:#b3bec9}\
    .node{fill:#fff;stroke:#39485a}\
    .link{fill:none;stroke:#39708f}.open{stroke-dasharray:4 3}\
    .row{stroke:#e3e8ed}.leads{fill:#1d6f42;stroke:#1d6f42}.follows{fill:#fff;stroke:#1d6f42}\
    .curve{fill:none;stroke-width:2}.point{stroke:#fff}\
    .s0{stroke:#1d6f42}.p0{fill:#1d6f42}.s1{stroke:#39708f}.p1{fill:#39708f}\
    .s2{stroke:#a4621a}.p2{fill:#a4621a}";

/// A drawing in the making. Places are in pixels, from the upper left corner on.
#[derive(Debug, Default)]
pub(crate) struct Pen {
    body: String,
    right: usize,
    bottom: usize,
}

impl Pen {
    /// A text whose baseline begins at `x` and `y`.
    pub(crate) fn text(&mut self, (x, y): (usize, usize), class: &str, text: &str) {
        self.reach(x + width(text), y + 4);
        let text = escaped(text);
        self.push(&format!(
            "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{text}</text>"
        ));
    }

    /// A box from `(x, y)` on; `title` is what a browser shows above it.
    pub(crate) fn frame(
        &mut self,
        (x, y): (usize, usize),
        (wide, high): (usize, usize),
        class: &str,
        title: &str,
    ) {
        self.reach(x + wide, y + high);
        let title = escaped(title);
        self.push(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{high}\" rx=\"4\" \
             class=\"{class}\"><title>{title}</title></rect>"
        ));
    }

    /// An arc that hangs from `from` to `to`, which are at the height `y`, `deep` at its control
    /// points.
    pub(crate) fn arc(
        &mut self,
        (from, to): (usize, usize),
        (y, deep): (usize, usize),
        class: &str,
        title: &str,
    ) {
        // The curve itself comes down to three quarters of that.
        self.reach(to, y + deep * 3 / 4);
        let (low, title) = (y + deep, escaped(title));
        self.push(&format!(
            "<path d=\"M{from} {y}C{from} {low} {to} {low} {to} {y}\" \
             class=\"{class}\"><title>{title}</title></path>"
        ));
    }

    /// A line across, from `from` to `to` at the height `y`.
    pub(crate) fn line(&mut self, (from, to): (usize, usize), y: usize, class: &str) {
        self.reach(to, y);
        self.push(&format!("<path d=\"M{from} {y}H{to}\" class=\"{class}\"/>"));
    }

    /// Straight lines from each point to the next.
    pub(crate) fn curve(&mut self, points: &[(usize, usize)], class: &str) {
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            self.reach(*x, *y);
            let step = if at == 0 { 'M' } else { 'L' };
            // Writing to a string does not fail.
            let _ = write!(path, "{step}{x} {y}");
        }
        self.push(&format!("<path d=\"{path}\" class=\"{class}\"/>"));
    }

    /// A dot around `(x, y)`.
    pub(crate) fn dot(&mut self, (x, y): (usize, usize), class: &str, title: &str) {
        self.reach(x + 5, y + 5);
        let title = escaped(title);
        self.push(&format!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"5\" class=\"{class}\"><title>{title}</title>\
             </circle>"
        ));
    }

    /// The whole drawing, as large as what is in it.
    pub(crate) fn finish(self, title: &str) -> String {
        let (wide, high) = (self.right + MARGIN, self.bottom + MARGIN);
        let (title, body) = (escaped(title), self.body);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}\" height=\"{high}\" \
             viewBox=\"0 0 {wide} {high}\" role=\"img\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }

    fn push(&mut self, shape: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{shape}");
    }

    fn reach(&mut self, x: usize, y: usize) {
        self.right = self.right.max(x);
        self.bottom = self.bottom.max(y);
    }
}

/// How wide a text is, in pixels. Characters of East Asia take two places.
pub(crate) fn width(text: &str) -> usize {
    let wide = |c: char| matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..);
    let places = text.chars().map(|c| 1 + usize::from(wide(c)));
    (places.sum::<usize>() * CHARACTER_TENTHS).div_ceil(10)
}

/// As much of `text` as `most` pixels hold.
pub(crate) fn fitting(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        shown.push(c);
        if width(&format!("{shown}…")) > most {
            shown.pop();
            break;
        }
    }
    shown + "…"
}

/// A text as XML holds it. What XML cannot hold at all is replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_cut_to_their_place() {
        assert_eq!(
            escaped("a<b>&\"\u{1}\u{ffff}"),
            "a&lt;b&gt;&amp;&quot;\u{fffd}\u{fffd}"
        );
        assert_eq!((width(""), width("ab"), width("订单")), (0, 15, 30));
        assert_eq!(fitting("alpha", 100), "alpha");
        assert_eq!(fitting("alpha.example.net", width("alpha.")), "alpha…");
    }

    #[test]
    fn a_drawing_is_as_large_as_what_is_in_it() {
        let mut pen = Pen::default();
        pen.frame((10, 20), (30, 40), "node", "a \"<b>\"");
        pen.text((90, 10), "strong", "x");
        let drawn = pen.finish("one & two");
        assert!(drawn.contains("width=\"114\" height=\"76\""), "{drawn}");
        assert!(drawn.contains("<title>one &amp; two</title>"), "{drawn}");
        assert!(
            drawn.contains("<title>a &quot;&lt;b&gt;&quot;</title>"),
            "{drawn}"
        );
    }
}
