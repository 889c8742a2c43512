//! What is wrong with a property, as librdkafka itself sees it: it is asked, so that no list of ours grows old.

use crate::adapters::kafka::fault::by_error;
use crate::adapters::kafka::ffi;
use crate::ports::fault::Fault;
use crate::settings::kafka::{KafkaSettings, nearest};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What a property may hold.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Whole(String, String),
    Number(String, String),
    Choice(String),
    Bool,
    /// A text, or something that only the library can judge.
    Other,
}

/// What is wrong with a property's name, or with its value where that is given; `None` where the library takes it. The value is
/// not in the sentence.
#[must_use]
pub fn mistake(name: &str, value: Option<&str>) -> Option<String> {
    let table = table();
    let Some(Property { kind, .. }) = table.get(name) else {
        let known = nearest(name, table.keys().map(String::as_str));
        let meant = known.map_or_else(String::new, |known| format!("; did you mean {known}?"));
        return Some(format!("librdkafka has no such property{meant}"));
    };
    let value = value?;
    let refusal = refusal(name, value);
    if let Some(missing) = refusal.as_ref().and_then(|why| why.split_once("not supported in this build: ")) {
        return Some(format!("this build of librdkafka does not have it: {}", missing.1));
    }
    // The library reads `10s` as 10.
    let is_number = match kind {
        Kind::Whole(..) => value.trim().parse::<i64>().is_ok(),
        Kind::Number(..) => value.trim().parse::<f64>().is_ok_and(f64::is_finite),
        _ => true,
    };
    let expected = || match kind {
        Kind::Whole(low, high) => format!("expected a whole number from {low} to {high}"),
        Kind::Number(low, high) => format!("expected a number from {low} to {high}"),
        Kind::Choice(words) => format!("expected one of {words}"),
        Kind::Bool => "expected true or false".into(),
        Kind::Other => format!("librdkafka refuses it: {}", refusal.as_deref().unwrap_or_default()),
    };
    (refusal.is_some() || !is_number).then(expected)
}

/// The library's words about a value that it does not take, without the value.
fn refusal(name: &str, value: &str) -> Option<String> {
    let mut config = ClientConfig::new();
    config.set(name, value);
    Some(match config.create_native_config().err()? {
        KafkaError::ClientConfig(_, why, ..) => why.replace(&format!("\"{value}\" "), ""),
        _ => "it holds a zero byte".into(),
    })
}

/// A context for clients that do nothing and say nothing.
pub(super) struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ConsumerContext for Silent {}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// What the library says of the properties together: it makes each kind of client, without any server. `None` where they will
/// do.
#[must_use]
pub fn contradiction(settings: &KafkaSettings) -> Option<String> {
    let said = |config: Result<ClientConfig, Fault>, make: fn(&ClientConfig) -> Result<(), KafkaError>| {
        let made = config.and_then(|mut config| {
            config.remove("bootstrap.servers");
            make(&config).map_err(|error| by_error(&error, "librdkafka makes no client"))
        });
        made.err().map(|fault| fault.to_string())
    };
    let producer = || {
        said(settings.transactional("probe"), |config| {
            config.create_with_context::<Silent, BaseProducer<Silent>>(Silent).map(drop)
        })
    };
    let ours = set_twice(settings).or_else(|| without_mechanism(settings)).or_else(|| half_a_certificate(settings));
    ours.or_else(producer).or_else(|| {
        said(settings.member("probe", None), |config| {
            config.create_with_context::<Silent, BaseConsumer<Silent>>(Silent).map(drop)
        })
    })
}

/// The name by which the library knows a property that it has under two, such as `compression.codec` for `compression.type`.
pub(super) fn own_name(name: &str) -> &str {
    table().get(name).and_then(|property| property.alias_of.as_deref()).unwrap_or(name)
}

/// Properties that are set under two names: the client would take the one or the other by chance.
fn set_twice(settings: &KafkaSettings) -> Option<String> {
    let mut seen = BTreeMap::new();
    settings.properties.iter().find_map(|(name, _)| {
        let other = seen.insert(own_name(name), name)?;
        Some(format!("{other} and {name} are one property: set one of them"))
    })
}

