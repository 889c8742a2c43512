//! Each guard (docs/guards.md) switched off, in the scene that it is there for: the same scene is clean with all of
//! them on, and without the guard the ordinary judges find the harm. The switches: `src/ports/guard.rs`.
//!
//! A guard that another one covers is switched off together with that one; in the long run also each of the two alone,
//! which is clean. Guards 7 and 8 are in `late.rs`.

use crate::rig::{
    Action, Feed, Held, Instance, Line, Proof, Proxy, Random, Request, Session, World, in_time, say, until,
};
use kafka_protocol::messages::{ApiKey, EndTxnRequest, EndTxnResponse};
use sqlx::Row as _;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const IDS: i64 = 1_000;
const PARTITIONS: i32 = 12;
/// Tries in which a guard's removal may get away with it.
const TRIES_MAX: usize = 30;
/// Time after which anything is a stall.
const STALL: Duration = Duration::from_secs(20);

/// Servers, the feed, and the instances of one play, which has a number, so that their logs are their own.
struct Stage {
    instances: Vec<Instance>,
    play: usize,
    feed: Feed,
    proxy: Option<Proxy>,
    world: World, // last: the others need its servers
}

impl Stage {
    fn new(name: &'static str, seed: u64, settings: &[(&str, &str)]) -> Option<Self> {
        Some(Self::of(World::new(name, IDS)?, None, seed, settings))
    }

    fn proxied(name: &'static str, seed: u64) -> Option<Self> {
        let (world, proxy) = World::proxied(name, IDS)?;
        // Nothing that is held may be given up meanwhile.
        let patient = [("KAFKA__TRANSACTION_TIMEOUT_MS", "30000"), ("DATABASE__LOCK_TIMEOUT_MS", "25000")];
        Some(Self::of(world, Some(proxy), seed, &patient))
    }

    /// One worker and one batch for the records of one feed; sessions and transactions end soon after a death.
    fn of(mut world: World, proxy: Option<Proxy>, seed: u64, settings: &[(&str, &str)]) -> Self {
        let usual = [
            ("ENGINE__WORKERS", "1"),
            ("ENGINE__BATCH_AGE_MS", "500"),
            ("KAFKA__SESSION_TIMEOUT_MS", "3000"),
            ("KAFKA__TRANSACTION_TIMEOUT_MS", "4000"),
        ];
        for (name, value) in usual.iter().chain(settings) {
            let name = format!("TIDEGATE_{name}");
            world.settings.retain(|(set, _)| *set != name);
            world.settings.push((name, (*value).into()));
        }
        let feed = Feed::new(&world, IDS, seed);
        Self { instances: Vec::new(), play: 0, feed, proxy, world }
    }

    /// Starts an instance; answers its place.
    fn start(&mut self, name: &str, failpoint: &str) -> usize {
        let name = format!("{name}-{}", self.play);
        self.instances.push(self.world.armed_instance(&name, failpoint, &[]));
        self.instances.len() - 1
    }

    /// Ends the play: the next one has another number.
    fn end(&mut self) {
        for mut instance in self.instances.drain(..) {
            if instance.is_running() {
                instance.terminate(Duration::from_secs(15));
            }
        }
        self.play += 1;
    }

    /// Waits until these instances have claimed equal shares of all partitions: nothing is on the move then.
    fn wait_owners(&self, places: &[usize]) {
        let share = 2 * i64::from(PARTITIONS) / i64::try_from(places.len()).unwrap();
        until("the partitions are claimed", Duration::from_secs(40), || {
            let rows = self.world.sql("SELECT owner, count(*)::bigint FROM tidegate.position GROUP BY owner");
            let rows = rows.iter().map(|row| (row.try_get_unchecked(0).unwrap(), row.try_get_unchecked(1).unwrap()));
            let counts: Vec<(String, i64)> = rows.collect();
            let has_share = |place: &usize| {
                counts.iter().any(|(owner, count)| owner.contains(&self.mark(*place)) && *count == share)
            };
            if places.iter().all(has_share) { Ok(()) } else { Err(format!("{counts:?}")) }
        });
    }

    /// The part of an owner's name that no two processes share.
    fn mark(&self, place: usize) -> String {
        format!(":{}:", self.instances[place].pid())
    }

