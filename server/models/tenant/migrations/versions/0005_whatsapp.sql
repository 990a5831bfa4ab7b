-- == Content.

ALTER TABLE conversations
    ADD COLUMN referral_time timestamptz,
    ADD COLUMN free_entry_expire_time timestamptz;

ALTER TABLE message_attachments
    ADD COLUMN voice boolean NOT NULL DEFAULT false,
    ADD COLUMN animated boolean NOT NULL DEFAULT false;

-- == Identity.

ALTER TABLE identity_aliases
    ADD COLUMN end_time timestamptz,
    ADD COLUMN told_time timestamptz;

ALTER TABLE identities ADD COLUMN profile_time timestamptz, ADD COLUMN username text;

ALTER TABLE conversations ADD COLUMN last_inbound_sequence bigint NOT NULL DEFAULT 0;

-- Who wants no marketing messages, by address: the word may come before whoever has it.
CREATE TABLE marketing_consents (
    channel_id uuid NOT NULL,
    kind text NOT NULL,
    value text NOT NULL,
    state text NOT NULL,
    provider_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT pk_marketing_consents PRIMARY KEY (channel_id, kind, value),
    CONSTRAINT fk_marketing_consents_channel_id FOREIGN KEY (channel_id) REFERENCES channels (id),
    CONSTRAINT ck_marketing_consents_state CHECK (state IN ('stopped', 'resumed', 'signed_up'))
);

ALTER TABLE parked_receipts ADD COLUMN stops_marketing boolean NOT NULL DEFAULT false;

-- Who of a group a receipt is about; of one that is parked, nobody is ''.
ALTER TABLE message_status_updates ADD COLUMN member text;

ALTER TABLE parked_receipts
    ADD COLUMN member text NOT NULL DEFAULT '',
    DROP CONSTRAINT uq_parked_receipts_channel_id_provider_message_id_status,
    ADD CONSTRAINT uq_parked_receipts_channel_id_provider_message_id_status_member
        UNIQUE (channel_id, provider_message_id, status, member);

-- == Sends.

-- What the provider allows the account a second; NULL is what it allows everybody.
ALTER TABLE channels ADD COLUMN throughput_per_second integer;

-- One time for each send that its account is not done with: when its place is free again.
ALTER TABLE channels ADD COLUMN send_places timestamptz[] NOT NULL DEFAULT '{}';

-- Until when the provider takes answers and nothing else.
ALTER TABLE channels ADD COLUMN templates_held_until timestamptz;

ALTER TABLE deliveries ADD COLUMN lane smallint NOT NULL DEFAULT 0;

DROP INDEX ix_deliveries_due;

CREATE INDEX ix_deliveries_due ON deliveries (channel_id, lane, due_time, id) WHERE state = 'queued';

-- Whether what comes after it in its conversation goes before it until it is due.
ALTER TABLE deliveries ADD COLUMN aside boolean NOT NULL DEFAULT false;

-- What a provider may be told again, of all kinds: how far a conversation was read, that somebody writes, a reaction.
ALTER TABLE read_marks RENAME TO marks;

ALTER TABLE marks RENAME CONSTRAINT fk_read_marks_conversation_id TO fk_marks_conversation_id;

ALTER TABLE marks
    ADD COLUMN kind text NOT NULL DEFAULT 'read' CONSTRAINT ck_marks_kind CHECK (kind IN ('read', 'typing', 'reaction')),
    ADD COLUMN key uuid,
    ADD COLUMN emoji text,
    ADD COLUMN expire_time timestamptz;

UPDATE marks SET key = conversation_id;

ALTER TABLE marks
    ALTER COLUMN key SET NOT NULL,
    DROP CONSTRAINT pk_read_marks,
    ADD CONSTRAINT pk_marks PRIMARY KEY (kind, key);

DROP INDEX ix_read_marks_due;

CREATE INDEX ix_marks_due ON marks (channel_id, due_time, key);

CREATE INDEX ix_marks_conversation_id ON marks (conversation_id);

