//! The environment variable of a setting.

pub(super) const PREFIX: &str = "TIDEGATE_";

/// `TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD` for `kafka.properties.sasl.password`.
pub(super) fn variable(path: &str) -> String {
    let parts = path.splitn(3, '.').map(|part| part.replace(['.', '-'], "_").to_ascii_uppercase());
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join("__"))
}
