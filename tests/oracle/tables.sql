-- The load's table, and its ledger: a trigger moves every change there in the transaction that makes it, whoever makes it.
CREATE TABLE things (
    id bigint PRIMARY KEY, nonce bigint NOT NULL DEFAULT 0, chain bigint NOT NULL DEFAULT 0,
    links bigint NOT NULL DEFAULT 0, trail text NOT NULL DEFAULT '', version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 85);
CREATE TABLE ledger (
    id bigint NOT NULL, number bigint NOT NULL, topic text NOT NULL, partition integer NOT NULL,
    source_offset bigint NOT NULL, nonce bigint NOT NULL, chain bigint NOT NULL
);
CREATE FUNCTION to_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger
    SELECT NEW.id, f[1]::bigint, f[2], f[3]::integer, f[4]::bigint, f[5]::bigint, f[6]::bigint
    FROM (SELECT string_to_array(change, ' ') AS f FROM unnest(string_to_array(NEW.trail, ',')) AS change
          WHERE change <> '') AS changes
    WHERE f[1]::bigint > OLD.links;
    NEW.trail := '';
    RETURN NEW;
END $$;
CREATE TRIGGER to_ledger BEFORE UPDATE ON things FOR EACH ROW EXECUTE FUNCTION to_ledger();
