//! Whether everything is as it must be.

use super::reference::{Account, Notice};
use super::{Feed, World};
use serde_json::Value;
use sqlx::Row as _;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::adapters::kafka::KafkaHistory;
use tidegate::flow::record::TopicName;
use tidegate::ports::history::{Found, TopicHistory as _};

/// The output of `tidegate audit -o json`.
pub struct Audit(pub Value);

impl Audit {
    pub fn number(&self, name: &str) -> i64 {
        self.0[name].as_i64().unwrap_or_else(|| panic!("{name} in {}", self.0))
    }

    /// Records that ever lay in the source partitions.
    pub fn inputs(&self) -> i64 {
        let partitions = self.0["partitions"].as_array().unwrap().iter();
        partitions.map(|partition| partition["end_offset"].as_i64().unwrap()).sum()
    }

    /// The source partitions that are not read to their ends and published.
    pub fn behind(&self) -> Vec<&Value> {
        let is_done = |p: &Value| p["next_offset"] == p["end_offset"] && p["committed_offset"] == p["next_offset"];
        self.0["partitions"].as_array().unwrap().iter().filter(|partition| !is_done(partition)).collect()
    }
}

impl World {
    /// Runs the audit, which must be clean whatever else is going on.
    pub fn audit(&self) -> Audit {
        self.clean_audit().unwrap_or_else(|finding| panic!("{finding}"))
    }

    /// The audit of [`World::audit`]; a finding begins with the name of its check.
    pub fn clean_audit(&self) -> Result<Audit, String> {
        let output = self.run(&["audit", "-o", "json"]);
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_str(&text).unwrap_or_default();
        if !output.status.success() {
            let kinds = ["missing", "twice", "unknown", "altered", "out_of_order"].into_iter();
            let counts = kinds.map(|kind| (report[kind]["count"].as_i64().unwrap_or(0), kind));
            let counts = counts.filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
            let sentences = report["contradictions"].as_array().into_iter().flatten().map(Value::to_string);
            let found: Vec<String> = counts.chain(sentences.take(1)).collect();
            return Err(format!("the audit: {}\n{}\n{text}{errors}", found.join(", "), output.status));
        }
        Ok(Audit(report))
    }

