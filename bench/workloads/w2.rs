//! One job: W2: events of users at random, re-keyed through a repartition topic and summed by user, exactly once.
//!
//! Ours and two references in rotating order: `null` makes one hop and keeps no state, which is the limit that is claimed
//! against; `null-both` also reads what it wrote, which is the least that a re-keyed sum must do.

use super::usage::UsageBench;
use crate::Outcome;
use crate::child::{Hops, Shape};
use crate::meter::calibration::calibrate;
use crate::options::keyed::{Keyed, System};
use crate::report::Report;
use crate::rig::Rig;

pub fn run(options: &Keyed) -> Outcome {
    let rig = Rig::start(options.common.smoke, false)?;
    let mut report = Report::new("w2", calibrate(&rig)?, UsageBench::parameters(options));
    let mut bench = UsageBench::new(rig, options);
    for bytes in &options.bytes {
        let events = bench.fill(*bytes, false)?;
        if !options.common.smoke {
            bench.null("null", &events, Hops::One)?; // the broker's compiler, the disk's cache
        }
        for repetition in 0..options.common.reps {
            let mut systems: Vec<System> = options.only.clone();
            let count = systems.len();
            systems.rotate_left(repetition % count);
            for system in systems {
                report.runs.push(match system {
                    System::Ours => bench.ours("ours", &events, Shape::Shuffled)?,
                    System::Null => bench.null("null", &events, Hops::One)?,
                    System::NullBoth => bench.null("null-both", &events, Hops::Both)?,
                });
            }
        }
        claims(&mut report, *bytes, options.kept);
    }
    report.end(options.common.save)
}

/// The claims about ours, for the parts that were measured.
fn claims(report: &mut Report, bytes: usize, kept: u64) {
    let rate = report.ratio(["ours", "null"], Some(bytes), |run| run.records_per_s).map(|spread| spread.median);
    report.claim(&format!("rate at {bytes} B, {kept} of ten kept, ours/null"), rate, 0.6, true);
    if bytes == 100 {
        let own = report.median("ours", Some(bytes), |run| run.own_us);
        report.claim("own CPU of ours at 100 B, µs/rec over both hops", own, 10.0, false);
    }
}
