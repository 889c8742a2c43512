//! One job: start what the command line names: a workload, or one system under test in a process of its own.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod judge;
mod load;
mod meter;
mod naive;
mod options;
mod ours;
mod probe;
mod report;
mod rig;
mod system;
mod workloads;

use clap::Parser;
use options::{Mode, Options, System};
use std::process::ExitCode;

/// Whatever ends a run, as a sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Outcome<T = ()> = Result<T, Failure>;

fn main() -> ExitCode {
    let outcome = match Options::parse().mode {
        Mode::W1(workload) => workloads::w1::run(&workload.shortened()),
        Mode::Child(child) => match child.system {
            System::Ours => ours::run(&child),
            System::Bare => probe::bare::run(&child),
            System::Naive => naive::run(&child),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