    fn partition_of(&self, place: usize) -> i32 {
        let ask = format!(
            "SELECT min(partition)::bigint FROM tidegate.position WHERE topic = 'readings' AND owner LIKE '%{}%'",
            self.mark(place)
        );
        i32::try_from(self.world.number(&ask)).unwrap()
    }

    /// The prefix of the transactional ids of an instance.
    fn producers_of(&self, place: usize) -> String {
        let log = self.instances[place].log();
        let slot = log.lines().find_map(|line| Some(line.split_once(" slot ")?.1.trim().to_owned()));
        format!("scoring-{}-", slot.expect("it tells its slot when it has started"))
    }

    fn count(&self, place: usize, words: &str) -> usize {
        self.instances[place].log().matches(words).count()
    }

    /// Waits until the log of an instance has `words` more often than `before`.
    fn wait_more(&self, place: usize, words: &str, before: usize) {
        until(&format!("{words:?} once more"), Duration::from_secs(40), || {
            if self.count(place, words) > before { Ok(()) } else { Err(self.instances[place].log()) }
        });
    }

    fn wait_blocked(&self, count: i64) {
        until(&format!("{count} wait for a lock"), Duration::from_secs(20), || {
            let waiting = self.world.number("SELECT count(*) FROM pg_locks WHERE NOT granted");
            if waiting >= count { Ok(()) } else { Err(format!("{waiting} do")) }
        });
    }

    /// A record in a partition of the test's choice.
    fn put(&mut self, topic: &str, partition: i32, id: i64, number: &str) {
        let value = format!(r#"{{"value": {number}, "score": {number}}}"#);
        self.feed.raw(topic, Some(partition), Some(id.to_string().as_bytes()), Some(value.as_bytes()));
        self.feed.reference.apply(topic, id, number);
    }

    /// Why a partition stands still, if one does.
    fn halt(&self) -> Option<String> {
        let logs = self.instances.iter().map(Instance::log);
        let halt = |log: String| {
            let line = log.lines().find(|line| line.contains("halted: "))?;
            Some(line.split_once("halted: ")?.1.split(';').next()?.to_owned())
        };
        logs.filter_map(halt).next()
    }

    /// Everything is as it must be, or what is wrong and, up to the first colon, who says so.
    fn verdict(&self) -> Result<(), String> {
        // A halt is reported at once. Otherwise it is for the judge to say that something is late.
        let halt = in_time(STALL, || match self.halt() {
            Some(halt) => Ok(Some(halt)),
            None if self.world.taken() >= self.feed.sent => Ok(None),
            None => Err(String::new()),
        });
        if let Ok(Some(halt)) = halt {
            return Err(format!("a halt: {halt}"));
        }
        self.world.verdict(&self.feed, Duration::ZERO).map(drop)
    }

    /// Gives an instance the time to publish the messages that another one decided; it may have to wait for something
    /// itself.
    fn publishes_rest(&self, place: usize) {
        let words = "publishing the messages that an earlier owner decided";
        let _ =
            in_time(Duration::from_secs(3), || if self.count(place, words) > 0 { Ok(()) } else { Err(String::new()) });
        std::thread::sleep(Duration::from_millis(500)); // until it is published
    }

    /// Waits until an instance has taken everything over, or halted; whether it has halted.
    fn is_halted(&self, place: usize, settled: impl Fn(&World) -> bool) -> bool {
        until("a halt, or none", STALL, || match self.halt() {
            Some(_) => Ok(true),
            None if self.count(place, "partition taken over") >= 12 && settled(&self.world) => Ok(false),
            None => Err(self.instances[place].log()),
        })
    }

    /// An operator runs the command of the halt, and the partition goes on.
    fn mend(&mut self, command: &[&str]) {
        assert_eq!(self.world.guard_off, "", "only a guard halts");
        self.end();
        until("the group has no members", Duration::from_secs(10), || {
            let output = self.world.run(command);
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
        });
        self.start("mended", "");
    }

    /// The proxy keeps the first `Produce` of an instance, and reports the end of that transaction.
    fn hold_produce(&self, place: usize) -> (Receiver<Held>, Receiver<()>) {
        let ((hold, held), (end, ended)) = (channel(), channel());
        let (producers, mut client) = (self.producers_of(place), None);
        self.proxy.as_ref().unwrap().rule(move |request, line| {
            if client.is_none() && request.api == ApiKey::Produce && request.client.starts_with(&producers) {
                client = Some(request.client.clone());
                let _ = hold.send(line.hold(request)); // the test may have failed
                return Action::Drop;
            }
            if request.api == ApiKey::EndTxn && client.as_ref() == Some(&request.client) {
                let _ = end.send(());
            }
            Action::Forward(request)
        });
        (held, ended)
    }
}

fn wait<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(Duration::from_secs(30)).expect("the proxy meets what the test waits for")
}

