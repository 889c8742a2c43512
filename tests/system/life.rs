//! The life of a process: its start, the lines that it writes, the signals that end it.

use crate::rig::{Feed, Instance, Session, World, until, worst_line};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const IDS: i64 = 100;

/// The address of the page of the process that was started last.
fn page(instance: &Instance) -> Result<String, String> {
    let log = instance.log();
    let page = log.lines().rev().find_map(|line| line.trim().strip_prefix("page  http://"));
    page.map(str::to_owned).ok_or(log)
}

fn ask(address: &str, path: &str) -> String {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn started(world: &World, name: &str) -> (Instance, String) {
    let before = world.folder().join(format!("{name}.log"));
    let pages = |text: &str| text.matches("page  http://").count();
    let seen = pages(&std::fs::read_to_string(&before).unwrap_or_default());
    let instance = world.instance(name);
    let address = until("the page is there", Duration::from_secs(30), || {
        if pages(&instance.log()) > seen { page(&instance) } else { Err(instance.log()) }
    });
    (instance, address)
}

/// Each worker has two producers, and the limits of topics are asked for: a start takes its time, and a signal may come anywhere in it.
#[test]
fn a_start_with_many_workers_ends_by_a_signal_wherever_it_has_come_to() {
    let Some(mut world) = World::new("many-workers", IDS) else { return };
    world.settings.push(("TIDEGATE_ENGINE__WORKERS".into(), "64".into()));
    for seconds in [1, 4, 8, 12] {
        let mut instance = world.instance("only");
        std::thread::sleep(Duration::from_secs(seconds));
        instance.signal("TERM");
        instance.end(Duration::from_secs(15));
    }
}

/// Somebody always looks at the page, so that its thread is busy with what the service owns.
#[test]
fn a_service_that_is_stopped_many_times_writes_no_panic() {
    let Some(world) = World::new("stops", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 31);
    let mut answered = 0;
    for number in 0..12_u64 {
        let (mut instance, address) = started(&world, "only");
        let mut events = TcpStream::connect(&address).unwrap();
        write!(events, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        feed.send(100, Duration::ZERO);
        std::thread::sleep(Duration::from_millis(number * 200));
        let stopping = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut answered = 0;
                for path in ["/status", "/readyz", "/stores", "/"].into_iter().cycle().take(400) {
                    let Ok(mut stream) = TcpStream::connect(&address) else { break };
                    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
                    let mut answer = Vec::new();
                    let _ = stream.read_to_end(&mut answer);
                    answered += usize::from(answer.starts_with(b"HTTP/1.1 200"));
                }
                answered
            });
            let (status, _) = instance.terminate(Duration::from_secs(15));
            answered += asking.join().unwrap();
            status
        });
        assert!(stopping.success(), "{}", instance.log());
    }
    assert!(answered >= 12, "the page gave {answered} answers");
    let log = std::fs::read_to_string(world.folder().join("only.log")).unwrap();
    for words in ["panicked", "ERROR", "Cannot drop", "RUST_BACKTRACE"] {
        let found: Vec<&str> = log.lines().filter(|line| line.contains(words)).collect();
        assert_eq!(found, Vec::<&str>::new(), "{words}");
    }
    let _instance = world.instance("after");
    world.judge(&feed, Duration::from_secs(30));
}

