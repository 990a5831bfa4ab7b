-- Of channels that were connected before, nobody knows it here: it is noted with the next synchronisation of their templates.
ALTER TABLE routes ADD COLUMN shared_id text;

-- An object that its channel gave back is another tenant's only when no process remembers the old owner any more.
ALTER TABLE routes ADD COLUMN release_time timestamptz;

CREATE INDEX ix_routes_shared_id ON routes (provider, shared_id) WHERE shared_id IS NOT NULL;
