//! Parts of the commands on real servers: settings turned into adapters, and the checks that come before any work.

use crate::adapters::kafka::{GroupProtocol, KafkaAdmin, KafkaHistory, KafkaSettings, MAX_POLL_INTERVAL};
#[cfg(feature = "http")]
use crate::adapters::postgres::PostgresRollUps;
use crate::adapters::postgres::{PostgresHistory, PostgresRows, PostgresSchema};
use crate::app::application::as_set;
use crate::app::failure::Failure;
use crate::app::reach;
use crate::flow::Topology;
use crate::flow::record::TopicName;
use crate::flow::topology::SubTopology;
use crate::ports::Fault;
use crate::ports::schema::Schema as _;
use crate::ports::source::Group;
use crate::settings::Settings;
use crate::settings::engine::EngineSettings;
use crate::topics::{changelog_policy, repartition_settings, tombstone_retention};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest time for a server's answer before a command gives up.
const ANSWER: Duration = Duration::from_secs(10);

/// A pipeline and the servers that its settings name.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) topology: Topology,
    pub(super) settings: Settings,
    pub(super) kafka: KafkaSettings,
}

impl Service {
    /// Takes the settings over; nothing is connected yet.
    ///
    /// # Errors
    /// Where the pipeline cannot be as the settings name it.
    pub(super) fn new(topology: &Topology, settings: Settings) -> Result<Self, Failure> {
        let topology = as_set(topology, &settings)?;
        let reports_offsets = !topology.changelogs().is_empty(); // checkpoints of the stores are made of them
        let kafka = KafkaSettings { reports_offsets, ..settings.kafka.clone() };
        Ok(Self { topology, settings, kafka })
    }

    /// The group and the database that a repair changes, with where their names are set.
    pub(super) fn place(&self) -> Result<String, Fault> {
        let (servers, path) = (&self.settings.kafka.bootstrap_servers, "kafka.bootstrap_servers");
        let (group, origin) = (self.topology.name(), self.settings.origin_of(path));
        let place = format!("group {group} of the cluster at {servers} ({path}: {origin})");
        if self.topology.tables().is_empty() {
            return Ok(place);
        }
        let origin = self.settings.origin_of("database.url");
        Ok(format!("{place}\n   and the database {} (database.url: {origin})", self.schema()?.place()))
    }

    pub(super) fn schema(&self) -> Result<PostgresSchema, Fault> {
        PostgresSchema::new(&self.settings.database, self.settings.outbox, self.topology.name())
    }

    /// For the base line of the audit.
    pub(super) fn patient_schema(&self) -> Result<PostgresSchema, Fault> {
        PostgresSchema::patient(&self.settings.database, self.settings.outbox, self.topology.name())
    }

    /// For questions about slots.
    pub(super) fn brief_schema(&self) -> Result<PostgresSchema, Fault> {
        PostgresSchema::brief(&self.settings.database, self.settings.outbox, self.topology.name())
    }

    pub(super) fn rows(&self) -> Result<PostgresRows, Fault> {
        PostgresRows::new(&self.settings.database, self.topology.name(), self.topology.name())
    }

    /// The tables of roll-ups.
    #[cfg(feature = "http")]
    pub(super) fn roll_up_tables(&self) -> Result<PostgresRollUps, Fault> {
        PostgresRollUps::new(&self.settings.database)
    }

    /// The database as the audit reads it, once its tables are known to be there.
    pub(super) fn row_history(&self) -> Result<PostgresHistory, Fault> {
        self.schema()?.verify()?;
        PostgresHistory::new(&self.settings.database, self.topology.name())
    }

    pub(super) fn topic_history(&self) -> Result<KafkaHistory, Fault> {
        KafkaHistory::connect(&self.kafka, self.topology.name())
    }

    /// The engine's settings.
    pub(super) fn engine(&self) -> EngineSettings {
        EngineSettings { program: self.program(), revoke_within: MAX_POLL_INTERVAL / 5, ..self.settings.engine.clone() }
    }

    /// The command line that calls this program again with its settings; its environment is taken to be there.
    fn program(&self) -> String {
        let program = std::env::args().next().unwrap_or_else(|| "tidegate".into());
        let words = std::iter::once(program).chain(self.settings.flags());
        words.map(|word| shell_word(&word)).collect::<Vec<_>>().join(" ")
    }

    /// The text, with this program and its settings in the commands that it quotes.
    fn named(&self, text: &str) -> String {
        text.replace("`tidegate ", &format!("`{} ", self.program()))
    }

