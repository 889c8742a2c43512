//! Finds the mistakes of a declaration, before anything is connected to.

use crate::flow::join::JoinedTable;
use crate::flow::key::KeyType;
use crate::flow::partitioning::{Declared, KeyHash, OnViolation};
use crate::flow::record::TopicName;
use crate::flow::store::StoreSpec;
use crate::flow::topology::{StepKind, SubTopology, Topology};
use std::collections::{BTreeMap, BTreeSet};

/// A topic whose name is made of others, with a description of it.
struct Derived {
    topic: TopicName,
    what: String,
    /// The owner of the name that must be shorter where this one is too long.
    of: String,
}

impl Topology {
    /// Checks the whole declaration.
    ///
    /// # Errors
    /// Every mistake, one sentence each.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut errors = self.errors.clone();
        if self.sub_topologies.is_empty() && errors.is_empty() {
            errors.push(format!(
                "pipeline {}: no source was declared, or its chain does not end in to() or done()",
                self.name
            ));
        }
        self.check_sources(&mut errors);
        for sub in &self.sub_topologies {
            self.check_tables(sub, &mut errors);
            self.check_declaration(sub, &mut errors);
            self.check_own(sub, &mut errors);
            self.check_chains(sub, &mut errors);
        }
        self.merged_tables(&mut errors);
        self.check_keys(&mut errors);
        self.check_stores(&mut errors);
        for (index, threshold) in self.thresholds.iter().enumerate() {
            if self.thresholds.iter().take(index).any(|other| other.name() == threshold.name()) {
                errors.push(format!("threshold {}: the name is used twice", threshold.name()));
            }
        }
        self.check_names(&mut errors);
        self.check_loops(&mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn check_sources(&self, errors: &mut Vec<String>) {
        let mut seen: Vec<&TopicName> = Vec::new();
        for topic in self.sub_topologies.iter().flat_map(SubTopology::sources) {
            if seen.contains(&topic) {
                let is_table = self.sub_topologies.iter().any(|sub| sub.is_table(topic));
                let is_its_own =
                    |sub: &SubTopology| sub.is_table(topic) && sub.sources().filter(|own| *own == topic).count() > 1;
                let fix = if self.sub_topologies.iter().any(is_its_own) {
                    ": a step that needs earlier records of its own stream keeps them in a store"
                } else if is_table {
                    ": join the table in one step, which reads its streams by events() and and()"
                } else {
                    ": let chain() give each of its steps a copy"
                };
                errors.push(format!("topic {topic}: is a source twice; one topic has one place in a pipeline{fix}"));
            }
            seen.push(topic);
        }
    }

    fn check_stores(&self, errors: &mut Vec<String>) {
        let stores: Vec<&StoreSpec> = self.sub_topologies.iter().flat_map(|sub| &sub.stores).collect();
        for (index, store) in stores.iter().enumerate() {
            if stores.iter().take(index).any(|other| other.name == store.name) {
                errors.push(format!(
                    "store {}: belongs to two steps, or to two tables of one; one store has one owner: name another",
                    store.name
                ));
            }
            if self.changelog_topic(store).is_none() {
                errors.push(format!(
                    "store {:?}: use a name that fits into a topic's: a-z, A-Z, 0-9, '.', '_' and '-'",
                    store.name
                ));
            }
        }
    }

    /// Whether the tables of one step can be joined with its stream, as far as the declaration shows.
    fn check_tables(&self, sub: &SubTopology, errors: &mut Vec<String>) {
        // We write repartition topics ourselves, by murmur2; their count is known when the folder of topics is read.
        let is_internal = self.internal_topics().contains(&sub.lead);
        let hash = sub.declared.as_ref().map(|declared| declared.hash().name()).or(is_internal.then_some("murmur2"));
        let count = sub.declared.as_ref().map(Declared::count);
        let lead = &sub.lead;
        for JoinedTable { topic, declared, .. } in &sub.tables {
            let Some(declared) = declared else { continue };
            if let Some(hash) = hash.filter(|hash| *hash != declared.hash().name()) {
                errors.push(format!(
                    "table {topic}: is partitioned by {}, and {lead}, which it is joined with, by {hash}: equal keys would not meet; let all producers use one partitioner, or write the table to a topic of its own under murmur2 and the stream through key_by()",
                    declared.hash().name()
                ));
            }
            if let Some(count) = count.filter(|count| *count != declared.count()) {
                errors.push(format!(
                    "table {topic}: is declared with {} partitions, and {lead}, which it is joined with, with {count}: equal keys would not meet; make the counts equal, or send the stream by key_by() through a repartition topic of {} partitions",
                    declared.count(),
                    declared.count()
                ));
            }
            if declared.policy() == OnViolation::Repartition {
                errors.push(format!(
                    "table {topic}: its records are not sent on; declare it with OnViolation::Stop or OnViolation::Warn"
                ));
            }
        }
    }

    /// Whether the step can keep to the declaration of its source.
    #[expect(clippy::unused_self, reason = "one of the checks")]
    fn check_declaration(&self, sub: &SubTopology, errors: &mut Vec<String>) {
        let key_type = sub.key_type();
        for (topic, _) in sub.declarations().filter(|_| key_type.is_field()) {
            errors.push(format!(
                "topic {topic}: is declared as partitioned by its key, and its keys are read as {key_type}: the schema and the other fields of such a key are hashed with the id, so that a new version of the producer moves the id to another partition; leave declared() out in front of an update step, or let key_by() write the id alone"
            ));
        }
        let is_sent_on = sub.declared.as_ref().is_some_and(|found| found.policy() == OnViolation::Repartition);
        if is_sent_on && sub.table().is_some() {
            errors.push(format!(
                "topic {}: an update step sends no record on; declare it with OnViolation::Stop or OnViolation::Warn, or let key_by() write a repartition topic",
                sub.lead
            ));
        }
    }

    /// Whether a topic that a step here also writes is declared with our own partitioner. If its records are sent on, equal
    /// keys meet all the same.
    fn check_own(&self, sub: &SubTopology, errors: &mut Vec<String>) {
        let is_written = |topic: &TopicName| self.sub_topologies.iter().any(|sub| sub.destinations.contains(topic));
        let own = KeyHash::Murmur2.name();
        for (topic, declared) in sub.declarations().filter(|(topic, _)| is_written(topic)) {
            let hash = declared.hash().name();
            if hash != own && declared.policy() != OnViolation::Repartition {
                errors.push(format!(
                    "topic {topic}: is declared as partitioned by {hash}, and this pipeline writes it by {own}; declare it with Declared::murmur2, or let its records be sent on by OnViolation::Repartition"
                ));
            }
        }
    }

    /// Whether each chain of a source ends in a step that reads it.
    fn check_chains(&self, sub: &SubTopology, errors: &mut Vec<String>) {
        let is_read = |topic: &TopicName| self.sub_topologies.iter().any(|sub| sub.sources().any(|read| read == topic));
        for (name, _) in sub.chains.iter().zip(&sub.destinations).filter(|(_, topic)| !is_read(topic)) {
            errors.push(format!("chain {name:?}: nothing reads it; let its steps end in to() or done(), or remove it"));
        }
    }

    /// Whether the keys that one step writes can be read by the next.
    fn check_keys(&self, errors: &mut Vec<String>) {
        let writes = |sub: &SubTopology| match (&sub.rekeys, &sub.step) {
            _ if sub.has_own_keys => None,
            (Some(name), _) => Some((KeyType::Text, format!("key_by {name:?}"))),
            (None, StepKind::Log(step)) => Some((step.key_type()?, step_of(sub))),
            (None, StepKind::Rows(_)) => Some((sub.key_type(), step_of(sub))),
        };
        let each = |sub: &SubTopology| {
            let written =
                writes(sub).map(|written| sub.destinations.iter().cloned().map(move |to| (to, written.clone())));
            written.into_iter().flatten().collect::<Vec<_>>()
        };
        let written: Vec<(TopicName, (KeyType, String))> = self.sub_topologies.iter().flat_map(each).collect();
        for sub in &self.sub_topologies {
            let read = match &sub.step {
                StepKind::Log(step) => step.key_type(),
                StepKind::Rows(_) => Some(sub.key_type()),
            };
            let Some(read) = read else { continue };
            for topic in sub.sources() {
                for (_, (spelt, by)) in written.iter().filter(|(to, (spelt, _))| to == topic && !may_read(*spelt, read))
                {
                    errors.push(format!(
                        "topic {topic}: {by} writes its keys as {spelt}, and {} reads them as {read}: each record would be a dead letter; give both one key type",
                        step_of(sub)
                    ));
                }
            }
        }
    }

    /// The topics whose names Tidegate makes.
    fn derived(&self) -> Vec<Derived> {
        let mut out = Vec::new();
        for sub in &self.sub_topologies {
            let astray = self.astray_topic(sub);
            for source in sub.sources() {
                // A topic with a derived name is too long because of the name behind it.
                let of = if self.internal_topics().contains(source) { "the pipeline or its step" } else { "the topic" };
                let what = format!("topic {source}: its dead-letter topic");
                out.push(Derived { topic: Self::dead_letter_topic(source), what, of: of.into() });
            }
            let rekeyed = sub.rekeys.iter().map(|name| format!("key_by {name:?}"));
            let names = rekeyed.chain(sub.chains.iter().map(|name| format!("chain {name:?}")));
            let sent_on = sub.sent_on_to().iter().cloned().zip(names);
            let sent_on = sent_on.map(|(topic, what)| (topic, format!("{what}: its repartition topic")));
            let astray = astray.map(|topic| (topic, format!("topic {}: its repartition topic", sub.lead)));
            let changelog = |store: &StoreSpec| {
                Some((self.changelog_topic(store)?, format!("store {}: its changelog topic", store.name)))
            };
            let own = sent_on.chain(astray).chain(sub.stores.iter().filter_map(changelog));
            out.extend(own.map(|(topic, what)| Derived {
                topic,
                what,
                of: format!("the pipeline ({}) or of it", self.name),
            }));
        }
        out
    }

    /// Whether each derived name fits, and is nobody else's.
    fn check_names(&self, errors: &mut Vec<String>) {
        let derived = self.derived();
        for (index, Derived { topic, what, of }) in derived.iter().enumerate() {
            let (length, limit) = (topic.as_str().len(), TopicName::LENGTH_MAX);
            if length > limit {
                let surplus = length - limit;
                errors.push(format!(
                    "{what} would have {length} characters, {limit} are allowed: shorten the name of {of} by {surplus} ({topic})"
                ));
            }
            let is_taken = |other: &&Derived| other.topic == *topic && other.what != *what;
            if let Some(other) = derived.iter().take(index).find(is_taken) {
                errors.push(format!("{what} would be {topic}, as well as {}: rename one of the two", other.what));
            }
        }
        let own: BTreeMap<&TopicName, &str> = derived.iter().map(|found| (&found.topic, found.what.as_str())).collect();
        for sub in &self.sub_topologies {
            let destinations = sub.destinations.iter().filter(|_| sub.sent_on_to().is_empty());
            let told = sub.destinations.len() - usize::from(sub.late_to.is_some());
            let by = |topic: &TopicName| match told {
                _ if sub.late_to.as_ref() == Some(topic) => "late_to()",
                0 | 1 => "to()",
                _ => "route() or branch()",
            };
            for (topic, what) in destinations.filter_map(|topic| Some((topic, own.get(topic)?))) {
                errors.push(format!(
                    "topic {topic}: is written to by {}, and is what Tidegate writes itself ({what}): name another",
                    by(topic)
                ));
            }
        }
        let changelogs: BTreeSet<TopicName> = self
            .sub_topologies
            .iter()
            .flat_map(|sub| &sub.stores)
            .filter_map(|store| self.changelog_topic(store))
            .collect();
        for topic in
            self.sub_topologies.iter().flat_map(SubTopology::sources).filter(|topic| changelogs.contains(topic))
        {
            errors.push(format!(
                "topic {topic}: is a source, and the changelog of a store of this pipeline: read the store instead"
            ));
        }
    }

    /// Whether the pipeline's own output comes back to it, round and round. A record of a table makes no step run.
    fn check_loops(&self, errors: &mut Vec<String>) {
        let mut done = BTreeSet::new();
        for topic in self.sub_topologies.iter().flat_map(SubTopology::sources) {
            self.look_for_loops(topic, &mut Vec::new(), &mut done, errors);
        }
    }

    fn look_for_loops(
        &self,
        topic: &TopicName,
        path: &mut Vec<TopicName>,
        done: &mut BTreeSet<TopicName>,
        errors: &mut Vec<String>,
    ) {
        if let Some(from) = path.iter().position(|before| before == topic) {
            let round = path.iter().skip(from).chain([topic]).map(TopicName::as_str).collect::<Vec<_>>().join(" -> ");
            errors.push(format!(
                "topic {topic}: what the pipeline writes comes back to it ({round}): a record would go round for ever; write to another topic"
            ));
            return;
        }
        if !done.insert(topic.clone()) {
            return;
        }
        path.push(topic.clone());
        let readers = self.sub_topologies.iter().filter(|sub| sub.sources().any(|source| source == topic));
        for sub in readers {
            let told = sub.destinations.iter().filter(|_| !sub.is_table(topic)).cloned();
            for next in told.chain([Self::dead_letter_topic(topic)]) {
                self.look_for_loops(&next, path, done, errors);
            }
        }
        path.pop();
    }
}

/// The step in words.
fn step_of(sub: &SubTopology) -> String {
    match sub.table() {
        Some(spec) => format!("the step that updates {}", spec.table.name),
        None => format!("the step that reads {}", sub.lead),
    }
}

/// Whether keys that are spelt in one way can be read in the other.
fn may_read(spelt: KeyType, read: KeyType) -> bool {
    use KeyType::{Bytes, Field, Fields, I32BigEndian, I64, I64BigEndian, Text, TextField, Uuid, UuidBytes, UuidField};
    match (spelt, read) {
        (one, other) if one == other => true,
        (_, Bytes) | (Bytes, _) => true, // whatever they are
        (one, other) if one.is_field() && (other.is_field() || other == Text) => true,
        (I64 | Uuid | Text, I64 | Uuid | Text) => !matches!((spelt, read), (I64, Uuid) | (Uuid, I64)),
        (
            I64 | Uuid | Text | I64BigEndian | I32BigEndian | UuidBytes | Field(_) | TextField(_) | UuidField(_)
            | Fields(_),
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Algorithm, Context, Reject, Store, Table, TableTopic};

    /// Returns each event as a notice.
    struct Echo;

    impl Algorithm for Echo {
        type Event = i64;
        type Row = ();
        type Notices = Option<i64>;

        fn apply(&self, event: i64, (): &mut (), _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            Ok(Some(event))
        }
    }

    /// Adds up, in a store or a row.
    struct Sum;

    #[derive(serde::Serialize, serde::Deserialize, Default)]
    struct Total {
        total: i64,
    }

    impl Algorithm for Sum {
        type Event = i64;
        type Row = Total;
        type Notices = Option<i64>;

        fn apply(&self, event: i64, total: &mut Total, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            total.total += event;
            Ok(Some(total.total))
        }
    }

    fn errors(build: impl FnOnce(&mut Topology)) -> Vec<String> {
        let mut topology = Topology::new("p");
        build(&mut topology);
        topology.validate().err().unwrap_or_default()
    }

    fn refused(expected: &str, build: impl FnOnce(&mut Topology)) {
        let errors = errors(build);
        assert!(errors.iter().any(|error| error.contains(expected)), "{expected}: {errors:?}");
    }

    #[test]
    fn a_derived_name_that_does_not_fit_is_refused_with_the_room_that_is_left() {
        let long = "r".repeat(246);
        refused("topic rrr", |topology| topology.source(&long).process(Echo).done());
        refused(
            "its dead-letter topic would have 250 characters, 249 are allowed: shorten the name of the topic by 1",
            |topology| topology.source(&long).process(Echo).done(),
        );
        assert_eq!(errors(|topology| topology.source(&"r".repeat(245)).process(Echo).done()), Vec::<String>::new());
        let source = TopicName::parse(&long).unwrap();
        assert_ne!(Topology::dead_letter_topic(&source), source, "poison would come back for ever");
        refused("its repartition topic would have 256 characters", |topology| {
            topology.source("a").key_by(&"k".repeat(242), |event: &i64| *event).aggregate("s", Sum).done();
        });
        refused("its changelog topic would have 253 characters", |topology| {
            topology.source("a").aggregate("s".repeat(241).as_str(), Sum).done();
        });
        refused("its repartition topic would have 259 characters", |topology| {
            let declared = Declared::murmur2(4).on_violation(OnViolation::Repartition);
            topology.source(&"s".repeat(245)).declared(declared).aggregate("s", Sum).done();
        });
    }

    #[test]
    fn a_pipeline_under_a_name_too_long_is_refused_and_keeps_no_topic_of_the_old_name() {
        let mut topology = Topology::new("usage");
        topology.source("events").key_by("by-user", |event: &i64| *event).aggregate("usage", Sum).to("updates");
        let renamed = topology.renamed(&"p".repeat(235));
        let errors = renamed.validate().unwrap_err();
        assert!(errors.iter().any(|error| error.contains("key_by \"by-user\": its repartition topic would have 255")));
        assert!(
            errors.iter().any(|error| error.contains("store usage: its changelog topic would have 251")),
            "{errors:?}"
        );
        assert!(renamed.internal_topics().iter().all(|topic| topic.as_str().starts_with("ppp")));
        assert!(
            renamed.sub_topologies().iter().flat_map(|sub| &sub.stores).all(|s| renamed.changelog_topic(s).is_some())
        );
    }

    #[test]
    fn two_derived_names_that_are_one_are_refused() {
        refused("would be p-clicks-repartition, as well as", |topology| {
            let declared = Declared::murmur2(4).on_violation(OnViolation::Repartition);
            topology.source("clicks").declared(declared).aggregate("sessions", Sum).done();
            topology.source("events").key_by("clicks", |event: &i64| *event).aggregate("other", Sum).done();
        });
    }

    #[test]
    fn a_step_may_not_write_where_tidegate_writes_itself() {
        for topic in ["readings-dlt", "p-totals-changelog", "p-by-n-repartition", "p-clicks-repartition"] {
            refused(&format!("topic {topic}: is written to by to(), and is what Tidegate writes itself"), |topology| {
                topology.source("readings").aggregate("totals", Sum).to(topic);
                topology.source("events").key_by("by-n", |event: &i64| *event).aggregate("n", Sum).done();
                let declared = Declared::murmur2(4).on_violation(OnViolation::Repartition);
                topology.source("clicks").declared(declared).aggregate("m", Sum).done();
            });
        }
        refused("is a source, and the changelog of a store of this pipeline", |topology| {
            topology.source("p-totals-changelog").process(Echo).done();
            topology.source("readings").aggregate("totals", Sum).done();
        });
    }

    #[test]
    fn each_topic_of_a_route_or_a_branch_is_looked_at_as_that_of_to_is() {
        for topic in ["readings-dlt", "p-totals-changelog"] {
            let expected = format!("topic {topic}: is written to by route() or branch(), and is what Tidegate writes");
            refused(&expected, |topology| {
                topology.source("readings").aggregate("totals", Sum).route(["out", topic], |_, [out, _]| out);
            });
            refused(&expected, |topology| {
                topology
                    .source("readings")
                    .aggregate("totals", Sum)
                    .branch("out", |n| *n > 0)
                    .branch(topic, |_| true)
                    .done();
            });
        }
        refused("(a -> a): a record would go round for ever", |topology| {
            topology.source("a").process(Echo).route(["b", "a"], |_, [b, _]| b);
        });
        refused("(a -> b -> a)", |topology| {
            topology.source("a").process(Echo).branch("c", |_| true).to("b");
            topology.source("b").process(Echo).branch("a", |n| *n > 0).done();
        });
        refused("topic out: stands twice in a route(); name it once", |topology| {
            topology.source("a").process(Echo).route(["out", "out"], |_, [out, _]| out);
        });
        refused("topic name \"a b\": use 1 to 249", |topology| {
            topology.source("a").process(Echo).branch("a b", |_| true).done();
        });
        refused("topic c: the step that reads a writes its keys as text", |topology| {
            topology.source("a").aggregate("s", Sum).route(["b", "c"], |_, [b, _]| b);
            topology.source("c").aggregate("t", Sum).keys(KeyType::I64BigEndian).done();
        });
        let twice = errors(|topology| {
            topology.source("a").process(Echo).branch("b", |n| *n > 9).branch("c", |n| *n > 5).to("b");
        });
        assert_eq!(twice, Vec::<String>::new(), "between two branches into one topic there may be another");
    }

    #[test]
    fn mistakes_in_chains_and_merges_are_refused() {
        refused("chain \"b\": nothing reads it; let its steps end in to() or done()", |topology| {
            topology.source("a").chain("c", |a| a.process(Echo).done()).chain("b", |a| drop(a.process(Echo)));
        });
        refused("chain \"b c\": use a name of a-z", |topology| {
            topology.source("a").chain("b c", |a| a.process(Echo).done());
        });
        refused("topic p-b-repartition: is a source twice", |topology| {
            topology.source("a").chain("b", |a| a.process(Echo).done()).chain("b", |a| a.process(Echo).done());
        });
        refused("chain \"b\": its repartition topic would be p-b-repartition, as well as key_by \"b\"", |topology| {
            topology.source("c").key_by("b", |event: &i64| *event).process(Echo).done();
            topology.source("a").chain("b", |a| a.process(Echo).done());
        });
        refused("(a -> p-b-repartition -> a): a record would go round", |topology| {
            topology.source("a").chain("b", |a| a.process(Echo).to("a"));
        });
        refused("is declared as partitioned by crc32, and this pipeline writes it by murmur2", |topology| {
            topology.source("a").chain("b", |a| a.declared(Declared::crc32(3)).aggregate("s", Sum).done());
        });
        refused("topic name \"a b\"", |topology| {
            topology.source("a b").chain("c", |a| a.process(Echo).done());
        });
        refused("topic b: declared() in merge() would be held against none of its records", |topology| {
            topology.source("a").merge("b", |b| b.declared(Declared::crc32(3))).aggregate("s", Sum).done();
        });
        refused("topic b: is read otherwise than the source that it is merged into", |topology| {
            let text = crate::flow::Format::Text;
            topology.source("a").merge("b", |b| b.format(text)).aggregate("s", Sum).done();
        });
        refused("(b -> b)", |topology| topology.source("a").merge("b", |b| b).process(Echo).to("b"));
        let fit = errors(|topology| {
            let by_n = |event: &i64| *event;
            topology.source("a").chain("rows", |a| a.update("t", Sum).to("b")).chain("n", |a| {
                a.key_by("by-n", by_n).merge("c", |c| c.key_by("c-by-n", by_n)).aggregate("s", Sum).to("d");
            });
        });
        assert_eq!(fit, Vec::<String>::new());
    }

    #[test]
    fn what_goes_round_is_refused_and_what_goes_on_is_not() {
        refused("(a -> a): a record would go round for ever", |topology| topology.source("a").process(Echo).to("a"));
        refused("(b -> b)", |topology| topology.source("a").with("b").process(Echo).to("b"));
        refused("(a -> b -> c -> a)", |topology| {
            topology.source("a").process(Echo).to("b");
            topology.source("b").process(Echo).to("c");
            topology.source("c").process(Echo).to("a");
        });
        refused("(a -> a-dlt -> a)", |topology| {
            topology.source("a").process(Echo).done();
            topology.source("a-dlt").process(Echo).to("a");
        });
        let chain = errors(|topology| {
            topology.source("a").process(Echo).to("b");
            topology.source("b").process(Echo).to("c");
            topology.source("a-dlt").process(Echo).to("seen");
        });
        assert_eq!(chain, Vec::<String>::new());
    }

    #[test]
    fn keys_that_cannot_be_read_as_they_are_written_are_refused() {
        let expected =
            "topic p-by-n-repartition: key_by \"by-n\" writes its keys as text (KeyType::Text), and the step that";
        refused(expected, |topology| {
            let source = topology.source("a").key_by("by-n", |event: &i64| *event);
            source.aggregate("s", Sum).keys(KeyType::I64BigEndian).done();
        });
        refused(expected, |topology| {
            let source = topology.source("a").key_by("by-n", |event: &i64| *event);
            source.update(Table::new("t").key("id", KeyType::I64BigEndian), Sum).done();
        });
        for kind in [KeyType::I32BigEndian, KeyType::UuidBytes, KeyType::Field("id")] {
            refused(expected, |topology| {
                let source = topology.source("a").key_by("by-n", |event: &i64| *event);
                source.aggregate("s", Sum).keys(kind).done();
            });
        }
        refused("topic users: the step that reads raw writes its keys as eight big-endian bytes", |topology| {
            topology.source("raw").aggregate("s", Sum).keys(KeyType::I64BigEndian).to("users");
            topology.source("orders").join(TableTopic::<i64>::new("users")).process(Pairs).done();
        });
        refused("topic b: the step that updates t writes its keys as decimal integers", |topology| {
            topology.source("a").update("t", Sum).to("b");
            topology.source("b").update(Table::new("u").key("id", KeyType::Uuid), Sum).done();
        });
        let fit = errors(|topology| {
            topology.source("a").key_by("by-n", |event: &i64| *event).update("t", Sum).to("b");
            topology.source("b").aggregate("s", Sum).done();
        });
        assert_eq!(fit, Vec::<String>::new());
    }

    #[test]
    fn a_declaration_of_keys_of_which_the_id_is_a_part_is_refused_with_the_reason() {
        refused("topic a: is declared as partitioned by its key, and its keys are read as JSON objects", |topology| {
            let table = Table::new("t").key("id", KeyType::Field("id"));
            topology.source("a").declared(Declared::murmur2(4)).update(table, Sum).done();
        });
    }

    #[test]
    fn keys_that_nobody_reads_are_refused() {
        let expected =
            "table t: keys() says text (KeyType::Text), and an update step's keys are its table's, decimal integers";
        refused(expected, |topology| topology.source("a").update("t", Sum).keys(KeyType::Text).done());
        refused("keys(): a process step without a join reads no keys", |topology| {
            topology.source("a").process(Echo).keys(KeyType::I64).done();
        });
        let said = errors(|topology| topology.source("a").update("t", Sum).keys(KeyType::I64).done());
        assert_eq!(said, Vec::<String>::new(), "it says the same");
    }

    #[test]
    fn a_store_whose_maps_have_keys_that_json_cannot_spell_is_refused() {
        refused("store places: has a map whose keys are tuples, which JSON cannot spell", |topology| {
            let places: Store<std::collections::HashMap<(i64, i64), f64>> = Store::new("places");
            topology.source("a").process(Echo).with_store(&places).done();
        });
    }

    /// Reads pairs of a stream's event and a table's value.
    struct Pairs;

    impl Algorithm for Pairs {
        type Event = (i64, i64);
        type Row = ();
        type Notices = Option<i64>;

        fn apply(&self, (n, m): (i64, i64), (): &mut (), _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
            Ok(Some(n + m))
        }
    }
}
