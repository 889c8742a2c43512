//! The documents: what they say of the code is compared with the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tidegate::engine::protocol::decision::HaltReason;
use tidegate::engine::protocol::remedy::{Place, choices};
use tidegate::engine::status::{METRICS, Metric};
use tidegate::flow::record::{NextOffset, Partition, TopicName, TopicPartition};
use tidegate::flow::topology::CommitKind;
use tidegate::ports::obstacle::ObstacleKind;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_readme_is_read_in_a_few_minutes() {
    let words = read("README.md").split_whitespace().count();
    assert!(words <= 1_800, "README.md has {words} words, and at most 1,800 are wanted: details go into docs/");
}

#[test]
fn the_readme_shows_the_shipped_pipeline() {
    let (readme, source) = (read("README.md"), read("src/pipelines/scoring.rs"));
    let shown = readme.split("```rust,ignore\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let lines: BTreeSet<&str> = source.lines().map(str::trim).collect();
    for line in shown.lines().map(str::trim) {
        assert!(lines.contains(line), "not in src/pipelines/scoring.rs: {line}");
    }
}

#[test]
fn the_page_of_state_shows_the_shipped_pipelines_and_a_tried_one() {
    let folder = std::fs::read_dir(root().join("src/pipelines")).unwrap();
    let shipped: String = folder.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    let sources = shipped + &read("tests/engine/rowjoins.rs") + &read("tests/engine/joins.rs");
    let shipped: Vec<&str> = sources.lines().map(str::trim).collect();
    let page = read("docs/state.md");
    let snippets = page.split("```rust,ignore\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = snippets.flat_map(str::lines).filter_map(|line| line.split("//").next()).map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        let beginning = line.trim_end_matches([')', ';']); // a call may have more arguments there
        assert!(
            shipped.iter().any(|shipped| shipped.contains(beginning)),
            "in no pipeline of src, and in neither tests/engine/rowjoins.rs nor joins.rs: {line}"
        );
    }
}

/// The commands that a halt's message may have, with `P`, `K` and `N` in place of what it is filled in with.
fn commands_of(reason: HaltReason) -> BTreeSet<String> {
    let source = TopicPartition::new(TopicName::parse("readings").unwrap(), Partition(3));
    let mut found = BTreeSet::new();
    for case in 0..16 {
        let (is_in_rows, is_stateful, is_behind, at) = (case & 1 > 0, case & 2 > 0, case & 4 > 0, case & 8 > 0);
        let commit = if is_in_rows { CommitKind::Rows } else { CommitKind::Log };
        let place = Place {
            program: "tidegate",
            source: &source,
            commit,
            is_stateful,
            next_offset: Some(NextOffset(70)),
            committed: Some(NextOffset(if is_behind { 50 } else { 120 })),
            at: at.then_some(NextOffset(90)),
        };
        let commands = choices(reason, &place).into_iter().filter_map(|choice| choice.command);
        found.extend(commands.map(|command| {
            let command = command.replace("tidegate ", "").replace("readings-3", "P");
            command.replace("--to 50", "--to K").replace("--to 120", "--to K").replace("--to 90", "--to N")
        }));
    }
    found
}

#[test]
fn every_halt_has_its_section_with_its_cause_and_its_commands() {
    let page = read("docs/halts.md");
    let mut sections = page.split("\n### `").skip(1);
    for reason in HaltReason::ALL {
        let section = sections.next().unwrap_or_else(|| panic!("docs/halts.md lacks {}", reason.label()));
        let (label, text) = section.split_once("`\n").unwrap();
        assert_eq!(label, reason.label(), "the sections stand in the order of HaltReason::ALL");
        let cause = reason.cause().to_lowercase();
        let text = text.replace("`cleanup.policy`", "cleanup.policy"); // a page quotes names
        assert!(text.to_lowercase().contains(&cause), "{label}: the cause is {cause}");
        let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
        let told = cells.filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
        let told: BTreeSet<String> = told.map(|command| command.replace("--to H", "--to N")).collect();
        assert_eq!(told, commands_of(reason), "{label}");
    }
    assert_eq!(sections.next(), None, "a section of no halt");
}

/// The words that the page of operations has in the table of obstacles, and in the list of their tests below it.
#[test]
fn every_obstacle_is_explained_and_names_the_test_that_tries_it() {
    let page = read("docs/operations.md");
    let section = page.split("### Obstacles").nth(1).unwrap().split("\n## ").next().unwrap();
    for kind in ObstacleKind::ALL {
        let row = format!("| `{}` |", kind.label());
        assert!(section.contains(&row), "no row begins with {row}");
        let tried = section.split("Each is tried").nth(1).unwrap();
        assert!(tried.contains(&format!("`{}`", kind.label())), "no test of {} is named", kind.label());
    }
}

/// `docs/metrics.md` from the table of metrics.
fn page_of_metrics() -> String {
    let rows = |wanted: &dyn Fn(Option<&str>) -> bool| -> String {
        let row = |metric: &Metric| {
            let path = metric.path();
            let (name, kind) = (path.as_deref().unwrap_or(metric.name), metric.kind.label());
            let row = format!("| `{name}` | {kind} | {} | {} |\n", metric.unit, metric.help);
            wanted(path.as_deref()).then_some(row)
        };
        METRICS.iter().filter_map(row).collect()
    };
    let head = "| metric | kind | unit | meaning |\n|---|---|---|---|\n";
    let is_part = |path: &str| path.contains('.');
    let whole = rows(&|path| path.is_some_and(|path| !is_part(path)));
    let parts = rows(&|path| path.is_some_and(is_part));
    let hidden = rows(&|path| path.is_none());
    format!(
        "# Metrics

`/status` answers with these numbers as JSON, and `/events` sends them once a second
([operations.md](operations.md#probes-and-numbers)). Written by `make docs` from the table in
`src/engine/status/metrics.rs`; a test compares the two.

A *counter* only grows, and begins at 0 with the process or with its part of the report. A *gauge* goes up and down. A
*quantile* is the value that a share of the measured ones did not exceed.

## Of the instance

{head}{whole}
## Of its parts

The path leads to the number in `/status`; `[]` stands for each entry of a list. Fields beside the number say of which part it
is: `sub_topology` and `partition` of a task, `store`, `source` of a topic or a source partition.

{head}{parts}
## Counted, and not in `/status`

{head}{hidden}"
    )
}

#[test]
fn the_page_of_metrics_is_that_of_the_table() {
    let (path, page) = ("docs/metrics.md", page_of_metrics());
    if std::env::var_os("TIDEGATE_WRITE_DOCS").is_some() {
        std::fs::write(root().join(path), &page).unwrap();
    }
    assert!(read(path) == page, "{path} is not as the table of metrics has it: write it anew with `make docs`");
}

#[test]
fn every_test_that_the_guarantees_name_is_there() {
    let page = read("docs/guarantees.md");
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(|word| is_test(word)).collect();
    assert!(named.len() > 30, "{} tests are named", named.len());
    for name in named {
        let path = root().join("tests").join(name.replace("::", "/"));
        let places = [path.with_extension("rs"), path.join("mod.rs"), path.join("main.rs")];
        assert!(
            places.iter().any(|place| place.exists()),
            "docs/guarantees.md names {name}, and there is no such test"
        );
    }
}

/// Whether a quoted word names tests: a folder of `tests`, or a file in one.
fn is_test(word: &str) -> bool {
    let folder = word.split_once("::").map_or(word, |(folder, _)| folder);
    let is_word = |c: char| c.is_ascii_lowercase() || matches!(c, '_' | ':');
    word.chars().all(is_word)
        && ["system", "engine", "it", "oracle", "draw", "conformance", "rocksdb"].contains(&folder)
}

/// The pages whose links are followed.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("bench/README.md")];
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    pages
}

/// A heading as links spell it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_heading(page: &Path, heading: &str) -> bool {
    let text = std::fs::read_to_string(page).unwrap_or_default();
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    headings.any(|line| anchor(line.trim_start_matches('#')) == heading)
}

/// The sentences about the links of one page that lead nowhere.
fn dead_links(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let mut dead = Vec::new();
    for link in links.filter(|link| !link.starts_with("http")) {
        let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
        let target = if path.is_empty() { page.to_path_buf() } else { page.parent().unwrap().join(path) };
        if !target.exists() || !heading.is_none_or(|heading| has_heading(&target, heading)) {
            dead.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
        }
    }
    dead
}

#[test]
fn no_link_is_dead() {
    let dead: Vec<String> = pages().iter().flat_map(|page| dead_links(page)).collect();
    assert!(dead.is_empty(), "\n{}", dead.join("\n"));
}

/// Whether a source defines something of the name, not only mentions it.
fn defines(source: &str, name: &str) -> bool {
    let is_defined = |kind: &str| {
        source.match_indices(&format!("{kind} {name}")).any(|(at, found)| {
            !source[at + found.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
        })
    };
    ["fn", "struct", "enum", "trait", "const", "static", "type", "mod", "macro_rules!"].into_iter().any(is_defined)
}

/// The sentences about files of Rust that a page names, with or without a function, and that are not there.
fn dead_places(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let named = quoted.filter_map(|word| {
        let (path, function) = word.split_once(".rs").filter(|_| !word.contains(char::is_whitespace))?;
        let is_ours = ["src/", "tests/", "bench/"].iter().any(|folder| path.starts_with(folder));
        is_ours.then_some((word, format!("{path}.rs"), function.strip_prefix(':')))
    });
    let is_dead = |path: &str, function: Option<&str>| match std::fs::read_to_string(root().join(path)) {
        Ok(source) => function.is_some_and(|function| !defines(&source, function)),
        Err(_) => !path.contains('*'),
    };
    let dead = named.filter(|(_, path, function)| is_dead(path, *function));
    dead.map(|(word, ..)| format!("{}: {word}", page.strip_prefix(root()).unwrap().display())).collect()
}

#[test]
fn every_file_and_function_that_a_page_names_is_there() {
    let dead: Vec<String> = pages().iter().flat_map(|page| dead_places(page)).collect();
    assert!(dead.is_empty(), "\n{}", dead.join("\n"));
}

/// The Rust sources below a folder.
fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, out);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            out.push(entry);
        }
    }
}

