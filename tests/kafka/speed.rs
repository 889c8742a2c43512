//! Times of transactions and rates of reading; loose limits, since the machine is shared.

use crate::cluster::{Member, new_topic, place, shared, subscription, unique};
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{KafkaFeed, KafkaSink};
use tidegate::flow::record::{NextOffset, Record};
use tidegate::ports::sink::{Message, Sink};
use tidegate::ports::source::{Committed, Listener, Membership, Source, TaskId};

/// Milliseconds of each transaction, sorted.
fn transactions(messages: usize) -> Option<Vec<f64>> {
    let settings = shared("speed of transactions")?;
    let (lead, out) = (new_topic(&settings, "lead", 1), new_topic(&settings, "out", 8));
    let mut member = Member::join(&settings, &subscription(&format!("speed-{}", unique()), &lead, &[]));
    member.poll_until("assignment", |notes| notes.owned.len() == 1);
    let membership = member.membership();
    let mut sink = KafkaSink::open(&settings, &format!("speed-{}", unique())).unwrap();
    let value = [b'x'; 150];
    let (mut times, mut steps) = (Vec::new(), [0.0; 3]);
    for number in 0..55_i64 {
        let started = Instant::now();
        sink.begin().unwrap();
        for message in 0..messages {
            let key = message.to_string();
            let message = Message {
                destination: &out,
                partition: None,
                key: Some(key.as_bytes()),
                value: Some(&value),
                headers: &[],
                timestamp: None,
                is_tracked: false,
            };
            sink.send(&message).unwrap();
        }
        sink.flush().unwrap();
        let flushed = started.elapsed();
        let committed = Committed { next_offset: NextOffset(number), metadata: format!("v1 speed 1 {number}") };
        sink.send_offsets(&[(place(&lead, 0), committed)], &membership).unwrap();
        let sent = started.elapsed();
        sink.commit().unwrap();
        assert_eq!(sink.taint(), None);
        if number >= 5 {
            let all = started.elapsed(); // the first ones start connections
            times.push(all.as_secs_f64() * 1e3);
            for (sum, step) in steps.iter_mut().zip([flushed, sent - flushed, all - sent]) {
                *sum += step.as_secs_f64() * 1e3 / 50.0;
            }
        }
    }
    times.sort_by(f64::total_cmp);
    eprintln!(
        "transactions of {messages}: p50 {:.1} ms, p90 {:.1} ms, max {:.1} ms, sum {:.0} ms; flush, offsets, commit {steps:.1?} ms",
        times[25],
        times[45],
        times[49],
        times.iter().sum::<f64>()
    );
    Some(times)
}

#[test]
fn a_transaction_of_100_messages_has_no_floor_of_100_ms() {
    let Some(times) = transactions(100) else { return };
    assert!(times[25] < 50.0, "{times:?}");
    assert!(times.iter().sum::<f64>() < 2_500.0, "{times:?}");
}

#[test]
fn a_transaction_of_1000_messages_has_no_floor_of_100_ms() {
    let Some(times) = transactions(1_000) else { return };
    assert!(times[25] < 80.0, "{times:?}");
}

#[test]
fn a_producer_is_renewed_quickly() {
    let Some(settings) = shared("a_producer_is_renewed_quickly") else { return };
    let out = new_topic(&settings, "out", 1);
    let mut sink = KafkaSink::open(&settings, &format!("renew-{}", unique())).unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        sink.begin().unwrap();
        sink.send(&Message {
            destination: &out,
            partition: None,
            key: None,
            value: Some(b"v"),
            headers: &[],
            timestamp: None,
            is_tracked: false,
        })
        .unwrap();
        sink.flush().unwrap();
        let started = Instant::now();
        sink.renew().unwrap();
        times.push(started.elapsed().as_millis());
    }
    eprintln!("renewed within {times:?} ms");
    assert!(times.iter().all(|&ms| ms < 2_000), "{times:?}");
}

#[derive(Default)]
struct Sum {
    records: usize,
    bytes: usize,
    is_assigned: bool,
}

impl Listener for Sum {
    fn assigned(&mut self, tasks: &[TaskId], _: Membership) {
        self.is_assigned |= !tasks.is_empty();
    }
    fn revoked(&mut self, _: &[TaskId]) {}
    fn lost(&mut self, _: &[TaskId]) {}
    fn record(&mut self, _: TaskId, _: usize, record: Record<'_>) {
        self.records += 1;
        self.bytes += record.value.map_or(0, <[u8]>::len);
    }
    fn out_of_range(&mut self, _: TaskId, _: usize, message: &str) {
        panic!("{message}");
    }
}

#[test]
fn records_are_read_fast() {
    const RECORDS: usize = 1_000_000;
    let Some(settings) = shared("records_are_read_fast") else { return };
    let lead = new_topic(&settings, "fast", 8);
    let feed = KafkaFeed::connect(&settings).unwrap();
    let started = Instant::now();
    let value = [b'x'; 100];
    for number in 0..RECORDS {
        let key = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        feed.send(&lead, None, Some(&key), Some(&value), &[]).unwrap();
    }
    feed.flush().unwrap();
    let fed = started.elapsed();
    let subscription = subscription(&format!("fast-{}", unique()), &lead, &[]);
    let mut source = tidegate::adapters::kafka::KafkaSource::join(&settings, &subscription, None).unwrap();
    let mut sum = Sum::default();
    while !sum.is_assigned {
        source.poll(Duration::from_millis(50), 1_000, &mut sum).unwrap();
    }
    let positions: Vec<_> = (0..8).map(|number| (place(&lead, number), NextOffset(0))).collect();
    source.start(&positions).unwrap();
    let started = Instant::now();
    while sum.records < RECORDS {
        source.poll(Duration::from_millis(50), 10_000, &mut sum).unwrap();
        assert!(started.elapsed() < Duration::from_secs(60), "{} records", sum.records);
    }
    let read = started.elapsed();
    let rate = |took: Duration| RECORDS as f64 / took.as_secs_f64() / 1e3;
    eprintln!("fed {:.0} k/s, read {:.0} k/s", rate(fed), rate(read));
    assert!(rate(read) > 300.0, "some 1,300 k/s on an idle machine of two cores");
}
