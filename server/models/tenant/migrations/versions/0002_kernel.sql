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
