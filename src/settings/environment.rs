//! The layer above the file: `TIDEGATE_ENGINE__WORKERS=4`, one prefix, `__` between levels.
//!
//! Names are lower-cased. The last level of a map stands for its usual spelling: `SASL_PASSWORD` for the property
//! `sasl.password`, `LARGE_CHANGE` for the threshold `large-change`. A secret may come from a file that the same name with
//! `_FILE` points to.

use crate::flow::nearest::{nearest, suggestion};
use crate::settings::layer::{Entry, Layer};
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::schema::Schema;
use crate::settings::text_file;
use crate::settings::variable::PREFIX;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;

/// Names under the prefix that are no settings: the file itself, and the filter of the log in `RUST_LOG`'s language.
const OTHERS: [&str; 2] = ["TIDEGATE_CONFIG", LOG_FILTER];
const LOG_FILTER: &str = "TIDEGATE_LOG";
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// What is wrong with a filter of the log. A bare word that is no level would stand for a module, and everything else be silent.
fn log_filter(text: &str) -> Option<String> {
    let is_slip =
        |part: &str| !part.contains(['=', ':', '[']) && nearest(part, LEVELS).is_some_and(|level| level != part);
    let slip = text.split(',').map(str::trim).find(|part| is_slip(&part.to_ascii_lowercase()));
    let hint = slip.map_or_else(String::new, |part| suggestion(part, LEVELS));
    let is_wrong = !hint.is_empty() || EnvFilter::builder().parse(text).is_err();
    is_wrong.then(|| format!("expected a level, or levels by module such as tidegate=debug,info{hint}"))
}

pub(super) fn layer(
    variables: &[(OsString, OsString)],
    schema: &Schema,
    notes: &mut Vec<String>,
    problems: &mut Problems,
) -> Layer {
    let mut variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string_lossy(), value)).collect();
    variables.sort(); // so that messages come in the same order each time
    let mut layer = Layer::default();
    let mut links = Vec::new();
    for (name, value) in &variables {
        if *name == LOG_FILTER
            && let Some(message) = value.to_str().and_then(log_filter)
        {
            problems.add(LOG_FILTER, value.to_str().map(Into::into), message, Origin::Environment(LOG_FILTER.into()));
        }
        let Some(rest) = name.strip_prefix(PREFIX).filter(|_| !OTHERS.contains(&&**name)) else { continue };
        if is_service_link(rest) {
            links.push(name.as_ref());
            continue;
        }
        let origin = Origin::Environment(name.to_string());
        let Some(text) = value.to_str() else {
            problems.add(name.as_ref(), None, "is not UTF-8", origin);
            continue;
        };
        let entry = entry(rest, text, origin, schema);
        let without_suffix = rest.strip_suffix("_FILE").map(|rest| self::entry(rest, text, Origin::Default, schema));
        match without_suffix.filter(Entry::is_secret) {
            Some(secret) => {
                let twin = name.trim_end_matches("_FILE");
                if variables.iter().any(|(other, _)| other == twin) {
                    problems.add(secret.path(), None, format!("set {twin} or {name}, not both"), entry.origin);
                } else {
                    read_secret(secret, name, text, &mut layer, problems);
                }
            }
            None => layer.entries.push(entry),
        }
    }
    if !links.is_empty() {
        notes.push(format!(
            "skipped {}: shaped like the variables that Kubernetes sets for a Service, not like settings",
            links.join(", ")
        ));
    }
    layer
}

/// Reads the file that `TIDEGATE_…_FILE` names. A newline at its end is the editor's, not the secret's.
fn read_secret(secret: Entry, name: &str, file: &str, layer: &mut Layer, problems: &mut Problems) {
    let origin = Origin::SecretFile(name.into(), PathBuf::from(file));
    match text_file::read(Path::new(file)).map(|text| text.trim_end_matches(['\r', '\n']).to_string()) {
        Ok(text) if text.is_empty() => {
            problems.add(secret.path(), None, "the file is empty: write the secret into it", origin);
        }
        Ok(text) => layer.entries.push(Entry { text, origin, ..secret }),
        Err(why) => problems.add(secret.path(), None, format!("the file {why}"), origin),
    }
}

fn entry(rest: &str, text: &str, origin: Origin, schema: &Schema) -> Entry {
    let rest = rest.to_ascii_lowercase();
    let mut parts = rest.splitn(3, "__");
    let mut part = || parts.next().unwrap_or_default();
    let (section, key, name) = (part(), part(), part());
    let name = match (key, name) {
        (_, "") => None,
        ("thresholds", name) => Some(threshold(name, schema)),
        // librdkafka's properties with an underscore.
        ("properties", "log_level" | "enabled_events") => Some(name.into()),
        ("properties", name) => Some(name.replace('_', ".")),
        (_, name) => Some(name.replace("__", ".")),
    };
    Entry::new(section, key, name, text.into(), origin)
}

/// The threshold whose name in capitals and underscores is the variable's.
fn threshold(name: &str, schema: &Schema) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '.'], "_");
    let known = schema.threshold_names().find(|known| plain(known) == plain(name));
    known.map_or_else(|| name.replace('_', "-"), ToString::to_string)
}

/// Whether Kubernetes sets such a name for a Service called `tidegate` or `tidegate-…`: `TIDEGATE_PORT=tcp://…`,
/// `TIDEGATE_SERVICE_HOST`, `TIDEGATE_PORT_8230_TCP_ADDR`, `TIDEGATE_WEB_SERVICE_PORT_HTTP`.
fn is_service_link(rest: &str) -> bool {
    if rest.contains("__") {
        return false;
    }
    let rest = format!("_{rest}_");
    let has_port_number = rest.split("_PORT_").skip(1).any(|tail| {
        let mut words = tail.split('_');
        words.next().is_some_and(|number| number.parse::<u16>().is_ok())
            && words.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
    });
    rest.ends_with("_PORT_") || rest.ends_with("_SERVICE_HOST_") || rest.contains("_SERVICE_PORT_") || has_port_number
}

#[cfg(test)]
mod tests {
    use super::is_service_link;

    #[test]
    fn service_links_are_told_from_settings() {
        for link in ["PORT", "SERVICE_HOST", "SERVICE_PORT", "PORT_8230_TCP", "PORT_8230_TCP_ADDR", "WEB_SERVICE_HOST"]
        {
            assert!(is_service_link(link), "{link}");
        }
        for setting in ["DATABASE__URL", "KAFKA__PROPERTIES__SASL_PORT", "PORTS", "WORKERS", "HTTP__PORT"] {
            assert!(!is_service_link(setting), "{setting}");
        }
    }
}
