//! The layer above the defaults: one YAML file.

use crate::settings::layer::{Entry, Layer};
use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::schema::Schema;
use crate::settings::text_file;
use crate::settings::yaml::{self, Kind, Node};
use std::path::Path;

pub(super) fn layer(path: &Path, problems: &mut Problems) -> Layer {
    let mut reader = Reader { path, layer: Layer::default(), problems };
    match text_file::read(path) {
        Err(why) => {
            let fix = if path.is_file() { "" } else { "; --config or TIDEGATE_CONFIG names it" };
            reader.whole(0, format!("the settings file {why}{fix}"));
        }
        Ok(text) => match yaml::parse(&text) {
            Err(broken) => reader.whole(broken.line, format!("the settings file is not YAML: {}", broken.message)),
            Ok(root) if matches!(root.kind, Kind::Map(_)) || root.is_null() => reader.root(&root),
            Ok(root) => reader.whole(
                root.line,
                "the settings file is no mapping of sections: write `engine:`, or another one, and its keys below it"
                    .into(),
            ),
        },
    }
    reader.layer
}

struct Reader<'a> {
    path: &'a Path,
    layer: Layer,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    /// A problem of the whole file: its path is the word `file`, without a dot, unlike any setting's.
    fn whole(&mut self, line: usize, message: String) {
        self.problems.add("file", None, message, Origin::File(self.path.into(), line));
    }

    fn root(&mut self, root: &Node) {
        for (section, node) in root.entries() {
            match &node.kind {
                Kind::Map(keys) if !keys.is_empty() || !Schema::has_section(section) => self.section(section, node),
                _ if Schema::has_section(section) && (node.is_null() || matches!(node.kind, Kind::Map(_))) => {}
                _ if Schema::has_section(section) => {
                    let origin = Origin::File(self.path.into(), node.line);
                    self.problems.add(
                        section,
                        None,
                        "expected a mapping: this is a section; write its keys below it, indented",
                        origin,
                    );
                }
                _ => self.leaf(section, "", None, node),
            }
        }
    }

    fn section(&mut self, section: &str, node: &Node) {
        if node.entries().is_empty() {
            self.leaf(section, "", None, node);
        }
        for (key, value) in node.entries() {
            let is_map = Schema::rule(section, key).is_some_and(|rule| rule.is_map);
            match &value.kind {
                Kind::Map(entries) if is_map => {
                    for (name, value) in entries {
                        self.leaf(section, key, Some(name), value);
                    }
                }
                Kind::Map(entries) => {
                    // Of a key that is no map one entry is enough to be told so.
                    match entries.first() {
                        Some((name, value)) => self.leaf(section, key, Some(name), value),
                        None => self.leaf(section, key, Some("{}"), value),
                    }
                }
                _ if is_map && value.is_null() => {}
                _ => self.leaf(section, key, None, value),
            }
        }
    }

    fn leaf(&mut self, section: &str, key: &str, name: Option<&str>, node: &Node) {
        let (text, is_plain) = match &node.kind {
            Kind::Scalar(text, is_plain) => (text.clone(), *is_plain),
            Kind::List(_) => ("a list".into(), false),
            Kind::Map(_) => ("a mapping".into(), false),
        };
        let origin = Origin::File(self.path.into(), node.line);
        let mut entry = Entry::new(section, key, name.map(Into::into), text, origin);
        entry.is_plain = is_plain;
        let is_list = matches!(node.kind, Kind::List(_) | Kind::Map(_));
        if let (true, Some(rule)) = (is_list, Schema::rule(section, key).filter(|rule| rule.is_map == name.is_some())) {
            let whole = inner(node).map_or_else(String::new, |inner| {
                format!("; write the name whole, {}.{inner}", entry.name.as_deref().unwrap_or_default())
            });
            let whole = if rule.is_map { whole } else { String::new() };
            let message = format!("expected {}, found {}{whole}", rule.allowed.expected(), entry.text);
            self.problems.add(entry.path(), None, message, entry.origin);
        } else {
            self.layer.entries.push(entry);
        }
    }
}

/// The names down to the first scalar within a mapping, joined by dots.
fn inner(node: &Node) -> Option<String> {
    let (name, value) = node.entries().first()?;
    Some(inner(value).map_or_else(|| name.clone(), |rest| format!("{name}.{rest}")))
}