/// The sentences about what a source file refers to and a reader cannot follow.
fn dead_references(name: &str, text: &str) -> Vec<String> {
    let mut dead = Vec::new();
    for (number, line) in (1..).zip(text.lines().filter(|line| !line.contains("](docs/"))) {
        for rest in line.split("docs/").skip(1) {
            let path = rest.split(|c: char| !(c.is_alphanumeric() || "-_./#".contains(c))).next().unwrap_or_default();
            let path = path.trim_end_matches('.');
            let (page, heading) = path.split_once('#').map_or((path, None), |(page, heading)| (page, Some(heading)));
            let target = root().join("docs").join(page);
            let is_page = page.ends_with(".md");
            if is_page && !(target.exists() && heading.is_none_or(|heading| has_heading(&target, heading))) {
                dead.push(format!("{name}:{number}: docs/{path}"));
            }
        }
        let is_comment = line.trim_start().starts_with("//");
        let numbered = ["hazard H", "hazards.md", "performance.md", "(protocol ", "structure.md", "product.md"];
        dead.extend(
            numbered
                .iter()
                .filter(|word| is_comment && line.contains(**word))
                .map(|word| format!("{name}:{number}: `{word}` is nothing that this repository has")),
        );
    }
    dead
}

#[test]
fn no_comment_refers_to_what_a_reader_cannot_follow() {
    let mut files = Vec::new();
    ["src", "tests", "examples", "bench"].iter().for_each(|folder| sources(&root().join(folder), &mut files));
    assert!(files.len() > 300, "{} files", files.len());
    let dead = files.iter().filter(|path| !path.ends_with("it/docs.rs")).flat_map(|path| {
        dead_references(
            &path.strip_prefix(root()).unwrap().display().to_string(),
            &std::fs::read_to_string(path).unwrap(),
        )
    });
    let dead: Vec<String> = dead.collect();
    assert!(dead.is_empty(), "\n{}", dead.join("\n"));
}

#[test]
fn a_reference_that_leads_nowhere_is_found() {
    let dead = |text: &str| dead_references("a.rs", text).len();
    assert_eq!(dead("// As docs/traps.md#offsets-expire has it, and docs/glossary.md."), 0);
    assert_eq!(dead("// As docs/traps.md#no-such-trap has it."), 1);
    assert_eq!(dead("// As docs/nowhere.md has it."), 1);
    assert_eq!(dead("// As it must be (hazard H2)."), 1);
}

/// A user's algorithm is short: so are those that are shown to users.
#[test]
fn the_algorithms_of_the_shipped_pipelines_take_a_screen_at_most() {
    let folder = std::fs::read_dir(root().join("src/pipelines")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.push(root().join("examples/tally.rs"));
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let is_algorithm =
            |line: &&str| ["Algorithm", "Windowed"].iter().any(|name| line.starts_with(&format!("impl {name} for")));
        let starts = text.lines().enumerate().filter(|(_, line)| is_algorithm(line)).map(|(number, _)| number);
        for start in starts {
            let lines = text.lines().skip(start).take_while(|line| *line != "}").count() + 1;
            assert!(lines < 25, "{}: an algorithm of {lines} lines", file.display());
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen}");
}
