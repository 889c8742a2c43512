//! Commits whose answer is lost (docs/protocol.md#unknown-outcomes). A proxy holds, swallows or delivers the
//! COMMIT, and cuts the client off.

use crate::server::{Fixture, Server, claim, is_wanted, shared_url, step};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::adapters::postgres::{OutboxSettings, PostgresRows, PostgresSchema, PostgresSettings};
use tidegate::ports::rows::{Claimed, CommitAnswer, Rows};
use tidegate::ports::schema::Schema;

/// The fate of a COMMIT.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Pass,
    /// The server carries it out, the answer is lost.
    Deliver,
    /// The server never gets it.
    Swallow,
    /// The server gets it when the test says so.
    Hold,
}

struct Proxy {
    url: String,
    fate: Arc<Mutex<Fate>>,
    release: Sender<()>,
}

impl Proxy {
    fn start(url: &str) -> Self {
        let (head, tail) = url.rsplit_once('@').unwrap();
        let (address, database) = tail.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{head}@{}/{database}", listener.local_addr().unwrap());
        let fate = Arc::new(Mutex::new(Fate::Pass));
        let (release, released) = channel();
        let released = Arc::new(Mutex::new(released));
        let (address, shared) = (address.to_owned(), Arc::clone(&fate));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&address) else { continue };
                let (fate, released) = (Arc::clone(&shared), Arc::clone(&released));
                std::thread::spawn(move || pass(client, server, &fate, &released));
            }
        });
        Self { url, fate, release }
    }

    fn set(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }
}

fn pass(mut client: TcpStream, mut server: TcpStream, fate: &Arc<Mutex<Fate>>, released: &Mutex<Receiver<()>>) {
    let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..length];
        let now = *fate.lock().unwrap();
        if now != Fate::Pass && bytes.windows(9).any(|window| window == b"1; COMMIT") {
            *fate.lock().unwrap() = Fate::Pass;
            // The client is cut off first, so that no answer can reach it.
            let _ = client.shutdown(Shutdown::Both);
            if now == Fate::Hold {
                let _ = released.lock().unwrap().recv();
            }
            if now != Fate::Swallow {
                server.write_all(bytes).unwrap();
                std::thread::sleep(Duration::from_millis(200));
            }
            let _ = server.shutdown(Shutdown::Both);
            return;
        }
        if server.write_all(bytes).is_err() {
            return;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn batch(rows: &mut PostgresRows, epoch: i64) -> CommitAnswer {
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[step(epoch, 0, 4)]).unwrap(), [true]);
    rows.commit().unwrap()
}

fn behind_a_proxy(name: &'static str, lock_timeout_ms: u32) -> Option<(Fixture, Proxy)> {
    if !is_wanted() {
        return None;
    }
    let proxy = Proxy::start(&shared_url());
    let fixture = Fixture::on(&proxy.url, name);
    let settings = PostgresSettings { lock_timeout_ms, ..fixture.settings.clone() };
    Some((Fixture { name, settings }, proxy))
}

#[test]
fn a_commit_that_was_carried_out_without_an_answer_settles_as_done() {
    let Some((fixture, proxy)) = behind_a_proxy("delivered", 5_000) else { return };
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    proxy.set(Fate::Deliver);
    assert_eq!(batch(&mut rows, epoch), CommitAnswer::Unknown);
    assert!(rows.settle(&step(epoch, 0, 4)).unwrap());
}

#[test]
fn a_commit_that_never_arrived_settles_as_not_done_and_the_batch_can_be_repeated() {
    let Some((fixture, proxy)) = behind_a_proxy("swallowed", 5_000) else { return };
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    proxy.set(Fate::Swallow);
    assert_eq!(batch(&mut rows, epoch), CommitAnswer::Unknown);
    assert!(!rows.settle(&step(epoch, 0, 4)).unwrap());
    assert_eq!(batch(&mut rows, epoch), CommitAnswer::Done);
    // Claimed since by somebody else: ours no more, whatever the numbers say.
    let mut other = fixture.rows();
    assert!(matches!(other.claim(&[claim(0, 2)]).unwrap()[0], Claimed::Owned(_)));
    assert!(!rows.settle(&step(epoch, 0, 4)).unwrap());
}

