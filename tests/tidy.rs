//! The import arrows of `src/lib.rs` and `src/engine/mod.rs`, checked: an import against them, files that import each other in
//! a circle, or a foreign name in the wrong folder, fails here. So does a system test that `make test` would leave out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Imports of ours that each room may have. A room is a prefix of a file's path below `src`; the longest match counts.
const ARROWS: [(&str, &[&str]); 26] = [
    ("flow", &["flow"]),
    ("ports", &["ports", "flow"]),
    ("engine", &["engine", "settings::engine", "ports", "flow"]),
    ("engine/protocol", &["engine::protocol", "settings::engine", "ports", "flow"]),
    ("engine/outbound", &["engine::outbound", "engine::protocol", "ports", "flow"]),
    ("engine/status", &["engine::status", "engine::protocol", "ports", "flow"]),
    ("engine/state", &["engine::state", "engine::status", "engine::outbound", "engine::protocol", "ports", "flow"]),
    (
        "engine/task",
        &["engine::task", "engine::state", "engine::status", "engine::outbound", "engine::protocol", "ports", "flow"],
    ),
    ("engine/mailbox", &["engine::state::question", "engine::outbound", "engine::protocol", "ports", "flow"]),
    (
        "engine/relay",
        &[
            "engine::relay",
            "engine::mailbox",
            "engine::status",
            "engine::outbound",
            "settings::engine",
            "engine::protocol",
            "ports",
            "flow",
        ],
    ),
    (
        "engine/worker",
        &[
            "engine::worker",
            "engine::mailbox",
            "engine::task",
            "engine::state",
            "engine::status",
            "engine::outbound",
            "settings::engine",
            "engine::protocol",
            "ports",
            "flow",
        ],
    ),
    ("engine/query", &["engine::query", "engine::mailbox", "engine::state::question", "ports", "flow"]),
    ("engine/repair", &["engine::repair", "engine::outbound", "engine::protocol", "ports", "flow"]),
    ("engine/audit", &["engine::audit", "engine::outbound", "engine::protocol", "ports", "flow"]),
    ("adapters/kafka", &["adapters::kafka", "adapters::documented", "settings::kafka", "ports", "flow"]), // `documented` is for tests
    ("adapters/note", &["adapters::note", "ports", "flow"]),
    ("adapters/rocksdb", &["adapters::rocksdb", "ports", "flow"]),
    ("adapters/postgres", &["adapters::postgres", "settings::outbox", "settings::postgres", "ports", "flow"]),
    ("adapters/sqlite", &["adapters::sqlite", "ports", "flow"]),
    ("adapters/memory", &["adapters::memory", "ports", "flow"]),
    ("http", &["http", "engine::query", "engine::status", "ports", "flow"]),
    ("testing", &["testing", "engine", "settings::engine", "adapters::memory", "ports", "flow"]),
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

/// The text in front of a file's tests.
fn without_tests(text: &str) -> &str {
    let ends = ["#[cfg(test)]\nmod ", "#[cfg(all(test,"].iter().filter_map(|mark| text.find(mark));
    &text[..ends.min().unwrap_or(text.len())]
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
    let code = code_of(without_tests(text));
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

/// The modules of a crate, by their paths: `["engine", "relay"]`.
type Module = Vec<String>;

/// The imports of one file, and its re-exports.
#[derive(Default)]
struct File {
    path: String,
    imports: Vec<Module>,
    /// Name and target of each `pub use`: who imports by this name imports from there.
    doors: BTreeMap<String, Module>,
}

/// `a::{b, c::{d, e as f}}` as its paths, each with the name that it gets.
fn leaves(tree: &str) -> Vec<(Module, String)> {
    let (tree, mut out) = (tree.trim(), Vec::new());
    let Some(open) = tree.find('{') else {
        let (path, name) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name.trim())));
        let mut path: Module = path.trim().split("::").map(|part| part.trim().to_owned()).collect();
        path.pop_if(|last| last == "self");
        let name = name.map_or_else(|| path.last().cloned().unwrap_or_default(), str::to_owned);
        return vec![(path, name)];
    };
    let prefix: Vec<&str> = tree[..open].split("::").map(str::trim).filter(|part| !part.is_empty()).collect();
    let (mut depth, mut from) = (0, open + 1);
    for (at, c) in tree.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            if !tree[from..at].trim().is_empty() {
                for (path, name) in leaves(&tree[from..at]) {
                    out.push((prefix.iter().map(|part| (*part).to_owned()).chain(path).collect(), name));
                }
            }
            from = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    out
}

