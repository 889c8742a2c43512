//! The sentence about a key that nobody knows: where it was written decides which slip it is.

use crate::flow::nearest::nearest;
use crate::settings::origin::Origin;
use crate::settings::variable::variable;

const NEITHER: &str = "unknown key: remove it, or write one of those that `tidegate config show` lists";

/// About `path` of `origin`; `known` are the settings, of which those with a dot at the end hold a map.
pub(super) fn sentence(path: &str, origin: &Origin, known: &[String]) -> String {
    let names = || known.iter().map(|name| name.trim_end_matches('.'));
    match origin {
        Origin::Environment(name) if !name.contains("__") => of_a_variable(path, known),
        Origin::File(..) if names().any(|name| name == path) => {
            let (section, key) = path.split_once('.').unwrap_or((path, ""));
            format!("is written as one name; write `{section}:` and, indented below it, `{key}:`")
        }
        _ => nearest(path, names()).map_or_else(|| NEITHER.into(), |name| format!("unknown key; did you mean {name}?")),
    }
}

/// About a variable without two underscores, which is no setting's.
fn of_a_variable(path: &str, known: &[String]) -> String {
    let flat = |name: &str| name.trim_end_matches('.').replace('.', "_");
    let in_map = known.iter().filter(|name| name.ends_with('.')).find_map(|map| {
        let name = path.strip_prefix(&format!("{}_", flat(map)))?;
        Some(format!("{map}{name}"))
    });
    let exact = known.iter().find(|name| flat(name) == path).cloned();
    let near = || nearest(path, known.iter().map(|name| name.trim_end_matches('.'))).map(Into::into);
    match in_map.or(exact).or_else(near) {
        Some(name) => format!("unknown key; did you mean {}?", variable(&name)),
        None => {
            "unknown key; every variable that begins with TIDEGATE_ is taken for a setting: give it another name".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_by_where_it_was_made() {
        let known = ["engine.workers", "kafka.bootstrap_servers", "kafka.properties."].map(String::from);
        let told = |path: &str, origin: &Origin| sentence(path, origin, &known);
        let environment = |name: &str| Origin::Environment(name.into());
        let file = Origin::File("f".into(), 1);
        let cases = [
            (
                told("kafka_bootstrap_servers", &environment("TIDEGATE_KAFKA_BOOTSTRAP_SERVERS")),
                "unknown key; did you mean TIDEGATE_KAFKA__BOOTSTRAP_SERVERS?",
            ),
            (
                told("kafka_properties_sasl_password", &environment("TIDEGATE_KAFKA_PROPERTIES_SASL_PASSWORD")),
                "unknown key; did you mean TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD?",
            ),
            (told("workers", &environment("TIDEGATE_WORKERS")), "unknown key; did you mean TIDEGATE_ENGINE__WORKERS?"),
            (
                told("version", &environment("TIDEGATE_VERSION")),
                "unknown key; every variable that begins with TIDEGATE_ is taken for a setting: give it another name",
            ),
            (
                told("engine.wrokers", &environment("TIDEGATE_ENGINE__WROKERS")),
                "unknown key; did you mean engine.workers?",
            ),
            (
                told("engine.workers", &file),
                "is written as one name; write `engine:` and, indented below it, `workers:`",
            ),
            (told("colour", &file), NEITHER),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }
}
