//! Settings: layers, origins, mistakes, secrets.

#[cfg(all(feature = "kafka", feature = "postgres"))]
mod canary;
mod layers;
mod mistakes;
mod secrets;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate::flow::{Algorithm, Context, Reject, Topology};
use tidegate::settings::{Problems, PropertyMistake, Settings, Sources};

#[derive(serde::Serialize, serde::Deserialize)]
struct Row {
    score: f64,
}

struct Keep;

impl Algorithm for Keep {
    type Event = serde_json::Value;
    type Row = Row;
    type Notices = Option<f64>;

    fn apply(&self, _: serde_json::Value, row: &mut Row, _: &mut Context<'_>) -> Result<Option<f64>, Reject> {
        Ok(Some(row.score))
    }
}

pub fn topology() -> Topology {
    let mut topology = Topology::new("scoring");
    topology.source("readings").update("accounts", Keep).at_least("large-change", 0.5, |s| *s).to("large-changes");
    topology
}

/// A file of its own for each call; removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-it-{}-{number}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(feature = "kafka")]
const CLIENT: Option<PropertyMistake> = Some(tidegate::adapters::kafka::properties::mistake);
#[cfg(not(feature = "kafka"))]
const CLIENT: Option<PropertyMistake> = None;

pub fn sources(file: Option<&Scratch>, environment: &[(&str, &str)], flags: &[&str]) -> Sources {
    Sources {
        file: file.map(|scratch| scratch.0.clone()),
        environment: environment.iter().map(|(n, v)| (OsString::from(n), OsString::from(v))).collect(),
        flags: flags.iter().map(ToString::to_string).collect(),
        client: CLIENT,
    }
}

pub fn load(yaml: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Settings, Problems> {
    let file = Scratch::new(yaml);
    Settings::load(&topology(), sources(Some(&file), environment, flags))
}

/// The origin of a value in force.
pub fn origin(settings: &Settings, path: &str) -> String {
    let found = settings.effective().iter().find(|entry| entry.path == path);
    found.unwrap_or_else(|| panic!("{path} is not among the values in force")).origin.to_string()
}
