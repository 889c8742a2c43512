//! The settings as the Kafka adapter wants them.

use crate::adapters::kafka::KafkaSettings;
use crate::settings;
use std::time::Duration;

/// The adapter's settings made from ours; the rest keeps the adapter's defaults.
pub(super) fn adapter_settings(from: &settings::KafkaSettings) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: from.bootstrap_servers.clone(),
        group_protocol: from.group_protocol,
        session_timeout_ms: millis(from.session_timeout),
        transaction_timeout_ms: millis(from.transaction_timeout),
        properties: from.properties.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        ..KafkaSettings::default()
    }
}

/// Whole milliseconds: the settings' ranges keep far below the largest.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_agree_with_the_adapters() {
        let ours = adapter_settings(&settings::KafkaSettings {
            bootstrap_servers: "localhost:9092".into(),
            ..settings::KafkaSettings::default()
        });
        assert_eq!(ours, KafkaSettings::default());
        assert_eq!(ours.errors(), Vec::<String>::new());
    }
}
