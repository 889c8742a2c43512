//! Reads the folder: one file a topic in its first level, overlays in `env/`.

use crate::flow::record::TopicName;
use crate::settings::yaml::{self, Node};
use crate::settings::{suggestion, text_file};
use crate::topics::finding::Finding;
use crate::topics::overlay::{Overlay, Sizes};
use crate::topics::spec::{Role, TopicSpec};
use std::path::{Path, PathBuf};

/// The prefix of our annotations' names.
const PREFIX: &str = "tidegate.io/";
const ANNOTATIONS: [&str; 9] =
    ["role", "copartition", "lead", "key", "schema", "owner", "purpose", "producers", "consumers"];

/// Reads every topic of `folder`, with `env/<environment>.yaml` laid over it, sorted by file name.
///
/// # Errors
/// Everything that cannot be read or understood, at once.
pub fn read(folder: &Path, environment: Option<&str>) -> Result<Vec<TopicSpec>, Vec<Finding>> {
    let mut findings = Vec::new();
    let files = files(folder, &mut findings);
    if files.is_empty() {
        return Err(findings);
    }
    let overlay_file = environment.map(|name| folder.join("env").join(format!("{name}.yaml")));
    let overlay = overlay_file.as_deref().zip(environment).and_then(|(file, name)| {
        if !file.is_file() {
            findings.push(Finding::new(folder, 0, no_environment(folder, name)));
            return None;
        }
        let root = one(file, &mut findings)?;
        Some(Overlay::read(file, &root, &mut findings))
    });
    let overlay = overlay.unwrap_or_default();
    let mut topics = Vec::new();
    for file in files {
        for (number, root) in all(&file, &mut findings).iter().enumerate() {
            let before = findings.len();
            let topic = Reader { folder, file: &file, number, findings: &mut findings }.topic(root, &overlay);
            topics.extend(topic.filter(|_| findings.len() == before));
        }
    }
    if let Some(file) = overlay_file.filter(|_| findings.is_empty()) {
        let known = || topics.iter().map(|topic| topic.name.as_str());
        for (name, (line, _)) in &overlay.one {
            if !known().any(|topic| topic == name) {
                let message = format!("topics.{name}: there is no such topic{}", suggestion(name, known()));
                findings.push(Finding::new(&file, *line, message));
            }
        }
    }
    if findings.is_empty() { Ok(topics) } else { Err(findings) }
}

/// The names that `--env` may have, sorted: those of the files in `env/`.
#[must_use]
pub fn environments(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("env")).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let overlays = paths.filter(|path| path.is_file() && path.extension().is_some_and(|ending| ending == "yaml"));
    let mut names: Vec<String> = overlays.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

fn no_environment(folder: &Path, name: &str) -> String {
    let known = environments(folder);
    let known = if known.is_empty() { "nothing".into() } else { known.join(", ") };
    format!("there is no environment {name}: env/ has {known}")
}

fn files(folder: &Path, findings: &mut Vec<Finding>) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let here = std::env::current_dir().map_or_else(|_| "?".into(), |here| here.display().to_string());
            let message = format!(
                "the folder of topics cannot be read: {error}; the working directory is {here}, and --dir names another folder"
            );
            findings.push(Finding::new(folder, 0, message));
            return Vec::new();
        }
    };
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file();
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_yaml).collect();
    files.sort();
    if files.is_empty() {
        let message = "the folder has no topic declarations: write a file <name>.yaml for each topic that `describe` lists, or name \
                       the folder that has them by --dir";
        findings.push(Finding::new(folder, 0, message));
    }
    files
}

fn text(file: &Path, findings: &mut Vec<Finding>) -> Option<String> {
    text_file::read(file).map_err(|why| findings.push(Finding::new(file, 0, format!("the file {why}")))).ok()
}

/// The one document of a file.
fn one(file: &Path, findings: &mut Vec<Finding>) -> Option<Node> {
    yaml::parse(&text(file, findings)?).map_err(|broken| findings.push(not_yaml(file, &broken))).ok()
}

/// Every document of a file, the empty mapping where it has none.
fn all(file: &Path, findings: &mut Vec<Finding>) -> Vec<Node> {
    let Some(text) = text(file, findings) else { return Vec::new() };
    match yaml::documents(&text) {
        Ok(all) if all.is_empty() => one(file, findings).into_iter().collect(),
        Ok(all) => all,
        Err(broken) => {
            findings.push(not_yaml(file, &broken));
            Vec::new()
        }
    }
}

fn not_yaml(file: &Path, broken: &yaml::Broken) -> Finding {
    Finding::new(file, broken.line, format!("not YAML: {}", broken.message))
}

