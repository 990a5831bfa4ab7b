-- What the kernel needed once it was put to the test. Statements are separated by blank lines.

-- Every due time is compared with this clock. It is now(), inlined; a test may put another function in its place.
CREATE FUNCTION clock_now() RETURNS TIMESTAMP WITH TIME ZONE LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now()';

-- When a tenant was last looked at whole; once a day, whatever the directory says of it.
ALTER TABLE tenant_work ADD COLUMN house_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL;

CREATE INDEX ix_tenant_work_house_time ON tenant_work (house_time);

-- The workers that run, so that each takes its share of the tenants.
CREATE TABLE workers (
    name TEXT NOT NULL,
    seen_until TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_workers PRIMARY KEY (name)
);

-- Limits of a tenant's own, in place of those of the settings.
ALTER TABLE tenants ADD COLUMN calls_per_second INTEGER;

ALTER TABLE tenants ADD COLUMN calls_per_second_of_caller INTEGER;

-- Data keys can be changed: the next one is known everywhere before anything is sealed with it, the previous one opens what still is.
ALTER TABLE tenants ADD COLUMN next_wrapped_key BYTEA, ADD COLUMN previous_wrapped_key BYTEA, ADD COLUMN key_time TIMESTAMP WITH TIME ZONE;

ALTER TABLE installation ADD COLUMN next_wrapped_key BYTEA, ADD COLUMN previous_wrapped_key BYTEA, ADD COLUMN root BYTEA, ADD COLUMN key_time TIMESTAMP WITH TIME ZONE;
