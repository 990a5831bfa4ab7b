-- Contacts, invites and channels of one's own, by the rules. Statements are separated by blank lines.

-- == Contacts.

ALTER TABLE contacts ADD COLUMN block_time timestamptz, ADD COLUMN block_reason text,
    ADD CONSTRAINT ck_contacts_block_reason CHECK (block_reason IS NULL OR block_time IS NOT NULL);

-- A copy of the contact's: whoever holds the conversation's lock need not look at the contact.
ALTER TABLE conversations ADD COLUMN contact_blocked boolean NOT NULL DEFAULT false;

CREATE INDEX ix_identity_conflicts_create_time_id ON identity_conflicts (create_time, id);

ALTER TABLE contacts ADD COLUMN merged_into_id uuid,
    ADD CONSTRAINT fk_contacts_merged_into_id FOREIGN KEY (merged_into_id) REFERENCES contacts (id),
    ADD CONSTRAINT ck_contacts_merged_into_id CHECK (merged_into_id <> id);

CREATE INDEX ix_contacts_merged_into_id ON contacts (merged_into_id) WHERE merged_into_id IS NOT NULL;

CREATE TABLE contact_merges (
    id uuid NOT NULL,
    contact_id uuid NOT NULL,
    merged_contact_id uuid NOT NULL,
    identity_ids uuid[] NOT NULL,
    attributes jsonb,
    reason text,
    create_time timestamptz NOT NULL,
    undo_time timestamptz,
    CONSTRAINT pk_contact_merges PRIMARY KEY (id),
    CONSTRAINT ck_contact_merges_two CHECK (contact_id <> merged_contact_id),
    CONSTRAINT fk_contact_merges_contact_id FOREIGN KEY (contact_id) REFERENCES contacts (id),
    CONSTRAINT fk_contact_merges_merged_contact_id FOREIGN KEY (merged_contact_id) REFERENCES contacts (id)
);

CREATE UNIQUE INDEX uq_contact_merges_standing ON contact_merges (merged_contact_id) WHERE undo_time IS NULL;

CREATE INDEX ix_contact_merges_contact_id ON contact_merges (contact_id);

-- == Lists.

