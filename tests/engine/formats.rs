//! Topics whose values are text or bytes: read, joined, sent on under other keys, written, and refused.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate::flow::{Algorithm, Context, Format, Reject, Table, TableTopic, Topology};
use tidegate::testing::TestDriver;

/// Counts the words of each line.
struct Words;

impl Algorithm for Words {
    type Event = String;
    type Row = ();
    type Notices = Option<String>;

    fn apply(&self, line: String, (): &mut (), _: &mut Context<'_>) -> Result<Option<String>, Reject> {
        Ok(Some(format!("{} words: {line}", line.split_whitespace().count())))
    }
}

/// Writes bytes as they came, the last one first.
struct Turned;

impl Algorithm for Turned {
    type Event = Vec<u8>;
    type Row = Vec<u8>;
    type Notices = Option<Vec<u8>>;

    fn apply(&self, mut bytes: Vec<u8>, row: &mut Vec<u8>, _: &mut Context<'_>) -> Result<Option<Vec<u8>>, Reject> {
        row.extend_from_slice(&bytes);
        bytes.reverse();
        Ok(Some(bytes))
    }
}

/// A line with the name that a table has for its key.
struct Signed;

impl Algorithm for Signed {
    type Event = (String, String);
    type Row = ();
    type Notices = Option<Value>;

    fn apply(&self, (line, name): (String, String), (): &mut (), _: &mut Context<'_>) -> Result<Option<Value>, Reject> {
        Ok(Some(json!({"line": line, "by": name})))
    }
}

#[derive(Serialize, Deserialize)]
struct Page {
    lines: i64,
}

/// Counts the lines of a row.
struct Lines;

impl Algorithm for Lines {
    type Event = String;
    type Row = Page;
    type Notices = Option<i64>;

    fn apply(&self, _: String, page: &mut Page, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        page.lines += 1;
        Ok(Some(page.lines))
    }
}

/// Numbers the lines of a row.
struct Numbered;

impl Algorithm for Numbered {
    type Event = String;
    type Row = Page;
    type Notices = Option<String>;

    fn apply(&self, line: String, page: &mut Page, _: &mut Context<'_>) -> Result<Option<String>, Reject> {
        page.lines += 1;
        Ok(Some(format!("{}: {line}", page.lines)))
    }
}

fn header(driver: &mut TestDriver, topic: &str, name: &str) -> Vec<String> {
    let found = driver.read_raw(topic);
    let of = found.iter().filter_map(|found| found.headers.iter().find(|header| header.name == name));
    of.map(|header| String::from_utf8(header.value.clone().unwrap()).unwrap()).collect()
}

fn values(driver: &mut TestDriver, topic: &str) -> Vec<Vec<u8>> {
    driver.read_raw(topic).into_iter().map(|found| found.value.unwrap()).collect()
}

#[test]
fn lines_of_text_are_read_and_written_as_they_stand() {
    let mut topology = Topology::new("words");
    topology.source("lines").format(Format::Text).process(Words).format(Format::Text).to("counts");
    let mut driver = TestDriver::new(topology);
    driver.send("lines", 1, "so \"it\" is");
    driver.send_raw("lines", Some(b"1"), Some(b""));
    assert_eq!(driver.read("counts"), [(1, json!("3 words: so \"it\" is")), (1, json!("0 words: "))]);
    assert_eq!(values(&mut driver, "counts")[0], b"3 words: so \"it\" is");
    let media = "text/plain; charset=utf-8";
    assert_eq!(header(&mut driver, "counts", "content-type"), [media, media]);
    driver.send_raw("lines", Some(b"1"), Some(b"\xff\xfe"));
    driver.send_raw("lines", Some(b"1"), None);
    assert_eq!(header(&mut driver, "lines-dlt", "kafka_dlt-exception-fqcn"), ["bad-text", "empty-value"]);
    assert_eq!(driver.read_raw("lines-dlt")[0].value.as_deref(), Some(&b"\xff\xfe"[..]), "the bytes as they came");
}

