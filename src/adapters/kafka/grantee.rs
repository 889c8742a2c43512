//! Whom a missing right is to be granted to, as far as the settings tell.

use super::reach::bare;
use super::rights::Grantee;
use super::settings::KafkaSettings;

/// The servers of `settings`, and the user that PLAIN and SCRAM log in. Whom a certificate or a token stands for only the broker
/// knows.
#[must_use]
pub fn grantee(settings: &KafkaSettings) -> Grantee {
    let value = |name: &str| settings.properties.value(name);
    let servers = settings.bootstrap_servers.split(',').map(bare).filter(|name| !name.is_empty());
    let mechanism = value("sasl.mechanism").or_else(|| value("sasl.mechanisms")).unwrap_or_default();
    let has_name = mechanism == "PLAIN" || mechanism.starts_with("SCRAM-");
    let protocol = value("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
    let user = match protocol.as_str() {
        "plaintext" => "ANONYMOUS",
        "sasl_plaintext" | "sasl_ssl" if has_name => value("sasl.username").unwrap_or_default(),
        _ => "",
    };
    Grantee::new(servers.collect::<Vec<_>>().join(","), user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::kafka::rights::{Operation, Right};

    #[test]
    fn the_command_names_the_servers_and_the_user_that_are_known() {
        let settings = |properties: &[(&str, &str)]| {
            let mut settings =
                KafkaSettings { bootstrap_servers: "a:1, SASL_SSL://b".into(), ..KafkaSettings::default() };
            for (name, value) in properties {
                settings.properties.insert((*name).into(), (*value).into());
            }
            Right::group(Operation::Read, "scoring").missing(&grantee(&settings))
        };
        let protocol = ("security.protocol", "SASL_SSL");
        let scram = ("sasl.mechanism", "SCRAM-SHA-512");
        for (told, user) in [
            (settings(&[]), "User:ANONYMOUS"),
            (settings(&[protocol, scram, ("sasl.username", "app")]), "User:app"),
            (settings(&[protocol, scram, ("sasl.username", "the app")]), "'User:the app'"),
            (settings(&[protocol, ("sasl.mechanism", "OAUTHBEARER")]), "User:NAME"),
            (settings(&[("security.protocol", "ssl")]), "User:NAME"),
        ] {
            let command = format!(
                "--bootstrap-server a:1,b:9092 --add --allow-principal {user} --operation Read --group scoring`"
            );
            assert!(told.contains(&command), "{told}");
        }
        assert!(
            Right::group(Operation::Read, "scoring")
                .to_string()
                .contains("HOST:PORT --add --allow-principal User:NAME ")
        );
    }
}