/// A way of logging in that this build does not have.
fn without_mechanism(settings: &KafkaSettings) -> Option<String> {
    let value = |name: &str| settings.properties.value(name);
    value("security.protocol").filter(|protocol| protocol.to_ascii_lowercase().starts_with("sasl_"))?;
    let asked = value("sasl.mechanism").or_else(|| value("sasl.mechanisms"))?;
    let features = ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features")).ok()?;
    let has = |feature: &str| features.split(',').any(|known| known.trim() == feature);
    // Tokens without a signature are for tests.
    let has_tokens = has("oidc") || value("enable.sasl.oauthbearer.unsecure.jwt") == Some("true");
    let known: Vec<&str> = [
        ("PLAIN", has("sasl_plain")),
        ("SCRAM-SHA-256", has("sasl_scram")),
        ("SCRAM-SHA-512", has("sasl_scram")),
        ("GSSAPI", has("sasl_gssapi")),
        ("OAUTHBEARER", has_tokens),
    ]
    .into_iter()
    .filter_map(|(name, is_there)| is_there.then_some(name))
    .collect();
    let has_password = value("sasl.username").is_some() || value("sasl.password").is_some();
    let hint = if asked == "OAUTHBEARER" && has_password {
        ": it logs in by a token, and sasl.username and sasl.password are those of PLAIN and SCRAM"
    } else {
        ""
    };
    let has = known.join(", ");
    (!known.contains(&asked) || !hint.is_empty())
        .then(|| format!("sasl.mechanism is {asked}, and this build has {has}{hint}"))
}

/// A client's certificate without its key, or the other way round: the library takes it, and logs in without either.
fn half_a_certificate(settings: &KafkaSettings) -> Option<String> {
    let given = |names: [&'static str; 2]| names.into_iter().find(|name| settings.properties.value(name).is_some());
    let certificate = given(["ssl.certificate.location", "ssl.certificate.pem"]);
    let key = given(["ssl.key.location", "ssl.key.pem"]);
    let (has, lacks) = match (certificate, key) {
        (Some(certificate), None) => (certificate, "ssl.key.location"),
        (None, Some(key)) => (key, "ssl.certificate.location"),
        _ => return None,
    };
    Some(format!("{has} is set without {lacks}: a client's certificate and its key go together"))
}

/// One row of the library's table.
struct Property {
    kind: Kind,
    alias_of: Option<String>,
}

/// Every property by name.
fn table() -> &'static BTreeMap<String, Property> {
    static TABLE: OnceLock<BTreeMap<String, Property>> = OnceLock::new();
    TABLE.get_or_init(|| ffi::property_table().lines().filter_map(row).collect())
}

