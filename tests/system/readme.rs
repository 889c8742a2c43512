//! The block "On real servers" of README.md, taken from the page itself and run command by command in one shell, in a
//! checkout and a home folder of its own: from `make up` to a notice on a console consumer.
//!
//! Two things are done in place of a person: `make build`, which takes minutes, becomes the binary under test at the place
//! where that puts it, and the export lines that `make up` prints are pasted.

use crate::rig::{Permit, is_wanted, say, tidegate};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(150);

/// The first block of commands below a heading.
fn block<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
    section.split("```sh\n").nth(1).and_then(|rest| rest.split("\n```").next()).unwrap()
}

/// Whether a shell would run it, and not wait for more of it.
fn is_whole(text: &str) -> bool {
    let checked = Command::new("bash").args(["-n", "-c", text]).stderr(Stdio::null()).status().unwrap();
    checked.success() && !text.ends_with('\\')
}

/// The commands of a block; one may have several lines.
fn commands(block: &str) -> Vec<String> {
    let (mut out, mut command) = (Vec::new(), String::new());
    for line in block.lines() {
        command += line;
        if is_whole(&command) {
            out.push(std::mem::take(&mut command));
        } else {
            command.push('\n');
        }
    }
    assert_eq!(command, "", "the last command is not whole");
    out
}

/// The commands as one script that ends at the first which fails, with its text.
fn script(commands: &[String]) -> String {
    let mut script = String::new();
    for (number, command) in commands.iter().enumerate() {
        let command = match command.strip_prefix("make build") {
            Some(rest) => format!("true{rest}"),
            None if command.starts_with("make up") => {
                format!("{{ {command}\n}} >up.txt; cat up.txt; eval \"$(grep '^export ' up.txt)\"")
            }
            None => command.clone(),
        };
        script += &format!("{command}\n[ $? = 0 ] || {{ echo 'command {} failed'; exit 1; }}\n", number + 1);
    }
    script + "wait\n"
}

/// A checkout and a home folder of its own.
struct Newcomer(PathBuf);

impl Newcomer {
    fn new(folder: PathBuf) -> Self {
        let (root, home) = (Path::new(env!("CARGO_MANIFEST_DIR")), folder.join("home"));
        let checkout = folder.join("checkout/tests");
        fs::create_dir_all(&checkout).unwrap();
        symlink(root.join("Makefile"), folder.join("checkout/Makefile")).unwrap();
        symlink(root.join("topics"), folder.join("checkout/topics")).unwrap();
        let copied = Command::new("cp").args(["-r"]).arg(root.join("tests/servers")).arg(&checkout).status().unwrap();
        assert!(copied.success());
        let release = home.join(".cache/tidegate/target/release");
        fs::create_dir_all(&release).unwrap();
        symlink(tidegate(), release.join("tidegate")).unwrap();
        Self(folder)
    }

    /// A command in the checkout, with this home and nothing of ours around it; downloads are those of the machine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let is_ours =
            |name: &str| name.starts_with("TIDEGATE_") || name.starts_with("MAKE") || name.starts_with("CARGO");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_ours)) {
            command.env_remove(name);
        }
        let downloads = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| std::env::var("HOME").unwrap() + "/.cache");
        command
            .current_dir(self.0.join("checkout"))
            .env("HOME", self.0.join("home"))
            .env("XDG_CACHE_HOME", downloads)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let _ = self.command("make").arg("down").stdout(Stdio::null()).status(); // where a command before it failed
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[test]
fn the_block_on_real_servers_leads_from_make_up_to_a_notice() {
    if !is_wanted("readme") {
        return;
    }
    let _permit = Permit::usual();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let commands = commands(block(&page, "## On real servers"));
    assert!(commands.len() >= 10 && commands[1].starts_with("make up"), "{commands:#?}");
    let newcomer = Newcomer::new(tidegate().with_file_name("readme"));
    let said = newcomer.0.join("said.txt");
    let out = fs::File::create(&said).unwrap();
    let mut shell = newcomer.command("bash");
    shell.args(["-c", &script(&commands)]).stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
    let (began, mut shell) = (Instant::now(), shell.spawn().unwrap());
    let ended = loop {
        match shell.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if began.elapsed() > WITHIN => break None,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let group = format!("-{}", shell.id()); // the servers are in groups of their own
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let text = fs::read_to_string(&said).unwrap();
    let log = fs::read_to_string(newcomer.0.join("checkout/run.log")).unwrap_or_default();
    assert!(ended.is_some_and(|status| status.success()), "{ended:?} in {}\n{text}\n{log}", newcomer.0.display());
    let promised = page.split("The consumer prints `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    assert!(text.lines().any(|line| line == promised), "{promised} is not in\n{text}");
    assert!(log.contains("stopping:") && !log.contains("panicked"), "{log}");
    say(&format!("{} commands of README.md in {:.0} s", commands.len(), began.elapsed().as_secs_f64()));
}

#[test]
fn a_command_of_several_lines_is_one() {
    let text = "a \"b\n c\" \\\n  -d # e\nf() { g; }\nh &";
    assert_eq!(commands(text), ["a \"b\n c\" \\\n  -d # e", "f() { g; }", "h &"]);
}