    /// Says why the cluster did not answer, where it did not.
    pub(super) fn kafka_said(&self, fault: Fault) -> Failure {
        reach::kafka_said(fault, &self.settings)
    }

    /// Says where the database was looked for, when it did not do what it was asked for. The URL itself is a secret.
    #[expect(clippy::needless_pass_by_value, reason = "an error that is mapped")]
    pub(super) fn database_said(&self, fault: Fault) -> Failure {
        let origin = self.settings.origin_of("database.url");
        let subject = if fault.is_retry() { "database: " } else { "" };
        let said = self.named(&fault.to_string());
        Failure::message(format!("{subject}{said}\n  database.url: {origin}"))
    }

    /// Checks every topic of the pipeline; all that is wrong comes in one message, and nothing has been written yet.
    pub(super) fn check_topics(&self, group: &dyn Group) -> Result<(), Failure> {
        let count = |topic: &TopicName| group.partition_count(topic, ANSWER).map_err(|fault| self.kafka_said(fault));
        let mut mistakes = Vec::new();
        for sub in self.topology.sub_topologies() {
            if let Some(lead) = count(&sub.lead)? {
                self.check_counts(sub, lead, &count, &mut mistakes)?;
            }
        }
        let sources = self.topology.sub_topologies().iter().flat_map(SubTopology::sources).cloned();
        let all: BTreeSet<TopicName> = sources.chain(self.topology.outputs()).collect();
        let mut missing = BTreeSet::new();
        for topic in all {
            if count(&topic)?.is_none() {
                mistakes.push(format!("topic {topic} does not exist; `tidegate topics apply` creates it"));
                missing.insert(topic);
            }
        }
        let changelogs: Vec<TopicName> =
            self.topology.changelogs().into_iter().filter(|topic| !missing.contains(topic)).collect();
        self.check_changelogs(&changelogs, &mut mistakes).map_err(|fault| self.kafka_said(fault))?;
        let internal = self.topology.internal_topics().into_iter().filter(|topic| !missing.contains(topic)).collect();
        self.check_repartition(internal, &mut mistakes).map_err(|fault| self.kafka_said(fault))?;
        let lead = self.topology.sub_topologies().first().map(|sub| &sub.lead);
        if let Some(lead) = lead.filter(|lead| !missing.contains(lead)) {
            mistakes.extend(self.check_session(lead).map_err(|fault| self.kafka_said(fault))?);
        }
        let mistakes: Vec<String> = mistakes.iter().map(|mistake| self.named(mistake)).collect();
        if mistakes.is_empty() { Ok(()) } else { Err(Failure::Setup(mistakes)) }
    }

    /// Checks the partition counts of one sub-topology, whose lead topic has `lead`. Missing topics are reported by
    /// another check.
    fn check_counts(
        &self,
        sub: &SubTopology,
        lead: i32,
        count: &dyn Fn(&TopicName) -> Result<Option<i32>, Failure>,
        mistakes: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let is_internal = self.topology.internal_topics().contains(&sub.lead);
        for companion in &sub.companions {
            if let Some(found) = count(companion)?.filter(|found| *found != lead) {
                let together = if sub.is_table(companion) { "joined" } else { "read together" };
                // A repartition topic is ours to size; a topic of others is not.
                let fix = if is_internal {
                    format!(": give {} {found} partitions in topics/", sub.lead)
                } else {
                    String::new()
                };
                mistakes.push(format!(
                    "topics {} and {companion} are {together} and need equal partition counts: {lead} and {found}{fix}",
                    sub.lead
                ));
            }
        }
        for source in sub.sources() {
            let dead = Topology::dead_letter_topic(source);
            if let Some(found) = count(&dead)?.filter(|found| *found < lead) {
                mistakes.push(format!(
                    "topic {dead} has {found} partitions, fewer than its source's {lead}: give it {lead}"
                ));
            }
        }
        for (topic, declared) in sub.declarations() {
            let found = if *topic == sub.lead { Some(lead) } else { count(topic)? };
            if let Some(found) = found.filter(|found| *found != declared.count()) {
                mistakes.push(format!(
                    "topic {topic} has {found} partitions, and the pipeline declares {}: correct the count in declared()",
                    declared.count()
                ));
            }
        }
        for store in &sub.stores {
            let Some(changelog) = self.topology.changelog_topic(store) else { continue };
            if let Some(found) = count(&changelog)?.filter(|found| *found != lead) {
                mistakes.push(format!(
                    "topic {changelog} has {found} partitions, and store {} lies beside {} with {lead}: make them equal; \
                     an empty changelog can be deleted and made again by `tidegate topics apply`",
                    store.name, sub.lead
                ));
            }
        }
        Ok(())
    }

