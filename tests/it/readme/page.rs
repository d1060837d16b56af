//! Reads a page of Markdown as far as its tests need: sections, fenced blocks, links; and compares
//! what a page shows with what was printed.

/// A fenced block: ```` ```LANGUAGE TAG ````.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) tag: String,
    pub(crate) text: String,
}

/// The text below a heading of the second level, up to the next one.
pub(crate) fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let heading = format!("\n## {title}\n");
    let (_, below) = page
        .split_once(&heading)
        .unwrap_or_else(|| panic!("no section {title:?}"));
    below.split("\n## ").next().unwrap_or(below)
}

/// The fenced blocks in their order.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let parts: Vec<&str> = text.split("```").collect();
    assert!(parts.len() % 2 == 1, "a block is not closed");
    let inside = parts.into_iter().skip(1).step_by(2);
    inside
        .map(|part| {
            let (info, text) = part.split_once('\n').expect("a fence stands alone");
            let (language, tag) = info.split_once(' ').unwrap_or((info, ""));
            Block {
                language: language.to_owned(),
                tag: tag.to_owned(),
                text: text.to_owned(),
            }
        })
        .collect()
}

/// The anchors of the headings, as GitHub makes them.
pub(crate) fn headings(page: &str) -> impl Iterator<Item = String> {
    let titles = page.lines().filter_map(|line| line.strip_prefix("## "));
    titles.map(|title| {
        let kept = title.to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    })
}

/// Where the links lead.
pub(crate) fn links(page: &str) -> Vec<&str> {
    let ends = page.split("](").skip(1);
    ends.filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
        .collect()
}

/// Whether `printed` is what the page shows. `…` in a line stands for any text, and alone in a line
/// for any number of lines.
pub(crate) fn shows(page: &str, printed: &str) -> bool {
    let page: Vec<&str> = page.lines().collect();
    let printed: Vec<&str> = printed.lines().collect();
    lines_fit(&page, &printed)
}

fn lines_fit(page: &[&str], printed: &[&str]) -> bool {
    match page.split_first() {
        None => printed.is_empty(),
        Some((&"…", rest)) => (0..=printed.len()).any(|at| lines_fit(rest, &printed[at..])),
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, later)| line_fits(line, first) && lines_fit(rest, later)),
    }
}

fn line_fits(page: &str, printed: &str) -> bool {
    let Some((start, rest)) = page.split_once('…') else {
        return page == printed;
    };
    let Some(printed) = printed.strip_prefix(start) else {
        return false;
    };
    let ends = printed
        .char_indices()
        .map(|(at, _)| at)
        .chain([printed.len()]);
    let mut ends = ends;
    ends.any(|at| line_fits(rest, &printed[at..]))
}

#[test]
fn what_a_page_shows_is_compared_whole() {
    for (page, printed) in [
        ("a\nb\n", "a\nb\n"),
        ("a\n…\n", "a\n"),
        ("a\n…\nd\n", "a\nb\nc\nd\n"),
        ("pid … at …\n", "pid 7 at a…b\n"),
        ("x…\n", "x\n"),
    ] {
        assert!(shows(page, printed), "{page:?} {printed:?}");
    }
    for (page, printed) in [
        ("a\n", "a\nb\n"),
        ("a\nb\n", "a\n"),
        ("…\nd\n", "a\ne\n"),
        ("pid … at b\n", "pid 7 at a\n"),
        ("x…y\n", "xyz\n"),
        ("a\n…\n", "b\na\n"),
    ] {
        assert!(!shows(page, printed), "{page:?} {printed:?}");
    }
}

#[test]
fn blocks_sections_and_links_are_found() {
    let page = "# T\n## A b, c\n[x](y.md)\n```sh go\nls\n```\n## D\n[z](#a-b-c)\n";
    let below = section(page, "A b, c");
    let block = blocks(below).remove(0);
    let found = (&*block.language, &*block.tag, &*block.text);
    assert_eq!(found, ("sh", "go", "ls\n"));
    assert_eq!(links(page), ["y.md", "#a-b-c"]);
    assert_eq!(headings(page).collect::<Vec<_>>(), ["a-b-c", "d"]);
}
