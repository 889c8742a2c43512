//! The statements on Tidegate's own tables.

use crate::adapters::postgres::connection::Server;
use crate::adapters::postgres::outbox;
use crate::adapters::postgres::statements::Statement;
use crate::ports::guard::{Guard, guarded};

const LOCK_POSITIONS: &str = "SELECT topic, partition, generation FROM {schema}.position WHERE pipeline = $1 AND \
     (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::integer[])) ORDER BY topic, partition FOR UPDATE";

const CLAIM: &str = "UPDATE {schema}.position AS p SET epoch = p.epoch + 1, generation = a.generation, owner = a.owner, \
     backend_pid = pg_backend_pid(), updated_at = now() \
     FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::integer[]) \
     AS a(topic, partition, generation, owner, adopts) \
     WHERE p.pipeline = $1 AND p.topic = a.topic AND p.partition = a.partition \
     AND (p.generation <= a.generation OR p.generation = a.adopts) \
     RETURNING p.topic, p.partition, p.epoch, p.next_offset, p.published, p.incarnation, p.group_id, p.cluster_id, \
     p.topic_id, p.partition_count";

const CREATE: &str = "INSERT INTO {schema}.position (pipeline, topic, partition, cluster_id, topic_id, group_id, generation, \
     epoch, owner, backend_pid, next_offset, published, partition_count) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, pg_backend_pid(), $9, $9, $10) ON CONFLICT DO NOTHING";

/// Each move carries its number in the request, so that the answer names those that matched.
const ADVANCE: &str = "UPDATE {schema}.position AS p SET next_offset = m.next_offset, \
     published = greatest(p.published, m.published), records = p.records + m.records, \
     row_changes = p.row_changes + m.row_changes, announced = p.announced + m.announced, \
     dead_letters = p.dead_letters + m.dead_letters, skipped = p.skipped + m.skipped, updated_at = now() \
     FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], \
     $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::integer[]) AS m(topic, partition, epoch, from_offset, \
     next_offset, published, records, row_changes, announced, dead_letters, skipped, place) \
     WHERE p.pipeline = $1 AND p.topic = m.topic AND p.partition = m.partition AND p.epoch = m.epoch \
     AND p.next_offset = m.from_offset RETURNING m.place";

const SETTLE: &str = "SELECT epoch, next_offset FROM {schema}.position WHERE pipeline = $1 AND topic = $2 AND partition = $3 \
     FOR UPDATE";

const RECORD: &str = "INSERT INTO {schema}.verdict (pipeline, topic, partition, source_offset, outcome, magnitude, threshold, \
     note) SELECT $1, u.* FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::text[], $6::double precision[], \
     $7::double precision[], $8::text[]) AS u";

/// Rows of an earlier incarnation have offsets of a log that is gone; they are kept for the audit and never published again.
const OUTBOX: &str = "SELECT topic, partition, source_offset, seq, incarnation, created_at, destination, key, headers, value, \
     event_time_ms FROM {schema}.outbox AS o WHERE pipeline = $1 AND topic = $2 AND partition = $3 AND source_offset >= $4 \
     AND source_offset < $5 AND incarnation = coalesce((SELECT p.incarnation FROM {schema}.position AS p \
     WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = $3), o.incarnation) \
     ORDER BY source_offset, seq LIMIT $6";

/// The statements on our own tables.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) lock_positions: Statement,
    pub(super) claim: Statement,
    pub(super) create: Statement,
    pub(super) advance: Statement,
    pub(super) settle: Statement,
    pub(super) record: Statement,
    pub(super) outbox: Statement,
    pub(super) append: Statement,
    pub(super) redirect: Statement,
}

impl Texts {
    pub(super) fn new(server: &Server) -> Self {
        Self {
            lock_positions: server.statement(LOCK_POSITIONS),
            claim: server.statement(&guarded(
                CLAIM,
                Guard::Generation,
                " AND (p.generation <= a.generation OR p.generation = a.adopts)",
            )),
            create: server.statement(CREATE),
            advance: server.statement(&guarded(
                guarded(ADVANCE, Guard::Epoch, " AND p.epoch = m.epoch"),
                Guard::Offset,
                " AND p.next_offset = m.from_offset",
            )),
            settle: server.statement(&guarded(SETTLE, Guard::SettleLock, " FOR UPDATE")),
            record: server.statement(RECORD),
            outbox: server.statement(OUTBOX),
            append: server.statement(outbox::INSERT),
            redirect: server.statement(outbox::REDIRECT),
        }
    }
}
