-- == Content.

ALTER TABLE message_attachments
    ADD COLUMN voice boolean NOT NULL DEFAULT false,
    ADD COLUMN animated boolean NOT NULL DEFAULT false;

-- == Identity.

ALTER TABLE identity_aliases
    ADD COLUMN end_time timestamptz,
    ADD COLUMN told_time timestamptz;

-- == Sends.

-- What the provider allows the account a second; NULL is what it allows everybody.
ALTER TABLE channels ADD COLUMN throughput_per_second integer;

ALTER TABLE deliveries ADD COLUMN lane smallint NOT NULL DEFAULT 0;

DROP INDEX ix_deliveries_due;

CREATE INDEX ix_deliveries_due ON deliveries (channel_id, lane, due_time, id) WHERE state = 'queued';

-- == Media.

-- == Templates.

CREATE TABLE templates (
    id uuid NOT NULL,
    provider text NOT NULL,
    business_account_id text NOT NULL,
    provider_template_id text NOT NULL,
    name text NOT NULL,
    language text NOT NULL,
    status text NOT NULL,
    category text NOT NULL,
    quality text NOT NULL,
    parameter_format text NOT NULL,
    components jsonb NOT NULL,
    reason text,
    upcoming_category text,
    upcoming_category_time timestamptz,
    stale boolean NOT NULL,
    status_time timestamptz NOT NULL,
    quality_time timestamptz NOT NULL,
    category_time timestamptz NOT NULL,
    components_time timestamptz NOT NULL,
    gone_time timestamptz,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT pk_templates PRIMARY KEY (id),
    CONSTRAINT ck_templates_parameter_format CHECK (parameter_format IN ('positional', 'named'))
);

CREATE UNIQUE INDEX uq_templates_provider_template_id ON templates (provider, business_account_id, provider_template_id);

CREATE INDEX ix_templates_name ON templates (provider, business_account_id, name, language, id);

-- == Erasure.

-- Who is being erased is seen by nobody; the row goes with the rest.
ALTER TABLE contacts ADD COLUMN erase_time timestamptz;

-- What is erased, how far it is, and what it was. addresses: what is looked for; nothing of them is left when it is done.
CREATE TABLE erasures (
    id uuid NOT NULL,
    contact_id uuid NOT NULL,
    reason text,
    state text NOT NULL,
    step smallint NOT NULL,
    place text,
    counts jsonb NOT NULL,
    contact_ids uuid[] NOT NULL,
    identity_ids uuid[] NOT NULL,
    conversation_ids uuid[] NOT NULL,
    addresses text[] NOT NULL,
    attempt smallint NOT NULL,
    error text,
    due_time timestamptz,
    create_time timestamptz NOT NULL,
    start_time timestamptz,
    update_time timestamptz NOT NULL,
    end_time timestamptz,
    CONSTRAINT pk_erasures PRIMARY KEY (id),
    CONSTRAINT uq_erasures_contact_id UNIQUE (contact_id),
    CONSTRAINT ck_erasures_state CHECK (state IN ('pending', 'running', 'done', 'failed')),
    CONSTRAINT ck_erasures_due_time CHECK ((due_time IS NULL) = (state IN ('done', 'failed'))),
    CONSTRAINT ck_erasures_addresses CHECK (state <> 'done' OR (addresses = '{}' AND place IS NULL))
);

CREATE INDEX ix_erasures_due_time ON erasures (due_time) WHERE due_time IS NOT NULL;

-- Hashes of the provider ids that were erased, so that a webhook which is repeated days later brings nothing back.
CREATE TABLE erased_keys (
    key uuid NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT pk_erased_keys PRIMARY KEY (key)
);

CREATE INDEX ix_erased_keys_create_time ON erased_keys (create_time);

-- An event never changes, but for this: what it says of a contact that is being erased makes place for a mark, an InboxEvent with
-- nothing but event_erased and in it the type of what it was.
CREATE FUNCTION erase_events(erasure uuid, first_seq bigint, last_seq bigint) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public AS $$
DECLARE
    found erasures%ROWTYPE;
    erased int;
BEGIN
    SELECT * INTO STRICT found FROM erasures WHERE id = erasure AND state = 'running';
    UPDATE stream_event e SET kind = 82, payload = set_byte('\x9205020800'::bytea, 4, e.kind)
    WHERE e.seq BETWEEN first_seq AND last_seq AND e.kind NOT IN (44, 76, 82) AND (
        e.conversation_id = ANY(found.conversation_ids)
        OR EXISTS (SELECT FROM unnest(found.contact_ids) c WHERE position(convert_to(c::text, 'UTF8') IN e.payload) > 0));
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END $$;

-- A payload stays as it came, but for what it has of a contact that was erased.
CREATE FUNCTION erase_payload(payload uuid, received timestamptz, remaining bytea) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public AS $$
BEGIN
    UPDATE journal SET body = remaining, split = true
    WHERE id = payload AND receive_time = received AND EXISTS (SELECT FROM erasures);
END $$;
