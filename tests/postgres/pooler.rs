//! PgBouncer in front of the server. Skipped, with a line that says so, where it is not installed.

use crate::server::{Fixture, is_wanted, shared_url};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tidegate::adapters::postgres::{PostgresRows, PostgresSettings, refuse_lent_connections};
use tidegate::flow::key::Key;
use tidegate::flow::table::{ColumnSpec, ColumnType, Table, TableSpec};
use tidegate::ports::Fault;
use tidegate::ports::rows::{CommitAnswer, Rows};
use tidegate::ports::schema::Schema;

/// A pooler that this process started; it goes with it.
struct Pooler {
    process: Child,
    folder: PathBuf,
    settings: PostgresSettings,
}

impl Pooler {
    /// In front of the fixture's server, with more lines in its ini; `None` where there is no PgBouncer.
    fn start(fixture: &Fixture, lines: &str) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| PathBuf::from(path).exists());
        let Some(program) = program else {
            println!("skipped: needs PgBouncer, tests/servers/install.sh pooler installs it");
            return None;
        };
        let url = fixture.settings.url.expose();
        let (_, place) = url.split_once('@').unwrap();
        let (address, database) = place.split_once('/').unwrap();
        let (host, server_port) = address.split_once(':').unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("tidegate-pooler-{}-{}", std::process::id(), fixture.name));
        std::fs::create_dir_all(&folder).unwrap();
        let users = folder.join("users");
        std::fs::write(&users, "\"tidegate\" \"\"\n").unwrap();
        let ini = folder.join("ini");
        let text = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\n{lines}\n",
            users.display()
        );
        std::fs::write(&ini, text).unwrap();
        // It refuses to run as root.
        let words = ["--pdeathsig", "KILL", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", program];
        let words = if nobody_is_root() { &words[..] } else { &[words[0], words[1], program] };
        let mut command = Command::new("setpriv");
        let process = command.args(words).arg("-q").arg(&ini).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "PgBouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let url = PostgresSettings::new(&format!("postgres://tidegate@127.0.0.1:{port}/{database}")).url;
        let settings = PostgresSettings { url, ..fixture.settings.clone() };
        Some(Self { process, folder, settings })
    }

    fn fixture(&self, name: &'static str) -> Fixture {
        Fixture { name, settings: self.settings.clone() }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn nobody_is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn prepared(name: &'static str) -> (Fixture, TableSpec) {
    let fixture = Fixture::on(&shared_url(), name);
    fixture.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL)");
    fixture.sql("INSERT INTO {u}.t VALUES (1, 0, 0)");
    let columns = vec![ColumnSpec { name: "n".into(), accepts: vec![ColumnType::I64], is_nullable: false }];
    (fixture, TableSpec::new(Table::new(&format!("{name}.t")), columns))
}

#[test]
fn a_pooler_that_keeps_a_session_for_each_client_needs_no_settings() {
    if !is_wanted() {
        return;
    }
    let (fixture, spec) = prepared("pooled_session");
    let Some(pooler) = Pooler::start(&fixture, "pool_mode = session") else { return };
    let pooled = pooler.fixture(fixture.name);
    let (mut schema, mut one, mut other) = (pooled.schema(), pooled.rows(), pooled.rows());
    schema.verify().unwrap();
    for rows in [&mut one, &mut other] {
        rows.bind(std::slice::from_ref(&spec)).unwrap();
        rows.begin().unwrap();
        assert_eq!(rows.read(0, &[Key::I64(1)]).unwrap().len(), 1);
        assert_eq!(rows.commit().unwrap(), CommitAnswer::Done);
    }
    refuse_lent_connections(&schema, &[one, other]).unwrap();
}

#[test]
fn a_pooler_that_lends_its_connections_is_refused_at_the_start_and_in_the_middle() {
    if !is_wanted() {
        return;
    }
    let (fixture, spec) = prepared("pooled_lent");
    let Some(pooler) = Pooler::start(&fixture, "pool_mode = transaction") else { return };
    let pooled = pooler.fixture(fixture.name);
    let mut schema = pooled.schema();
    schema.verify().unwrap();
    let mut one = pooled.rows();
    one.begin().unwrap();
    one.rollback();
    let rows = [one];
    let fault = refuse_lent_connections(&schema, &rows).unwrap_err();
    let told = fault.to_string();
    assert!(matches!(fault, Fault::Fatal(_)), "{told}");
    for part in ["a pooler lends", "PgBouncer: pool_mode = transaction", "set pool_mode = session", "database.url"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    // Its own process of the server is taken when the next transaction begins.
    let [mut one] = rows;
    let mut other = pooled.rows();
    other.begin().unwrap();
    let fault = one.begin().unwrap_err();
    assert!(matches!(fault, Fault::Fatal(_)) && fault.to_string() == told, "{fault}");
    other.rollback();
    // What stands prepared under the name already is told as the pooler's doing, too.
    let (mut first, mut second) = (pooled.rows(), pooled.rows());
    first.bind(std::slice::from_ref(&spec)).unwrap();
    let fault = second.bind(std::slice::from_ref(&spec)).unwrap_err().to_string();
    assert!(fault.contains("SQLSTATE 42P05; a pooler has swapped the session"), "{fault}");
}

#[test]
fn a_pooler_that_refuses_or_has_no_connection_left_is_named_with_its_setting() {
    if !is_wanted() {
        return;
    }
    let (fixture, _) = prepared("pooled_full");
    let Some(pooler) = Pooler::start(&fixture, "pool_mode = session\ndefault_pool_size = 1") else { return };
    let begin = |settings: &PostgresSettings| {
        let mut rows = PostgresRows::new(settings, "p", "p").unwrap();
        rows.begin().map(|()| rows).map_err(|fault| fault.to_string())
    };
    let url = format!("{}?options=-c%20work_mem%3D8MB", pooler.settings.url.expose());
    let told =
        begin(&PostgresSettings { url: PostgresSettings::new(&url).url, ..pooler.settings.clone() }).unwrap_err();
    assert!(told.contains("startup parameter options: put it into ignore_startup_parameters"), "{told}");
    let settings = PostgresSettings { connect_timeout_ms: 700, ..pooler.settings.clone() };
    let holder = begin(&settings).unwrap();
    let told = begin(&settings).unwrap_err();
    assert!(told.contains("did not answer within 700 ms") && told.contains("default_pool_size"), "{told}");
    assert!(!told.contains("is PostgreSQL running"), "{told}");
    drop(holder);
}
