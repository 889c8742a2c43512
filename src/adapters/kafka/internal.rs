//! The logs that the brokers keep for themselves: of transactions, and of the offsets of groups. Kafka's defaults want three
//! copies of each, which a single broker never has: no transaction begins then, and no group comes about.

use super::ffi::{self, Owner};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::metadata::Metadata;
use std::time::Duration;

/// What is known of these logs, as far as rights allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Internal {
    /// The number of brokers that are up.
    brokers: usize,
    logs: Vec<Log>,
}

/// One of these logs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    kind: Kind,
    /// The copies that a broker would make.
    copies: usize,
    /// The copies that must be in sync for a write, as a broker would make it or as the log has it.
    in_sync: usize,
    /// The copies that the log has; `None` where there is no such log yet.
    made: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Transactions,
    Offsets,
}

impl Kind {
    const fn topic(self) -> &'static str {
        match self {
            Self::Transactions => "__transaction_state",
            Self::Offsets => "__consumer_offsets",
        }
    }

    /// The brokers' settings for the copies and for those in sync.
    const fn settings(self) -> (&'static str, &'static str) {
        match self {
            Self::Transactions => ("transaction.state.log.replication.factor", "transaction.state.log.min.isr"),
            Self::Offsets => ("offsets.topic.replication.factor", "min.insync.replicas"),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Transactions => "log of transactions",
            Self::Offsets => "log of group offsets",
        }
    }
}

impl Internal {
    /// Asks; what may not be asked or is not answered is left out.
    pub(super) fn look<C: ClientContext>(client: &Client<C>, metadata: &Metadata, wait: Duration) -> Self {
        let brokers = metadata.brokers();
        let settings =
            brokers.first().and_then(|broker| ffi::describe_config(client, &Owner::Broker(broker.id()), wait).ok());
        let settings = settings.unwrap_or_default();
        let value = |name: &str| settings.iter().find(|entry| entry.name == name)?.value.parse().ok();
        let log = |kind: Kind| {
            let (copies, in_sync) = kind.settings();
            let (copies, in_sync) = (value(copies)?, value(in_sync)?);
            let Some(found) = ffi::describe_topic(client, kind.topic(), wait).ok()? else {
                return Some(Log { kind, copies, in_sync, made: None });
            };
            let own = ffi::describe_config(client, &Owner::Topic(kind.topic()), wait).ok()?;
            let in_sync = own.iter().find(|entry| entry.name == "min.insync.replicas")?.value.parse().ok()?;
            Some(Log { kind, copies, in_sync, made: usize::try_from(found.replicas).ok() })
        };
        Self { brokers: brokers.len(), logs: [Kind::Transactions, Kind::Offsets].into_iter().filter_map(log).collect() }
    }

    /// A sentence for each log that cannot be written to, with the settings that help.
    pub(super) fn mistakes(&self) -> Vec<String> {
        self.logs.iter().filter_map(|log| log.mistake(self.brokers)).collect()
    }
}

impl Log {
    fn mistake(&self, brokers: usize) -> Option<String> {
        let Self { kind, copies, in_sync, made } = self;
        let ((copies_of, in_sync_of), topic, name) = (kind.settings(), kind.topic(), kind.name());
        let count = if brokers == 1 { "1 broker".into() } else { format!("{brokers} brokers") };
        match made {
            None if *copies > brokers => Some(format!(
                "the cluster has {count}, and its {name} ({topic}) is to have {copies} copies, so that it cannot be made: set \
                 {copies_of} and {in_sync_of} to {brokers} on each broker, and restart it"
            )),
            None if in_sync > copies => Some(format!(
                "the {name} ({topic}) is to have {copies} copies of which {in_sync} must be in sync, so that it takes no \
                 write: set {in_sync_of} to {copies} on each broker, and restart it"
            )),
            Some(made) if in_sync > made => Some(format!(
                "the {name} ({topic}) has {made} copies of which {in_sync} must be in sync, so that it takes no write: set \
                 min.insync.replicas of that topic to {made} (kafka-configs.sh --alter)"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_with_more_copies_than_there_are_brokers_is_told_with_the_settings_that_help() {
        let said = |brokers, kind, copies, in_sync, made| {
            Internal { brokers, logs: vec![Log { kind, copies, in_sync, made }] }.mistakes().pop()
        };
        let defaults = said(1, Kind::Transactions, 3, 2, None).unwrap();
        assert_eq!(
            defaults,
            "the cluster has 1 broker, and its log of transactions (__transaction_state) is to have 3 copies, so that it \
             cannot be made: set transaction.state.log.replication.factor and transaction.state.log.min.isr to 1 on each \
             broker, and restart it"
        );
        let offsets = said(2, Kind::Offsets, 3, 1, None).unwrap();
        assert!(offsets.contains("has 2 brokers") && offsets.contains("offsets.topic.replication.factor"), "{offsets}");
        let in_sync = said(1, Kind::Transactions, 1, 2, None).unwrap();
        assert!(in_sync.contains("1 copies of which 2 must be in sync"), "{in_sync}");
        let made = said(1, Kind::Transactions, 1, 2, Some(1)).unwrap();
        assert!(made.contains("min.insync.replicas of that topic to 1"), "{made}");
        assert_eq!(said(1, Kind::Transactions, 1, 1, None), None);
        assert_eq!(said(1, Kind::Transactions, 3, 2, Some(3)), None, "brokers that are down are another trouble");
        assert_eq!(said(3, Kind::Transactions, 3, 2, None), None);
    }
}
