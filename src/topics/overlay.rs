//! `env/<name>.yaml`: the differences between environments. `spec` is laid over every topic, then `topics.<name>` over that
//! one.

use crate::settings::suggestion;
use crate::settings::yaml::{Kind, Node};
use crate::topics::config;
use crate::topics::finding::Finding;
use std::collections::BTreeMap;
use std::path::Path;

/// The part of a topic that an overlay may say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub partitions: Option<i32>,
    pub replicas: Option<i32>,
    pub config: BTreeMap<String, String>,
}

impl Sizes {
    /// Reads `partitions`, `replicas` and `config`; other keys of `node` are findings unless `others` names them.
    pub(super) fn read(file: &Path, node: &Node, others: &[&str], findings: &mut Vec<Finding>) -> Self {
        let mut sizes = Self::default();
        mapping(file, "", node, findings);
        for (key, value) in node.entries() {
            let mut finding = |line, message: String| findings.push(Finding::new(file, line, message));
            match key.as_str() {
                // Kafka's own limits lie higher; a number refused here is a slip.
                "partitions" => match number(value, 1..=100_000) {
                    Ok(count) => sizes.partitions = Some(count),
                    Err(message) => finding(value.line, format!("partitions: {message}")),
                },
                "replicas" => match number(value, 1..=100) {
                    Ok(count) => sizes.replicas = Some(count),
                    Err(message) => finding(value.line, format!("replicas: {message}")),
                },
                "config" => {
                    mapping(file, "config: ", value, findings);
                    for (key, value) in value.entries() {
                        let text = value.text().filter(|_| !value.is_null());
                        let checked = text.ok_or_else(|| "expected a value".to_owned());
                        match checked.and_then(|text| config::checked(key, text)) {
                            Ok(spelled) => drop(sizes.config.insert(key.clone(), spelled)),
                            Err(message) => {
                                findings.push(Finding::new(file, value.line, format!("config.{key}: {message}")));
                            }
                        }
                    }
                }
                _ if others.contains(&key.as_str()) => {}
                _ => {
                    let known = ["partitions", "replicas", "config"].into_iter().chain(others.iter().copied());
                    finding(value.line, format!("{key}: unknown key{}", suggestion(key, known)));
                }
            }
        }
        sizes
    }

    /// Where both set a value, that of `over` wins.
    pub(super) fn overlaid(mut self, over: &Self) -> Self {
        self.partitions = over.partitions.or(self.partitions);
        self.replicas = over.replicas.or(self.replicas);
        self.config.extend(over.config.clone());
        self
    }
}

/// A finding where the node is neither a mapping nor left empty: its content would count for nothing.
fn mapping(file: &Path, what: &str, node: &Node, findings: &mut Vec<Finding>) {
    if !matches!(node.kind, Kind::Map(_)) && !node.is_null() {
        findings.push(Finding::new(
            file,
            node.line,
            format!("{what}expected a mapping: one line `name: value` for each entry"),
        ));
    }
}

fn number(node: &Node, range: std::ops::RangeInclusive<i32>) -> Result<i32, String> {
    let found = node.text().and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
    found.ok_or_else(|| {
        let (min, max) = (range.start(), range.end());
        format!("expected a whole number from {min} to {max}, found {:?}", node.text().unwrap_or("no scalar"))
    })
}

/// An overlay file.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pub every: Sizes,
    pub one: BTreeMap<String, (usize, Sizes)>,
}

impl Overlay {
    pub(super) fn read(file: &Path, root: &Node, findings: &mut Vec<Finding>) -> Self {
        let mut overlay = Self::default();
        mapping(file, "", root, findings);
        for (key, node) in root.entries() {
            match key.as_str() {
                "spec" => overlay.every = Sizes::read(file, node, &[], findings),
                "topics" => {
                    mapping(file, "topics: ", node, findings);
                    for (name, node) in node.entries() {
                        overlay.one.insert(name.clone(), (node.line, Sizes::read(file, node, &[], findings)));
                    }
                }
                _ => {
                    let message = format!("{key}: unknown key{}", suggestion(key, ["spec", "topics"]));
                    findings.push(Finding::new(file, node.line, message));
                }
            }
        }
        overlay
    }
}
