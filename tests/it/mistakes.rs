//! The compiler's words for the commonest mistakes of a declaration: each program of `mistakes` is refused with the words that
//! it names behind `//~`.
//!
//! The compiler is run over the library as it was built for these tests, once for each program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The folder of the library as it was built, and the library: of several builds the last one.
fn library() -> (PathBuf, PathBuf) {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().unwrap().to_owned();
    let all = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libtidegate-") && name.ends_with(".rlib")
    };
    let written = |path: &PathBuf| path.metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let library = all.filter(is_it).max_by_key(written).expect("the library lies beside the tests");
    (folder, library)
}

/// What the compiler says of a program.
fn words(program: &Path, folder: &Path, library: &Path) -> (bool, String) {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let out = folder.join(format!("mistake-{}.rmeta", program.file_stem().unwrap().display()));
    let mut run = Command::new(compiler);
    run.args(["--edition", "2024", "--emit", "metadata", "--color", "never"]).arg("-o").arg(&out);
    run.arg("--extern").arg(format!("tidegate={}", library.display()));
    run.arg("-L").arg(format!("dependency={}", folder.display())).arg(program);
    let output = run.output().unwrap();
    drop(std::fs::remove_file(&out));
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_compiler_names_the_commonest_mistakes_in_words_that_help() {
    let (folder, library) = library();
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mistakes");
    let mut programs: Vec<PathBuf> = std::fs::read_dir(programs).unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.sort();
    assert!(programs.len() >= 10, "{programs:?}");
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let judge = |program: &PathBuf| {
            let text = std::fs::read_to_string(program).unwrap();
            let due: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//~ ")).collect();
            let (is_taken, said) = words(program, &folder, &library);
            let missing = due.iter().find(|words| !said.contains(**words));
            let is_right = !is_taken && !due.is_empty() && missing.is_none();
            (!is_right).then(|| format!("{}: {missing:?} is not among\n{said}", program.display()))
        };
        for some in programs.chunks(4) {
            let runs: Vec<_> = some.iter().map(|program| scope.spawn(move || judge(program))).collect();
            wrong.extend(runs.into_iter().filter_map(|run| run.join().unwrap()));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