/// The length of the import tree that `code` begins with.
fn tree_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' if depth > 0 || code[..at].ends_with("::") => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            c if depth > 0 || c.is_alphanumeric() || matches!(c, '_' | ':') => {}
            _ => return at,
        }
    }
    code.len()
}

/// Every path in `code` that begins with `start::`, a word of its own.
fn paths_from(code: &str, start: &str) -> Vec<Module> {
    let is_word = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
    let start = format!("{start}::");
    let starts = code.match_indices(&start).filter(|(at, _)| is_word(&code[..*at]));
    starts.flat_map(|(at, _)| leaves(&code[at..at + tree_length(&code[at..])])).map(|(path, _)| path).collect()
}

/// A path as written in `module`, from the root of the crate on.
fn absolute(module: &Module, path: &[String]) -> Module {
    let mut out = module.clone();
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "crate" => out.clear(),
            "super" => drop(out.pop()),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    out.into_iter().chain(rest.iter().cloned()).collect()
}

fn module_of(path: &str) -> Module {
    let parts = path.trim_end_matches(".rs").split('/').filter(|part| !["mod", "lib"].contains(part));
    parts.map(str::to_owned).collect()
}

/// Reads files, given by path and text, as the modules of one crate.
fn modules(files: &[(String, String)]) -> BTreeMap<Module, File> {
    let names: BTreeSet<Module> = files.iter().map(|(path, _)| module_of(path)).collect();
    let read = |(path, text): &(String, String)| {
        let module = module_of(path);
        let code = code_of(without_tests(text));
        let mut file = File { path: path.clone(), ..File::default() };
        let mut own = String::new();
        for statement in code.split_inclusive(';') {
            let door = ["pub use ", "pub(crate) use ", "pub(super) use "]
                .iter()
                .filter_map(|word| Some((statement.rfind(word)?, word.len())))
                .max();
            let Some((at, length)) = door else {
                own.push_str(statement);
                continue;
            };
            own.push_str(&statement[..at]);
            for (path, name) in leaves(statement[at + length..].trim_end_matches(';')) {
                let is_child = path
                    .first()
                    .is_some_and(|first| names.contains(&[&module[..], std::slice::from_ref(first)].concat()));
                let target = if is_child { [&module[..], &path].concat() } else { absolute(&module, &path) };
                file.doors.insert(name, target);
            }
        }
        let children = names.iter().filter(|name| name.len() == module.len() + 1 && name.starts_with(&module));
        let children: Vec<&String> = children.filter_map(|name| name.last()).collect();
        for start in ["crate", "super", "self"] {
            file.imports.extend(paths_from(&own, start).iter().map(|path| absolute(&module, path)));
        }
        for child in children {
            file.imports.extend(paths_from(&own, child).into_iter().map(|path| [&module[..], &path].concat()));
        }
        // A door to a room of its own is for others; one to elsewhere is an import as well.
        let elsewhere = file.doors.values().filter(|target| !target.starts_with(&module)).cloned();
        file.imports.extend(elsewhere.collect::<Vec<_>>());
        (module, file)
    };
    files.iter().map(read).collect()
}

/// The module in which what `path` names is declared: through re-exports.
fn home(modules: &BTreeMap<Module, File>, path: &[String], depth: usize) -> Option<Module> {
    let length = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let found = path[..length].to_vec();
    let door = path.get(length).and_then(|name| modules.get(&found)?.doors.get(name));
    match door {
        Some(target) if depth < 8 => home(modules, &[&target[..], &path[length + 1..]].concat(), depth + 1),
        _ => Some(found),
    }
}

/// Each circle of files that import one another, as one way round it; a file is in one of them only.
fn circles(files: &[(String, String)]) -> Vec<String> {
    let modules = modules(files);
    let next = |module: &Module| -> BTreeSet<Module> {
        let found = modules[module].imports.iter().filter_map(|path| home(&modules, path, 0));
        found.filter(|other| other != module).collect()
    };
    let arrows: BTreeMap<&Module, BTreeSet<Module>> = modules.keys().map(|module| (module, next(module))).collect();
    let mut known = BTreeSet::new();
    let mut out = Vec::new();
    for start in modules.keys() {
        // The shortest way back to it.
        let mut from: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(module) = queue.pop_front().filter(|_| !from.contains_key(start)) {
            for other in &arrows[module] {
                if !from.contains_key(other) {
                    from.insert(other, module);
                    queue.push_back(other);
                }
            }
        }
        let Some(mut at) = from.get(start) else { continue };
        let mut way = vec![start];
        while *at != start {
            way.push(at);
            at = &from[*at];
        }
        if way.iter().all(|module| known.insert((*module).clone())) {
            let back = way[1..].iter().rev().chain([&start]);
            let paths: Vec<&str> = [&start].into_iter().chain(back).map(|module| &*modules[*module].path).collect();
            out.push(format!("a circle: {}", paths.join(" -> ")));
        }
    }
    out
}

