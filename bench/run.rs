//! One job: start what the command line names: a workload, or one system under test in a process of its own.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

/// The service's allocator, see src/main.rs; the references run with it too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod child;
mod clients;
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

use child::{Child, RowsSystem};
use clap::Parser;
use options::{Mode, Options};
use std::process::ExitCode;

/// Whatever ends a run, as a sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Outcome<T = ()> = Result<T, Failure>;

fn main() -> ExitCode {
    let outcome = match Options::parse().mode {
        Mode::W1(options) => workloads::w1::run(&options.shortened()),
        Mode::W2(options) => workloads::w2::run(&options.shortened(&[100])),
        Mode::W3(options) => workloads::w3::run(&options.shortened()),
        Mode::W4(options) => workloads::w4::run(&options.shortened(&[100, 1024])),
        Mode::W5(options) => workloads::w5::run(&options.shortened()),
        Mode::W6(options) => workloads::w6::run(&options.shortened(&[100])),
        Mode::Child { json } => Child::read(&json).and_then(|child| serve(&child)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One system under test.
fn serve(child: &Child) -> Outcome {
    match child {
        Child::Rows(RowsSystem::Ours, run) => ours::rows::run(run),
        Child::Rows(RowsSystem::Bare, run) => probe::bare::run(run),
        Child::Rows(RowsSystem::Naive, run) => naive::run(run),
        Child::Keyed(run) => ours::keyed::run(run),
        Child::Null(run, hops) => probe::null::run(run, *hops),
        Child::RestoreProbe(run) => probe::restore::run(run),
        Child::RolledUp(run) => ours::rolled::run(run),
        Child::Reading(run) => probe::null::read(run),
    }
}
