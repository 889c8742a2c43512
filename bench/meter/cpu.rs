//! One job: CPU time and memory of processes, from /proc.

use crate::Outcome;
use std::fs;

/// CPU seconds used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub own: f64,
    pub broker: f64,
    pub postgres: f64,
    /// This runner: pacer and latency reader.
    pub runner: f64,
    /// The whole machine.
    pub machine: f64,
}

/// The processes to sample.
#[derive(Clone, Copy)]
pub struct Processes {
    pub own: u32,
    pub broker: u32,
    pub postmaster: Option<u32>,
}

/// Linux counts CPU time in hundredths of a second for user space, whatever the kernel's own tick (USER_HZ, proc(5)).
const TICK: f64 = 0.01;

struct Stat {
    parent: u32,
    ticks: u64,
    /// CPU time of children that were waited for.
    child_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
        child_ticks: number(13)? + number(14)?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 * TICK
}

/// PostgreSQL: the postmaster, its living children, and those that have ended.
fn family(postmaster: u32) -> u64 {
    let Some(parent) = stat(postmaster) else { return 0 };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children = pids.filter_map(stat).filter(|child| child.parent == postmaster);
    parent.ticks + parent.child_ticks + children.map(|child| child.ticks).sum::<u64>()
}

fn machine() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq
    fields.iter().enumerate().filter(|(index, _)| ![3, 4].contains(index) && *index < 7).map(|(_, ticks)| ticks).sum()
}

impl Processes {
    pub fn sample(&self) -> Sample {
        let alone = |pid| stat(pid).map_or(0, |stat| stat.ticks);
        Sample {
            own: seconds(alone(self.own)),
            broker: seconds(alone(self.broker)),
            postgres: seconds(self.postmaster.map_or(0, family)),
            runner: seconds(alone(std::process::id())),
            machine: seconds(machine()),
        }
    }
}

impl std::ops::Sub for Sample {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            own: self.own - before.own,
            broker: self.broker - before.broker,
            postgres: self.postgres - before.postgres,
            runner: self.runner - before.runner,
            machine: self.machine - before.machine,
        }
    }
}

impl Sample {
    /// The share of the machine, over `seconds`, that processes without a part in the run took.
    #[expect(clippy::cast_precision_loss, reason = "a handful of cores")]
    pub fn foreign_share(&self, seconds: f64) -> Outcome<f64> {
        Ok(self.foreign() / (seconds * std::thread::available_parallelism()?.get() as f64))
    }

    /// CPU time of processes that have no part in the run.
    fn foreign(&self) -> f64 {
        (self.machine - self.own - self.broker - self.postgres - self.runner).max(0.0)
    }
}

/// The most memory that a process has had resident, in MiB.
pub fn resident_mib_max(pid: u32) -> Outcome<f64> {
    mib(pid, "VmHWM:")
}

/// The memory that a process has resident, in MiB.
pub fn resident_mib(pid: u32) -> Outcome<f64> {
    mib(pid, "VmRSS:")
}

fn mib(pid: u32, name: &str) -> Outcome<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
