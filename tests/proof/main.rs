//! The page of the long run, docs/proof.md: made from the lines that `make prove` keeps in docs/proof, so that it says
//! neither more nor less than they do. `TIDEGATE_PROOF_WRITE=1` writes it; without, the test demands that it is up to date.

mod page;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One run of `make prove`, as tests/prove.sh notes it.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub run: String,
    pub part: String,
    pub commit: String,
    pub versions: String,
}

/// One cell, as `tests/system/rig/proof.rs` keeps it.
#[derive(Deserialize, Debug)]
pub struct Cell {
    pub run: String,
    pub kind: String,
    pub cell: String,
    pub seed: u64,
    pub seconds: f64,
    pub outcome: String,
    /// Further facts about the cell.
    #[serde(flatten)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// The fate of a defect that a cell, or its writing, brought to light.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    pub cell: String,
    pub what: String,
    /// The commit that mended it, or why there is nothing to mend.
    pub mended: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/proof")
}

/// A file's lines; none where there is no such file.
fn lines<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |(number, line)| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), number + 1))
    };
    text.lines().enumerate().map(line).collect()
}

#[test]
fn the_page_says_what_was_kept() {
    let folder = folder();
    let cells: Vec<Cell> =
        page::KINDS.iter().flat_map(|kind| lines(&folder.join(format!("{}.jsonl", kind.name)))).collect();
    let known: Vec<String> = page::KINDS.iter().map(|kind| format!("{}.jsonl", kind.name)).collect();
    for entry in std::fs::read_dir(&folder).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_known = known.contains(&name) || ["runs.jsonl", "findings.jsonl"].contains(&name.as_str());
        assert!(is_known, "docs/proof/{name}: the page knows no such kind");
    }
    let (runs, findings) = (lines(&folder.join("runs.jsonl")), lines(&folder.join("findings.jsonl")));
    let made = page::page(&runs, &cells, &findings);
    let path = folder.with_file_name("proof.md");
    if std::env::var_os("TIDEGATE_PROOF_WRITE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == made, "docs/proof.md is not what docs/proof says: TIDEGATE_PROOF_WRITE=1 cargo test --test proof");
}

#[test]
fn a_cell_that_was_found_wanting_is_counted_as_a_finding_and_not_as_clean() {
    let run = Run { run: "r1".into(), part: "kills".into(), commit: "abc".into(), versions: "Kafka 1".into() };
    let cell = |outcome: &str, seconds: f64| Cell {
        run: "r1".into(),
        kind: "kill".into(),
        cell: "K1".into(),
        seed: 7,
        seconds,
        outcome: outcome.into(),
        facts: BTreeMap::from([("all_move_s".to_owned(), seconds.into())]),
    };
    let cells = [cell("clean", 2.0), cell("clean", 4.5), cell("finding", 9.0), cell("not judged", 1.0)];
    let finding = Finding { cell: "K1".into(), what: "lost".into(), mended: "def".into() };
    let page = page::page(&[run], &cells, &[finding]);
    let row = page.lines().find(|line| line.starts_with("| kill |")).unwrap();
    assert_eq!(
        row,
        "| kill | an instance is killed at a crash point | 200 | 2 | 1 | 1 | 0.3 | all move after at most 4.5 s |"
    );
    let none = page.lines().find(|line| line.starts_with("| obstacle |")).unwrap();
    assert!(none.ends_with("| 39 | 0 | 0 | 0 | 0.0 |  |"), "{none}");
    assert!(page.contains("| K1 | lost | def |"), "{page}");
    assert!(page.contains("| r1 | kills | abc | 2 | 7 |"), "{page}");
}
