//! A wrong set-up, and the words with which the binary refuses it.

/// One wrong set-up. In its texts `{file}` stands for the settings file, `{folder}` for a folder of its own, and other
/// words in braces for what the ground knows, such as the port of a server. Its name says what is wrong.
#[derive(Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    /// The settings file; none where it is empty.
    pub file: &'static [u8],
    pub environment: &'static [(&'static str, &'static str)],
    pub arguments: &'static [&'static str],
    /// Files below `{folder}`, beside a copy of the shipped topics where `topics` is not empty.
    pub files: &'static [(&'static str, &'static str)],
    /// In a file of the shipped topics, which lie in `{folder}/topics`: text, and what stands in its place.
    pub topics: &'static [(&'static str, &'static str, &'static str)],
    /// A database of its own for it.
    pub database: Option<Database>,
    pub code: i32,
    pub said: Said,
}

/// A database with the tables of `sql`, empty but for that, or with Tidegate's own tables.
#[derive(Clone, Copy)]
pub struct Database {
    pub is_migrated: bool,
    pub sql: &'static str,
}

/// All that is written, on either stream. `…` stands for any text.
#[derive(Clone, Copy)]
pub enum Said {
    /// A mistake a line, below their number.
    Mistakes(&'static [&'static str]),
    Lines(&'static [&'static str]),
}

impl Said {
    pub fn text(self) -> String {
        match self {
            Self::Mistakes(lines) => {
                let many = if lines.len() == 1 { "" } else { "s" };
                format!("configuration: {} mistake{many}\n  {}", lines.len(), lines.join("\n  "))
            }
            Self::Lines(lines) => lines.join("\n"),
        }
    }

    /// The number of findings, a line each.
    pub fn findings(self) -> usize {
        let (Self::Mistakes(lines) | Self::Lines(lines)) = self;
        lines.len()
    }
}

/// Makes a row of a command.
pub const fn row(
    name: &'static str,
    arguments: &'static [&'static str],
    code: i32,
    lines: &'static [&'static str],
) -> Row {
    let (file, environment, files, topics) = (&[], &[], &[], &[]);
    Row { name, file, environment, arguments, files, topics, database: None, code, said: Said::Lines(lines) }
}

/// Makes a row of settings, each of which is told by every command.
pub const fn mistakes(name: &'static str, arguments: &'static [&'static str], lines: &'static [&'static str]) -> Row {
    Row { said: Said::Mistakes(lines), ..row(name, arguments, 78, lines) }
}

const SHOW: &[&str] = &["config", "show"];

/// Makes a row of a settings file.
pub const fn file(name: &'static str, text: &'static str, line: &'static [&'static str; 1]) -> Row {
    Row { file: text.as_bytes(), ..mistakes(name, SHOW, line) }
}

/// Makes a row of variables.
pub const fn environment(
    name: &'static str,
    environment: &'static [(&'static str, &'static str)],
    line: &'static [&'static str; 1],
) -> Row {
    Row { environment, ..mistakes(name, SHOW, line) }
}

/// Makes a row of flags.
pub const fn flags(name: &'static str, arguments: &'static [&'static str], line: &'static [&'static str; 1]) -> Row {
    mistakes(name, arguments, line)
}

/// Makes a row of one change in the shipped topics.
pub const fn topics(
    name: &'static str,
    change: &'static [(&'static str, &'static str, &'static str)],
    lines: &'static [&'static str],
) -> Row {
    Row { topics: change, ..row(name, &["topics", "--dir", "{folder}/topics", "validate"], 1, lines) }
}

/// The row, of these variables.
pub const fn with_environment(environment: &'static [(&'static str, &'static str)], row: Row) -> Row {
    Row { environment, ..row }
}

/// The row, of this settings file.
pub const fn with_file(file: &'static [u8], row: Row) -> Row {
    Row { file, ..row }
}

/// The row, of these files in its folder.
pub const fn with_files(files: &'static [(&'static str, &'static str)], row: Row) -> Row {
    Row { files, ..row }
}

/// The row, of these changes in the shipped topics.
pub const fn with_topics(topics: &'static [(&'static str, &'static str, &'static str)], row: Row) -> Row {
    Row { topics, ..row }
}
