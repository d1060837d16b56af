//! The `weft` command: parses, runs, maps to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft::cli::main()
}
