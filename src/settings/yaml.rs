//! YAML as a tree that remembers its lines. Scalars keep their text: what they mean is decided where they are used.
//!
//! Anchors, aliases and several documents are refused: a settings file that needs them is too clever.

use crate::settings::unseen;
use yaml_rust2::Event;
use yaml_rust2::parser::Parser;
use yaml_rust2::scanner::TScalarStyle;

/// One node and the line it begins on, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub line: usize,
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The text, and whether it stood without quotes.
    Scalar(String, bool),
    List(Vec<Node>),
    /// In the order of the file; names are unique.
    Map(Vec<(String, Node)>),
}

/// Why a text is not a tree: the line and one sentence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub line: usize,
    pub message: String,
}

impl Node {
    /// The entry of a mapping.
    pub(crate) fn entry(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(known, _)| known == name).map(|(_, node)| node)
    }

    /// The entries of a mapping; none for anything else.
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// Whether a reader of YAML takes it for a number, a truth value or nothing, and not for the text that it is; those of YAML
    /// 1.1 count too, which Kubernetes reads.
    pub(crate) fn is_no_string(&self) -> bool {
        let Kind::Scalar(text, true) = &self.kind else { return false };
        let words = ["", "~", "null", "true", "false", "yes", "no", "on", "off"];
        words.contains(&text.to_ascii_lowercase().as_str()) || text.parse::<f64>().is_ok()
    }

    /// Whether nothing was written: a key with no value, or null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(text, true) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Parses one document; an empty text is an empty mapping. An empty document behind it, as a last `---` makes it, is none.
pub(crate) fn parse(text: &str) -> Result<Node, Broken> {
    let mut all = documents(text)?.into_iter();
    let first = all.next().unwrap_or_else(|| Node { line: 1, kind: Kind::Map(Vec::new()) });
    match all.next() {
        Some(second) => Err(broken(second.line, "a second document; one is allowed")),
        None => Ok(first),
    }
}

/// Parses every document of a text; empty ones are left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Node>, Broken> {
    if let Some((line, what)) = unseen::within(text) {
        return Err(broken(line, format!("{what} is not seen and belongs to no YAML: delete it")));
    }
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut all = Vec::new();
    loop {
        let (event, _) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(all),
            Event::DocumentStart => {
                let (event, line) = reader.next()?;
                let root = reader.node(event, line, 0)?;
                if !root.is_null() {
                    all.push(root);
                }
            }
            _ => {}
        }
    }
}

fn broken(line: usize, message: impl Into<String>) -> Broken {
    Broken { line, message: message.into() }
}

/// Deeper nesting than any file of ours has: a bound for the recursion.
const DEPTH_MAX: usize = 32;

struct Reader<'a> {
    parser: Parser<std::str::Chars<'a>>,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<(Event, usize), Broken> {
        let (event, marker) = self.parser.next_token().map_err(|e| broken(e.marker().line(), e.info()))?;
        Ok((event, marker.line()))
    }

    fn node(&mut self, event: Event, line: usize, depth: usize) -> Result<Node, Broken> {
        if depth > DEPTH_MAX {
            return Err(broken(line, "nested too deeply"));
        }
        let kind = match event {
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if anchor > 0 =>
            {
                return Err(broken(line, "anchors and aliases are not supported: write the value out at each place"));
            }
            Event::Scalar(text, style, ..) => Kind::Scalar(text, style == TScalarStyle::Plain),
            Event::SequenceStart(..) => Kind::List(self.list(depth)?),
            Event::MappingStart(..) => Kind::Map(self.map(depth)?),
            Event::Alias(_) => {
                return Err(broken(line, "anchors and aliases are not supported: write the value out at each place"));
            }
            _ => return Err(broken(line, "expected a value")),
        };
        Ok(Node { line, kind })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Broken> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(nodes),
                (event, line) => nodes.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, Node)>, Broken> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let (name, name_line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(entries),
                (Event::Scalar(name, ..), line) => (name, line),
                (_, line) => return Err(broken(line, "the name of a key is no text")),
            };
            if entries.iter().any(|(known, _)| *known == name) {
                return Err(broken(name_line, format!("{name}: the key is there twice")));
            }
            let (event, line) = self.next()?;
            let mut node = self.node(event, line, depth + 1)?;
            // The name's line is where a person looks; an empty value's mark lies further down.
            node.line = name_line;
            entries.push((name, node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_keeps_lines_texts_and_quotes() {
        let root = parse("a:\n  b: 1\n  c: \"1\"\n# note\nd:\ne: [x, y]\n").unwrap();
        let a = root.entry("a").unwrap();
        assert_eq!(a.entry("b"), Some(&Node { line: 2, kind: Kind::Scalar("1".into(), true) }));
        assert_eq!(a.entry("c"), Some(&Node { line: 3, kind: Kind::Scalar("1".into(), false) }));
        assert_eq!(root.entry("d").map(|d| (d.line, d.is_null())), Some((5, true)));
        assert!(matches!(&root.entry("e").unwrap().kind, Kind::List(nodes) if nodes.len() == 2));
        assert_eq!(parse("").unwrap().entries(), []);
        assert_eq!(parse("---\na: 1\n---\n").unwrap().entries().len(), 1);
        let lines = |text| documents(text).unwrap().iter().map(|node| node.line).collect::<Vec<_>>();
        assert_eq!(lines("a: 1\n---\nb: 2\n---\n# nothing\n---\nc: 3\n"), [1, 3, 7]);
    }

    #[test]
    fn what_is_too_clever_or_broken_is_refused_with_its_line() {
        assert_eq!(parse("a: 1\na: 2\n").unwrap_err(), broken(2, "a: the key is there twice"));
        assert_eq!(parse("a: &x 1\nb: *x\n").unwrap_err().line, 1);
        assert_eq!(parse("a: 1\n---\nb: 2\n").unwrap_err().line, 3);
        assert_eq!(parse("a: 1\nb: [1\nc: 2\n").unwrap_err().line, 3);
        assert!(parse(&"[".repeat(100)).is_err());
        let mark = "a byte order mark (U+FEFF) is not seen and belongs to no YAML: delete it";
        assert_eq!(parse("a: 1\n\u{feff}b: 2\n").unwrap_err(), broken(2, mark));
    }
}
