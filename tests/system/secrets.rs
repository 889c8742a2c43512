//! A password with every character that a URL cannot hold, on real servers: it opens the database in the spelling that the message
//! names, and no line of a run or a command holds a piece of it, while both servers come and go.

use crate::rig::{Feed, World};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// As PostgreSQL knows it, and as a URL spells it.
const PASSWORD: &str = "E4r1y#M1dd/L4te?\"5h0rt@:3nd";
const SPELLED: &str = "E4r1y%23M1dd%2FL4te%3F%225h0rt%40%3A3nd";
const PIECES: [&str; 5] = ["E4r1y", "M1dd", "L4te", "5h0rt", "3nd"];

fn assert_silent(what: &str, text: &str) {
    for piece in PIECES {
        let line = text.lines().find(|line| line.contains(piece));
        assert_eq!(line, None, "{what} tells {piece}");
    }
}

fn log_of(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned()
}

#[test]
fn no_line_of_a_run_holds_a_piece_of_a_password_and_its_spelling_opens_the_database() {
    let Some(world) = World::new("secrets", 100) else { return };
    let data = world.folder().join("postgres/data");
    let rules = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    std::fs::write(data.join("pg_hba.conf"), format!("host all teller 127.0.0.1/32 scram-sha-256\n{rules}")).unwrap();
    world.sql(&format!("CREATE ROLE teller SUPERUSER LOGIN PASSWORD '{PASSWORD}'"));
    world.sql("ALTER ROLE teller SET search_path = tidegate, public"); // the tables lie in the schema of tidegate's own user
    world.sql("SELECT pg_reload_conf()");
    let place = world.postgres.url.rsplit_once('@').unwrap().1.to_owned();
    let url = |password: &str| format!("postgres://teller:{password}@{place}?sslmode=prefer&sslpassword={SPELLED}");
    let with = |password: &str, arguments: &[&str]| {
        let mut command = world.command("timeout", &["-k", "20", "60"], arguments);
        let settings = [("TIDEGATE_DATABASE__URL", url(password).as_str()), ("TIDEGATE_LOG", "trace")]
            .map(|(name, value)| (name, value.to_owned()));
        command.envs(settings);
        command
    };
    let told = |password: &str, arguments: &[&str]| {
        let output = with(password, arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };

    let (code, text) = told(PASSWORD, &["config", "validate"]);
    let expected = "the password holds a character at which a URL ends it: in the password write %23 for #, %2F for /, \
                    %3F for ?, %40 for @";
    assert!(code == Some(78) && text.contains(expected), "{text}");
    assert_silent("the refusal", &text);
    let (code, text) = told(&SPELLED.replace("3nd", "5nd"), &["run"]);
    assert!(code == Some(1) && text.contains("password authentication failed"), "{text}");
    assert_silent("a wrong password", &text);

    let (mut feed, mut sent) = (Feed::new(&world, 100, 3), 0);
    for format in ["text", "json"] {
        let file = world.folder().join(format!("{format}.log"));
        let log = File::create(&file).unwrap();
        let mut command = with(SPELLED, &["--set", &format!("log.format={format}"), "run"]);
        let mut run = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        feed.send(200, Duration::ZERO);
        sent += 200;
        world.wait_taken(sent, Duration::from_secs(30));
        world.postgres.kill();
        std::thread::sleep(Duration::from_secs(2));
        world.postgres.restart();
        feed.send(200, Duration::ZERO);
        sent += 200;
        world.wait_taken(sent, Duration::from_secs(30));
        let stopped = std::process::Command::new("kill").arg(run.id().to_string()).status().unwrap();
        let ended = run.wait().unwrap();
        let tail: Vec<_> = log_of(&file).lines().rev().take(30).map(str::to_owned).collect();
        assert!(stopped.success() && ended.success(), "{ended}: the log ends with (backwards) {tail:#?}");
        let text = log_of(&file);
        assert!(text.lines().count() > 50, "{text}");
        assert_silent(&format!("the log as {format}"), &text);
    }
    for arguments in [vec!["audit"], vec!["halted"], vec!["config", "show"], vec!["migrate"]] {
        let (code, text) = told(SPELLED, &arguments);
        assert_eq!(code, Some(0), "{text}");
        assert_silent(arguments[0], &text);
    }
}
