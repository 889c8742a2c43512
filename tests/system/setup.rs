//! A set-up that cannot work ends at once, with one message that names the fix, and nothing has been written.

use crate::rig::{World, accounts, say};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{KafkaAdmin, TopicSpec};
use tidegate::flow::record::TopicName;

/// Well within the patience of an operator who deploys it.
const WITHIN: Duration = Duration::from_secs(15);

/// One wrong set-up after the other; all failures come in one message.
pub struct Cases<'a> {
    world: &'a World,
    failures: Vec<String>,
}

impl<'a> Cases<'a> {
    pub fn new(world: &'a World) -> Self {
        Self { world, failures: Vec::new() }
    }

    /// Runs `tidegate run` with more environment and arguments. It must end with `code` and say all of `words`.
    pub fn expect(&mut self, name: &str, settings: &[(&str, &str)], arguments: &[&str], code: i32, words: &[&str]) {
        let mut all = arguments.to_vec();
        all.push("run");
        self.expect_of(name, settings, &all, code, words);
    }

    /// The same of any command.
    fn expect_of(&mut self, name: &str, settings: &[(&str, &str)], all: &[&str], code: i32, words: &[&str]) {
        let began = Instant::now();
        let mut command = self.world.command("timeout", &["-s", "KILL", "30"], all);
        let output = command.envs(settings.iter().copied()).output().unwrap();
        let (took, message) = (began.elapsed(), String::from_utf8_lossy(&output.stderr).trim().to_owned());
        say(&format!(
            "setup: {name}: {:.1} s, exit {:?}\n    {}",
            took.as_secs_f64(),
            output.status.code(),
            message.replace('\n', "\n    ")
        ));
        let missing: Vec<&&str> = words.iter().filter(|word| !message.contains(**word)).collect();
        let mut wrong = Vec::new();
        if output.status.code() != Some(code) {
            wrong.push(format!("exit {code} expected, {} found", output.status));
        }
        if !missing.is_empty() {
            wrong.push(format!("not said: {missing:?}"));
        }
        if took > WITHIN {
            wrong.push(format!("took {took:?}"));
        }
        if message.lines().count() > 6 || message.contains("panicked") || message.contains(" INFO ") {
            wrong.push("not one clear message".into());
        }
        if !output.stdout.is_empty() {
            wrong.push("says on standard output that it runs".into());
        }
        if !wrong.is_empty() {
            self.failures.push(format!("{name}: {}\n{message}", wrong.join("; ")));
        }
    }

    /// Fails with everything that was wrong.
    pub fn judge(&self) {
        let failures = &self.failures;
        assert!(failures.is_empty(), "{} of the set-ups:\n\n{}", failures.len(), failures.join("\n\n"));
    }

