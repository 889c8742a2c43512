//! The binary with no server and no setting around it.

use super::{Ground, row::Row, run::Places};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Alone {
    pub binary: PathBuf,
    pub folder: PathBuf,
}

impl Ground for Alone {
    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new("timeout");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
            command.env_remove(name);
        }
        command.args(["-s", "KILL", "30"]).arg(&self.binary).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        command
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn prepare(&self, row: &Row) -> Places {
        assert!(row.database.is_none(), "{}: no server is here", row.name);
        Vec::new()
    }

    fn left_behind(&self, _: &Row) -> Option<String> {
        None
    }
}
