//! One job: W4: the sums of W2 over a source that is keyed by user already and says so, against W2 itself in the same run.
//!
//! Both in pairs, the order rotating, for each size of event.

use super::usage::UsageBench;
use crate::Outcome;
use crate::child::{Hops, Shape};
use crate::judge::usage::is_not_shuffled;
use crate::load::events::{Events, KEEP_ALL};
use crate::meter::calibration::calibrate;
use crate::options::keyed::Keyed;
use crate::report::Report;
use crate::report::run::Run;
use crate::rig::Rig;

/// The names of both in the report.
const PAIR: [&str; 2] = ["declared", "shuffled"];

pub fn run(options: &Keyed) -> Outcome {
    if options.kept < KEEP_ALL {
        return Err("W4 sums every event: leave --kept out".into());
    }
    let rig = Rig::start(options.common.smoke, false)?;
    let mut report = Report::new("w4", calibrate(&rig)?, UsageBench::parameters(options));
    let mut bench = UsageBench::new(rig, options);
    for bytes in &options.bytes {
        let (keyed, unkeyed) = (bench.fill(*bytes, true)?, bench.fill(*bytes, false)?);
        if !options.common.smoke {
            bench.null("null", &unkeyed, Hops::One)?; // the broker's compiler, the disk's cache
        }
        for repetition in 0..options.common.reps {
            let mut pair = PAIR;
            pair.rotate_left(repetition % 2);
            for system in pair {
                let run = if system == PAIR[0] {
                    declared(&mut bench, &keyed)?
                } else {
                    bench.ours(PAIR[1], &unkeyed, Shape::Shuffled)?
                };
                report.runs.push(run);
            }
        }
        claims(&mut report, *bytes);
    }
    report.runs.sort_by_key(|run| run.system != PAIR[0]); // the one that is claimed about comes first
    report.end(options.common.save)
}

/// One run over the keyed source, judged; it has no repartition topic.
fn declared(bench: &mut UsageBench<'_>, events: &Events) -> Outcome<Run> {
    let run = bench.ours(PAIR[0], events, Shape::Declared)?;
    is_not_shuffled(&bench.rig.brokers, PAIR[0])?;
    Ok(run)
}

/// The claims about a source that needs no shuffle.
fn claims(report: &mut Report, bytes: usize) {
    let ratio = |number: fn(&Run) -> f64| report.ratio(PAIR, Some(bytes), number).map(|spread| spread.median);
    let (all, own, broker) = (ratio(Run::all_us), ratio(|run| run.own_us), ratio(|run| run.broker_us));
    let moved = ratio(|run| run.moved().unwrap_or(f64::NAN));
    report.claim(&format!("CPU at {bytes} B, own and broker, declared/shuffled"), all, 0.6, false);
    report.claim(&format!("own CPU at {bytes} B, declared/shuffled"), own, 0.6, false);
    report.claim(&format!("broker CPU at {bytes} B, declared/shuffled"), broker, 0.6, false);
    if bytes == 1024 {
        report.claim("broker bytes in and out at 1024 B, declared/shuffled", moved, 0.5, false);
    }
}
