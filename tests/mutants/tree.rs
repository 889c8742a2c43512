//! The copy of the tree with its mutants, and what rustc says about it.

use crate::find::Mutant;
use crate::weave::{Woven, weave};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The arguments of every build: features that need no server, and settings that build fast.
const BUILT: [&str; 8] = [
    "--locked",
    "--no-default-features",
    "--features=embedded",
    "--profile=draw",
    "--config=profile.draw.package.tidegate.opt-level=1",
    "--config=profile.draw.package.tidegate.codegen-units=64",
    "--config=profile.draw.package.tidegate.debug=false",
    "--message-format=json",
];

pub struct Tree {
    /// The tree that is copied.
    pub root: PathBuf,
    pub copy: PathBuf,
    target: PathBuf,
    woven: BTreeMap<String, Woven>,
}

/// The programs that were built, by the names of their targets.
pub type Programs = BTreeMap<String, PathBuf>;

impl Tree {
    pub fn new(root: PathBuf, folder: &Path) -> Self {
        Self { root, copy: folder.join("copy"), target: folder.join("target"), woven: BTreeMap::new() }
    }

    /// Files that git knows, and those that it would add.
    fn files(&self) -> io::Result<Vec<String>> {
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output()?;
        let names = String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
        Ok(names.into_iter().filter(|name| self.root.join(name).is_file()).collect())
    }

    /// The sources that mutants are looked for in, with their text.
    pub fn sources(&self) -> io::Result<Vec<(String, String)>> {
        let is_meant =
            |name: &String| ["src/flow/", "src/engine/", "src/ports/"].iter().any(|folder| name.starts_with(folder));
        let names = self.files()?.into_iter().filter(is_meant).filter(|name| name.ends_with(".rs"));
        names.map(|name| Ok((name.clone(), std::fs::read_to_string(self.root.join(&name))?))).collect()
    }

    /// Writes the copy; a file that stays as it is is not touched, so that what was built of it stays too.
    pub fn write(&mut self, mutants: &[Mutant]) -> io::Result<()> {
        self.woven.clear();
        for name in self.files()? {
            let mut content = std::fs::read(self.root.join(&name))?;
            let within: Vec<&Mutant> = mutants.iter().filter(|mutant| mutant.file == name).collect();
            if !within.is_empty() {
                let woven = weave(&String::from_utf8_lossy(&content), &within);
                content = woven.text.clone().into_bytes();
                self.woven.insert(name.clone(), woven);
            }
            if name == "src/lib.rs" {
                content.extend_from_slice(b"\npub mod mutants;\n");
            }
            put(&self.copy.join(&name), &content)?;
        }
        put(&self.copy.join("src/mutants.rs"), include_bytes!("switch.rs"))
    }

    fn cargo(&self, arguments: &[&str]) -> io::Result<(bool, Vec<Value>)> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(arguments)
            .args(BUILT)
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_INCREMENTAL", "1")
            .stderr(Stdio::inherit())
            .output()?;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.success(), lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
    }

    /// The mutants that the compiler refuses; empty where it refuses nothing.
    pub fn refused(&self) -> io::Result<BTreeSet<u32>> {
        let (is_good, said) = self.cargo(&["check", "--lib"])?;
        if is_good {
            return Ok(BTreeSet::new());
        }
        let errors: Vec<&Value> =
            said.iter().map(|line| &line["message"]).filter(|message| message["level"] == "error").collect();
        let near: BTreeSet<u32> = errors.iter().flat_map(|error| self.blamed(error, false)).collect();
        if !near.is_empty() {
            return Ok(near);
        }
        let around: BTreeSet<u32> = errors.iter().flat_map(|error| self.blamed(error, true)).collect();
        if around.is_empty() {
            let rendered = errors.iter().filter_map(|error| error["rendered"].as_str()).collect::<String>();
            return Err(io::Error::other(format!("no mutant is to blame for this:\n{rendered}")));
        }
        Ok(around)
    }

    /// The mutants whose text an error speaks of; with `is_wide`, those of the function.
    fn blamed(&self, error: &Value, is_wide: bool) -> Vec<u32> {
        let mut spans = Vec::new();
        spans_of(error, &mut spans);
        let mut found = Vec::new();
        for (file, at, end) in spans {
            let Some(woven) = self.woven.get(&file) else { continue };
            let is_around = |range: &std::ops::Range<usize>| range.start <= at && end <= range.end;
            let own = woven.own.iter().filter(|(range, _)| is_around(range)).min_by_key(|(range, _)| range.len());
            if let Some((_, id)) = own {
                return vec![*id];
            }
            let place = woven.places.iter().filter(|(range, _)| is_around(range)).min_by_key(|(range, _)| range.len());
            if let (Some((_, ids)), true) = (place, found.is_empty()) {
                found.clone_from(ids);
            }
            if is_wide && found.is_empty() {
                found.extend(woven.functions.iter().filter(|(range, _)| is_around(range)).map(|(_, id)| *id));
            }
        }
        found
    }

    /// Builds all that is run.
    pub fn build(&self, tests: &[&str]) -> io::Result<Programs> {
        let mut arguments = vec!["test", "--no-run"];
        arguments.extend(tests);
        let mut programs = Programs::new();
        for arguments in [&arguments[..], &["build", "--example=draw"]] {
            let (is_good, said) = self.cargo(arguments)?;
            if !is_good {
                let rendered = said.iter().filter_map(|line| line["message"]["rendered"].as_str()).collect::<String>();
                return Err(io::Error::other(rendered));
            }
            for artifact in said.iter().filter(|line| line["reason"] == "compiler-artifact") {
                if let (Some(path), Some(name)) = (artifact["executable"].as_str(), artifact["target"]["name"].as_str())
                {
                    let is_example = artifact["target"]["kind"][0] == "example";
                    if is_example || artifact["profile"]["test"] == true {
                        programs.insert(if is_example { "seeds".into() } else { name.to_owned() }, path.into());
                    }
                }
            }
        }
        Ok(programs)
    }
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, content)?;
    Ok(())
}

/// The places that an error and its notes name, the main one first.
fn spans_of(message: &Value, out: &mut Vec<(String, usize, usize)>) {
    let mut spans: Vec<&Value> = message["spans"].as_array().into_iter().flatten().collect();
    spans.sort_by_key(|span| span["is_primary"] != true);
    for span in spans {
        let byte = |name: &str| span[name].as_u64().and_then(|byte| usize::try_from(byte).ok());
        if let (Some(file), Some(start), Some(end)) = (span["file_name"].as_str(), byte("byte_start"), byte("byte_end"))
        {
            out.push((file.to_owned(), start, end));
        }
    }
    for child in message["children"].as_array().into_iter().flatten() {
        spans_of(child, out);
    }
}