#[test]
fn thousands_of_dead_letters_make_a_few_lines_and_no_line_comes_often() {
    let Some(world) = World::new("letters", IDS) else { return };
    let (mut instance, address) = started(&world, "only");
    instance.wait_log("all 12 partitions of this instance run", Duration::from_secs(30));
    assert!(instance.log().contains("partitions=\"readings 0-11\""), "{}", instance.log());
    let mut feed = Feed::new(&world, IDS, 32);
    let bad = |feed: &mut Feed, count: i32| {
        for number in 0..count {
            let number = 1 + number % 100;
            feed.raw("readings", None, Some(number.to_string().as_bytes()), Some(b"\0\0\0\0*{\"value\": 1.0}"));
        }
        feed.flush();
    };
    bad(&mut feed, 1);
    instance.wait_log("records became dead letters, in readings-dlt", Duration::from_secs(10));
    bad(&mut feed, 3_000);
    until("all are counted", Duration::from_secs(60), || {
        let answer = ask(&address, "/status");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let status: serde_json::Value = serde_json::from_str(body).unwrap();
        let codes = &status["dead_letter_codes"];
        let is_all = codes[0]["count"] == 3_001 && codes[0]["source"] == "readings" && codes[0]["code"] == "bad-json";
        if is_all { Ok(()) } else { Err(codes.to_string()) }
    });
    assert!(ask(&address, "/readyz").contains(" 200 "));
    assert!(instance.terminate(Duration::from_secs(15)).0.success());
    let log = instance.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("records became dead letters")).collect();
    assert!((2..=4).contains(&lines.len()), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("WARN") && line.contains("code=\"bad-json\"")), "{lines:?}");
    let new = |line: &&str| line.split_once(" new=").unwrap().1.split(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(lines.iter().map(new).sum::<u64>(), 3_001, "{lines:?}");
    assert_eq!(log.matches("all 12 partitions of this instance run").count(), 1);
    let single = log.lines().find(|line| line.contains("partition taken over") && !line.contains("DEBUG"));
    assert_eq!(single, None, "an assignment is one line; one for each partition is for those who search");
    assert!(!log.contains("TaskId") && !log.contains("panicked"), "{log}");
    let (line, count) = worst_line(&log);
    assert!(count <= 20, "{count} times in a minute: {line}");
}

#[test]
fn the_slot_outlives_a_drain_and_a_second_ctrl_c_ends_it_at_once() {
    let Some(world) = World::new("drain", IDS) else { return };
    let (mut instance, _) = started(&world, "only");
    instance.wait_log("all 12 partitions of this instance run", Duration::from_secs(30));
    let leases = || world.number("SELECT count(*) FROM tidegate.slot WHERE expires_at > clock_timestamp()");
    assert_eq!(leases(), 1);
    let mut feed = Feed::new(&world, IDS, 33);
    std::thread::scope(|scope| {
        let hold = "BEGIN; LOCK TABLE tidegate.position IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(8); COMMIT";
        scope.spawn(|| world.sql(hold));
        std::thread::sleep(Duration::from_millis(500));
        feed.send(100, Duration::ZERO);
        std::thread::sleep(Duration::from_millis(500)); // its batch waits for the lock
        instance.signal("INT");
        instance.wait_log("stopping: no more input", Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(1_500));
        assert!(instance.is_running(), "{}", instance.log());
        assert_eq!(leases(), 1, "its producers may still send under the slot's names");
        instance.signal("INT");
        assert_eq!(instance.end(Duration::from_secs(1)).code(), Some(130));
    });

    // Nothing is left of a start that fails, and a closed terminal is a polite stop.
    world.sql("DELETE FROM tidegate.slot");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http.address={}", taken.local_addr().unwrap());
    let mut failing = world.instance_with("failing", &["--set", &at]);
    assert_eq!(failing.end(Duration::from_secs(30)).code(), Some(1), "{}", failing.log());
    assert_eq!(world.number("SELECT count(*) FROM tidegate.slot"), 0, "{}", failing.log());
    let (mut instance, _) = started(&world, "hung-up");
    instance.signal("HUP");
    assert!(instance.end(Duration::from_secs(15)).success(), "{}", instance.log());
    assert_eq!(world.number("SELECT count(*) FROM tidegate.slot"), 0);
}

/// A pipe that nobody reads from.
fn nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_goes_away_cuts_no_change_in_half_and_ends_no_service() {
    let Some(world) = World::bare("closed-pipe") else { return };
    let code = |arguments: &[&str]| {
        let mut command = world.command("timeout", &["-k", "1", "60"], arguments);
        command.stdin(Stdio::null()).stdout(nobody()).stderr(nobody()).status().unwrap().code()
    };
    assert_eq!(code(&["topics", "plan", "--env", "dev"]), Some(3));
    assert_eq!(code(&["topics", "apply", "--env", "dev", "--yes"]), Some(0));
    assert_eq!(code(&["topics", "plan", "--env", "dev"]), Some(0), "all of it was applied");
    assert_eq!(code(&["migrate"]), Some(0));
    world.sql(&crate::rig::accounts(IDS));

    let mut run = world.command("setpriv", &["--pdeathsig", "KILL"], &["run"]);
    let mut service = run.stdin(Stdio::null()).stdout(nobody()).stderr(nobody()).spawn().unwrap();
    world.wait_owners(1);
    let mut feed = Feed::new(&world, IDS, 34);
    feed.send(500, Duration::ZERO);
    world.judge(&feed, Duration::from_secs(30));
    assert_eq!(service.try_wait().unwrap(), None);
    let pid = service.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(service.wait().unwrap().code(), Some(0));

    // The offset that is to be repaired is in all partitions, and each is a line of output.
    assert_eq!(code(&["reset", "readings", "--to", "start", "--suppress-output", "--yes"]), Some(0));
    let moved = "SELECT count(*) FROM tidegate.position WHERE topic = 'readings' AND next_offset > 0";
    assert_eq!(world.number(moved), 0, "each partition was set back");
}

