//! Three instances under load, one of them killed every few seconds.

use crate::rig::{Feed, Random, World, say};
use std::time::{Duration, Instant};

const IDS: i64 = 10_000;
const RECORDS: i64 = 200_000;

/// `TIDEGATE_CHAOS_SECONDS` (120) is how long instances are killed, `TIDEGATE_CHAOS_SEED` repeats a run's choices.
#[test]
fn instances_killed_every_few_seconds_lose_nothing_and_repeat_nothing() {
    let seed = Random::seed("TIDEGATE_CHAOS_SEED");
    let seconds = std::env::var("TIDEGATE_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let during = Duration::from_secs(seconds);
    let Some(world) = World::new("chaos", IDS) else { return };
    say(&format!("chaos: TIDEGATE_CHAOS_SEED={seed} TIDEGATE_CHAOS_SECONDS={seconds}"));
    let mut feed = Feed::new(&world, IDS, seed);
    let mut random = Random::new(seed ^ 0xC4A05);
    let mut instances = vec![world.instance("first"), world.instance("second"), world.instance("third")];

    let mut kills = 0;
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed.send(RECORDS, during.mul_f64(0.95)));
        let end = Instant::now() + during;
        while Instant::now() < end {
            // At times shorter than the session timeout, so that a rebalance meets the next death.
            let pause = Duration::from_millis(2_000 + random.below(7_000));
            std::thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
            let index = usize::try_from(random.below(3)).unwrap();
            assert!(instances[index].is_running(), "{} ended by itself", instances[index].name);
            instances[index].kill();
            instances[index] = world.instance(&instances[index].name.clone());
            kills += 1;
            world.note(&format!("kill {kills}: {}; {} records taken", instances[index].name, world.taken()));
        }
        feeding.join().unwrap();
    });
    world.audit(); // clean while it runs, too
    world.judge(&feed, Duration::from_secs(90));
    assert_eq!(feed.reference.versions(), RECORDS, "the feed was meant to change a row with each record");
    for instance in &mut instances {
        assert!(instance.is_running(), "{} ended by itself", instance.name);
        let (status, took) = instance.terminate(Duration::from_secs(15));
        assert!(status.success(), "{} ended with {status} after {took:?}", instance.name);
    }
    let recovered =
        instances.iter().map(|i| i.log().matches("publishing the messages that an earlier owner decided").count());
    world.note(&format!(
        "{kills} kills; what an earlier owner had decided was published {} times",
        recovered.sum::<usize>()
    ));
}
