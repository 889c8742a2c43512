//! Signals to commands that wait for servers which never answer.

use crate::cli::command;
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tidegate::ports::Clock;
use tidegate::ports::clock::SystemClock;

/// A listener that takes every connection and says nothing.
fn silent_server() -> (TcpListener, [(&'static str, String); 2]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = [
        ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", address.to_string()),
        ("TIDEGATE_DATABASE__URL", format!("postgres://u:p@{address}/db")),
    ];
    (listener, settings)
}

/// A command of ours, started by another program.
fn within(program: &str, before: &[&str], arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let plain = command(arguments, settings);
    let mut outer = Command::new(program);
    outer.args(before).arg(plain.get_program()).args(plain.get_args()).stderr(Stdio::null()).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.current_dir(env!("CARGO_MANIFEST_DIR"));
    outer
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

/// Its end, which must come within 3 s.
fn end(child: &mut Child) -> ExitStatus {
    for _ in 0..150 {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    panic!("it does not end");
}

/// Waits until the process answers signals, by proc(5).
fn wait_answering(pid: u32) {
    let clock = SystemClock::default();
    while clock.elapsed() < Duration::from_secs(10) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap_or(0);
        if status.starts_with("Name:\ttidegate") && caught & (1 << 14) != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("process {pid} does not answer signals");
}

#[cfg(all(feature = "kafka", feature = "postgres"))]
#[test]
fn a_command_that_waits_for_a_server_ends_at_once_by_each_signal() {
    let (_listener, settings) = silent_server();
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let cases = [("topics plan", "INT", 130), ("halted", "TERM", 143), ("migrate", "HUP", 129), ("run", "TERM", 143)];
    for (line, name, expected) in cases {
        let arguments: Vec<&str> = line.split(' ').collect();
        // Tests under nohup would hand its deafness down.
        let mut child = within("env", &["--default-signal=HUP"], &arguments, &settings).spawn().unwrap();
        wait_answering(child.id());
        std::thread::sleep(Duration::from_millis(300)); // it has come to its question
        signal(&child, name);
        assert_eq!(end(&mut child).code(), Some(expected), "{line}, SIG{name}");
    }
}

/// The kernel delivers to the first process of a container only signals that it answers.
#[cfg(all(feature = "kafka", feature = "postgres"))]
#[test]
fn a_command_that_is_pid_1_ends_by_a_signal_too() {
    let inside = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let can_unshare = Command::new("unshare").args(inside).arg("true").stderr(Stdio::null()).status();
    if !can_unshare.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: unshare makes no container here");
        return;
    }
    let (_listener, settings) = silent_server();
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut child = within("unshare", &inside, &["topics", "plan"], &settings).spawn().unwrap();
    let first = || {
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        std::fs::read_to_string(children).ok()?.split_whitespace().next()?.parse::<u32>().ok()
    };
    let first = (0..500).find_map(|_| {
        first().or_else(|| {
            std::thread::sleep(Duration::from_millis(20));
            None
        })
    });
    let first = first.unwrap();
    wait_answering(first);
    assert!(Command::new("kill").args(["-TERM", &first.to_string()]).status().unwrap().success());
    assert_eq!(end(&mut child).code(), Some(143));
}
