//! Where a value was written.

use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;

/// Where a value was written, as precisely as the layer knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// In this program.
    #[default]
    Default,
    /// In the pipeline's code.
    Topology,
    /// In a file; lines count from 1, and 0 stands for the whole file.
    File(PathBuf, usize),
    /// In an environment variable.
    Environment(String),
    /// In a file that an environment variable names.
    SecretFile(String, PathBuf),
    /// In a flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::Topology => f.write_str("the pipeline's code"),
            Self::File(path, 0) => write!(f, "{}", path.display()),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::SecretFile(name, path) => write!(f, "environment {name}, file {}", path.display()),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
