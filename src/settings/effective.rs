//! The values in force, with their origins, fit for printing.

use crate::settings::origin::Origin;
use crate::settings::secret::MASK;
use config::ValueKind;
use serde::Serialize;

/// One value in force. A secret's value is `***`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effective {
    /// The setting, for instance `engine.workers`.
    pub path: String,
    /// The value, typed.
    pub value: serde_json::Value,
    /// Where it was written.
    pub origin: Origin,
}

impl Effective {
    pub(super) fn new(path: String, value: &ValueKind, is_secret: bool, origin: Origin) -> Self {
        let value = match value {
            ValueKind::String(text) if is_secret && !text.is_empty() => MASK.into(),
            ValueKind::String(text) => text.as_str().into(),
            ValueKind::I64(number) => (*number).into(),
            ValueKind::Float(number) => (*number).into(),
            ValueKind::Boolean(truth) => (*truth).into(),
            _ => serde_json::Value::Null, // the rules make no other kind
        };
        Self { path, value, origin }
    }
}

/// The values as a settings file that would give them again (but for secrets), each with its origin as a comment.
pub(crate) fn to_yaml(values: &[Effective]) -> String {
    let mut lines = Vec::new();
    let (mut section, mut map) = ("", String::new());
    for Effective { path, value, origin } in values {
        let mut parts = path.splitn(3, '.');
        let mut part = || parts.next().unwrap_or_default();
        let (in_section, key, name) = (part(), part(), part());
        if section != in_section {
            section = in_section;
            lines.push(format!("{section}:"));
        }
        if name.is_empty() {
            lines.push(format!("  {key}: {value}  # {origin}"));
            continue;
        }
        let in_map = format!("{section}.{key}");
        if map != in_map {
            map = in_map;
            lines.push(format!("  {key}:"));
        }
        lines.push(format!("    {name}: {value}  # {origin}"));
    }
    lines.join("\n") + "\n"
}
