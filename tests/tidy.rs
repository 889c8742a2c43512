//! The import arrows of `src/lib.rs`, checked: an import against them, or a foreign name in the wrong folder, fails here.
//! So does a system test that `make test` would leave out.

use std::fs;
use std::path::{Path, PathBuf};

/// What each room may import of ours. A room is a prefix of a file's path below `src`; the longest match counts.
const ARROWS: [(&str, &[&str]); 15] = [
    ("flow", &["flow"]),
    ("ports", &["ports", "flow"]),
    ("engine", &["engine", "ports", "flow"]),
    ("adapters/kafka", &["adapters::kafka", "adapters::documented", "ports", "flow"]), // `documented` is for tests
    ("adapters/note", &["adapters::note", "ports", "flow"]),
    ("adapters/rocksdb", &["adapters::rocksdb", "ports", "flow"]),
    ("adapters/postgres", &["adapters::postgres", "ports", "flow"]),
    ("adapters/sqlite", &["adapters::sqlite", "ports", "flow"]),
    ("adapters/memory", &["adapters::memory", "ports", "flow"]),
    ("http", &["http", "engine::query", "engine::status", "engine::task", "engine::decision", "ports", "flow"]),
    ("testing", &["testing", "engine", "adapters::memory", "ports", "flow"]),
    ("pipelines", &["flow"]),
    ("settings", &["settings", "flow"]),
    ("topics", &["topics", "settings", "ports", "flow"]),
    ("app", &["app", "adapters", "engine", "flow", "http", "pipelines", "ports", "settings", "topics", "testing"]),
];

/// Crates that one folder alone may name.
const FENCED: [(&str, &[&str]); 6] = [
    ("memmap2", &["adapters/note"]),
    ("rdkafka", &["adapters/kafka"]),
    ("rocksdb", &["adapters/rocksdb"]),
    ("sqlx", &["adapters/postgres", "adapters/sqlite"]),
    ("axum", &["http"]),
    ("clap", &["app"]),
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            out.push(path);
        }
    }
}

/// The text without comments and doc comments, in one line, so that grouped imports are seen whole.
fn code_of(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
}

/// Every path after `crate::`, groups opened one level: `crate::{a::b, c}` gives `a::b` and `c`.
fn imports(code: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect()
    };
    let mut out = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => out.extend(group.split('}').next().unwrap_or_default().split(',').map(word)),
            None => out.push(word(after)),
        }
    }
    out.retain(|path| !path.is_empty());
    out
}

/// The sentences about one file; empty when it keeps to the drawing.
fn judge(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text.split("#[cfg(test)]\nmod ").next().unwrap_or_default());
    let mut out = Vec::new();
    let room = ARROWS.iter().filter(|(room, _)| path.starts_with(room)).max_by_key(|(room, _)| room.len());
    if let Some((room, allowed)) = room {
        for import in imports(&code) {
            let starts = |allowed: &&str| import == **allowed || import.starts_with(&format!("{allowed}::"));
            if !allowed.iter().any(starts) {
                out.push(format!("{path}: imports crate::{import}, which {room} must not know"));
            }
        }
    } else if !["lib.rs", "main.rs", "adapters/mod.rs"].contains(&path) {
        out.push(format!("{path}: stands in no room of the drawing"));
    }
    for (name, rooms) in FENCED {
        // The crate, not a module of ours by its name: `::rocksdb` at most, not `adapters::rocksdb`.
        let is_boundary =
            |before: &str| !before.trim_end_matches("::").ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let names_it = code.match_indices(&format!("{name}::")).any(|(at, _)| is_boundary(&code[..at]));
        if names_it && !rooms.iter().any(|room| path.starts_with(room)) {
            out.push(format!("{path}: names {name}, which only {} may", rooms.join(" and ")));
        }
    }
    if !text.starts_with("//!") && path != "main.rs" {
        out.push(format!("{path}: does not begin with its one job (//!)"));
    }
    out
}

#[test]
fn every_import_follows_the_arrows() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(files.len() > 60, "the sources are gone");
    let mut findings = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        findings.extend(judge(&path, &fs::read_to_string(&file).unwrap()));
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn the_judge_finds_what_is_against_the_arrows() {
    let cases = [
        ("flow/key.rs", "//! x\nuse crate::ports::Fault;"),
        ("engine/stage.rs", "//! x\nuse crate::{flow::Key, adapters::memory::MemoryLog};"),
        ("adapters/kafka/producer.rs", "//! x\nuse crate::adapters::postgres::PostgresRows;"),
        ("adapters/memory/log.rs", "//! x\nuse crate::engine::status::Status;"),
        ("http/page.rs", "//! x\nuse crate::engine::worker::Stage;"),
        ("engine/relay.rs", "//! x\nuse rdkafka::ClientConfig;"),
        ("engine/restore.rs", "//! x\nuse rocksdb::DB;"),
        ("strange/new.rs", "//! x\n"),
        ("flow/new.rs", "use std::fmt;"),
    ];
    for (path, text) in cases {
        assert_eq!(judge(path, text).len(), 1, "{path}: {:?}", judge(path, text));
    }
    let fitting = [
        ("engine/new.rs", "//! x\nuse crate::ports::Fault; // crate::adapters"),
        ("app/new.rs", "//! x\nuse crate::adapters::rocksdb::RocksStores;"),
    ];
    for (path, text) in fitting {
        assert_eq!(judge(path, text), Vec::<String>::new());
    }
}

/// A user's file needs `tidegate::flow` and serde, nothing else of ours or of others.
#[test]
fn the_shipped_pipelines_import_only_flow_and_serde() {
    for name in ["scoring", "usage", "sessions", "orders"] {
        let path = format!("{}/src/pipelines/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        let code = code_of(text.split("#[cfg(test)]").next().unwrap());
        for line in code.split(';').filter_map(|line| line.trim().strip_prefix("use ")) {
            let is_allowed = ["crate::flow", "serde::", "std::"].iter().any(|room| line.starts_with(room));
            assert!(is_allowed, "{name}: use {line}");
        }
    }
}

/// The Makefile names the modules that are run with the features; one that is not named would never be run.
#[test]
fn every_system_test_that_needs_a_feature_is_run() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (modules, makefile) = (read("tests/system/main.rs"), read("Makefile"));
    let lines: Vec<&str> = modules.lines().collect();
    let gated = lines.windows(2).filter(|pair| pair[0].starts_with("#[cfg(") && pair[0].contains("feature"));
    let names: Vec<&str> = gated
        .filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'))
        .filter(|name| *name != "scene")
        .collect();
    assert!(names.len() > 10, "only {names:?} were found: this test no longer reads main.rs");
    for name in names {
        let is_named = makefile.split_whitespace().any(|word| word.strip_suffix("::") == Some(name));
        assert!(is_named, "Makefile: test-servers does not run {name}::");
    }
}