/// Plays the scene with all guards, in the long run without each of several, and without all of `guards`.
fn bites(
    name: &'static str,
    guards: &[&'static str],
    raise: impl Fn(&'static str, u64) -> Option<Stage>,
    play: impl Fn(&mut Stage) -> Result<(), String>,
) {
    let seed = Random::seed("TIDEGATE_GUARDS_SEED");
    let mut proof = Proof::new("guard", seed);
    for cell in proof.plan(&[guards.join(" and ")]) {
        let Some(mut stage) = raise(name, seed) else { return };
        say(&format!("{name}: TIDEGATE_GUARDS_SEED={seed}"));
        if !proof.begin(&cell) {
            return;
        }
        let alone = if proof.is_kept() && guards.len() > 1 { guards } else { &[] };
        for off in [""].iter().chain(alone) {
            stage.world.guard_off = (*off).into();
            let verdict = play(&mut stage);
            assert_eq!(verdict, Ok(()), "without {off:?}");
            stage.world.note(&format!("without {off:?}: clean"));
            stage.end();
        }
        stage.world.guard_off = guards.join(",");
        let found = (1..=TRIES_MAX).find_map(|number| {
            let finding = play(&mut stage).err();
            stage.end();
            Some((number, finding?))
        });
        let (tries, finding) = found.unwrap_or_else(|| panic!("without {cell}: nothing was found"));
        let finding = finding.lines().next().unwrap();
        stage.world.note(&format!("without {cell}: try {tries}: {finding}"));
        let (by, finding) = finding.split_once(": ").unwrap();
        let facts =
            [("guard", cell.into()), ("caught_by", by.into()), ("finding", finding.into()), ("tries", tries.into())];
        proof.end(&facts);
    }
    proof.clean();
}

/// A process is stopped with a batch in hand, and goes on when its successor has done the same records.
#[test]
fn the_epoch_and_the_offset_keep_a_zombies_batch_out() {
    bites(
        "zombie",
        &["epoch", "offset"],
        |name, seed| Stage::new(name, seed, &[]),
        |stage| {
            let zombie = stage.start("zombie", "K1=pause@1");
            stage.wait_owners(&[zombie]);
            stage.feed.send(300, Duration::ZERO);
            stage.instances[zombie].wait_paused(Duration::from_secs(20));
            let successor = stage.start("successor", "");
            stage.wait_owners(&[successor]);
            stage.world.wait_taken(stage.feed.sent, STALL);
            stage.instances[zombie].signal("CONT");
            stage.wait_owners(&[zombie, successor]);
            stage.verdict()
        },
    );
}

const BACKUP: &str = "DROP SCHEMA IF EXISTS backup CASCADE; CREATE SCHEMA backup;
    CREATE TABLE backup.accounts AS TABLE accounts; CREATE TABLE backup.position AS TABLE tidegate.position;
    CREATE TABLE backup.outbox AS TABLE tidegate.outbox";
const RESTORE: &str = "TRUNCATE accounts, tidegate.position, tidegate.outbox;
    INSERT INTO accounts TABLE backup.accounts; INSERT INTO tidegate.position TABLE backup.position;
    INSERT INTO tidegate.outbox TABLE backup.outbox";

/// The database fails over to a replica that lags, under a process that goes on.
#[test]
fn the_offset_notices_a_database_that_went_back() {
    bites(
        "restored",
        &["offset"],
        |name, seed| Stage::new(name, seed, &[]),
        |stage| {
            let only = stage.start("only", "");
            stage.wait_owners(&[only]);
            stage.feed.send(300, Duration::ZERO);
            stage.verdict()?;
            stage.world.sql(BACKUP);
            stage.feed.send(300, Duration::ZERO);
            stage.verdict()?;
            stage.world.sql(RESTORE);
            stage.feed.send(1_000, Duration::ZERO); // so that every position meets it
            let sent = stage.feed.sent;
            if stage.is_halted(only, |world| world.taken() >= sent) {
                stage.instances[only].terminate(STALL); // a repair needs a group without members
                stage.mend(&["replay", "--suppress-output", "readings", "corrections", "--yes"]);
            }
            stage.verdict()
        },
    );
}

/// A process dies, and its commit is still on the way while its successor takes over.
#[test]
fn the_stable_read_waits_for_a_commit_that_is_on_its_way() {
    bites("pending", &["stable-k"], Stage::proxied, |stage| {
        let places = [stage.start("one", ""), stage.start("other", "")];
        stage.wait_owners(&places);
        let (hold, held) = channel();
        let (mut with_messages, mut dying) = (None, None::<String>);
        stage.proxy.as_ref().unwrap().rule(move |request: Request, line: &Line| {
            if dying.as_ref().is_some_and(|dying| request.client.starts_with(dying)) {
                return Action::Drop;
            }
            if dying.is_none() && request.api == ApiKey::Produce {
                with_messages = Some(request.client.clone());
            }
            let is_commit = request.api == ApiKey::EndTxn && request.body::<EndTxnRequest>().committed;
            if dying.is_none() && is_commit && with_messages.as_ref() == Some(&request.client) {
                let words: Vec<&str> = request.client.split_inclusive('-').collect();
                dying = Some(words[..2].concat());
                let _ = hold.send(line.hold(request)); // the test may have failed
                return Action::Cut;
            }
            Action::Forward(request)
        });
        stage.feed.send(300, Duration::ZERO);
        let held = wait(&held);
        let is_its = |place: &usize| held.request.client.starts_with(&stage.producers_of(*place));
        let (dying, other) = if is_its(&places[0]) { (places[0], places[1]) } else { (places[1], places[0]) };
        let before = stage.count(other, "assigned generation");
        stage.instances[dying].kill();
        stage.wait_more(other, "assigned generation", before);
        stage.publishes_rest(other);
        assert_eq!(held.release::<EndTxnResponse>().error_code, 0, "the transaction is open");
        stage.proxy.as_ref().unwrap().open();
        stage.verdict()
    });
}

/// A process is stopped with messages on their way to the broker, and goes on when its successor has published the same
/// ones and the group has taken it in again. `is_claim_late`: the successor's claim waits until then for a lock of
/// another session.
fn rejoined_zombie(stage: &mut Stage, is_claim_late: bool) -> Result<(), String> {
    let zombie = stage.start("zombie", "");
    stage.wait_owners(&[zombie]);
    let successor = stage.start("successor", "");
    stage.wait_owners(&[zombie, successor]);
    let (held, ended) = stage.hold_produce(zombie);
    stage.feed.send(300, Duration::ZERO);
    let held = wait(&held);
    stage.instances[zombie].signal("STOP");
    let lock = is_claim_late.then(|| {
        let rows = format!("SELECT FROM tidegate.position WHERE owner LIKE '%{}%' FOR UPDATE", stage.mark(zombie));
        Session::begin(&stage.world.postgres.url, &rows)
    });
    if is_claim_late {
        stage.wait_blocked(1);
    } else {
        stage.wait_owners(&[successor]);
        stage.publishes_rest(successor);
    }
    let before = stage.count(zombie, "assigned generation");
    stage.instances[zombie].signal("CONT");
    stage.wait_more(zombie, "assigned generation", before);
    assert!(held.deliver());
    wait(&ended);
    std::thread::sleep(Duration::from_millis(500)); // until it has ended
    lock.into_iter().for_each(Session::rollback);
    stage.proxy.as_ref().unwrap().open();
    stage.wait_owners(&[zombie, successor]);
    stage.verdict()
}

#[test]
fn the_captured_metadata_keep_a_member_from_committing_what_it_decided_in_an_earlier_life() {
    bites("rejoined", &["captured-metadata"], Stage::proxied, |stage| rejoined_zombie(stage, false));
}

#[test]
fn a_claim_in_front_of_the_reading_of_k_leaves_no_room_for_a_commit_between_them() {
    bites("claimed", &["claim-first", "captured-metadata"], Stage::proxied, |stage| rejoined_zombie(stage, true));
}

/// Partitions move while their messages are on their way to the broker.
#[test]
fn a_revoke_that_waits_leaves_nothing_to_be_published_by_two() {
    bites("revoked", &["revoke-waits", "captured-metadata"], Stage::proxied, |stage| {
        let old = stage.start("old", "");
        stage.wait_owners(&[old]);
        let (held, ended) = stage.hold_produce(old);
        stage.feed.send(300, Duration::ZERO);
        let held = wait(&held);
        let new = stage.start("new", "");
        stage.wait_more(old, "revoked tasks", 0);
        stage.publishes_rest(new);
        assert!(held.deliver());
        wait(&ended);
        stage.proxy.as_ref().unwrap().open();
        stage.wait_owners(&[old, new]);
        stage.verdict()
    });
}

/// A process dies between its two commits, and nobody comes for longer than the outbox is kept.
#[test]
fn the_outbox_is_kept_until_it_is_known_to_be_published() {
    bites(
        "aged",
        &["verified-k"],
        |name, seed| Stage::new(name, seed, &[]),
        |stage| {
            let first = stage.start("first", "K5=kill@1");
            stage.wait_owners(&[first]);
            stage.feed.send(300, Duration::ZERO);
            stage.instances[first].wait_killed(Duration::from_secs(20));
            stage.world.sql(
                "CREATE TABLE IF NOT EXISTS tidegate.outbox_aged PARTITION OF tidegate.outbox
                 FOR VALUES FROM (now() - interval '30 hours') TO (now() - interval '26 hours');
             UPDATE tidegate.outbox SET created_at = created_at - interval '28 hours'
                 WHERE created_at > now() - interval '26 hours'",
            );
            stage.start("second", "");
            stage.verdict()
        },
    );
}

/// A COMMIT waits for a standby that is not there, for longer than its client waits for the answer.
#[test]
fn a_position_is_read_under_its_lock_after_a_commit_without_an_answer() {
    let settings = [("DATABASE__STATEMENT_TIMEOUT_MS", "1000"), ("DATABASE__LOCK_TIMEOUT_MS", "500")];
    bites(
        "unanswered",
        &["settle-lock", "offset"],
        |name, seed| Stage::new(name, seed, &settings),
        |stage| {
            let only = stage.start("only", "");
            stage.wait_owners(&[only]);
            stage.world.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
            stage.world.sql("SELECT pg_reload_conf()");
            stage.feed.send(300, Duration::ZERO);
            stage.wait_blocked(1);
            stage.world.sql("ALTER SYSTEM RESET synchronous_standby_names");
            stage.world.sql("SELECT pg_reload_conf()");
            stage.verdict()
        },
    );
}

/// Two partitions change one row, the second one while the first one's transaction is open. Their notices have no order
/// between them but for the version that each bears; so the second one publishes when the first one has.
#[test]
fn a_row_is_locked_before_it_is_read() {
    bites(
        "locked",
        &["row-lock"],
        |name, seed| Stage::new(name, seed, &[]),
        |stage| {
            let holder = stage.start("holder", "K3=pause@1");
            stage.wait_owners(&[holder]);
            let waiter = stage.start("waiter", "K5=pause@1");
            stage.wait_owners(&[holder, waiter]);
            let told_before = stage.world.messages("large-changes").len();
            stage.put("readings", stage.partition_of(holder), 7, "40");
            stage.feed.flush();
            stage.instances[holder].wait_paused(Duration::from_secs(20));
            stage.put("readings", stage.partition_of(waiter), 7, "-40");
            stage.feed.flush();
            stage.wait_blocked(1);
            stage.instances[holder].signal("CONT");
            // Without the guard it may never come that far.
            if in_time(Duration::from_secs(5), || stage.instances[waiter].is_paused()).is_ok() {
                let _ = in_time(Duration::from_secs(2), || {
                    let told = stage.world.messages("large-changes").len();
                    if told > told_before { Ok(()) } else { Err(String::new()) }
                });
                stage.instances[waiter].signal("CONT");
            }
            stage.verdict()
        },
    );
}

/// Two workers want the same hundred rows, and another session holds one of them, so that both wait in the midst of
/// their locking. The result depends on who is first, so only the audit judges it.
#[test]
fn rows_are_locked_in_one_order() {
    bites(
        "sorted",
        &["sorted-locks"],
        |name, seed| Stage::new(name, seed, &[("ENGINE__WORKERS", "2")]),
        |stage| {
            let ask = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
            let before = stage.world.number(ask);
            let only = stage.start("only", "");
            stage.wait_owners(&[only]);
            for _ in 0..5 {
                let row = "SELECT FROM accounts WHERE id = 50 FOR UPDATE";
                let lock = Session::begin(&stage.world.postgres.url, row);
                for number in 1..=100 {
                    // Both workers get records, whether they share the partitions out by halves or alternately.
                    for partition in [number % PARTITIONS, (number + 7) % PARTITIONS] {
                        stage.put("readings", partition, number.into(), &number.to_string());
                    }
                }
                stage.feed.flush();
                stage.wait_blocked(2);
                lock.rollback();
                stage.world.wait_taken(stage.feed.sent, STALL);
            }
            in_time(STALL, || match stage.world.clean_audit() {
                Ok(audit) if !audit.behind().is_empty() => Err(format!("a stall: {:?}", audit.behind())),
                audit => Ok(audit.map(drop)),
            })??;
            std::thread::sleep(Duration::from_secs(1)); // sessions report what they have met once a second
            let deadlocks = stage.world.number(ask) - before;
            if deadlocks == 0 { Ok(()) } else { Err(format!("a deadlock: {deadlocks} of them")) }
        },
    );
}

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// Somebody sets the group back by hand, to where the numbers alone would allow it.
#[test]
fn the_metadata_tell_that_somebody_else_has_moved_the_group() {
    bites(
        "foreign",
        &["metadata-tag"],
        |name, seed| Stage::new(name, seed, &[]),
        |stage| {
            let before = stage.start("before", "");
            stage.wait_owners(&[before]);
            stage.feed.send(600, Duration::ZERO);
            stage.verdict()?;
            stage.end();
            let row = &stage.world.sql(
                "SELECT partition, published FROM tidegate.position AS p WHERE topic = 'readings' AND EXISTS (
                 SELECT FROM tidegate.outbox AS o WHERE o.topic = p.topic AND o.partition = p.partition
                 AND source_offset >= published AND source_offset < next_offset) LIMIT 1",
            )[0];
            let (partition, published): (i32, i64) =
                (row.try_get_unchecked(0).unwrap(), row.try_get_unchecked(1).unwrap());
            let (topic, to) = (format!("readings:{partition}"), published.to_string());
            let reset = ["--group", "scoring", "--reset-offsets", "--topic", &topic, "--to-offset", &to, "--execute"];
            stage.world.kafka.tool(GROUPS, &reset);
            let after = stage.start("after", "");
            if stage.is_halted(after, |_| true) {
                stage.mend(&["adopt", "--from-database", &format!("readings-{partition}"), "--yes"]);
            }
            stage.verdict()
        },
    );
}

/// A process is stopped just before its claim, and makes it when the group has long given the partition back.
#[test]
fn a_claim_of_an_earlier_generation_does_not_stall_the_rightful_owner() {
    bites("stale", &["generation", "reclaim"], Stage::proxied, |stage| {
        let rightful = stage.start("rightful", "");
        stage.wait_owners(&[rightful]);
        let stale = stage.start("stale", "K14=pause@1,K14=kill@2");
        stage.instances[stale].wait_paused(Duration::from_secs(20));
        stage.feed.send(300, Duration::ZERO);
        stage.world.wait_taken(stage.feed.sent, STALL);
        // It dies before the group can take it in and share the partitions out again, which would mend it.
        let is_join = |request: &Request| request.api == ApiKey::JoinGroup;
        let no_joins =
            move |request: Request, _: &Line| if is_join(&request) { Action::Drop } else { Action::Forward(request) };
        stage.proxy.as_ref().unwrap().rule(no_joins);
        stage.instances[stale].signal("CONT");
        stage.instances[stale].wait_killed(Duration::from_secs(20));
        stage.proxy.as_ref().unwrap().open();
        stage.feed.send(300, Duration::ZERO);
        stage.verdict()
    });
}
