//! The records of the long run (`make prove`): a line of JSON for each cell, in the folder that `TIDEGATE_PROOF` names,
//! from which `tests/proof` makes the page. Without that variable nothing is kept, and every cell, or a sample, is run
//! once.
//!
//! `TIDEGATE_PROVE_ROUNDS`: how often each cell is to have been run without a finding, earlier runs included;
//! `TIDEGATE_PROVE_UNTIL`: no cell is begun after this second since 1970; `TIDEGATE_PROVE_RUN`: the name of the run.

use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The cells of one judgement, all of one kind.
pub struct Proof {
    kind: &'static str,
    seed: u64,
    folder: Option<PathBuf>,
    under_way: Option<(String, Instant)>,
    ended: Vec<Value>,
}

impl Proof {
    /// `kind` names the file as well: `kill`, `pause`, `f2`.
    pub fn new(kind: &'static str, seed: u64) -> Self {
        let folder = std::env::var_os("TIDEGATE_PROOF").map(PathBuf::from);
        Self { kind, seed, folder, under_way: None, ended: Vec::new() }
    }

    /// Whether this is the long run, with the cells that are too slow for every change.
    pub fn is_kept(&self) -> bool {
        self.folder.is_some()
    }

    fn file(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{}.jsonl", self.kind)))
    }

    /// The cells to run, round by round: each as often as it is short of the wanted number.
    pub fn plan<C: Display + Clone>(&self, cells: &[C]) -> Vec<C> {
        let Some(file) = self.file() else { return cells.to_vec() };
        let mut done: HashMap<String, usize> = HashMap::new();
        for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if line["outcome"] == "clean" {
                *done.entry(line["cell"].as_str().unwrap().into()).or_default() += 1;
            }
        }
        let rounds = number("TIDEGATE_PROVE_ROUNDS").map_or(1, |rounds| usize::try_from(rounds).unwrap());
        let is_short = |round: usize, cell: &C| done.get(&cell.to_string()).is_none_or(|done| *done <= round);
        (0..rounds).flat_map(|round| cells.iter().filter(move |cell| is_short(round, cell)).cloned()).collect()
    }

    /// Plans like [`Proof::plan`], but without the variable the `sample` of the cells is run.
    pub fn plan_or_sample<C: Display + Clone>(&self, cells: &[C], sample: &[C]) -> Vec<C> {
        self.plan(if self.folder.is_some() { cells } else { sample })
    }

    /// A cell begins; `false` when the time for new ones is over.
    pub fn begin(&mut self, cell: &impl Display) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        if number("TIDEGATE_PROVE_UNTIL").is_some_and(|until| now >= Duration::from_secs(until)) {
            return false;
        }
        self.under_way = Some((cell.to_string(), Instant::now()));
        true
    }

    /// The cell has come to its end. It counts once it is judged.
    pub fn end(&mut self, facts: &[(&str, Value)]) {
        let (cell, began) = self.under_way.take().unwrap();
        let mut line = self.line(cell, began);
        line.extend(facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.ended.push(line.into());
    }

    /// All that has ended is as it must be.
    pub fn clean(mut self) {
        assert!(self.under_way.is_none());
        let ended = std::mem::take(&mut self.ended);
        self.keep(ended, "clean");
    }

    fn line(&self, cell: String, began: Instant) -> Map<String, Value> {
        let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        let run = std::env::var("TIDEGATE_PROVE_RUN").unwrap_or_default();
        let line = json!({"run": run, "kind": self.kind, "cell": cell, "seed": self.seed, "seconds": seconds});
        let Value::Object(line) = line else { unreachable!() };
        line
    }

    fn keep(&self, lines: Vec<Value>, outcome: &str) {
        let Some(file) = self.file() else { return };
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        for mut line in lines {
            line["outcome"] = outcome.into();
            file.write_all(format!("{line}\n").as_bytes()).unwrap(); // whole, whoever else writes
        }
    }
}

/// A cell that was not judged to be clean is a finding: the one under way, or the last; those before it count for
/// nothing.
impl Drop for Proof {
    fn drop(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        if let Some((cell, began)) = self.under_way.take() {
            ended.push(self.line(cell, began).into());
        }
        let found = ended.pop();
        self.keep(ended, "not judged");
        self.keep(found.into_iter().collect(), "finding");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}
