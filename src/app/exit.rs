//! Exit codes of the process.

use std::process::{ExitCode, Termination};

/// The outcome of the process, and with it the exit code; return it from `main`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "return it from main, so that the process ends with its code"]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, also where a stop did not finish in time.
    Failed,
    /// 2: wrong usage of the command line.
    Usage,
    /// 3: `topics plan` found differences, `halted` halted partitions. Not 2, or a mistyped flag would look like drift.
    Different,
    /// 78: the configuration is wrong (`EX_CONFIG` of sysexits.h).
    Misconfigured,
}

impl Exit {
    /// The code that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Different => 3,
            Self::Misconfigured => 78,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.code().into()
    }
}
