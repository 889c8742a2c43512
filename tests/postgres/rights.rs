//! Roles that may not do all that the service does: found at the start, with the statement that grants it.

use crate::server::{Fixture, is_wanted, shared_url};
use tidegate::adapters::postgres::{OutboxSettings, PostgresRows, PostgresSchema, PostgresSettings};
use tidegate::flow::table::{ColumnSpec, ColumnType, Table, TableSpec};
use tidegate::ports::Fault;
use tidegate::ports::history::RowHistory;
use tidegate::ports::rows::Rows;
use tidegate::ports::schema::Schema;

/// The fixture's server, as another role.
fn connected_as(fixture: &Fixture, role: &str) -> Fixture {
    let (_, place) = fixture.settings.url.expose().rsplit_once('@').unwrap();
    let url = PostgresSettings::new(&format!("postgres://{role}:any@{place}")).url;
    Fixture { name: fixture.name, settings: PostgresSettings { url, ..fixture.settings.clone() } }
}

#[test]
fn a_role_that_could_make_no_partitions_is_refused_and_what_the_sentence_grants_is_enough() {
    if !is_wanted() {
        return;
    }
    let admin = Fixture::on(&shared_url(), "rights");
    admin.sql("CREATE ROLE rights_owner LOGIN; CREATE ROLE rights_app LOGIN");
    admin.sql("GRANT CREATE ON DATABASE tidegate TO rights_owner");
    let admin = Fixture {
        name: admin.name,
        settings: PostgresSettings { schema: "tg_rights_of_two".into(), ..admin.settings },
    };
    let (owner, app) = (connected_as(&admin, "rights_owner"), connected_as(&admin, "rights_app"));
    owner.schema().migrate().unwrap();
    owner.schema().check_rights().unwrap();

    let fault = app.schema().verify().unwrap_err();
    let told = fault.to_string();
    assert!(matches!(fault, Fault::Fatal(_)) && told.contains("may not read schema \"tg_rights_of_two\""), "{told}");
    assert!(told.contains("docs/operations.md"), "{told}");

    admin.sql("GRANT USAGE ON SCHEMA {tg} TO rights_app");
    admin.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {tg} TO rights_app");
    app.schema().verify().unwrap();
    let fault = app.schema().check_rights().unwrap_err();
    let told = fault.to_string();
    assert!(matches!(fault, Fault::Fatal(_)), "{told}");
    let (_, grant) = told.split_once("GRANT \"").unwrap();
    let grant = format!("GRANT \"{}", grant.split(',').next().unwrap());
    assert_eq!(grant, "GRANT \"rights_owner\" TO \"rights_app\"", "{told}");
    admin.sql(&grant);
    app.schema().check_rights().unwrap();

    // What the runtime makes is the owner's, so that the next migration can alter it.
    admin.sql(
        "DO $$ DECLARE t text; BEGIN FOR t IN SELECT c.oid::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = '{tg}.outbox'::regclass AND c.relname <> 'outbox_default' LOOP EXECUTE 'DROP TABLE ' || t; \
         END LOOP; END $$",
    );
    let mut schema = PostgresSchema::new(&app.settings, OutboxSettings::default(), "rights").unwrap();
    assert_eq!(schema.maintain().unwrap().created, 13);
    let others = "SELECT count(*) FROM pg_class WHERE relnamespace = '{tg}'::regnamespace AND relkind = 'r' \
                  AND pg_get_userbyid(relowner) <> 'rights_owner'";
    assert_eq!(admin.number(others), 0);
    owner.sql("ALTER TABLE {tg}.outbox ADD COLUMN of_the_next_release text");
}

#[test]
fn rights_on_single_tables_and_on_the_schema_are_told_with_their_grants() {
    if !is_wanted() {
        return;
    }
    let admin = Fixture::on(&shared_url(), "some_rights");
    admin.sql("CREATE ROLE some_app LOGIN; GRANT USAGE ON SCHEMA {tg} TO some_app; GRANT SELECT ON {tg}.migration TO some_app");
    admin.sql("ALTER TABLE {tg}.outbox OWNER TO some_app; ALTER TABLE {tg}.verdict OWNER TO some_app");
    admin.sql("GRANT SELECT, INSERT ON {tg}.position TO some_app");
    let app = connected_as(&admin, "some_app");
    let told = app.schema().check_rights().unwrap_err().to_string();
    let grants: Vec<String> = told
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("GRANT ")?.split(", since").next()?.to_owned()))
        .map(|rest| format!("GRANT {rest}"))
        .collect();
    assert_eq!(grants.len(), 4, "{told}");
    for grant in &grants {
        admin.sql(grant);
    }
    app.schema().check_rights().unwrap();
}

