//! How the Kafka clients prove who they are: properties that need each other, and the files that they name.

use crate::settings::properties::Properties;
use crate::settings::variable::variable;

/// Properties that name a file; the first may name a folder, or be the word `probe`.
const FILES: [&str; 5] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location"];

/// What is missing for the security that the properties ask for: a property's name, and the sentence about it.
pub(super) fn mistakes(properties: &Properties) -> Vec<(&'static str, String)> {
    let Some(protocol) = properties.value("security.protocol") else {
        let without_effect: Vec<_> = properties.iter().map(|(name, _)| name).filter(|name| is_security(name)).collect();
        let sentence = format!(
            "is not set, so that the connection is plain and {} without effect: set SASL_SSL, SSL or SASL_PLAINTEXT",
            match without_effect.as_slice() {
                [one] => format!("{one} is"),
                all => format!("{} are", all.join(", ")),
            }
        );
        return if without_effect.is_empty() { Vec::new() } else { vec![("security.protocol", sentence)] };
    };
    if !protocol.to_ascii_lowercase().starts_with("sasl_") {
        return Vec::new();
    }
    match properties.value("sasl.mechanism").or_else(|| properties.value("sasl.mechanisms")) {
        None => {
            let sentence = format!(
                "is not set, and {protocol} needs it: set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 (librdkafka's default is \
                 GSSAPI, Kerberos)"
            );
            vec![("sasl.mechanism", sentence)]
        }
        Some(mechanism) if mechanism == "PLAIN" || mechanism.starts_with("SCRAM-") => {
            ["sasl.username", "sasl.password"]
                .into_iter()
                .filter(|name| properties.value(name).is_none_or(str::is_empty))
                .map(|name| {
                    let variable = variable(&format!("kafka.properties.{name}"));
                    (name, format!("is not set, and sasl.mechanism {mechanism} needs it: set it, or {variable}"))
                })
                .collect()
        }
        Some(_) => Vec::new(),
    }
}

fn is_security(name: &str) -> bool {
    name.starts_with("sasl.") || name.starts_with("ssl.")
}

/// The files that the properties name and that cannot be read or hold something else: name, path and reason.
pub(super) fn unusable(properties: &Properties) -> Vec<(&'static str, &str, String)> {
    let named = FILES.iter().filter_map(|name| Some((*name, properties.value(name)?)));
    let is_asked = |path: &str| !path.is_empty() && path != "probe";
    named
        .filter(|(_, path)| is_asked(path))
        .filter_map(|(name, path)| Some((name, path, mistake(name, path)?)))
        .collect()
}

/// A CA may be a folder of them, and a keystore is no text.
fn mistake(name: &str, path: &str) -> Option<String> {
    let bytes = match std::fs::File::open(path) {
        Ok(_) if !std::path::Path::new(path).is_file() => return None,
        Ok(_) => std::fs::read(path),
        Err(error) => Err(error),
    };
    let wanted = match name {
        "ssl.ca.location" | "ssl.certificate.location" => "CERTIFICATE",
        "ssl.key.location" => "PRIVATE KEY",
        _ => "",
    };
    match bytes {
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains(wanted) => None,
        Ok(_) => Some(format!("holds no {} in PEM (-----BEGIN {wanted}-----)", wanted.to_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(properties: &[(&str, &str)]) -> Vec<String> {
        let mut all = Properties::default();
        for (name, value) in properties {
            all.insert((*name).into(), (*value).into());
        }
        mistakes(&all).into_iter().map(|(name, sentence)| format!("{name} {sentence}")).collect()
    }

    #[test]
    fn each_half_of_a_security_is_told_what_the_other_half_is() {
        let none: [&str; 0] = [];
        let login = [("sasl.username", "u"), ("sasl.password", "p")];
        let [user, password] = login;
        let mechanism = ("sasl.mechanism", "PLAIN");
        assert_eq!(told(&[]), none);
        assert_eq!(told(&[("security.protocol", "PLAINTEXT"), user, password]), none);
        assert_eq!(told(&[("security.protocol", "SSL"), ("ssl.ca.location", "/ca")]), none);
        assert_eq!(told(&[("security.protocol", "SASL_SSL"), mechanism, user, password]), none);
        assert_eq!(
            told(&[mechanism, user, password]),
            [
                "security.protocol is not set, so that the connection is plain and sasl.mechanism, sasl.password, sasl.username are without effect: set SASL_SSL, SSL or SASL_PLAINTEXT"
            ]
        );
        assert_eq!(
            told(&[("ssl.ca.location", "/ca")]),
            [
                "security.protocol is not set, so that the connection is plain and ssl.ca.location is without effect: set SASL_SSL, SSL or SASL_PLAINTEXT"
            ]
        );
        assert_eq!(
            told(&[("security.protocol", "SASL_SSL"), user, password]),
            [
                "sasl.mechanism is not set, and SASL_SSL needs it: set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 (librdkafka's default is GSSAPI, Kerberos)"
            ]
        );
        assert_eq!(
            told(&[("security.protocol", "sasl_ssl"), ("sasl.mechanisms", "SCRAM-SHA-512"), user]),
            [
                "sasl.password is not set, and sasl.mechanism SCRAM-SHA-512 needs it: set it, or TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD"
            ]
        );
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let mut all = Properties::default();
        for (name, path) in
            [("ssl.ca.location", "/nonexistent/ca.pem"), ("ssl.key.location", "/"), ("client.id", "/no")]
        {
            all.insert(name.into(), path.into());
        }
        let expected = "cannot be read: No such file or directory (os error 2)".to_owned();
        assert_eq!(unusable(&all), [("ssl.ca.location", "/nonexistent/ca.pem", expected)]);
        all.insert("ssl.ca.location".into(), "probe".into());
        assert_eq!(unusable(&all), []);
    }

    #[test]
    fn a_file_that_holds_something_else_is_told_by_what_it_should_hold() {
        let other = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let told = |name| mistake(name, other);
        let certificate = Some("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned());
        assert_eq!(told("ssl.ca.location"), certificate);
        assert_eq!(told("ssl.certificate.location"), certificate);
        let key = "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned();
        assert_eq!(told("ssl.key.location"), Some(key));
        assert_eq!(told("ssl.keystore.location"), None, "it is no text");
        assert_eq!(mistake("ssl.ca.location", "/"), None, "a folder of them");
    }
}
