-- What was decided and is bound for a topic. Insert-only; removed by dropping whole partitions. The default partition
-- takes what no partition covers (maintenance late, a clock that jumped), so that an insert never fails for it.
CREATE TABLE {schema}.outbox (
    source_offset bigint NOT NULL,
    created_at    timestamptz NOT NULL,
    partition     integer NOT NULL,
    seq           integer NOT NULL,
    incarnation   integer NOT NULL,
    pipeline      text COLLATE "C" NOT NULL,
    topic         text COLLATE "C" NOT NULL,
    destination   text COLLATE "C" NOT NULL,
    key           bytea,
    headers       bytea,
    value         bytea,
    trace         text,
    PRIMARY KEY (pipeline, topic, partition, source_offset, seq, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE {schema}.outbox_default PARTITION OF {schema}.outbox DEFAULT;
