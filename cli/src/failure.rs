//! A command that did not do what it was asked, as a person reads it: what, where, and what to do.

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

use kymo::config::Faults;
pub(crate) use kymo::config::chain;

/// Exit status of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// Exit status of a command line, or a value in it, that the program does not understand.
pub(crate) const USAGE: u8 = 2;

/// Why a command ends without having done its work.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One line: what failed, where, and the cause.
    what: String,
    /// One line: what to do about it.
    hint: Option<String>,
    /// What is said first, several lines, already made for a person.
    before: Option<String>,
    status: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Failure {
        Failure { what: what.into(), hint: None, before: None, status: FAILED }
    }

    /// `doing: error: its cause: …`, on one line.
    pub(crate) fn because(doing: impl Display, error: &dyn Error) -> Failure {
        Failure::new(format!("{doing}: {}", chain(error)))
    }

    /// A configuration file that cannot be acted on.
    pub(crate) fn faults(faults: &Faults) -> Failure {
        let count = match faults.count() {
            1 => "an error".to_owned(),
            count => format!("{count} errors"),
        };
        Failure { before: Some(faults.framed()), ..Failure::new(format!("{count} in the configuration file")) }
    }

    /// A value on the command line that is understood and cannot be right.
    pub(crate) fn usage(what: impl Into<String>) -> Failure {
        Failure { status: USAGE, ..Failure::new(what) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// What failed, without what to do about it.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) -> ExitCode {
        if let Some(before) = &self.before {
            anstream::eprintln!("{before}\n");
        }
        anstream::eprintln!("\x1b[1;31merror\x1b[0m: {}", self.what);
        if let Some(hint) = &self.hint {
            anstream::eprintln!("  \x1b[1;36mhint\x1b[0m: {hint}");
        }
        ExitCode::from(self.status)
    }
}
