-- What the kernel needed once it was put to the test. Statements are separated by blank lines.

-- Every due time is compared with this clock. It is now(), inlined; a test may put another function in its place.
CREATE FUNCTION clock_now() RETURNS TIMESTAMP WITH TIME ZONE LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now()';

-- A payload that cannot be applied is tried again later and later, and then set apart for an operator to see.
ALTER TABLE journal ADD COLUMN attempts SMALLINT DEFAULT 1 NOT NULL, ADD COLUMN due_time TIMESTAMP WITH TIME ZONE, ADD COLUMN error TEXT;

ALTER TABLE journal DROP CONSTRAINT ck_journal_state, ADD CONSTRAINT ck_journal_state CHECK (state IN ('received', 'applied', 'failed'));

UPDATE journal SET due_time = receive_time WHERE state = 'received';

DROP INDEX ix_journal_received;

CREATE INDEX ix_journal_due ON journal (due_time) WHERE state = 'received';

CREATE INDEX ix_journal_failed ON journal (receive_time) WHERE state = 'failed';

-- An item that a later parser reads as something else stands beside what it was taken for.
ALTER TABLE journal_items DROP CONSTRAINT ck_journal_items_state, ADD CONSTRAINT ck_journal_items_state CHECK (state IN ('applied', 'duplicate', 'ignored', 'parked', 'failed', 'superseded'));

ALTER TABLE parked_receipts ADD COLUMN closes_reply_window BOOLEAN DEFAULT false NOT NULL;

-- A timer that fails is tried again later, without forgetting when it was meant to fire; after some attempts it is dead.
ALTER TABLE timers
    ADD COLUMN attempt INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN retry_time TIMESTAMP WITH TIME ZONE,
    ADD COLUMN dead_time TIMESTAMP WITH TIME ZONE,
    ADD COLUMN error TEXT;

CREATE INDEX ix_timers_failed ON timers (kind, key) WHERE attempt > 0;

CREATE INDEX ix_timers_due ON timers (coalesce(retry_time, due_time), kind, key) WHERE dead_time IS NULL;

DROP INDEX ix_timers_due_time;

-- One head per conversation is queued or in flight, the others wait, so that a claim reads heads alone.
ALTER TABLE deliveries DROP CONSTRAINT ck_deliveries_state;

ALTER TABLE deliveries ADD CONSTRAINT ck_deliveries_state
    CHECK (state IN ('waiting', 'queued', 'in_flight', 'accepted', 'failed', 'unknown'));

ALTER TABLE deliveries ADD COLUMN uncounted SMALLINT DEFAULT 0 NOT NULL;

UPDATE deliveries d SET state = 'waiting'
WHERE state = 'queued' AND EXISTS (
    SELECT FROM deliveries e WHERE e.conversation_id = d.conversation_id AND e.id <> d.id AND (
        e.state = 'in_flight' OR (e.state = 'queued' AND (e.position, e.id) < (d.position, d.id))));

DROP INDEX uq_deliveries_in_flight;

DROP INDEX ix_deliveries_conversation;

DROP INDEX ix_deliveries_due;

CREATE UNIQUE INDEX uq_deliveries_head ON deliveries (conversation_id) WHERE state IN ('queued', 'in_flight');

CREATE INDEX ix_deliveries_waiting ON deliveries (conversation_id, position, id) WHERE state = 'waiting';

CREATE INDEX ix_deliveries_due ON deliveries (channel_id, due_time, id) WHERE state = 'queued';

CREATE INDEX ix_deliveries_unknown ON deliveries (conversation_id) WHERE state = 'unknown';

CREATE INDEX ix_deliveries_ended ON deliveries (state, id) WHERE state IN ('failed', 'unknown');

-- Volatile, so that it sees what was committed while its caller waited for the conversation's lock.
CREATE FUNCTION has_head(conversation UUID) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM deliveries d WHERE d.conversation_id = conversation AND d.state IN ('queued', 'in_flight'));
END $$;

-- Buckets: when the next send may be taken; time that passed since is saved up, to the limit of the provider's pace.
ALTER TABLE channels ADD COLUMN sends_per_second INTEGER;

ALTER TABLE channels ADD COLUMN next_send_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL;

CREATE TABLE recipient_buckets (
    identity_id UUID NOT NULL,
    next_send_time TIMESTAMP WITH TIME ZONE NOT NULL,
    span_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_recipient_buckets PRIMARY KEY (identity_id)
);

CREATE INDEX ix_recipient_buckets_next_send_time ON recipient_buckets (next_send_time);

-- A consumer that was given up: it no longer holds the floor of the log, and does not go on over what it missed.
ALTER TABLE consumers ADD COLUMN broken_time TIMESTAMP WITH TIME ZONE;

-- Made apart and then attached: a partition that is made in its place locks out the writers that wait for the head meanwhile, and
-- deadlocks with them.
CREATE OR REPLACE FUNCTION ensure_event_partition(seq bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    number bigint := seq / 1000000;
    name text := 'stream_event_' || number;
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE stream_event INCLUDING ALL)', name);
    EXECUTE format(
        'ALTER TABLE stream_event ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, number * 1000000, (number + 1) * 1000000);
END $$;

-- The partitions wholly below a seq, which becomes the floor. The table is locked before the head: writers that wait for the head
-- hold the table already.
CREATE FUNCTION drop_events_below(wanted bigint) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    name text;
    dropped int := 0;
BEGIN
    LOCK TABLE stream_event IN ACCESS EXCLUSIVE MODE;
    UPDATE stream_head SET floor = wanted WHERE floor < wanted AND wanted <= head + 1;
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid, stream_head h
        WHERE i.inhparent = 'stream_event'::regclass AND (split_part(c.relname, '_', 3)::bigint + 1) * 1000000 <= h.floor
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Where traces are on: the W3C traceparent of what goes on later, or in another process.
CREATE TABLE traces (
    id UUID NOT NULL,
    traceparent TEXT NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_traces PRIMARY KEY (id)
);

CREATE INDEX ix_traces_create_time ON traces (create_time);

-- Copies of what the conversation says, written while its row is locked: they need no look-up of their own for each message.
ALTER TABLE messages DROP CONSTRAINT fk_messages_channel_id;

ALTER TABLE message_parts DROP CONSTRAINT fk_message_parts_conversation_id, DROP CONSTRAINT fk_message_parts_channel_id;