    /// Whether the group will let a member with our session timeout in. Under the newer protocol it is the broker's.
    fn check_session(&self, topic: &TopicName) -> Result<Option<String>, Fault> {
        if self.kafka.group_protocol != GroupProtocol::Classic {
            return Ok(None);
        }
        let bounds = KafkaAdmin::connect(&self.kafka)?.session_bounds_ms(topic);
        Ok(bounds.and_then(|bounds| session_mistake(self.kafka.session_timeout_ms, bounds)))
    }

    /// Checks the broker's settings for the changelogs: wrong ones would lose the history of the stores.
    fn check_changelogs(&self, changelogs: &[TopicName], mistakes: &mut Vec<String>) -> Result<(), Fault> {
        if changelogs.is_empty() {
            return Ok(());
        }
        let admin = KafkaAdmin::connect(&self.kafka)?;
        for topic in changelogs {
            let policy = admin.topic_config(topic, "cleanup.policy")?;
            let retention = admin.topic_config(topic, "delete.retention.ms")?.and_then(|ms| ms.parse().ok());
            let wrong = changelog_policy(policy.as_deref()).into_iter().chain(tombstone_retention(retention));
            mistakes.extend(
                wrong.map(|what| format!("topic {topic} {what}; `tidegate topics apply` sets it as described")),
            );
        }
        Ok(())
    }

    /// Checks the broker's settings for repartition topics: wrong ones would lose or alter records between two steps.
    fn check_repartition(&self, topics: Vec<TopicName>, mistakes: &mut Vec<String>) -> Result<(), Fault> {
        if topics.is_empty() {
            return Ok(());
        }
        let admin = KafkaAdmin::connect(&self.kafka)?;
        for topic in topics {
            let retention = admin.topic_config(&topic, "retention.ms")?;
            let kind = admin.topic_config(&topic, "message.timestamp.type")?;
            let wrong = repartition_settings(retention.as_deref(), kind.as_deref()).into_iter();
            mistakes.extend(
                wrong.map(|what| format!("topic {topic} {what}; `tidegate topics apply` sets it as described")),
            );
        }
        Ok(())
    }
}

fn session_mistake(session_ms: u32, (shortest_ms, longest_ms): (u32, u32)) -> Option<String> {
    let is_within = (shortest_ms..=longest_ms).contains(&session_ms);
    let text = || {
        format!(
            "kafka.session_timeout_ms is {session_ms}, and the brokers let in members with {shortest_ms} to {longest_ms} \
             (group.min.session.timeout.ms, group.max.session.timeout.ms): set one within the other"
        )
    };
    (!is_within).then(text)
}

/// A word as a POSIX shell reads it back.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::MemoryLog;
    use crate::pipelines::usage;
    use crate::ports::clock::SystemClock;
    use crate::settings::Sources;
    use std::sync::Arc;

    #[test]
    fn a_pipeline_does_not_start_without_its_internal_topics() {
        let topology = usage::topology();
        let settings = Settings::load(&topology, Sources::default()).unwrap();
        let mut service = Service::new(&topology, settings).unwrap();
        service.kafka.group_protocol = GroupProtocol::Consumer; // the bounds of sessions would be asked of a broker
        let log = MemoryLog::new(Arc::new(SystemClock::default()));
        for topic in ["events", "events-dlt", "usage-by-user-repartition-dlt", "usage-updates"] {
            log.create_topic(topic, 12).unwrap();
        }
        let Err(Failure::Setup(told)) = service.check_topics(&*log.group("usage")) else { panic!("it starts") };
        let program = service.program();
        let missing = |topic| format!("topic {topic} does not exist; `{program} topics apply` creates it");
        assert_eq!(told, ["usage-by-user-repartition", "usage-usage-changelog"].map(missing));
    }

    #[test]
    fn a_session_timeout_that_the_brokers_refuse_is_told_with_their_bounds() {
        assert_eq!(session_mistake(6_000, (6_000, 1_800_000)), None);
        let told = session_mistake(4_000, (6_000, 1_800_000)).unwrap();
        assert!(told.contains("is 4000") && told.contains("6000 to 1800000"), "{told}");
    }
}