-- What a message's last reaction that the provider took is called there: of its receipts the one that it failed takes it back.
CREATE TABLE sent_reactions (
    message_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    provider_message_id text NOT NULL,
    emoji text,
    create_time timestamptz NOT NULL,
    CONSTRAINT pk_sent_reactions PRIMARY KEY (message_id),
    CONSTRAINT fk_sent_reactions_conversation_id FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE,
    CONSTRAINT uq_sent_reactions_channel_id_provider_message_id UNIQUE (channel_id, provider_message_id)
);

CREATE INDEX ix_sent_reactions_conversation_id ON sent_reactions (conversation_id);

CREATE INDEX ix_sent_reactions_create_time ON sent_reactions (create_time);

-- == Media.

-- As it is stored: type by the first bytes, hash in hexadecimal digits. The columns without `stored_` are what the provider told.
ALTER TABLE message_attachments
    ADD COLUMN stored_type text,
    ADD COLUMN stored_sha256 text,
    ADD COLUMN sha256_differs boolean NOT NULL DEFAULT false,
    ADD COLUMN error text,
    DROP CONSTRAINT ck_message_attachments_state,
    ADD CONSTRAINT ck_message_attachments_state
        CHECK (state IN ('linked', 'fetching', 'stored', 'failed', 'expired')),
    ADD CONSTRAINT ck_message_attachments_stored
        CHECK (state <> 'stored' OR (stored_type IS NOT NULL AND stored_sha256 IS NOT NULL AND size_bytes IS NOT NULL));

-- Files that callers bring: here, expected over a signed link, or to be fetched from where `link` leads. due_time: when it is deleted,
-- which messages that have it prevent.
CREATE TABLE media (
    id uuid NOT NULL,
    state text NOT NULL,
    link text,
    file_name text,
    mime_type text,
    size_bytes bigint,
    sha256 text,
    animated boolean DEFAULT false NOT NULL,
    error text,
    create_time timestamptz NOT NULL,
    due_time timestamptz,
    CONSTRAINT pk_media PRIMARY KEY (id),
    CONSTRAINT ck_media_state CHECK (state IN ('expected', 'linked', 'stored', 'failed')),
    CONSTRAINT ck_media_stored CHECK (state <> 'stored' OR (mime_type IS NOT NULL AND sha256 IS NOT NULL AND size_bytes IS NOT NULL))
);

CREATE INDEX ix_media_due_time ON media (due_time);

ALTER TABLE message_attachments
    ADD COLUMN media_id uuid CONSTRAINT fk_message_attachments_media_id REFERENCES media (id),
    ADD COLUMN caption text;

CREATE INDEX ix_message_attachments_media_id ON message_attachments (media_id) WHERE media_id IS NOT NULL;

-- What a file is called at the provider, for one channel, and until when; or why it could not be brought there. due_time: when it is to
-- be, or when the worker that does it is thought dead; NULL where there is nothing to do.
CREATE TABLE provider_media (
    media_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    provider_media_id text,
    expire_time timestamptz,
    error_class text,
    error_code text,
    error_message text,
    due_time timestamptz,
    attempt smallint NOT NULL,
    CONSTRAINT pk_provider_media PRIMARY KEY (media_id, channel_id),
    CONSTRAINT fk_provider_media_media_id FOREIGN KEY (media_id) REFERENCES media (id) ON DELETE CASCADE,
    CONSTRAINT ck_provider_media_expire_time CHECK ((provider_media_id IS NULL) = (expire_time IS NULL))
);

CREATE INDEX ix_provider_media_due_time ON provider_media (due_time);

-- Files to fetch: a row as long as there is something to do. due_time: when, or when its worker is thought dead.
CREATE TABLE media_fetches (
    attachment_id uuid NOT NULL,
    due_time timestamptz NOT NULL,
    attempt smallint NOT NULL,
    CONSTRAINT pk_media_fetches PRIMARY KEY (attachment_id),
    CONSTRAINT fk_media_fetches_attachment_id FOREIGN KEY (attachment_id) REFERENCES message_attachments (id) ON DELETE CASCADE
);

