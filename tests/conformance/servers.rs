//! Real servers for the suites: the user's own by `KAFKA_BOOTSTRAP` and `DATABASE_URL`, otherwise private ones that go when
//! this process goes. Only with `SYSTEM_TESTS=1`.

use std::process::Command;
use std::sync::OnceLock;

/// Whether real servers are wanted; says so when they are not.
pub fn is_wanted(server: &str) -> bool {
    let is_wanted = std::env::var("SYSTEM_TESTS").is_ok_and(|value| value == "1");
    if !is_wanted {
        println!("skipped: needs {server}, set SYSTEM_TESTS=1");
    }
    is_wanted
}

/// Bootstrap servers of the Kafka that the tests share.
#[cfg(feature = "kafka")]
pub fn kafka() -> &'static str {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED.get_or_init(|| std::env::var("KAFKA_BOOTSTRAP").unwrap_or_else(|_| start("kafka")))
}

/// URL of the Postgres that the tests share.
#[cfg(feature = "postgres")]
pub fn postgres() -> &'static str {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED.get_or_init(|| std::env::var("DATABASE_URL").unwrap_or_else(|_| start("postgres")))
}

/// Starts a server; the script's watcher removes it after this process.
fn start(server: &str) -> String {
    let script = format!("{}/tests/servers/{server}.sh", env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::temp_dir().join(crate::unique(&format!("tidegate-{server}")));
    let output = Command::new(script)
        .arg("start")
        .arg(folder)
        .env("TIDEGATE_PARENT_PID", std::process::id().to_string())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "{server}.sh start: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}