-- What names are ordered and looked up by: upper and lower case are alike, and a letter with an accent follows those without.
CREATE FUNCTION contact_name_key(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT lower(normalize(name, NFKD))
$$;

-- The key of what is no channel and no attribute: a provider, or being blocked.
CREATE FUNCTION contact_word_key(word text) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT md5(word)::uuid
$$;

ALTER TABLE contacts ADD COLUMN name_key text COLLATE "C" NOT NULL GENERATED ALWAYS AS ("left"(contact_name_key(name), 40)) STORED;

DROP INDEX ix_contacts_name_prefix;

-- The orders of the list, in which nobody is who is part of another.
CREATE INDEX ix_contacts_name_key_id ON contacts (name_key, id) WHERE merged_into_id IS NULL;

CREATE INDEX ix_contacts_update_time_id ON contacts (update_time, id) WHERE merged_into_id IS NULL;

DROP INDEX ix_contacts_create_time_id;

CREATE INDEX ix_contacts_create_time_id ON contacts (create_time, id) WHERE merged_into_id IS NULL;

-- What contacts are listed by, each in every order of the list, so that a page of those on a channel is read from one index: their
-- channels, the providers of these, whether they are blocked, and their attributes. Triggers keep it, with the contact's row locked.
CREATE TABLE contact_keys (
    contact_id uuid NOT NULL,
    key uuid NOT NULL,
    name_key text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT pk_contact_keys PRIMARY KEY (contact_id, key),
    CONSTRAINT fk_contact_keys_contact_id FOREIGN KEY (contact_id) REFERENCES contacts (id) ON DELETE CASCADE
);

CREATE INDEX ix_contact_keys_key_create_time_contact_id ON contact_keys (key, create_time, contact_id);

CREATE INDEX ix_contact_keys_key_name_key_contact_id ON contact_keys (key, name_key, contact_id);

CREATE INDEX ix_contact_keys_key_update_time_contact_id ON contact_keys (key, update_time, contact_id);

CREATE FUNCTION keep_contact_keys_of(contact uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM contacts WHERE id = contact FOR NO KEY UPDATE;
    DELETE FROM contact_keys WHERE contact_id = contact;
    INSERT INTO contact_keys (contact_id, key, name_key, create_time, update_time)
    SELECT ct.id, k.key, ct.name_key, ct.create_time, ct.update_time FROM contacts ct CROSS JOIN LATERAL (
        SELECT i.channel_id FROM identities i WHERE i.contact_id = ct.id
        UNION SELECT contact_word_key(h.provider) FROM identities i JOIN channels h ON h.id = i.channel_id WHERE i.contact_id = ct.id
        UNION SELECT contact_word_key('blocked') WHERE ct.block_time IS NOT NULL
        UNION SELECT attribute_key(a.key, a.value) FROM jsonb_each(ct.attributes) a
            WHERE jsonb_typeof(a.value) IN ('string', 'number', 'boolean')
    ) k (key) WHERE ct.id = contact AND ct.merged_into_id IS NULL;
END $$;

CREATE FUNCTION keep_contact_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM keep_contact_keys_of(NEW.id);
    RETURN NULL;
END $$;

CREATE TRIGGER keep_contact_keys_inserted AFTER INSERT ON contacts
    FOR EACH ROW WHEN (NEW.attributes IS NOT NULL OR NEW.block_time IS NOT NULL) EXECUTE FUNCTION keep_contact_keys();

CREATE TRIGGER keep_contact_keys_updated AFTER UPDATE ON contacts FOR EACH ROW
    WHEN ((OLD.name, OLD.attributes, OLD.block_time, OLD.create_time, OLD.update_time)
        IS DISTINCT FROM (NEW.name, NEW.attributes, NEW.block_time, NEW.create_time, NEW.update_time))
    EXECUTE FUNCTION keep_contact_keys();

-- Once for all identities of a statement: this is in the way of a message from a stranger.
CREATE FUNCTION keep_contact_keys_met() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM contacts WHERE id IN (SELECT contact_id FROM added) ORDER BY id FOR NO KEY UPDATE;
    INSERT INTO contact_keys (contact_id, key, name_key, create_time, update_time)
    SELECT DISTINCT ct.id, k.key, ct.name_key, ct.create_time, ct.update_time
    FROM added i JOIN contacts ct ON ct.id = i.contact_id JOIN channels h ON h.id = i.channel_id
        CROSS JOIN LATERAL (VALUES (h.id), (contact_word_key(h.provider))) k (key)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER keep_contact_keys_met AFTER INSERT ON identities
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION keep_contact_keys_met();

CREATE FUNCTION keep_contact_keys_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM keep_contact_keys_of(OLD.contact_id);
    IF TG_OP = 'UPDATE' THEN
        PERFORM keep_contact_keys_of(NEW.contact_id);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER keep_contact_keys_moved AFTER UPDATE OF contact_id ON identities
    FOR EACH ROW WHEN (OLD.contact_id <> NEW.contact_id) EXECUTE FUNCTION keep_contact_keys_moved();

CREATE TRIGGER keep_contact_keys_left AFTER DELETE ON identities FOR EACH ROW EXECUTE FUNCTION keep_contact_keys_moved();

SELECT keep_contact_keys_of(id) FROM contacts;

-- Whether the customer wrote after an agent's position, so that what an agent has not read is found without looking at what it has;
-- what is deleted is in no list. Who moves a position, counts a message or deletes holds the conversation's lock.
ALTER TABLE read_positions ADD COLUMN behind boolean NOT NULL DEFAULT false;

UPDATE read_positions rp SET behind = true FROM conversations c
WHERE c.id = rp.conversation_id AND c.inbound_count > rp.inbound_count AND c.delete_time IS NULL;

CREATE INDEX ix_read_positions_behind ON read_positions (agent_id, conversation_id) WHERE behind;

CREATE FUNCTION place_position() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.behind := EXISTS (
        SELECT FROM conversations c
        WHERE c.id = NEW.conversation_id AND c.inbound_count > NEW.inbound_count AND c.delete_time IS NULL);
    RETURN NEW;
END $$;

CREATE TRIGGER place_position BEFORE INSERT OR UPDATE OF inbound_count ON read_positions
    FOR EACH ROW EXECUTE FUNCTION place_position();

CREATE FUNCTION leave_positions_behind() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Only the first message after somebody read has anything to write.
    IF EXISTS (
        SELECT FROM read_positions rp WHERE rp.conversation_id = NEW.id
            AND rp.behind <> (NEW.delete_time IS NULL AND rp.inbound_count < NEW.inbound_count))
    THEN
        UPDATE read_positions rp SET behind = NOT rp.behind WHERE rp.conversation_id = NEW.id
            AND rp.behind <> (NEW.delete_time IS NULL AND rp.inbound_count < NEW.inbound_count);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER leave_positions_behind AFTER UPDATE OF inbound_count, delete_time ON conversations FOR EACH ROW
    WHEN (OLD.inbound_count <> NEW.inbound_count OR (OLD.delete_time IS NULL) <> (NEW.delete_time IS NULL))
    EXECUTE FUNCTION leave_positions_behind();

-- What conversations are searched by. server/conversations/text keeps it from the log; no foreign key, whose check would lock a
-- conversation against whoever sends to it.
CREATE TABLE conversation_words (
    conversation_id uuid NOT NULL,
    word text COLLATE "C" NOT NULL,
    CONSTRAINT pk_conversation_words PRIMARY KEY (conversation_id, word)
);

CREATE INDEX ix_conversation_words_word ON conversation_words (word, conversation_id);

-- Conversations with an id below this one are still to be read, because the log does not reach back to them. At most one row.
CREATE TABLE unread_texts (
    id smallint NOT NULL,
    below uuid NOT NULL,
    CONSTRAINT pk_unread_texts PRIMARY KEY (id),
    CONSTRAINT ck_unread_texts_single CHECK (id = 1)
);

-- == People.

ALTER TABLE agents
    DROP CONSTRAINT ck_agents_role,
    ADD CONSTRAINT ck_agents_role CHECK (role IN ('owner', 'admin', 'supervisor', 'agent', 'read_only', 'service', 'custom'));

-- Of a token only the hash of its secret is here.
CREATE TABLE invites (
    id uuid NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    role_id uuid,
    team_ids uuid[] NOT NULL,
    channel_ids uuid[] NOT NULL,
    secret_hash bytea NOT NULL,
    inviter_kind smallint NOT NULL,
    inviter_id uuid,
    lifetime interval NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    revoke_time timestamptz,
    accept_time timestamptz,
    agent_id uuid,
    CONSTRAINT pk_invites PRIMARY KEY (id),
    CONSTRAINT uq_invites_agent_id UNIQUE (agent_id),
    CONSTRAINT fk_invites_role_id FOREIGN KEY (role_id) REFERENCES roles (id) ON DELETE CASCADE,
    CONSTRAINT fk_invites_agent_id FOREIGN KEY (agent_id) REFERENCES agents (id),
    CONSTRAINT ck_invites_role CHECK (role IN ('owner', 'admin', 'supervisor', 'agent', 'read_only', 'service', 'custom')),
    CONSTRAINT ck_invites_role_id CHECK ((role = 'custom') = (role_id IS NOT NULL)),
    CONSTRAINT ck_invites_agent_id CHECK ((accept_time IS NULL) = (agent_id IS NULL)),
    CONSTRAINT ck_invites_closed_once CHECK (accept_time IS NULL OR revoke_time IS NULL)
);

CREATE UNIQUE INDEX uq_invites_email ON invites (lower(email)) WHERE accept_time IS NULL AND revoke_time IS NULL;

CREATE INDEX ix_invites_role_id ON invites (role_id);

-- Who ended an assignment, as an actor of the log, and why in his words.
ALTER TABLE conversation_assignments
    ADD COLUMN ended_by_kind smallint,
    ADD COLUMN ended_by_id uuid,
    ADD COLUMN end_text text;

-- == Channels.

-- == Conversations and deliveries.

ALTER TABLE tenant_settings ADD COLUMN read_receipts boolean NOT NULL DEFAULT true;

CREATE TABLE read_marks (
    conversation_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    provider_message_id text NOT NULL,
    due_time timestamptz NOT NULL,
    attempt smallint DEFAULT 0 NOT NULL,
    CONSTRAINT pk_read_marks PRIMARY KEY (conversation_id),
    CONSTRAINT fk_read_marks_conversation_id FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);

CREATE INDEX ix_read_marks_due ON read_marks (channel_id, due_time, conversation_id);

ALTER TABLE tenant_settings ADD COLUMN reply_window_closing_before interval NOT NULL DEFAULT interval '2 hours',
    ADD CONSTRAINT ck_tenant_settings_reply_window_closing_before CHECK (reply_window_closing_before > interval '0');