CREATE INDEX ix_media_fetches_due_time ON media_fetches (due_time);

-- Files whose rows are gone, to be deleted from the store.
CREATE TABLE media_leavings (
    attachment_id uuid NOT NULL,
    due_time timestamptz NOT NULL,
    CONSTRAINT pk_media_leavings PRIMARY KEY (attachment_id)
);

CREATE INDEX ix_media_leavings_due_time ON media_leavings (due_time);

-- Whoever adds a file has it fetched, and whoever deletes one has it deleted from the store, however he does it.
CREATE FUNCTION begin_media_fetch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO media_fetches (attachment_id, due_time, attempt) VALUES (NEW.id, clock_now(), 0);
    RETURN NULL;
END $$;

CREATE TRIGGER begin_media_fetch AFTER INSERT ON message_attachments FOR EACH ROW
    WHEN (NEW.state = 'fetching' AND NEW.media_id IS NULL) EXECUTE FUNCTION begin_media_fetch();

-- One that is being fetched may still come to the store, until its worker finds that the row is gone.
CREATE FUNCTION leave_media() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO media_leavings (attachment_id, due_time)
    VALUES (OLD.id, clock_now() + CASE OLD.state WHEN 'stored' THEN interval '0' ELSE interval '15 minutes' END)
    ON CONFLICT (attachment_id) DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER leave_media AFTER DELETE ON message_attachments FOR EACH ROW
    WHEN (OLD.state IN ('fetching', 'stored') AND OLD.media_id IS NULL) EXECUTE FUNCTION leave_media();

-- A file that a caller brought stays while a message has it.
CREATE FUNCTION let_media_go() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM media m WHERE m.id = OLD.media_id AND NOT EXISTS (SELECT FROM message_attachments WHERE media_id = m.id);
    RETURN NULL;
END $$;

CREATE TRIGGER let_media_go AFTER DELETE ON message_attachments FOR EACH ROW
    WHEN (OLD.media_id IS NOT NULL) EXECUTE FUNCTION let_media_go();

CREATE TRIGGER leave_media AFTER DELETE ON media FOR EACH ROW EXECUTE FUNCTION leave_media();

-- A message that goes out with a file waits until that is at the provider: its delivery is due when the upload has ended, or, should
-- nobody tell it, in ten minutes.
CREATE FUNCTION begin_media_upload() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    channel uuid;
BEGIN
    UPDATE media SET due_time = NULL WHERE id = NEW.media_id AND due_time IS NOT NULL;
    SELECT channel_id INTO channel FROM messages WHERE id = NEW.message_id;
    IF EXISTS (SELECT FROM provider_media WHERE media_id = NEW.media_id AND channel_id = channel AND expire_time > clock_now()) THEN
        RETURN NULL;
    END IF;
    INSERT INTO provider_media AS p (media_id, channel_id, due_time, attempt) VALUES (NEW.media_id, channel, clock_now(), 0)
    ON CONFLICT (media_id, channel_id) DO UPDATE SET due_time = coalesce(p.due_time, clock_now());
    UPDATE deliveries d SET due_time = clock_now() + interval '10 minutes', error_message = 'waits for its file'
    FROM message_parts p WHERE p.message_id = NEW.message_id AND p.position = NEW.position AND d.part_id = p.id;
    RETURN NULL;
END $$;

CREATE TRIGGER begin_media_upload AFTER INSERT ON message_attachments FOR EACH ROW
    WHEN (NEW.media_id IS NOT NULL) EXECUTE FUNCTION begin_media_upload();

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
    made_time timestamptz,
    edit_times timestamptz[] NOT NULL,
    name_free_time timestamptz,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT pk_templates PRIMARY KEY (id),
    CONSTRAINT ck_templates_parameter_format CHECK (parameter_format IN ('positional', 'named'))
);

CREATE UNIQUE INDEX uq_templates_provider_template_id ON templates (provider, business_account_id, provider_template_id);

CREATE INDEX ix_templates_name ON templates (provider, business_account_id, name, language, id);