/// Fact d: a plain read would see the old offset, answer "not done", and the batch would be done twice.
#[test]
fn a_commit_still_under_way_is_waited_for() {
    let Some((fixture, proxy)) = behind_a_proxy("held", 300) else { return };
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    proxy.set(Fate::Hold);
    assert_eq!(batch(&mut rows, epoch), CommitAnswer::Unknown);
    assert!(rows.settle(&step(epoch, 0, 4)).unwrap_err().is_retry());
    proxy.release.send(()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(rows.settle(&step(epoch, 0, 4)).unwrap());
}

#[test]
fn a_terminated_backend_is_an_unknown_commit_that_settles_as_not_done() {
    let Some(fixture) = Fixture::new("terminated") else { return };
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[step(epoch, 0, 4)]).unwrap(), [true]);
    fixture.sql("SELECT pg_terminate_backend(backend_pid) FROM {tg}.position");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Unknown);
    assert!(!rows.settle(&step(epoch, 0, 4)).unwrap());
    assert_eq!(batch(&mut rows, epoch), CommitAnswer::Done);
}

#[test]
fn a_connection_lost_in_mid_batch_is_a_retry_and_the_next_batch_reconnects() {
    let Some(fixture) = Fixture::new("reconnect") else { return };
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    rows.begin().unwrap();
    fixture.sql("SELECT pg_terminate_backend(backend_pid) FROM {tg}.position");
    std::thread::sleep(Duration::from_millis(200));
    assert!(rows.advance(&[step(epoch, 0, 4)]).unwrap_err().is_retry());
    assert!(rows.commit().unwrap_err().is_retry(), "nothing was committed, for certain");
    rows.rollback();
    assert_eq!(batch(&mut rows, epoch), CommitAnswer::Done);
}

#[test]
fn what_was_acknowledged_outlives_a_killed_server_and_what_was_not_settles() {
    if !is_wanted() {
        return;
    }
    let server = Server::start("killed");
    let fixture = Fixture::on(&server.url, "killed");
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    assert_eq!(batch(&mut rows, epoch), CommitAnswer::Done);
    rows.begin().unwrap();
    assert_eq!(rows.advance(&[step(epoch, 4, 9)]).unwrap(), [true]);
    server.kill();
    assert_eq!(rows.commit().unwrap(), CommitAnswer::Unknown);
    assert!(rows.settle(&step(epoch, 4, 9)).unwrap_err().is_retry(), "nobody there to ask");
    assert!(rows.begin().unwrap_err().is_retry());
    server.restart();
    assert!(!rows.settle(&step(epoch, 4, 9)).unwrap());
    assert_eq!(fixture.number("SELECT next_offset FROM {tg}.position"), 4);
}

/// Locks stay held while a COMMIT waits, so what follows it waits for a lock.
#[test]
fn a_commit_that_waits_for_a_synchronous_standby_is_told_as_that() {
    if !is_wanted() {
        return;
    }
    let server = Server::start("standby");
    let fixture = Fixture::on(&server.url, "standby");
    let settings = PostgresSettings { lock_timeout_ms: 1_000, statement_timeout_ms: 1_500, ..fixture.settings.clone() };
    let fixture = Fixture { name: fixture.name, settings };
    let mut rows = fixture.rows();
    let epoch = fixture.own(&mut rows, 1);
    fixture.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    fixture.sql("SELECT pg_reload_conf()");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(batch(&mut rows, epoch), CommitAnswer::Unknown);
    let fault = rows.settle(&step(epoch, 0, 4)).unwrap_err();
    let mut schema = PostgresSchema::brief(&fixture.settings, OutboxSettings::default(), fixture.name).unwrap();
    let of_slot = schema.lease_slot("host-1", None, Duration::from_secs(15)).unwrap_err();
    let of_slot_again = schema.lease_slot("host-2", None, Duration::from_secs(15)).unwrap_err();
    for told in [&fault, &of_slot, &of_slot_again] {
        let said = told.to_string();
        assert!(
            told.is_retry() && said.contains("waits for a synchronous standby (synchronous_standby_names)"),
            "{said}"
        );
        assert!(!said.contains("pg_terminate_backend") && !said.contains("at line"), "{said}");
    }
    fixture.sql("ALTER SYSTEM RESET synchronous_standby_names");
    fixture.sql("SELECT pg_reload_conf()");
    std::thread::sleep(Duration::from_millis(500));
    assert!(rows.settle(&step(epoch, 0, 4)).unwrap(), "committed by itself");
}
