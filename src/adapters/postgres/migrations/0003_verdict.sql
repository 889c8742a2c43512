-- The optional ledger: what was decided about each record. Partitioned as the outbox is.
CREATE TABLE {schema}.verdict (
    source_offset bigint NOT NULL,
    decided_at    timestamptz NOT NULL DEFAULT now(),
    magnitude     double precision,
    threshold     double precision,
    partition     integer NOT NULL,
    pipeline      text COLLATE "C" NOT NULL,
    topic         text COLLATE "C" NOT NULL,
    outcome       text NOT NULL,
    note          text
) PARTITION BY RANGE (decided_at);

-- Not unique: a replay decides again, and both decisions are worth keeping.
CREATE INDEX verdict_source ON {schema}.verdict (pipeline, topic, partition, source_offset);

CREATE TABLE {schema}.verdict_default PARTITION OF {schema}.verdict DEFAULT;
