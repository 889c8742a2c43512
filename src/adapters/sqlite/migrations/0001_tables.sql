-- Positions: what the database has absorbed of each source partition, and who may move it on.
CREATE TABLE tidegate_position (
    pipeline        TEXT    NOT NULL,
    topic           TEXT    NOT NULL,
    partition       INTEGER NOT NULL,
    topic_id        TEXT    NOT NULL,
    cluster_id      TEXT    NOT NULL,
    group_id        TEXT    NOT NULL,
    incarnation     INTEGER NOT NULL DEFAULT 0,
    generation      INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    owner           TEXT    NOT NULL,
    next_offset     INTEGER NOT NULL,
    published       INTEGER NOT NULL,
    partition_count INTEGER NOT NULL,
    records         INTEGER NOT NULL DEFAULT 0,
    row_changes     INTEGER NOT NULL DEFAULT 0,
    announced       INTEGER NOT NULL DEFAULT 0,
    dead_letters    INTEGER NOT NULL DEFAULT 0,
    skipped         INTEGER NOT NULL DEFAULT 0,
    updated_at      TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    PRIMARY KEY (pipeline, topic, partition)
) STRICT, WITHOUT ROWID;

-- Decided and bound for a topic. created_at in milliseconds since 1970; headers as JSON pairs of name and value.
CREATE TABLE tidegate_outbox (
    pipeline      TEXT    NOT NULL,
    topic         TEXT    NOT NULL,
    partition     INTEGER NOT NULL,
    source_offset INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    incarnation   INTEGER NOT NULL,
    destination   TEXT    NOT NULL,
    key           BLOB,
    value         BLOB,
    headers       TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (pipeline, topic, partition, source_offset, seq, created_at)
) STRICT;

-- The ledger that `explain` reads.
CREATE TABLE tidegate_verdict (
    pipeline      TEXT    NOT NULL,
    topic         TEXT    NOT NULL,
    partition     INTEGER NOT NULL,
    source_offset INTEGER NOT NULL,
    outcome       TEXT    NOT NULL,
    magnitude     REAL,
    threshold     REAL,
    note          TEXT,
    created_at    TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    PRIMARY KEY (pipeline, topic, partition, source_offset)
) STRICT, WITHOUT ROWID;

-- The sum of row versions at which a pipeline started: the audit counts from there.
CREATE TABLE tidegate_baseline (
    pipeline    TEXT    NOT NULL,
    table_name  TEXT    NOT NULL,
    version_sum INTEGER NOT NULL,
    PRIMARY KEY (pipeline, table_name)
) STRICT, WITHOUT ROWID;

-- Names of producers. until in milliseconds since 1970.
CREATE TABLE tidegate_slot (
    pipeline TEXT    NOT NULL,
    slot     INTEGER NOT NULL,
    owner    TEXT    NOT NULL,
    until    INTEGER NOT NULL,
    PRIMARY KEY (pipeline, slot)
) STRICT, WITHOUT ROWID;
