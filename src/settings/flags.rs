//! The highest layer: `--set path=value`.

use crate::settings::layer::{Entry, Layer};
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::variable::variable;

pub(super) fn layer(flags: &[String], problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    let is_path = |text: &str| text.trim().chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
    for flag in flags {
        match flag.split_once('=') {
            // The text itself may be the secret.
            _ if !is_path(flag.split('=').next().unwrap_or_default()) => {
                let message = "expected path=value, and a secret belongs into a variable";
                problems.add("--set", None, message, Origin::Flag("--set"));
            }
            Some((path, value)) => {
                let entry = Entry::at(path.trim(), value.into(), Origin::Flag("--set"));
                if entry.is_secret() {
                    let variable = variable(&entry.path());
                    let message = format!(
                        "a secret does not belong on a command line, which everybody can list; use {variable} or {variable}_FILE"
                    );
                    problems.add(entry.path(), None, message, entry.origin);
                } else {
                    layer.entries.push(entry);
                }
            }
            None => problems.add(flag, None, "expected path=value", Origin::Flag("--set")),
        }
    }
    layer
}
