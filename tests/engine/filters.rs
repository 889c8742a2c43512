//! The notices of an algorithm that filters let through.

use serde_json::json;
use tidegate::engine::status::Counter;
use tidegate::flow::{Algorithm, Context, Reject, Topology};
use tidegate::testing::TestDriver;

/// Publishes each number, as often as it says.
struct Tell;

impl Algorithm for Tell {
    type Event = i64;
    type Row = ();
    type Notices = Vec<i64>;

    fn apply(&self, event: i64, (): &mut (), _: &mut Context<'_>) -> Result<Vec<i64>, Reject> {
        Ok(vec![event; usize::try_from(event.min(5)).unwrap()])
    }
}

fn values(driver: &mut TestDriver) -> Vec<serde_json::Value> {
    driver.read("told").into_iter().map(|(_, value)| value).collect()
}

#[test]
fn a_notice_passes_all_filters_whatever_their_order() {
    let mut topology = Topology::new("filters");
    topology
        .source("numbers")
        .process(Tell)
        .filter(|number| *number > 1)
        .filter(|number| *number < 4)
        .at_least("least", 3.0, |number| f64::from(i32::try_from(*number).unwrap()))
        .filter(|number| *number > 0)
        .to("told");
    let mut driver = TestDriver::new(topology);
    for number in 1..6 {
        driver.send("numbers", 7, json!(number));
    }
    driver.run();
    assert_eq!(values(&mut driver), vec![json!(3); 3]);
    driver.threshold("least", 5.0);
    driver.send("numbers", 7, json!(3));
    driver.run();
    assert_eq!(values(&mut driver).len(), 3);
}

#[test]
fn each_notice_of_a_step_without_rows_is_counted_once() {
    let mut topology = Topology::new("filters");
    topology.source("numbers").process(Tell).to("told");
    let mut driver = TestDriver::new(topology).partitions(1);
    for number in [3, 1, 2] {
        driver.send("numbers", 7, json!(number));
    }
    driver.run();
    assert_eq!(values(&mut driver).len(), 6);
    assert_eq!(driver.status(0).value(Counter::Announced), 6);
}
