-- One row a source partition: how far the database is (next_offset, D), a lower bound of the group's committed offset
-- (published, P), who owns it (epoch), and what was done (counters).
CREATE TABLE {schema}.position (
    pipeline        text COLLATE "C" NOT NULL,
    topic           text COLLATE "C" NOT NULL,
    partition       integer NOT NULL,
    cluster_id      text NOT NULL,
    topic_id        text NOT NULL,
    group_id        text NOT NULL,
    incarnation     integer NOT NULL DEFAULT 0,
    generation      integer NOT NULL,
    epoch           bigint NOT NULL,
    owner           text NOT NULL,
    backend_pid     integer NOT NULL,
    next_offset     bigint NOT NULL,
    published       bigint NOT NULL,
    partition_count integer NOT NULL,
    records         bigint NOT NULL DEFAULT 0,
    row_changes     bigint NOT NULL DEFAULT 0,
    announced       bigint NOT NULL DEFAULT 0,
    dead_letters    bigint NOT NULL DEFAULT 0,
    skipped         bigint NOT NULL DEFAULT 0,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, topic, partition)
-- Updated with each batch and never indexed on what changes: room for HOT updates on the same page.
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
