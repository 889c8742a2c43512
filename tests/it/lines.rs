//! Every sentence of a warning or an error in the code, judged by the rule that the system tests hold real logs against: it
//! names a cause, and a next step or what happens by itself.

#[path = "../system/rig/lines.rs"]
#[allow(dead_code, reason = "what judges whole logs")]
mod judge;

use judge::{Said, is_excepted};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Sentences of which a part is made elsewhere: the file, words of the sentence, and that part as it is made.
const MADE_ELSEWHERE: &[(&str, &str, &[&str])] = &[
    (
        "engine/worker/counts.rs",
        "{}",
        &[
            "corrections has 24 partitions, and readings, with which it is read, 12: what lies in its partitions 12 to 23 is read \
           by nobody; give both topics one count, then restart",
        ],
    ),
    (
        "engine/status/declarations.rs",
        "most likely {likely}",
        &[
            "most likely a librdkafka client with its default partitioner (CRC-32): set partitioner there",
            "most likely a partitioner of the producer's own: let all producers use murmur2",
        ],
    ),
];

/// A call of `warn!` or `error!`.
#[derive(Debug, PartialEq)]
struct Call {
    line: usize,
    sentence: String,
    fields: Vec<String>,
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            out.push(path);
        }
    }
}

/// The text in front of a file's own tests.
fn without_tests(text: &str) -> &str {
    let marks = ["mod tests {", "mod tests;"];
    &text[..marks.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len())]
}

/// The calls of a file.
fn calls(text: &str) -> Vec<Call> {
    let text = without_tests(text);
    let mut out = Vec::new();
    for name in ["warn!(", "error!("] {
        for (at, _) in text.match_indices(name) {
            let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let is_another = text[..at].ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
            if is_another || text[start..at].contains("//") {
                continue;
            }
            let (sentence, fields) = arguments(&text[at + name.len()..]);
            out.push(Call { line: text[..at].matches('\n').count() + 1, sentence, fields });
        }
    }
    out
}

/// The arguments of a call up to its closing parenthesis: the first text that is no field's value, and the fields' names.
fn arguments(text: &str) -> (String, Vec<String>) {
    let (mut depth, mut argument, mut all) = (0, String::new(), Vec::new());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                argument.push('"');
                argument.push_str(&literal(&mut letters));
                argument.push('"');
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(std::mem::take(&mut argument));
                continue;
            }
            _ => {}
        }
        argument.push(letter);
    }
    all.push(argument);
    let all: Vec<&str> = all.iter().map(|argument| argument.trim()).collect();
    let sentence = all.iter().position(|argument| argument.starts_with('"'));
    let fields = &all[..sentence.unwrap_or(all.len())];
    let name = |field: &&str| field.split('=').next().unwrap_or_default().trim_matches([' ', '%', '?']).to_owned();
    (sentence.map_or("", |at| all[at].trim_matches('"')).to_owned(), fields.iter().map(name).collect())
}

/// A text up to its closing quote, with a line that is continued as one.
fn literal(letters: &mut std::str::Chars<'_>) -> String {
    let mut out = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => match letters.next() {
                Some('\n') => {
                    let rest = letters.as_str().trim_start();
                    *letters = rest.chars();
                }
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => break,
            },
            _ => out.push(letter),
        }
    }
    out
}

/// What the sentence lacks, and the whole of it where a part is made elsewhere.
fn lacks(file: &str, call: &Call) -> BTreeSet<&'static str> {
    let fields: Vec<&str> = call.fields.iter().map(String::as_str).collect();
    let of = |sentence| Said { sentence, fields: fields.clone() }.lacks();
    let elsewhere =
        MADE_ELSEWHERE.iter().find(|(place, words, _)| file.ends_with(place) && call.sentence.contains(words));
    match elsewhere {
        Some((_, _, made)) => made.iter().flat_map(|sentence| of(sentence)).collect(),
        None => of(&call.sentence).into_iter().collect(),
    }
}

#[test]
fn each_warning_of_the_code_names_its_cause_and_what_to_do_or_what_happens_by_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut count, mut mute) = (0, Vec::new());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(&root).unwrap().display().to_string();
        for call in calls(&text) {
            count += 1;
            let lacks: Vec<&str> = lacks(&file, &call).into_iter().collect();
            if !lacks.is_empty() && !is_excepted(&call.sentence) {
                mute.push(format!("src/{file}:{}: lacks {}: {}", call.line, lacks.join(" and "), call.sentence));
            }
        }
    }
    assert!(count > 30, "{count} calls");
    assert!(mute.is_empty(), "{} of {count}:\n{}", mute.len(), mute.join("\n"));
}

#[test]
fn the_calls_of_a_file_are_read_with_their_fields_and_continued_lines() {
    let text = r#"
        tracing::warn!(error = %fault, ?task, cause, rows = own.len(), "it failed, \
             most likely since `a` is short; {}", why(1, 2));
        // warn!("a comment")
        mywarn!("no call of ours");
        error!("said \"so\": {name}");
        warn!(kind, "{}", sentence);
        mod tests { warn!("a test's") }
    "#;
    let call = |line, sentence: &str, fields: &[&str]| Call {
        line,
        sentence: sentence.into(),
        fields: fields.iter().map(|&field| field.to_owned()).collect(),
    };
    let expected = [
        call(2, "it failed, most likely since `a` is short; {}", &["error", "task", "cause", "rows"]),
        call(7, "{}", &["kind"]),
        call(6, "said \"so\": {name}", &[]),
    ];
    assert_eq!(calls(text), expected);
}