fn all_sources() -> Vec<(String, String)> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(files.len() > 60, "the sources are gone");
    let name = |file: &PathBuf| file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
    let read = |file: &PathBuf| (name(file), fs::read_to_string(file).unwrap());
    files.iter().map(read).filter(|(path, _)| path != "main.rs").collect()
}

/// Lines of a source file before its tests that are not to be exceeded.
const LINES_MAX: usize = 450;

#[test]
fn no_source_file_has_grown_too_long_to_be_read_at_once() {
    let long = all_sources().into_iter().map(|(path, text)| (without_tests(&text).lines().count(), path));
    let long: Vec<(usize, String)> = long.filter(|(lines, _)| *lines > LINES_MAX).collect();
    assert_eq!(long, [], "split them by subject");
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let found = circles(&all_sources());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_judge_finds_circles_of_files_whatever_way_they_are_spelt() {
    let found = |files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        circles(&files)
    };
    let circle = |files: &[(&str, &str)]| assert_eq!(found(files).len(), 1, "{files:?}: {:?}", found(files));
    let fitting = |files: &[(&str, &str)]| assert_eq!(found(files), Vec::<String>::new(), "{files:?}");
    circle(&[("a/one.rs", "use crate::a::two::Two;"), ("a/two.rs", "use super::one::One;")]);
    circle(&[
        ("one.rs", "use crate::{three::X, two::{self, Y as Z}};"),
        ("two.rs", "fn f() { crate::one::g() }"),
        ("three.rs", ""),
    ]);
    circle(&[
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "use crate::c::{\n    C,\n    D,\n};"),
        ("c.rs", "use crate::a::A;"),
    ]);
    // Through a re-export it is the file behind it that counts; and a folder that uses what lies in it.
    circle(&[
        ("a/mod.rs", "pub use self::in_it::A;"),
        ("a/in_it.rs", "use crate::b::B;"),
        ("b.rs", "use crate::a::A;"),
    ]);
    circle(&[("a/mod.rs", "mod in_it;\nuse in_it::B;\npub struct A;"), ("a/in_it.rs", "use super::A;")]);
    circle(&[("a/mod.rs", "fn f() { in_it::g() }\npub struct A;"), ("a/in_it.rs", "use super::A;")]);
    fitting(&[("a/mod.rs", "pub use in_it::B;\npub struct A;"), ("a/in_it.rs", "use super::A;")]);
    fitting(&[
        ("a.rs", "use crate::b::B; // use crate::c::C"),
        ("b.rs", "use crate::c::C;"),
        ("c.rs", "/// [`crate::a`]"),
    ]);
    fitting(&[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}")]);
    assert_eq!(
        found(&[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::a::A;")]),
        ["a circle: a.rs -> b.rs -> a.rs"]
    );
}

#[test]
fn every_import_follows_the_arrows() {
    let findings: Vec<String> = all_sources().iter().flat_map(|(path, text)| judge(path, text)).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn the_judge_finds_what_is_against_the_arrows() {
    let cases = [
        ("flow/key.rs", "//! x\nuse crate::ports::Fault;"),
        ("engine/worker/mod.rs", "//! x\nuse crate::{flow::Key, adapters::memory::MemoryLog};"),
        ("engine/state/cache/mod.rs", "//! x\nuse crate::engine::worker::Executor;"),
        ("adapters/kafka/producer.rs", "//! x\nuse crate::adapters::postgres::PostgresRows;"),
        ("adapters/memory/log.rs", "//! x\nuse crate::engine::status::Status;"),
        ("http/page.rs", "//! x\nuse crate::engine::worker::Executor;"),
        ("engine/relay/mod.rs", "//! x\nuse rdkafka::ClientConfig;"),
        ("engine/worker/restore.rs", "//! x\nuse rocksdb::DB;"),
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
    let folder = fs::read_dir(format!("{}/src/pipelines", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("mod.rs")).collect();
    assert!(paths.len() >= 8, "{paths:?}");
    for path in paths {
        let (name, text) = (path.display(), fs::read_to_string(&path).unwrap());
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