-- When the templates of a channel's account are read again; of a new channel at once.
ALTER TABLE channels ADD COLUMN templates_due_time timestamptz DEFAULT now();

CREATE INDEX ix_channels_templates_due_time ON channels (templates_due_time) WHERE templates_due_time IS NOT NULL;

-- What the provider said of a message that it took and holds back.
ALTER TABLE message_status_updates ADD COLUMN note text;

-- Which template a send waits for, since it is paused.
ALTER TABLE deliveries ADD COLUMN awaited_template_id uuid;

CREATE INDEX ix_deliveries_awaited_template ON deliveries (awaited_template_id) WHERE awaited_template_id IS NOT NULL AND state IN ('queued', 'waiting');

-- == Channels.

ALTER TABLE channels ADD COLUMN health jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN health_times jsonb NOT NULL DEFAULT '{}',
    DROP CONSTRAINT ck_channels_state;

ALTER TABLE channels ADD CONSTRAINT ck_channels_state CHECK (state IN ('active', 'paused', 'blocked', 'disconnected'));

-- When the provider is asked again how a channel does, and whether its webhooks are to be begun anew then.
ALTER TABLE channels ADD COLUMN check_due_time timestamptz,
    ADD COLUMN check_subscribes boolean NOT NULL DEFAULT false;

UPDATE channels SET check_due_time = now() + random() * interval '1 day' WHERE provider = 'whatsapp';

CREATE INDEX ix_channels_check_due_time ON channels (check_due_time) WHERE check_due_time IS NOT NULL;

-- Until when the provider lets a channel answer and begin nothing; NULL where nothing holds it.
CREATE FUNCTION templates_held(c channels) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT greatest(c.templates_held_until, (
        SELECT max(coalesce((r ->> 'expire_time')::timestamptz, 'infinity')) FROM jsonb_array_elements(c.health -> 'restrictions') r
        WHERE (r ->> 'forbids_templates')::boolean
    ))
$$;

-- Whether the others of its conversation go before it now: a template that the provider makes wait for long.
CREATE FUNCTION steps_aside(d deliveries) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT d.lane > 0 AND (
        (d.aside AND d.due_time > clock_now())
        OR EXISTS (SELECT FROM channels c WHERE c.id = d.channel_id AND templates_held(c) > clock_now())
    )
$$;

DROP FUNCTION has_head(uuid);

-- Whether the next send of a conversation waits. A head that steps aside makes way, for the first that waits behind it, or for the next
-- itself. Volatile, so that it sees what was committed while its caller waited for the conversation's lock.
CREATE FUNCTION waits_for_head(conversation uuid, next_lane integer) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    head deliveries;
    first uuid;
BEGIN
    SELECT * INTO head FROM deliveries d WHERE d.conversation_id = conversation AND d.state IN ('queued', 'in_flight');
    IF NOT FOUND OR head.lane = 0 OR head.state = 'in_flight' OR NOT steps_aside(head) THEN
        RETURN FOUND;
    END IF;
    SELECT w.id INTO first FROM deliveries w
    WHERE w.conversation_id = conversation AND w.state = 'waiting' AND NOT steps_aside(w) ORDER BY w.position, w.id LIMIT 1;
    IF first IS NULL AND next_lane > 0
        AND EXISTS (SELECT FROM channels c WHERE c.id = head.channel_id AND templates_held(c) > clock_now()) THEN
        RETURN true;
    END IF;
    UPDATE deliveries SET state = 'waiting' WHERE id = head.id AND state = 'queued';
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    UPDATE deliveries SET state = 'queued', due_time = greatest(due_time, clock_now()) WHERE id = first;
    RETURN FOUND;
END $$;

-- == Erasure.

-- Who is being erased is seen by nobody; the row goes with the rest.
ALTER TABLE contacts ADD COLUMN erase_time timestamptz;

-- What is erased, how far it is, and what it was. file_ids: of the store. addresses: what is looked for; nothing of them is left when
-- it is done.
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
    file_ids uuid[] DEFAULT '{}' NOT NULL,
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
