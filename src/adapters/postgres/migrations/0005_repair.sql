-- What operators did to positions by commands: who, when, from where to where. Of the inputs in [excused_from, excused_to)
-- the announcements are no longer what the outbox says, by the operator's decision: the audit counts them apart.
CREATE TABLE {schema}.repair (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    done_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    pipeline           text COLLATE "C" NOT NULL,
    topic              text COLLATE "C" NOT NULL,
    partition          integer NOT NULL,
    incarnation        integer NOT NULL,
    command            text NOT NULL,
    who                text NOT NULL,
    next_offset_before bigint,
    next_offset        bigint NOT NULL,
    committed_before   bigint,
    committed          bigint NOT NULL,
    excused_from       bigint NOT NULL,
    excused_to         bigint NOT NULL
);