#[test]
fn bytes_are_kept_in_a_store_and_written_as_they_stand_through_a_crash() {
    let mut topology = Topology::new("turned");
    topology.source("frames").format(Format::Bytes).aggregate("all", Turned).format(Format::Bytes).to("back");
    let mut driver = TestDriver::new(topology);
    driver.send_raw("frames", Some(b"1"), Some(b"\x00\xff\x01"));
    assert_eq!(values(&mut driver, "back"), [b"\x01\xff\x00"]);
    driver.kill(0);
    driver.start(0);
    driver.send("frames", 1, vec![7_u8]);
    assert_eq!(values(&mut driver, "back"), [&b"\x01\xff\x00"[..], &b"\x07"[..]]);
    assert_eq!(driver.store("all", "1"), Some(json!([0, 255, 1, 7])));
    let media = "application/octet-stream";
    assert_eq!(header(&mut driver, "back", "content-type"), [media, media]);
}

#[test]
fn a_text_goes_on_under_other_keys_and_meets_a_table_of_texts() {
    let mut topology = Topology::new("signed");
    topology
        .source("lines")
        .format(Format::Text)
        .keys_by("first-letter", |line: &String| line.chars().next())
        .join(TableTopic::<String>::new("names").format(Format::Text))
        .process(Signed)
        .to("signed");
    let mut driver = TestDriver::new(topology);
    driver.send("names", "a", "ada");
    driver.run();
    driver.send("lines", 1, "all is well");
    driver.send("lines", 1, "");
    assert_eq!(
        values(&mut driver, "signed"),
        [serde_json::to_vec(&json!({"line": "all is well", "by": "ada"})).unwrap()]
    );
    assert_eq!(
        header(&mut driver, "signed", "content-type"),
        ["application/json"],
        "an output is JSON unless it says so"
    );
}

#[test]
fn a_line_of_text_updates_a_row_and_its_notice_keeps_its_content_type_through_every_crash() {
    let mut topology = Topology::new("pages");
    let source = topology.source("lines").format(Format::Text);
    source.update(Table::new("pages"), Numbered).format(Format::Text).to("numbered");
    let mut driver = TestDriver::new(topology);
    driver.row("pages", 7, Page { lines: 1 });
    driver.send("lines", 7, "not JSON");
    driver.send("lines", 7, "{}");
    assert_eq!(driver.read("numbered"), [(7, json!("2: not JSON")), (7, json!("3: {}"))]);
    let media = "text/plain; charset=utf-8";
    assert_eq!(header(&mut driver, "numbered", "content-type"), [media, media]);
    driver.crash_everywhere();
}

#[test]
fn a_notice_that_its_format_cannot_write_is_a_dead_letter_and_leaves_the_row_as_it_was() {
    let mut topology = Topology::new("pages");
    let source = topology.source("lines").format(Format::Text);
    source.update(Table::new("pages"), Lines).format(Format::Text).to("pages-changed");
    let mut driver = TestDriver::new(topology);
    driver.row("pages", 7, Page { lines: 1 });
    driver.send("lines", 7, "a line");
    assert_eq!(header(&mut driver, "lines-dlt", "kafka_dlt-exception-fqcn"), ["bad-notice"]);
    let why = header(&mut driver, "lines-dlt", "kafka_dlt-exception-message");
    assert_eq!(why, ["text is written from a string, not from a number"]);
    assert_eq!(driver.row_of("pages", 7).unwrap().version, 0);
}

#[test]
fn an_event_that_no_value_of_the_format_can_be_is_found_before_the_first_record() {
    let mut topology = Topology::new("mistaken");
    topology.source("lines").format(Format::Bytes).process(Words).to("one");
    topology.source("frames").format(Format::Text).aggregate("all", Turned).to("two");
    topology
        .source("rows")
        .format(Format::Text)
        .join(TableTopic::<Page>::new("pages").format(Format::Bytes))
        .process(Paged)
        .done();
    let errors = topology.validate().unwrap_err();
    assert_eq!(
        errors,
        [
            "source frames: its values are text, which its type cannot be read from (invalid type: string \"0\", expected \
             a sequence); text is a String, bytes are a Vec<u8>",
            "table pages: its values are bytes, which its type cannot be read from (invalid type: byte array, expected \
             struct Page); text is a String, bytes are a Vec<u8>",
        ],
        "a String is read from bytes in UTF-8"
    );
}

/// Has a row of a table beside its line.
struct Paged;

impl Algorithm for Paged {
    type Event = (String, Page);
    type Row = ();
    type Notices = Option<i64>;

    fn apply(&self, _: (String, Page), (): &mut (), _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        Ok(None)
    }
}