/// Servers that stand, die and come back, a row that somebody has locked, records that nobody can use: all of it in the log of one
/// process.
#[test]
fn troubles_of_a_minute_and_a_half_write_no_line_often_and_no_panic() {
    let Some(world) = World::new("lines", IDS) else { return };
    let (mut instance, _) = started(&world, "only");
    instance.wait_log("all 12 partitions of this instance run", Duration::from_secs(30));
    let mut feed = Feed::new(&world, IDS, 35);
    feed.during(|| {
        let pause = |seconds| std::thread::sleep(Duration::from_secs(seconds));
        world.kafka.act("pause", "1");
        pause(20);
        world.kafka.act("resume", "1");
        pause(5);
        world.postgres.kill();
        pause(15);
        world.postgres.restart();
        pause(5);
        world.sql("BEGIN; SELECT FROM accounts WHERE id = 7 FOR UPDATE; SELECT pg_sleep(20); COMMIT");
        world.kafka.kill("1");
        pause(10);
        world.kafka.restart("1");
        pause(10);
    });
    world.note(&format!("{} records sent", feed.sent));
    assert!(instance.is_running(), "{}", instance.log());
    let log = instance.log();
    assert!(!log.contains("panicked") && !log.contains("TaskId"), "{log}");
    let (line, count) = worst_line(&log);
    world.note(&format!("{count} times in a minute: {line}"));
    assert!(count <= 20, "{count} times in a minute: {line}");
}

/// The page is served before the producers ask their coordinator, who does not answer here.
#[test]
fn a_start_that_waits_for_the_brokers_ends_at_once_and_gives_its_slot_back() {
    let Some(world) = World::new("start", IDS) else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut instance = world.instance_with("only", &["--set", &format!("http.address={free}")]);
    for _ in 0..3_000 {
        if TcpStream::connect(free).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    world.kafka.act("pause", "1");
    std::thread::sleep(Duration::from_secs(2));
    assert!(instance.is_running() && page(&instance).is_err(), "{}", instance.log());
    assert_eq!(world.number("SELECT count(*) FROM tidegate.slot"), 1);
    instance.signal("TERM");
    assert_eq!(instance.end(Duration::from_secs(2)).code(), Some(143), "{}", instance.log());
    assert!(instance.log().contains("told to stop before the group was joined"), "{}", instance.log());
    assert_eq!(world.number("SELECT count(*) FROM tidegate.slot"), 0);
    world.kafka.act("resume", "1");
}

/// The base line of the audit sums whole tables, which takes long where they are large. Here its own table is locked instead.
#[test]
fn no_start_waits_for_the_base_line_and_it_is_noted_at_last() {
    let Some(world) = World::new("baseline", IDS) else { return };
    let mut feed = Feed::new(&world, IDS, 43);
    let lines = || world.number("SELECT count(*) FROM tidegate.baseline");
    let held = Session::begin(&world.postgres.url, "LOCK TABLE tidegate.baseline IN ACCESS EXCLUSIVE MODE");
    for _ in 0..2 {
        let (mut instance, address) = started(&world, "only");
        assert!(ask(&address, "/livez").contains(" 200 "));
        feed.send(200, Duration::ZERO);
        until("all is taken", Duration::from_secs(30), || match world.taken() {
            taken if taken < feed.sent => Err(format!("{taken} of {}", feed.sent)),
            _ => Ok(()),
        });
        instance.kill();
    }
    held.rollback();
    assert_eq!(lines(), 0);
    let _instance = world.instance("after");
    until("it is noted", Duration::from_secs(30), || if lines() == 1 { Ok(()) } else { Err("not yet".into()) });
    world.judge(&feed, Duration::from_secs(30));
}
