-- The sum of a table's row versions when a pipeline first saw it: the audit counts row changes from there.
CREATE TABLE {schema}.baseline (
    pipeline    text COLLATE "C" NOT NULL,
    table_name  text COLLATE "C" NOT NULL,
    version_sum bigint NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, table_name)
);

-- Numbers for producers, leased by instances: they name a producer and own nothing.
CREATE TABLE {schema}.slot (
    pipeline   text COLLATE "C" NOT NULL,
    slot       integer NOT NULL,
    owner      text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (pipeline, slot)
);
