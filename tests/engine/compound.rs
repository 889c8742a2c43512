//! Rows whose key is of several columns.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::engine::audit::audit;
use tidegate::flow::row::Value;
use tidegate::flow::{Algorithm, Context, Key, KeyType, Reject, Store, Table, Topology};
use tidegate::testing::TestDriver;

#[derive(Serialize, Deserialize)]
struct SeatKey {
    hall: i64,
    seat: String,
}

/// The struct of the row has a column of the key, which the engine alone writes.
#[derive(Serialize, Deserialize, Default, Clone)]
struct Seat {
    hall: i64,
    guests: i64,
}

#[derive(Deserialize)]
struct Booking {
    guest: i64,
}

struct Book;

impl Algorithm for Book {
    type Event = Booking;
    type Row = Seat;
    type Notices = Option<i64>;

    fn apply(&self, booking: Booking, seat: &mut Seat, context: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        let key: SeatKey = context.key().read()?;
        let seen = Store::<i64>::new("seen");
        let mut store = context.store(&seen)?;
        let count = store.get(context_key(&key).as_bytes())?.unwrap_or_default() + 1;
        store.put(context_key(&key).as_bytes(), &count)?;
        seat.guests += booking.guest;
        seat.hall += 100; // in vain
        Ok(Some(key.hall * 1000 + seat.guests))
    }
}

fn context_key(key: &SeatKey) -> String {
    format!("{}/{}", key.hall, key.seat)
}

fn topology() -> Topology {
    let mut topology = Topology::new("halls");
    let seats = Table::new("seats").compound_key::<SeatKey>();
    let source = topology.source("bookings");
    source.update(seats, Book).with_store(&Store::<i64>::new("seen")).insert_missing(|_| Seat::default()).to("booked");
    topology
}

fn key(hall: i64, seat: &str) -> Key {
    Key::of(&SeatKey { hall, seat: seat.into() }).unwrap()
}

#[test]
fn rows_are_found_made_and_told_of_by_keys_of_several_columns() {
    assert_eq!(topology().validate(), Ok(()));
    let mut driver = TestDriver::new(topology());
    driver.row("seats", key(1, "a"), Seat { hall: 1, guests: 5 });
    for (hall, seat, guest) in [(1, "a", 1), (1, "b", 2), (2, "a", 3), (1, "a", 10)] {
        driver.send("bookings", key(hall, seat), json!({ "guest": guest }));
    }
    let row = driver.row_of("seats", key(1, "a")).unwrap();
    assert_eq!((row.version, &row.values[..]), (2, &[Value::I64(16)][..]));
    assert_eq!(driver.row_of("seats", key(2, "a")).unwrap().values, [Value::I64(3)]);
    let told = driver.read_raw("booked").into_iter().map(|found| String::from_utf8(found.key.unwrap()).unwrap());
    let told: Vec<String> = told.collect();
    assert_eq!(told[0], r#"{"hall":1,"seat":"a"}"#, "the record's own key");
    assert_eq!(told.len(), 4);
    let (mut rows, mut log) = (driver.database().history("halls"), driver.log().history("halls"));
    assert!(audit(&topology(), &mut rows, &mut log).unwrap().is_clean());
}

#[test]
fn a_key_that_lacks_a_column_is_a_dead_letter_that_names_it() {
    let mut driver = TestDriver::new(topology());
    driver.send("bookings", Key::from("{\"hall\":1}"), json!({ "guest": 1 }));
    let dead = driver.read_raw("bookings-dlt");
    assert_eq!(dead[0].header("kafka_dlt-exception-fqcn"), Some("bad-key"));
    let message = dead[0].header("kafka_dlt-exception-message").unwrap();
    assert!(message.contains("a JSON object with the field \"seat\" (it has hall)"), "{message}");
}

#[test]
fn two_steps_of_a_table_have_one_key_and_a_struct_of_one_field_is_none() {
    let mut topology = topology();
    topology.source("more").update(Table::new("seats").key("hall", KeyType::I64), Book).done();
    let errors = topology.validate().unwrap_err().join("\n");
    assert!(errors.contains("one step has the key hall bigint, seat text, another hall bigint"), "{errors}");

    #[derive(Serialize, Deserialize)]
    struct One {
        id: i64,
    }
    let mut topology = Topology::new("one");
    topology.source("more").update(Table::new("seats").compound_key::<One>(), Book).done();
    let errors = topology.validate().unwrap_err().join("\n");
    assert!(errors.contains("has one field: name that in Table::key, with KeyType::Field"), "{errors}");
}

/// Counts the guests of a seat.
struct Count;

impl Algorithm for Count {
    type Event = Booking;
    type Row = i64;
    type Notices = Option<i64>;

    fn apply(&self, booking: Booking, guests: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        *guests += booking.guest;
        Ok(None)
    }
}

/// One seat, in the spellings of several producers.
const SPELLINGS: [&str; 5] = [
    r#"{"hall":1,"seat":"a"}"#,
    r#"{"seat":"a","hall":1}"#,
    "{ \"hall\" : 1,\n \"seat\" : \"\\u0061\" }",
    r#"{"hall":1,"seat":"a","floor":2}"#,
    r#"{"schema":{},"payload":{"hall":1,"seat":"a"}}"#,
];

fn send_spelt(driver: &mut TestDriver, keys: &[&str]) {
    for key in keys {
        driver.send_raw("bookings", Some(key.as_bytes()), Some(br#"{"guest":1}"#));
    }
}

#[test]
fn a_key_in_several_spellings_is_one_row_and_one_value_of_its_partition() {
    let mut driver = TestDriver::new(topology()).partitions(8);
    send_spelt(&mut driver, &SPELLINGS);
    let row = driver.row_of("seats", key(1, "a")).unwrap();
    assert_eq!((row.version, &row.values[..]), (5, &[Value::I64(5)][..]), "one row, whichever partitions they lie in");

    let counted = |partitions| {
        let mut topology = Topology::new("halls");
        let keys = KeyType::fields_of::<SeatKey>().unwrap();
        topology.source("bookings").aggregate("guests", Count).keys(keys).done();
        let mut driver = TestDriver::new(topology).partitions(partitions);
        send_spelt(&mut driver, &SPELLINGS);
        driver
    };
    assert_eq!(counted(1).store("guests", r#"[1,"a"]"#), Some(json!(5)));
    // The limit: the text decides the partition, and each has a value of its own.
    let kept = counted(8).read_raw("halls-guests-changelog");
    assert!(kept.iter().all(|found| found.key.as_deref() == Some(&br#"[1,"a"]"#[..])), "{kept:?}");
    assert!(kept.iter().any(|found| found.partition != kept[0].partition), "{kept:?}");
}

#[test]
fn a_number_of_a_key_has_one_spelling_and_any_other_is_a_dead_letter() {
    let mut driver = TestDriver::new(topology());
    let wrong = [r#"{"hall":1.0,"seat":"a"}"#, r#"{"hall":1e0,"seat":"a"}"#, r#"{"hall":"1","seat":"a"}"#];
    send_spelt(&mut driver, &wrong);
    let dead = driver.read_raw("bookings-dlt");
    assert_eq!(dead.len(), wrong.len());
    for letter in dead {
        assert_eq!(letter.header("kafka_dlt-exception-fqcn"), Some("bad-key"));
        let message = letter.header("kafka_dlt-exception-message").unwrap();
        assert!(message.contains("a JSON object with a 64-bit integer in \"hall\""), "{message}");
    }
    assert!(driver.row_of("seats", key(1, "a")).is_none());
}