struct Reader<'a> {
    folder: &'a Path,
    file: &'a Path,
    /// The number of the document in its file, from 0.
    number: usize,
    findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn topic(&mut self, root: &Node, overlay: &Overlay) -> Option<TopicSpec> {
        for (key, node) in root.entries() {
            // The status is Kubernetes' own, as `kubectl get -o yaml` prints it.
            let known = ["apiVersion", "kind", "metadata", "spec", "status"];
            if !known.contains(&key.as_str()) {
                self.finding(node.line, format!("{key}: unknown key{}", suggestion(key, known)));
            }
        }
        let api = root.entry("apiVersion").and_then(Node::text).unwrap_or_default();
        let kind = root.entry("kind").and_then(Node::text).unwrap_or_default();
        if !api.starts_with("kafka.strimzi.io/") || kind != "KafkaTopic" {
            let found = format!("found {kind:?} of {api:?}");
            self.finding(root.line, format!("expected kind KafkaTopic of apiVersion kafka.strimzi.io/v1, {found}"));
            return None;
        }
        let (Some(metadata), Some(spec)) = (root.entry("metadata"), root.entry("spec")) else {
            self.finding(root.line, "expected metadata and spec");
            return None;
        };
        let name = self.name(metadata, spec)?;
        let own = Sizes::read(self.file, spec, &["topicName"], self.findings);
        let one = overlay.one.get(name.as_str()).map(|(_, sizes)| sizes.clone()).unwrap_or_default();
        let sizes = own.overlaid(&overlay.every).overlaid(&one);
        let (Some(partitions), Some(replicas)) = (sizes.partitions, sizes.replicas) else {
            // A value that is none has been told.
            if [("partitions", sizes.partitions), ("replicas", sizes.replicas)]
                .iter()
                .any(|(name, size)| size.is_none() && spec.entry(name).is_none())
            {
                let message = "spec: partitions and replicas must be given: a broker's default is no decision";
                self.finding(spec.line, message);
            }
            return None;
        };
        let annotations = metadata.entry("annotations");
        let annotation = |name: &str| annotations.and_then(|node| node.entry(&format!("{PREFIX}{name}")));
        let text = |name: &str| annotation(name).and_then(Node::text).map(ToString::to_string);
        self.annotations(annotations);
        let role = match text("role").map(|text| Role::parse(&text)) {
            Some(Ok(role)) => role,
            Some(Err(message)) => {
                self.finding(annotation("role").map_or(0, |node| node.line), format!("{PREFIX}role: {message}"));
                return None;
            }
            None => {
                let roles = Role::words();
                self.finding(metadata.line, format!("the annotation {PREFIX}role is missing: one of {roles}"));
                return None;
            }
        };
        Some(TopicSpec {
            file: self.file.into(),
            line: spec.line,
            name,
            role,
            copartition: text("copartition"),
            is_lead: text("lead").as_deref() == Some("true"),
            key: text("key"),
            partitions,
            replicas,
            config: sizes.config,
        })
    }

    /// `spec.topicName`, or `metadata.name`, which is the file's name too.
    fn name(&mut self, metadata: &Node, spec: &Node) -> Option<TopicName> {
        let Some(name) = metadata.entry("name").and_then(Node::text) else {
            self.finding(metadata.line, "metadata.name is missing");
            return None;
        };
        let line = metadata.entry("name").map_or(0, |node| node.line);
        if self.number > 0 {
            let message = format!("{name}: a second topic in one file: move it into a file of its own, {name}.yaml");
            self.finding(line, message);
        } else if self.file.file_stem().is_none_or(|stem| stem != name) {
            self.finding(line, format!("metadata.name is {name:?}: the file must be called {name}.yaml"));
        }
        let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if !name.chars().all(is_legal) {
            let message = format!(
                "metadata.name {name:?}: Kubernetes allows a-z, 0-9, '-' and '.' only; give the topic's own name in spec.topicName"
            );
            self.finding(line, message);
        }
        let (line, topic) = spec.entry("topicName").map_or((line, name), |n| (n.line, n.text().unwrap_or_default()));
        TopicName::parse(topic).map_err(|message| self.finding(line, message)).ok()
    }

    fn annotations(&mut self, annotations: Option<&Node>) {
        for (name, node) in annotations.map(Node::entries).unwrap_or_default() {
            if let Some(text) = node.text().filter(|_| node.is_no_string()) {
                let message =
                    format!("{name}: {text} stands without quotes, and Kubernetes takes texts only: write \"{text}\"");
                self.finding(node.line, message);
            }
            let Some(ours) = name.strip_prefix(PREFIX) else { continue };
            let text = node.text().unwrap_or_default();
            match ours {
                "lead" if !matches!(text, "true" | "false") => {
                    self.finding(node.line, format!("{name}: expected \"true\" or \"false\", found {text:?}"));
                }
                "schema" if !self.folder.join(text).is_file() => {
                    self.finding(node.line, format!("{name}: there is no file {text} in the folder of topics"));
                }
                _ if ANNOTATIONS.contains(&ours) => {}
                _ => self.finding(node.line, format!("{name}: unknown annotation{}", suggestion(ours, ANNOTATIONS))),
            }
        }
    }

    fn finding(&mut self, line: usize, message: impl Into<String>) {
        self.findings.push(Finding::new(self.file, line, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_annotation_stands_in_the_documented_table_and_no_other() {
        let document = include_str!("../../docs/operations.md");
        let row = |line: &str| Some(line.strip_prefix("| `tidegate.io/")?.split('`').next()?.to_owned());
        let documented: Vec<String> = document.lines().filter_map(row).collect();
        assert_eq!(documented, ANNOTATIONS);
        let roles = document.lines().find(|line| line.starts_with("| `tidegate.io/role`")).unwrap();
        for role in Role::words().split(", ") {
            assert!(roles.contains(&format!("`{role}`")), "{role} is not documented");
        }
    }
}