    /// Runs [`Cases::expect`] with a database of its own, prepared by `sql`.
    fn database(&mut self, name: &str, migrate: bool, sql: &str, code: i32, words: &[&str]) {
        let database = format!("case_{}", name.replace(' ', "_"));
        self.world.sql(&format!("CREATE DATABASE {database}"));
        let url = self.world.postgres.url.rsplit_once('/').unwrap().0.to_owned() + "/" + &database;
        let settings = [("TIDEGATE_DATABASE__URL", url.as_str())];
        if migrate {
            let output = self.world.command("timeout", &["30"], &["migrate"]).envs(settings).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        crate::rig::sql(&url, sql);
        self.expect(name, &settings, &[], code, words);
        if migrate {
            let written = "SELECT (SELECT count(*) FROM tidegate.position) + (SELECT count(*) FROM tidegate.slot) + \
                           (SELECT count(*) FROM tidegate.baseline)";
            if crate::rig::number(&url, written) != 0 {
                self.failures.push(format!("{name}: something was written to the database"));
            }
        } else if crate::rig::number(&url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tidegate'") != 0 {
            self.failures.push(format!("{name}: a schema was made"));
        }
    }
}

#[test]
fn a_wrong_set_up_is_one_message_with_the_fix_and_writes_nothing() {
    let Some(world) = World::bare("setup") else { return };
    let mut cases = Cases::new(&world);

    let file = world.folder().join("wrong.yaml");
    std::fs::write(&file, "engine:\n  wrokers: 4\n").unwrap();
    let config = ["--config", file.to_str().unwrap()];
    cases.expect(
        "unknown key",
        &[],
        &config,
        78,
        &["engine.wrokers", "unknown key", "did you mean engine.workers?", "wrong.yaml"],
    );
    let owned = ["--set", "kafka.properties.enable.auto.commit=true"];
    cases.expect(
        "property of the engine",
        &[],
        &owned,
        78,
        &["enable.auto.commit", "belongs to the engine", "remove it"],
    );
    let nobody = [("TIDEGATE_DATABASE__URL", "postgres://tidegate@127.0.0.1:1/tidegate")];
    cases.expect(
        "database unreachable",
        &nobody,
        &[],
        1,
        &["is PostgreSQL running", "database.url", "TIDEGATE_DATABASE__URL"],
    );

    // The database is looked at first, so that these need no topics.
    let good = accounts(10);
    cases.database("not migrated", false, &good, 1, &["lacks", "0001_position", "tidegate migrate"]);
    for command in
        [&["audit"][..], &["halted"], &["adopt", "readings-0", "--from-group"], &["reset", "readings-0", "--to", "0"]]
    {
        let words = ["schema \"tidegate\" lacks 0001_position", "run `tidegate migrate` as its owner"];
        cases.expect_of(&format!("{} before migrate", command[0]), &[], command, 1, &words);
    }
    cases.database("missing table", true, "SELECT 1", 1, &["accounts", "does not exist"]);
    cases.database(
        "missing column",
        true,
        &good.replace("score double precision NOT NULL, ", "").replace("id, 0, 0", "id, 0"),
        1,
        &["accounts", "score"],
    );
    cases.database(
        "wrong type",
        true,
        &good.replace("double precision", "text"),
        1,
        &["accounts", "score", "text", "double precision"],
    );
    cases.database(
        "nullable column",
        true,
        &good.replace("precision NOT NULL", "precision"),
        1,
        &["accounts", "score", "null"],
    );
    let read_only = format!(
        "{good}; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$"
    );
    cases.database("read only", true, &read_only, 1, &["not this server", "read-only", "lead to the primary"]);

    world.ok(&["migrate"]);
    world.sql(&good);
    let nobody = [("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")];
    cases.expect(
        "broker unreachable",
        &nobody,
        &[],
        1,
        &["no answer from 127.0.0.1:1", "is it running", "kafka.bootstrap_servers"],
    );
    cases.expect(
        "no topics",
        &[],
        &[],
        78,
        &["topic readings does not exist", "topic large-changes does not exist", "tidegate topics apply"],
    );
    let admin = KafkaAdmin::connect(&world.kafka_settings()).unwrap();
    let name = |name: &str| TopicName::parse(name).unwrap();
    admin
        .create(&[TopicSpec { name: name("corrections"), partitions: 6, replicas: 1, config: BTreeMap::new() }])
        .unwrap();
    admin
        .create(&[TopicSpec { name: name("readings-dlt"), partitions: 3, replicas: 1, config: BTreeMap::new() }])
        .unwrap();
    world.run(&["topics", "apply", "--env", "dev", "--yes"]); // makes the others
    let words = ["readings", "corrections", "equal partition counts", "12 and 6", "readings-dlt has 3 partitions"];
    cases.expect("unequal partition counts", &[], &[], 78, &words);

    let groups = world.kafka.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &["--list"]);
    assert_eq!(groups.trim(), "", "no group was joined");
    assert_eq!(
        world.number("SELECT (SELECT count(*) FROM tidegate.position) + (SELECT count(*) FROM tidegate.slot)"),
        0
    );
    cases.judge();
}
