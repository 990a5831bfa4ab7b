-- Of channels that were connected before, nobody knows it here: it is noted with the next synchronisation of their templates.
ALTER TABLE routes ADD COLUMN shared_id text;

-- An object that its channel gave back is another tenant's only when no process remembers the old owner any more.
ALTER TABLE routes ADD COLUMN release_time timestamptz;

CREATE INDEX ix_routes_shared_id ON routes (provider, shared_id) WHERE shared_id IS NOT NULL;

-- When the secret of an app was replaced, and until when the one before counts.
ALTER TABLE meta_apps ADD COLUMN rotate_time timestamptz, ADD COLUMN previous_expire_time timestamptz;

-- By which app an object's webhooks come. Of channels that were connected before, it is noted when their provider is asked next.
ALTER TABLE routes ADD COLUMN app_id text;

CREATE INDEX ix_routes_app_id ON routes (app_id) WHERE app_id IS NOT NULL;