#[test]
fn a_right_that_is_missing_on_a_table_of_the_user_is_told_at_the_start() {
    let Some(admin) = Fixture::new("user_rights") else { return };
    admin.sql("CREATE ROLE user_app LOGIN; GRANT USAGE ON SCHEMA {tg} TO user_app");
    admin.sql("GRANT ALL ON ALL TABLES IN SCHEMA {tg} TO user_app");
    admin.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL, other text)");
    let columns = vec![ColumnSpec { name: "n".into(), accepts: vec![ColumnType::I64], is_nullable: false }];
    let spec = TableSpec::new(Table::new("user_rights.t"), columns);
    let app = connected_as(&admin, "user_app");
    let bind = || {
        let mut rows: PostgresRows = app.rows();
        rows.bind(std::slice::from_ref(&spec)).map_err(|fault| fault.to_string())
    };
    let told = bind().unwrap_err();
    assert!(told.contains("table user_rights.t: GRANT USAGE ON its SCHEMA to the role of database.url"), "{told}");
    admin.sql("GRANT USAGE ON SCHEMA {u} TO user_app");
    let told = bind().unwrap_err();
    let sentence = "table user_rights.t: role user_app lacks SELECT on id, version, n and UPDATE on version, n: \
                    GRANT SELECT, UPDATE ON user_rights.t TO \"user_app\"";
    assert!(told.contains(sentence), "{told}");
    admin.sql("GRANT SELECT ON {u}.t TO user_app; GRANT UPDATE (n) ON {u}.t TO user_app");
    let told = bind().unwrap_err();
    assert!(told.contains("lacks UPDATE on version: GRANT"), "{told}");
    let (differences, lacks) = app.rows().compared(std::slice::from_ref(&spec)).unwrap();
    assert_eq!(
        (differences.len(), lacks.len()),
        (0, 1),
        "it is no difference of the table: {differences:?}, {lacks:?}"
    );
    admin.sql("GRANT UPDATE (version) ON {u}.t TO user_app");
    bind().unwrap();
}

#[test]
fn audit_and_halted_read_with_the_rights_that_the_page_on_operations_lists() {
    let Some(admin) = Fixture::new("readers") else { return };
    admin.sql("CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA {tg}, {u} TO reader");
    admin.sql("CREATE TABLE {u}.t (id bigint PRIMARY KEY, version bigint NOT NULL, n bigint NOT NULL)");
    let tables = ["migration", "position", "outbox", "repair", "baseline"].map(|table| format!("{{tg}}.{table}"));
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    assert!(page.contains("`SELECT` on `migration`, `position`, `outbox`, `repair` and `baseline`"));
    admin.sql(&format!("GRANT SELECT ON {} TO reader; GRANT SELECT (version) ON {{u}}.t TO reader", tables.join(", ")));
    let table = Table::new("readers.t");
    admin.schema().note_baseline(&table).unwrap();
    let mut rows = admin.rows();
    admin.own(&mut rows, 1);
    let reader = connected_as(&admin, "reader");
    reader.schema().verify().unwrap();
    let mut history = reader.history();
    assert_eq!(history.positions().unwrap().len(), 1);
    assert_eq!(history.version_sum(&table).unwrap(), Some(0));
    assert_eq!(history.repairs().unwrap().len(), 0);
    history.each_outbox_row(&mut |_| {}).unwrap();
    assert_eq!(history.gaps().unwrap(), []);
    let spec = TableSpec::new(table, Vec::new());
    let (differences, lacks) = reader.rows().compared(&[spec]).unwrap();
    assert_eq!((differences.len(), lacks.len()), (0, 1), "{differences:?} {lacks:?}");
}
