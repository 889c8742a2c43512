-- The in-process log: what was committed, and nothing else.
CREATE TABLE IF NOT EXISTS journal_topic (
    topic      TEXT    NOT NULL PRIMARY KEY,
    topic_id   TEXT    NOT NULL,
    partitions INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS journal_record (
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    record_offset INTEGER NOT NULL,
    timestamp   INTEGER NOT NULL,
    key         BLOB,
    value       BLOB,
    headers     TEXT    NOT NULL,
    PRIMARY KEY (topic, partition, record_offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS journal_end (
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS journal_committed (
    group_id    TEXT    NOT NULL,
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    metadata    TEXT    NOT NULL,
    PRIMARY KEY (group_id, topic, partition)
) STRICT, WITHOUT ROWID;
