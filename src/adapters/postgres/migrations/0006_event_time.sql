-- The timestamp that a message is published with, in milliseconds since 1970: the event time of its record. Null for the
-- moment of publication, as in rows of before.
ALTER TABLE {schema}.outbox ADD COLUMN event_time_ms bigint;