    /// Runs the audit, clean or not.
    #[cfg(feature = "failpoints")]
    pub fn findings(&self) -> Audit {
        let output = self.run(&["audit", "-o", "json"]);
        let answer = serde_json::from_slice(&output.stdout);
        Audit(answer.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr))))
    }

    /// The whole judgement: everything fed is taken and published within the time, the audit is clean, and rows and
    /// notices are those of the one-by-one computation, bit by bit.
    pub fn judge(&self, feed: &Feed, within: Duration) -> Audit {
        self.verdict(feed, within).unwrap_or_else(|finding| panic!("{finding}"))
    }

    /// The judgement of [`World::judge`]; a finding begins with the name of its check.
    pub fn verdict(&self, feed: &Feed, within: Duration) -> Result<Audit, String> {
        match self.compared(feed, within)? {
            (audit, 0) => Ok(audit),
            (_, dead_letters) => Err(format!("the one-by-one reference: {dead_letters} notices became dead letters")),
        }
    }

    /// The judgement of [`World::judge`], where brokers refuse messages for good: each notice is published once, in its
    /// topic or as a dead letter. Answers how many are dead letters, too.
    pub fn judge_with_dead_letters(&self, feed: &Feed, within: Duration) -> (Audit, usize) {
        self.compared(feed, within).unwrap_or_else(|finding| panic!("{finding}"))
    }

    fn compared(&self, feed: &Feed, within: Duration) -> Result<(Audit, usize), String> {
        super::in_time(within, || match self.taken() {
            taken if taken < feed.sent => Err(format!("a stall: {taken} of {} records taken", feed.sent)),
            _ => Ok(()),
        })?;
        let audit = super::in_time(Duration::from_secs(30), || match self.clean_audit() {
            Ok(audit) if !audit.behind().is_empty() => Err(format!("a stall: not published: {:?}", audit.behind())),
            audit => Ok(audit),
        })??;
        let changes = feed.reference.versions();
        let dead_letters = self.refused_notices();
        let others = audit.number("dead_letters") - i64::try_from(dead_letters.len()).unwrap();
        let notices = i64::try_from(feed.reference.notice_count()).unwrap() + others;
        let numbers =
            [("records", feed.sent), ("row_changes", changes), ("row_versions", changes), ("announced", notices)];
        for (name, expected) in numbers {
            let found = audit.number(name);
            if found != expected {
                let all: Vec<String> =
                    numbers.iter().map(|(name, _)| format!("{name} {}", audit.number(name))).collect();
                let (all, lie) = (all.join(", "), audit.inputs());
                return Err(format!(
                    "the one-by-one reference: {name}: expected {expected}, found {found} ({all}); {lie} records lie in the sources"
                ));
            }
        }
        compare("rows", &feed.reference.rows, &self.rows())?;
        let dead_letter_count = dead_letters.len();
        compare("notices", &feed.reference.notices, &self.notices(dead_letters))?;
        self.note(&format!("judged: {} records, {changes} row changes, {notices} announced", feed.sent));
        Ok((audit, dead_letter_count))
    }

    pub fn rows(&self) -> BTreeMap<i64, Account> {
        let rows = self.sql("SELECT id, score, version FROM accounts");
        let row = |row: &sqlx::postgres::PgRow| {
            let (score, version) = (row.try_get_unchecked(1).unwrap(), row.try_get_unchecked(2).unwrap());
            (row.try_get_unchecked(0).unwrap(), Account { score, version })
        };
        rows.iter().map(row).collect()
    }

    /// A whole topic, as a committed reader sees it.
    pub fn messages(&self, topic: &str) -> Vec<Found> {
        let mut out = Vec::new();
        let mut history = KafkaHistory::connect(&self.kafka_settings(), "judge").unwrap();
        history.each_message(&TopicName::parse(topic).unwrap(), &mut |found| out.push(found)).unwrap();
        out
    }

    /// Notices that their topic refused after they were decided.
    fn refused_notices(&self) -> Vec<Found> {
        let dead_letters = ["readings-dlt", "corrections-dlt"].into_iter().flat_map(|topic| self.messages(topic));
        dead_letters.filter(|found| found.header("kafka_dlt-exception-fqcn") == Some("refused")).collect()
    }

    /// The notices of each id in the order of the row's versions, with the dead letters `dead_letters` among them.
    fn notices(&self, dead_letters: Vec<Found>) -> BTreeMap<i64, Vec<Notice>> {
        let has_dead_letters = !dead_letters.is_empty();
        let mut out: BTreeMap<i64, Vec<Notice>> = BTreeMap::new();
        for found in self.messages("large-changes").into_iter().chain(dead_letters) {
            let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
            let version = found.header("tg_version").unwrap().parse().unwrap();
            let notice = Notice { version, value: text(&found.value) };
            out.entry(text(&found.key).parse().unwrap()).or_default().push(notice);
        }
        if has_dead_letters {
            // Each topic is in order; between the two there is none.
            out.values_mut().for_each(|notices| notices.sort_by_key(|notice| notice.version));
        }
        out
    }
}

/// Equality that names only the differences.
fn compare<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &BTreeMap<i64, T>,
    found: &BTreeMap<i64, T>,
) -> Result<(), String> {
    let ids: std::collections::BTreeSet<&i64> = expected.keys().chain(found.keys()).collect();
    let differences: Vec<String> = ids
        .into_iter()
        .filter(|id| expected.get(id) != found.get(id))
        .map(|id| format!("{id}: expected {:?}, found {:?}", expected.get(id), found.get(id)))
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    let few: Vec<&str> = differences.iter().take(5).map(String::as_str).collect();
    Err(format!("the one-by-one reference: the {what} of {} ids differ\n{}", differences.len(), few.join("\n")))
}
