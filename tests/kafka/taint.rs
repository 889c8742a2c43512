//! The signs of a silent retry, from a real client whose broker goes away in the middle of a transaction.

use crate::cluster::{Broker, new_topic, unique, wanted};
use std::time::Duration;
use tidegate::adapters::kafka::KafkaSink;
use tidegate::flow::record::TopicName;
use tidegate::ports::sink::{Message, Sink};

/// A small message without a key.
fn message(destination: &TopicName) -> Message<'_> {
    let value = Some(b"v".as_slice());
    Message { destination, partition: None, key: None, value, headers: &[], timestamp: None, is_tracked: false }
}

/// Begins a transaction and sends one message in it, to its broker.
fn send_one(sink: &mut KafkaSink, out: &TopicName) {
    sink.begin().unwrap();
    sink.send(&message(out)).unwrap();
    sink.flush().unwrap();
}

#[test]
fn a_transaction_that_saw_its_broker_restart_is_tainted_and_a_renewed_one_is_not() {
    if !wanted("a_transaction_that_saw_its_broker_restart_is_tainted") {
        return;
    }
    let broker = Broker::start();
    let mut settings = broker.settings();
    settings.transaction_timeout_ms = 30_000;
    let out = new_topic(&settings, "out", 1);
    let mut sink = KafkaSink::open(&settings, &format!("taint-{}", unique())).unwrap();
    send_one(&mut sink, &out);
    broker.act("restart");
    std::thread::sleep(Duration::from_secs(1));
    let answer = sink.commit();
    eprintln!("commit after a restart: {answer:?}; taint {:?}", sink.taint());
    assert!(sink.taint().is_some(), "a lost connection within a transaction went unseen");
    while let Err(fault) = sink.renew() {
        assert!(fault.is_retry(), "{fault}");
    }
    assert_eq!(sink.taint(), None);
    for _ in 0..3 {
        send_one(&mut sink, &out);
        sink.commit().unwrap();
        assert_eq!(sink.taint(), None);
    }

    // The commit itself waits for a broker that does not answer, and then for its successor.
    send_one(&mut sink, &out);
    broker.act("pause");
    let committer = std::thread::spawn(move || {
        let answer = sink.commit();
        (sink, answer)
    });
    std::thread::sleep(Duration::from_secs(1));
    broker.act("kill"); // a restart would let it answer first
    broker.act("restart");
    let (mut sink, answer) = committer.join().unwrap();
    eprintln!("commit over a restart: {answer:?}; taint {:?}", sink.taint());
    assert!(sink.taint().is_some(), "an EndTxn sent twice went unseen");

    // The broker goes away between two transactions: nothing is in flight, so nothing is tainted.
    while let Err(fault) = sink.renew() {
        assert!(fault.is_retry(), "{fault}");
    }
    broker.act("restart");
    std::thread::sleep(Duration::from_secs(2));
    send_one(&mut sink, &out);
    sink.commit().unwrap();
    eprintln!("taint after an idle restart: {:?}", sink.taint());
}

#[test]
fn a_transaction_whose_broker_falls_silent_is_tainted() {
    if !wanted("a_transaction_whose_broker_falls_silent_is_tainted") {
        return;
    }
    let broker = Broker::start();
    let mut settings = broker.settings();
    settings.transaction_timeout_ms = 20_000;
    settings.properties.insert("socket.timeout.ms".into(), "1000".into());
    let out = new_topic(&settings, "out", 1);
    let mut sink = KafkaSink::open(&settings, &format!("taint-{}", unique())).unwrap();
    send_one(&mut sink, &out);
    broker.act("pause");
    let committer = std::thread::spawn(move || {
        let answer = sink.commit();
        (sink, answer)
    });
    // The library looks for timeouts at most once a second, and only when it wakes, which it does within a second
    // (`rd_kafka_broker_ops_io_serve`): a timeout of 1 s is seen after 3 s at the latest.
    std::thread::sleep(Duration::from_secs(5));
    broker.act("resume");
    let (mut sink, answer) = committer.join().unwrap();
    eprintln!("commit over a silence: {answer:?}; taint {:?}", sink.taint());
    assert!(sink.taint().is_some(), "an EndTxn that timed out and was sent again went unseen");
    while let Err(fault) = sink.renew() {
        assert!(fault.is_retry(), "{fault}");
    }
}
