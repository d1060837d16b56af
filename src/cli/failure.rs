//! Why a command could not do what it was asked for, and the exit code that says whose turn it is.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user can mend it: exit 1.
    User(miette::Report),
    /// It has been said already, line by line: exit 1.
    Reported,
    /// Weft or the system failed: exit 2.
    Internal(miette::Report),
    /// Whoever read our stdout has seen enough, as `head` does: exit 0.
    Closed,
}

impl Failure {
    /// The user can mend it: `message` says what is wrong and names the culprit, `help` what to do.
    pub(crate) fn user(message: impl Display, help: impl Display) -> Self {
        Self::User(miette::miette!(help = help.to_string(), "{message}"))
    }

    /// Weft or the system failed.
    pub(crate) fn internal(message: impl Display) -> Self {
        Self::Internal(miette::miette!("{message}"))
    }

    /// Tells stderr, and the exit code that goes with it.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::User(report) => {
                eprintln!("{report:?}");
                ExitCode::from(1)
            }
            Self::Reported => ExitCode::from(1),
            Self::Internal(report) => {
                eprintln!("{report:?}");
                ExitCode::from(2)
            }
            Self::Closed => ExitCode::SUCCESS,
        }
    }
}

/// For writes to stdout, which fail when its reader is gone.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::internal(error),
        }
    }
}