/// `name | C/P | range | default | importance | description <br>*Type: …*`
fn row(line: &str) -> Option<(String, Property)> {
    let mut columns = line.splitn(6, '|').map(str::trim);
    let (name, _, range) = (columns.next()?, columns.next()?, columns.next()?);
    let (description, kind) = columns.nth(2)?.rsplit_once("*Type: ")?;
    let alias_of = description.strip_prefix("Alias for `").and_then(|text| text.split('`').next());
    let bounds = range.split_once("..").map(|(low, high)| (low.trim().into(), high.trim().into()));
    let kind = match kind.trim_end_matches('*') {
        "integer" => bounds.map(|(low, high)| Kind::Whole(low, high)),
        "float" => bounds.map(|(low, high)| Kind::Number(low, high)),
        "boolean" => Some(Kind::Bool),
        "enum value" => Some(Kind::Choice(range.into())),
        _ => None,
    };
    Some((name.into(), Property { kind: kind.unwrap_or(Kind::Other), alias_of: alias_of.map(Into::into) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::java;
    use crate::settings::owned::{ELSEWHERE, FIXED};

    #[test]
    fn the_library_is_asked_what_it_takes() {
        let cases = [
            ("linger.mss", None, "librdkafka has no such property; did you mean linger.ms?"),
            ("sasl.pasword", None, "librdkafka has no such property; did you mean sasl.password?"),
            ("colour.of.the.sky", None, "librdkafka has no such property"),
            ("linger.ms", Some("soon"), "expected a number from 0 to 900000"),
            ("linger.ms", Some("-1"), "expected a number from 0 to 900000"),
            ("linger.ms", Some("10s"), "expected a number from 0 to 900000"),
            ("batch.num.messages", Some("0"), "expected a whole number from 1 to 1000000"),
            ("socket.keepalive.enable", Some("yes"), "expected true or false"),
            ("security.protocol", Some("TLS"), "expected one of plaintext, ssl, sasl_plaintext, sasl_ssl"),
            ("compression.type", Some("brotli"), "expected one of none, gzip, snappy, lz4, zstd"),
            (
                "error_cb",
                Some("x"),
                "librdkafka refuses it: Property \"error_cb\" must be set through dedicated .._set_..() function",
            ),
        ];
        for (name, value, expected) in cases {
            assert_eq!(mistake(name, value).as_deref(), Some(expected), "{name}={value:?}");
        }
        for (name, value) in [
            ("linger.ms", "5"),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "any # thing"),
            ("ssl.ca.location", "/etc/ca.pem"),
            ("request.timeout.ms", "1000"),
            ("compression.level", "-1"),
            ("queued.min.messages", "1000"),
            ("client.rack", "a"),
        ] {
            assert_eq!(mistake(name, Some(value)), None, "{name}={value}");
        }
    }

    #[test]
    fn a_part_that_is_not_built_in_is_told_as_such() {
        let told = mistake("sasl.oauthbearer.method", Some("oidc")).unwrap();
        assert!(told.starts_with("this build of librdkafka does not have it: OAuth/OIDC depends on libcurl"), "{told}");
    }

    #[test]
    fn properties_that_contradict_each_other_are_told_before_any_server_is_asked() {
        let settings = |properties: &[(&str, &str)]| {
            let mut settings = KafkaSettings { bootstrap_servers: "127.0.0.1:1".into(), ..KafkaSettings::default() };
            for (name, value) in properties {
                settings.properties.insert((*name).into(), (*value).into());
            }
            contradiction(&settings)
        };
        assert_eq!(settings(&[]), None);
        let told = settings(&[("security.protocol", "SASL_SSL"), ("sasl.mechanism", "GSSAPI")]);
        let has = "and this build has PLAIN, SCRAM-SHA-256, SCRAM-SHA-512";
        assert_eq!(told.unwrap(), format!("sasl.mechanism is GSSAPI, {has}"));
        for mechanism in ["OAUTHBEARER", "SCRAM-SHA512", "AWS_MSK_IAM", "plain"] {
            let told = settings(&[("security.protocol", "sasl_plaintext"), ("sasl.mechanism", mechanism)]);
            assert_eq!(told.unwrap(), format!("sasl.mechanism is {mechanism}, {has}"));
        }
        let login = [("sasl.username", "u"), ("sasl.password", "hunter2")];
        let tokens = [("security.protocol", "sasl_ssl"), ("sasl.mechanism", "OAUTHBEARER"), login[0], login[1]];
        let told = settings(&tokens).unwrap();
        assert!(
            told.ends_with(": it logs in by a token, and sasl.username and sasl.password are those of PLAIN and SCRAM")
        );
        for (has, lacks) in [
            ("ssl.certificate.location", "ssl.key.location"),
            ("ssl.certificate.pem", "ssl.key.location"),
            ("ssl.key.location", "ssl.certificate.location"),
        ] {
            let told = settings(&[("security.protocol", "ssl"), (has, "/dev/null")]).unwrap();
            assert!(told.starts_with(&format!("{has} is set without {lacks}: ")), "{told}");
        }
        let unsigned = ("enable.sasl.oauthbearer.unsecure.jwt", "true");
        let tokens = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "OAUTHBEARER"), unsigned];
        assert_eq!(settings(&tokens), None);
        let told = settings(&[("security.protocol", "SSL"), ("ssl.ca.location", "/dev/null")]);
        assert!(told.unwrap().contains("ssl.ca.location failed"));
        let login = [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "PLAIN")];
        let login = [login[0], login[1], ("sasl.username", "u"), ("sasl.password", "hunter2")];
        assert_eq!(settings(&login), None);
        let told = settings(&[("compression.type", "none"), ("compression.codec", "lz4")]).unwrap();
        assert_eq!(told, "compression.codec and compression.type are one property: set one of them");
    }

    #[test]
    fn our_lists_of_names_agree_with_the_library() {
        for (name, _) in FIXED.iter().chain(&ELSEWHERE) {
            assert!(table().contains_key(*name), "{name} is unknown to the library");
        }
        for name in table().keys() {
            assert_eq!(java::instead(name), None, "{name} is the library's");
        }
        assert!(table().len() > 150, "{}", table().len());
    }
}
