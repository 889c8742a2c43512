//! A set-up that cannot work ends at once, with one message that names the fix, and nothing has been written.

mod databases;
mod servers;

use crate::rig::{World, accounts, number, say, sql, tidegate, until};
use crate::wrong::row::{Database, Row};
use crate::wrong::{Alone, Ground, failures, without_servers};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tidegate::adapters::kafka::{KafkaAdmin, TopicSpec};
use tidegate::flow::record::TopicName;

/// A world whose servers the rows are tried on.
pub struct Servers<'a> {
    world: &'a World,
    folder: PathBuf,
    /// What rows may name of the broker's further listeners.
    listeners: Vec<(&'static str, String)>,
}

impl<'a> Servers<'a> {
    pub fn new(world: &'a World) -> Self {
        let folder = world.folder().join("state-of-rows"); // which goes with the world
        Self { world, folder, listeners: Vec::new() }
    }

    /// Host and port of the database server.
    fn server(&self) -> &str {
        let (_, place) = self.world.postgres.url.rsplit_once('@').unwrap();
        place.split('/').next().unwrap()
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://tidegate@{}/{database}", self.server())
    }
}

fn name_of_database(row: &Row) -> String {
    format!("case_{}", row.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

impl Ground for Servers<'_> {
    fn command(&self, arguments: &[String]) -> Command {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.world.command("timeout", &["-s", "KILL", "30"], &arguments)
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn prepare(&self, row: &Row) -> Vec<(&'static str, String)> {
        let mut places = vec![("{kafka}", self.world.kafka.bootstrap.clone()), ("{server}", self.server().to_owned())];
        places.push(("{program}", tidegate().display().to_string()));
        places.extend(self.listeners.iter().cloned());
        if let Some(Database { is_migrated, sql: text }) = row.database {
            let name = name_of_database(row);
            let template = if is_migrated { "migrated" } else { "template0" };
            self.world.sql(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
            sql(&self.url_of(&name), text);
            places.push(("{database}", name));
        }
        places
    }

    fn left_behind(&self, row: &Row) -> Option<String> {
        let url = self.url_of(&name_of_database(row));
        let (question, words) = if row.database?.is_migrated {
            let written = "SELECT (SELECT count(*) FROM tidegate.position) + (SELECT count(*) FROM tidegate.slot) + \
                           (SELECT count(*) FROM tidegate.baseline)";
            (written, "something was written to the database")
        } else {
            ("SELECT count(*) FROM pg_namespace WHERE nspname = 'tidegate'", "a schema was made")
        };
        (number(&url, question) != 0).then(|| words.to_owned())
    }
}

/// Roles that may less than the server's own user, and a database with Tidegate's tables to copy.
fn prepare_roles(world: &World, ground: &Servers) {
    let rules = world.folder().join("postgres/data/pg_hba.conf");
    let text = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all teller 127.0.0.1/32 scram-sha-256\n{text}")).unwrap();
    for statement in [
        "CREATE ROLE keeper LOGIN",
        "CREATE ROLE app LOGIN",
        "GRANT keeper TO app",
        "CREATE ROLE teller LOGIN PASSWORD 'right'",
        "CREATE DATABASE migrated OWNER keeper",
        "SELECT pg_reload_conf()",
    ] {
        world.sql(statement);
    }
    let url = ground.url_of("migrated").replace("//tidegate@", "//keeper@");
    let output = world.command("timeout", &["30"], &["migrate"]).env("TIDEGATE_DATABASE__URL", url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_wrong_set_up_is_told_in_its_words_with_its_exit_code_and_writes_nothing() {
    let bounds = "group.max.session.timeout.ms=60000";
    let kafka = [("KAFKA_SECURED", "1"), ("KAFKA_ENCRYPTED", "1"), ("KAFKA_ASTRAY", "1"), ("KAFKA_MORE", bounds)];
    let Some(world) = World::with_kafka("setup", &kafka) else { return };
    let listeners = vec![
        ("{secured}", world.kafka.secured()),
        ("{encrypted}", world.kafka.encrypted()),
        ("{astray}", world.kafka.astray()),
        ("{ca}", world.kafka.authority("ca")),
        ("{other-ca}", world.kafka.authority("other-ca")),
    ];
    let ground = Servers { listeners, ..Servers::new(&world) };
    prepare_roles(&world, &ground);
    let (began, alone) = (Instant::now(), Alone { binary: tidegate(), folder: ground.folder.clone() });
    let mut ran = without_servers();
    let mut found = failures(&alone, &ran);
    let mut run = |rows: &[Row]| {
        ran.extend(rows);
        found.extend(failures(&ground, rows));
    };
    run(databases::ROWS);

    world.ok(&["migrate"]);
    world.sql(&accounts(10));
    run(servers::WITHOUT_TOPICS);

    let admin = KafkaAdmin::connect(&world.kafka_settings()).unwrap();
    let name = |name: &str| TopicName::parse(name).unwrap();
    let spec = |topic, partitions| TopicSpec { name: name(topic), partitions, replicas: 1, config: BTreeMap::new() };
    world.ok(&["topics", "apply", "--env", "dev", "--yes"]);
    let wrong = [spec("corrections", 6), spec("readings-dlt", 3)];
    admin.delete(&wrong.clone().map(|topic| topic.name)).unwrap();
    admin.create(&wrong).unwrap();
    for topic in &wrong {
        until("the topic is there", Duration::from_secs(30), || match admin.current(&topic.name) {
            Ok(Some(found)) if found.partitions == topic.partitions => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }
    run(servers::WITH_WRONG_TOPICS);

    let groups = world.kafka.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &["--list"]);
    assert_eq!(groups.trim(), "", "no group was joined");
    let written = "SELECT (SELECT count(*) FROM tidegate.position) + (SELECT count(*) FROM tidegate.slot)";
    assert_eq!(world.number(written), 0);

    world.ok(&["topics", "apply", "--env", "dev", "--allow-repartition", "--yes"]);
    run(servers::WITH_TOPICS);
    let count = ran.len();
    assert!(found.is_empty(), "{} of {count} set-ups:\n\n{}", found.len(), found.join("\n\n"));
    say(&format!("{count} wrong set-ups, each told in its words, in {:.0} s", began.elapsed().as_secs_f64()));
    assert!(count >= 60);
    assert!(ran.iter().filter(|row| row.said.findings() >= 3).count() >= 3, "all findings at once");
}
