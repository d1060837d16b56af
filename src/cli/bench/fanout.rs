//! `weft bench fanout`: one producer, one node, many consumers.

use super::figures::Report;
use super::signal::compare;
use super::{Common, Size};
use crate::cli::Failure;

/// `weft bench fanout`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) size: Size,
    /// Consumers, all in one process, each with a session of its own
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=90))]
    consumers: u16,
}

pub(super) fn measure(args: &Args) -> Result<Report, Failure> {
    let consumers = usize::from(args.consumers);
    let mut report = Report::new(
        "fanout",
        "a producer, a node, and one process of consumers: signals, which nobody confirms",
        "a DEALER, a ROUTER, and one process of DEALERs: frames of 64 records",
    );
    report.set("record_bytes", args.size.size);
    report.set("confirm", "none");
    report.set("consumers", consumers);
    report.set("processes", 3);
    compare(&args.common, (args.size.size, consumers), None, &mut report)?;
    Ok(report)
}
