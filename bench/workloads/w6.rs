//! One job: W6: the sums of W4 for each window of a tenth of a second, against the sums without windows, both over a source
//! that is keyed by user already, in pairs, the order rotating, for a thousand users, a hundred thousand and a million.
//!
//! An event is a millisecond later than the one before, and a user's next event comes later than its window ends. So nearly
//! every record closes a window and opens one: the most that windows can cost. Both publish for a tenth of the records.

use super::usage::UsageBench;
use crate::Outcome;
use crate::child::{Hops, Kept, Shape};
use crate::load::events::KEEP_ALL;
use crate::meter::calibration::calibrate;
use crate::options::keyed::Keyed;
use crate::report::Report;
use crate::report::run::Run;
use crate::rig::Rig;

/// Users, and the names of both systems in the report.
const CELLS: [(u64, [&str; 2]); 3] = [
    (1_000, ["windows of 10^3", "sums of 10^3"]),
    (100_000, ["windows of 10^5", "sums of 10^5"]),
    (1_000_000, ["windows of 10^6", "sums of 10^6"]),
];

pub fn run(options: &Keyed) -> Outcome {
    if options.kept < KEEP_ALL {
        return Err("W6 sums every event: leave --kept out".into());
    }
    let rig = Rig::start(options.common.smoke, false)?;
    let mut report = Report::new("w6", calibrate(&rig)?, UsageBench::parameters(options));
    let mut bench = UsageBench::new(rig, options);
    let cells = if options.common.smoke { &CELLS[..1] } else { &CELLS[..] };
    for bytes in &options.bytes {
        for (users, pair) in cells {
            let events = bench.fill_of(*users, *bytes, true)?;
            if !options.common.smoke {
                bench.null("null", &events, Hops::One)?; // the broker's compiler, the disk's cache
            }
            for repetition in 0..options.common.reps {
                let mut order = [(pair[0], Kept::Windows), (pair[1], Kept::Sum)];
                order.rotate_left(repetition % 2);
                for (system, keeps) in order {
                    report.runs.push(bench.kept(system, &events, Shape::Declared, keeps)?);
                }
            }
            let ratio = |number: fn(&Run) -> f64| report.ratio(*pair, Some(*bytes), number).map(|spread| spread.median);
            let (own, all) = (ratio(|run| run.own_us), ratio(Run::all_us));
            report.claim(&format!("own CPU at {bytes} B, windows/sums of {users} users"), own, 1.6, false);
            report.claim(&format!("CPU at {bytes} B, own and broker, windows/sums of {users} users"), all, 1.6, false);
        }
        let own = |system: &str| report.median(system, Some(*bytes), |run| run.own_us);
        let growth = own(CELLS[2].1[0]).zip(own(CELLS[0].1[0])).map(|(many, few)| many / few);
        report.claim(&format!("own CPU of windows at {bytes} B, a million users/a thousand"), growth, 1.6, false);
    }
    report.end(options.common.save)
}
