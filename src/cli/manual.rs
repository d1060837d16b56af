//! `weft manual`: a man page for each command, made from what `--help` says.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::{Failure, help};

/// `weft manual`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to write the pages to; `man` looks for them in one that is called man1
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| {
        let what = format!("no page can be written to {}: {error}", args.out.display());
        Failure::user(what, "name a folder of yours with --out DIR")
    };
    fs::create_dir_all(&args.out).map_err(failed)?;
    let mut command = help::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    write_pages(&command, &args.out, &mut pages).map_err(failed)?;
    let mut out = io::stdout().lock();
    for page in pages {
        writeln!(out, "{}", page.display())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command, then those of the commands below it.
fn write_pages(command: &Command, folder: &Path, pages: &mut Vec<PathBuf>) -> io::Result<()> {
    let man = Man::new(command.clone())
        .source(format!("weft {}", env!("CARGO_PKG_VERSION")))
        .manual("Weft");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(more) = command.get_after_help() {
        write_more(&more.to_string(), &mut page)?;
    }
    let file = folder.join(man.get_filename());
    fs::write(&file, page)?;
    pages.push(file);
    for below in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_pages(below, folder, pages)?;
    }
    Ok(())
}

/// What a command's help ends with: headings with a colon, and below each its lines, indented.
fn write_more(text: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    for line in text.lines() {
        match line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            Some(heading) => {
                roff.control("fi", []);
                roff.control("SH", [heading.to_uppercase().as_str()]);
                roff.control("nf", []);
            }
            None => {
                roff.text([roman(line.trim_start())]);
            }
        }
    }
    roff.control("fi", []);
    roff.to_writer(page)
}
