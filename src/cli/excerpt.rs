//! The few lines of a file around a problem, each cut to what a terminal shows: a line of a million
//! characters is never printed back whole.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// Characters of a line that are shown.
const LINE_MAX: usize = 160;

/// Characters before a problem that are shown of a line whose beginning is cut.
const LEAD: usize = 40;

/// The line that a problem begins in, between its neighbours.
#[derive(Debug)]
pub(crate) struct Excerpt {
    /// The file's name.
    name: String,
    /// The lines that are shown.
    text: String,
    /// The place of the problem in `text`: what of it lies in the line that it begins in.
    span: Range<usize>,
    /// Which line of the file, from 0, `text` begins with.
    first_line: usize,
    /// By how many bytes a place in the problem's line lies further left here than in the file.
    shift: usize,
}

/// A line, or the piece of it around a place.
struct Piece {
    text: String,
    /// By how many bytes a place lies further left in it than in the line.
    shift: usize,
}

impl Excerpt {
    /// The surroundings of `span` in `text`; it lies there, on the bounds of characters.
    pub(crate) fn new(name: &str, text: &str, span: &Range<usize>) -> Self {
        let (above, below) = text.split_at(span.start);
        let begin = above.rfind('\n').map_or(0, |at| at + 1);
        let end = span.start + below.find('\n').unwrap_or(below.len());
        let mut shown = String::new();
        let former = text[..begin].lines().next_back();
        if let Some(line) = former {
            shown += &Piece::of(line, 0).text;
            shown.push('\n');
        }
        let line_at = shown.len();
        let piece = Piece::of(&text[begin..end], span.start - begin);
        shown += &piece.text;
        let line_end = shown.len();
        let place = |at: usize| (line_at + at - begin - piece.shift).min(line_end);
        let span = place(span.start)..place(span.end.clamp(span.start, end));
        for line in text[end..].lines().skip(1).take(1) {
            shown.push('\n');
            shown += &Piece::of(line, 0).text;
        }
        shown.push('\n');
        Self {
            name: name.to_owned(),
            text: shown,
            span,
            first_line: text[..begin].matches('\n').count() - former.iter().count(),
            shift: piece.shift,
        }
    }

    /// Where the problem is in what is shown.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

/// Lines and columns are told as the file has them.
impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let shown = self.text.read_span(span, lines_before, lines_after)?;
        // With lines before it, what is read begins at the beginning of a line.
        let shift = if lines_before == 0 { self.shift } else { 0 };
        let contents = MietteSpanContents::new_named(
            self.name.clone(),
            shown.data(),
            *shown.span(),
            self.first_line + shown.line(),
            shift + shown.column(),
            shown.line_count(),
        );
        Ok(Box::new(contents.with_language("TOML")))
    }
}

impl Piece {
    /// What is shown of `line`, so that its byte `at` is among it.
    fn of(line: &str, at: usize) -> Self {
        let line = line.trim_end_matches('\r');
        let before = line[..at.min(line.len())].char_indices();
        // A cut shows itself by a character of its own, so it has to spare more than that.
        let start = before.rev().nth(LEAD - 1).map_or(0, |(start, _)| start);
        let rest = line.chars().count() > LINE_MAX;
        let (mark, start) = match rest && start > LEAD {
            true => ("…", start),
            false => ("", 0),
        };
        Self {
            text: format!("{mark}{}", self::start(&line[start..])),
            shift: start - mark.len(),
        }
    }
}

/// The beginning of `text`, as much as is shown of a line.
pub(crate) fn start(text: &str) -> String {
    match text.char_indices().nth(LINE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use miette::{LabeledSpan, MietteDiagnostic, Report};

    use super::*;

    /// What a person is shown of the first `part` of `text`.
    fn told(text: &str, part: &str) -> String {
        let start = text.find(part).expect("a part of it");
        let excerpt = Excerpt::new("shop.toml", text, &(start..start + part.len()));
        let shown = &excerpt.text[excerpt.span()];
        assert!(part.starts_with(shown.trim_end_matches('…')));
        let label = LabeledSpan::at(excerpt.span(), "here");
        let diagnostic = MietteDiagnostic::new("wrong").with_label(label);
        format!("{:?}", Report::new(diagnostic).with_source_code(excerpt))
    }

    #[test]
    fn a_problem_is_shown_between_its_neighbours() {
        let text = "one = 1\ntwo = 2\nthree = 3\nfour = 4\nfive = 5\n";
        let told = told(text, "3");
        assert!(told.contains("shop.toml:3:9"), "{told}");
        for (part, expected) in [
            ("one", false),
            ("two", true),
            ("four", true),
            ("five", false),
        ] {
            assert_eq!(told.contains(part), expected, "{part}: {told}");
        }
        assert!(super::tests::told(text, "1").contains("shop.toml:1:7"));
        assert!(super::tests::told(text, "5").contains("shop.toml:5:8"));
        let last = super::tests::told("a = 1\r\nb = 2", "2");
        assert!(last.contains("shop.toml:2:5"), "{last}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_problem() {
        let long = "订".repeat(300_000);
        let text = format!("a = '{long}'\nb = ['{long}', 7, '{long}']\nc = '{long}'\n");
        let told = told(&text, "7");
        assert!(told.len() < 4_000, "{} bytes", told.len());
        let column = format!("shop.toml:2:{}", long.len() + 10);
        assert!(told.contains(&column), "{column} in {told}");
        assert!(told.contains("订', 7, '订"), "{told}");
        for part in [&*long, "a = '", "b = [", "c = '"] {
            assert!(super::tests::told(&text, part).len() < 4_000);
        }
    }

    #[test]
    fn a_problem_of_many_lines_is_shown_where_it_begins() {
        let text = format!("a = [\n{}]\n", "  7,\n".repeat(10_000));
        let told = told(&text, &text[4..]);
        assert!(told.lines().count() < 12, "{told}");
        assert!(told.contains("shop.toml:1:5"), "{told}");
    }
}
