//! Memory grows with the data up to the budget, and hardly with the number of partitions.

use crate::child::Process;
use crate::{Folder, settings};

/// Most memory of a partition: 1 MiB is promised, this is the measured value and some more.
const KIB_EACH: i64 = 32;

#[test]
fn a_thousand_partitions_cost_little() {
    let folder = Folder::new();
    let mut process = Process::start("measures", &folder.state());
    let mut next = || process.next().expect("the child measures");
    let (one, thousand, accounted) = (next(), next(), next());
    println!("resident: {one} KiB with 1 partition, {thousand} KiB with 1,001; {accounted} bytes accounted for");
    assert!(thousand - one < 1_000 * KIB_EACH, "{one} KiB, then {thousand} KiB");
    let budget = i64::try_from(settings(&folder.state()).memory_bytes).unwrap();
    assert!(accounted <= budget * 5 / 4, "{accounted} of {budget} bytes");
}
