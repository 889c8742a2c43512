//! One job: W2: events of users at random, re-keyed through a repartition topic and summed by user, exactly once.
//!
//! Ours and the null reference in pairs, the order rotating. The reference makes one hop and keeps no state: what the broker
//! and the client cost whoever re-keys.

use super::usage::UsageBench;
use crate::Outcome;
use crate::child::Shape;
use crate::meter::calibration::calibrate;
use crate::options::keyed::Keyed;
use crate::report::Report;
use crate::rig::Rig;

pub fn run(options: &Keyed) -> Outcome {
    let rig = Rig::start(options.common.smoke, false)?;
    let mut report = Report::new("w2", calibrate(&rig)?, UsageBench::parameters(options));
    let mut bench = UsageBench::new(rig, options);
    for bytes in &options.bytes {
        let events = bench.fill(*bytes, false)?;
        if !options.common.smoke {
            bench.null(&events)?; // the broker's compiler, the disk's cache
        }
        for repetition in 0..options.common.reps {
            let mut pair = [true, false];
            pair.rotate_left(repetition % 2);
            for is_ours in pair {
                if is_ours {
                    report.runs.push(bench.ours("ours", &events, Shape::Shuffled)?);
                } else if !options.no_null {
                    report.runs.push(bench.null(&events)?);
                }
            }
        }
        claims(&mut report, *bytes);
    }
    report.end(options.common.save)
}

/// What is promised of ours, as far as it was measured.
fn claims(report: &mut Report, bytes: usize) {
    let rate = report.ratio(["ours", "null"], Some(bytes), |run| run.records_per_s).map(|spread| spread.median);
    report.claim(&format!("rate at {bytes} B, ours/null"), rate, 0.6, true);
    if bytes == 100 {
        let own = report.median("ours", Some(bytes), |run| run.own_us);
        report.claim("own CPU of ours at 100 B, µs/rec over both hops", own, 10.0, false);
    }
}
