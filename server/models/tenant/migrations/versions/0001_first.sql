-- The tenant's schema: the four primitives and the inbox on top of them. Statements are separated by blank lines.

CREATE TABLE agents (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    email TEXT,
    kind TEXT NOT NULL,
    role TEXT NOT NULL,
    state TEXT NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_agents PRIMARY KEY (id),
    CONSTRAINT uq_agents_email UNIQUE (email),
    CONSTRAINT ck_agents_kind CHECK (kind IN ('human', 'bot')),
    CONSTRAINT ck_agents_role CHECK (role IN ('owner', 'admin', 'supervisor', 'agent', 'read_only')),
    CONSTRAINT ck_agents_state CHECK (state IN ('active', 'disabled'))
);

CREATE TABLE channels (
    id UUID NOT NULL,
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT,
    phone_number_id TEXT,
    waba_id TEXT,
    display_phone_number TEXT,
    graph_version TEXT NOT NULL,
    access_token BYTEA NOT NULL,
    reopen_window INTERVAL DEFAULT interval '72 hours' NOT NULL,
    new_thread_each_time BOOLEAN DEFAULT false NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_channels PRIMARY KEY (id),
    CONSTRAINT ck_channels_provider CHECK (provider IN ('whatsapp')),
    CONSTRAINT ck_channels_state CHECK (state IN ('active', 'paused'))
);

CREATE UNIQUE INDEX uq_channels_phone_number_id ON channels (phone_number_id) WHERE phone_number_id IS NOT NULL;

CREATE TABLE consumers (
    name TEXT NOT NULL,
    seq BIGINT NOT NULL,
    update_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_consumers PRIMARY KEY (name)
);

CREATE TABLE contacts (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    name_source TEXT NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    update_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_contacts PRIMARY KEY (id),
    CONSTRAINT ck_contacts_name_source CHECK (name_source IN ('agent', 'provider', 'address'))
);

CREATE INDEX ix_contacts_create_time_id ON contacts (create_time, id);

CREATE TABLE conversation_counts (
    channel_id UUID NOT NULL,
    status TEXT NOT NULL,
    assigned BOOLEAN NOT NULL,
    unread BOOLEAN NOT NULL,
    provider TEXT NOT NULL,
    count BIGINT NOT NULL,
    CONSTRAINT pk_conversation_counts PRIMARY KEY (channel_id, status, assigned, unread),
    CONSTRAINT ck_conversation_counts_count CHECK (count >= 0)
);

CREATE TABLE counted_conversations (
    conversation_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    status TEXT NOT NULL,
    assigned BOOLEAN NOT NULL,
    unread BOOLEAN NOT NULL,
    CONSTRAINT pk_counted_conversations PRIMARY KEY (conversation_id)
);

CREATE TABLE deliveries (
    id UUID NOT NULL,
    kind TEXT NOT NULL,
    part_id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    position BIGINT NOT NULL,
    state TEXT NOT NULL,
    due_time TIMESTAMP WITH TIME ZONE NOT NULL,
    attempt SMALLINT DEFAULT 0 NOT NULL,
    worker TEXT,
    lease_until TIMESTAMP WITH TIME ZONE,
    hold_until TIMESTAMP WITH TIME ZONE,
    error_code TEXT,
    error_message TEXT,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_deliveries PRIMARY KEY (id),
    CONSTRAINT ck_deliveries_kind CHECK (kind IN ('send')),
    CONSTRAINT ck_deliveries_state CHECK (state IN ('queued', 'in_flight', 'accepted', 'failed', 'unknown'))
);

CREATE INDEX ix_deliveries_conversation ON deliveries (conversation_id, position) WHERE state IN ('queued', 'in_flight', 'unknown');

CREATE INDEX ix_deliveries_due ON deliveries (due_time) WHERE state = 'queued';

CREATE INDEX ix_deliveries_lease ON deliveries (lease_until) WHERE state = 'in_flight';

CREATE INDEX ix_deliveries_part ON deliveries (part_id);

CREATE UNIQUE INDEX uq_deliveries_in_flight ON deliveries (conversation_id) WHERE state = 'in_flight';

CREATE TABLE idempotent_requests (
    principal_id UUID NOT NULL,
    method TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    resource_id UUID NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_idempotent_requests PRIMARY KEY (principal_id, method, request_id)
);

CREATE INDEX ix_idempotent_requests_create_time ON idempotent_requests (create_time);

CREATE TABLE journal (
    id UUID NOT NULL,
    receive_time TIMESTAMP WITH TIME ZONE NOT NULL,
    provider TEXT NOT NULL,
    meta_app_id TEXT NOT NULL,
    body BYTEA NOT NULL,
    sha256 BYTEA NOT NULL,
    split BOOLEAN NOT NULL,
    secret_index SMALLINT NOT NULL,
    state TEXT NOT NULL,
    parser_version INTEGER,
    apply_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_journal PRIMARY KEY (id, receive_time),
    CONSTRAINT ck_journal_state CHECK (state IN ('received', 'applied'))
)
 PARTITION BY RANGE (receive_time);

CREATE INDEX ix_journal_received ON journal (receive_time) WHERE state = 'received';

CREATE TABLE journal_items (
    id UUID NOT NULL,
    journal_id UUID NOT NULL,
    channel_id UUID,
    kind TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    discriminator TEXT NOT NULL,
    provider_time TIMESTAMP WITH TIME ZONE,
    state TEXT NOT NULL,
    parser_version INTEGER NOT NULL,
    result TEXT,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_journal_items PRIMARY KEY (id),
    CONSTRAINT ck_journal_items_state CHECK (state IN ('applied', 'duplicate', 'ignored', 'parked', 'failed')),
    CONSTRAINT uq_journal_items_channel_id_kind_provider_id_discrimina_de77 UNIQUE NULLS NOT DISTINCT (channel_id, kind, provider_id, discriminator, provider_time)
);

CREATE INDEX ix_journal_items_failed ON journal_items (create_time) WHERE state = 'failed';

CREATE INDEX ix_journal_items_journal ON journal_items (journal_id);

CREATE TABLE message_status_updates (
    id UUID NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    message_id UUID NOT NULL,
    part_id UUID NOT NULL,
    position SMALLINT NOT NULL,
    status TEXT NOT NULL,
    source TEXT NOT NULL,
    applied BOOLEAN NOT NULL,
    error_code TEXT,
    error_message TEXT,
    provider_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_message_status_updates PRIMARY KEY (id, create_time),
    CONSTRAINT ck_message_status_updates_status CHECK (status IN ('pending', 'unknown', 'sent', 'delivered', 'read', 'failed', 'played')),
    CONSTRAINT ck_message_status_updates_source CHECK (source IN ('response', 'receipt', 'system'))
)
 PARTITION BY RANGE (create_time);

CREATE INDEX ix_message_status_updates_message_id_create_time_id ON message_status_updates (message_id, create_time, id);

CREATE TABLE parked_receipts (
    id UUID NOT NULL,
    channel_id UUID NOT NULL,
    provider_message_id TEXT NOT NULL,
    status TEXT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    provider_time TIMESTAMP WITH TIME ZONE NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_parked_receipts PRIMARY KEY (id),
    CONSTRAINT uq_parked_receipts_channel_id_provider_message_id_status UNIQUE (channel_id, provider_message_id, status)
);

CREATE INDEX ix_parked_receipts_create_time ON parked_receipts (create_time);

CREATE TABLE stream_event (
    seq BIGINT NOT NULL,
    tx_last BIGINT NOT NULL,
    event_id UUID NOT NULL,
    kind SMALLINT NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    actor_kind SMALLINT NOT NULL,
    actor_id UUID,
    cause_kind SMALLINT NOT NULL,
    cause_id TEXT NOT NULL,
    conversation_id UUID,
    conversation_version BIGINT NOT NULL,
    channel_id UUID,
    team_before UUID,
    team_after UUID,
    assignee_before UUID,
    assignee_after UUID,
    payload BYTEA NOT NULL,
    CONSTRAINT pk_stream_event PRIMARY KEY (seq)
)
 PARTITION BY RANGE (seq);

CREATE TABLE stream_head (
    id SMALLINT NOT NULL,
    epoch UUID NOT NULL,
    head BIGINT NOT NULL,
    floor BIGINT NOT NULL,
    head_event_id UUID,
    CONSTRAINT pk_stream_head PRIMARY KEY (id),
    CONSTRAINT ck_stream_head_one_row CHECK (id = 1)
)
 WITH (fillfactor = 10);

CREATE TABLE tags (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_tags PRIMARY KEY (id),
    CONSTRAINT uq_tags_name UNIQUE (name)
);

CREATE TABLE teams (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_teams PRIMARY KEY (id),
    CONSTRAINT uq_teams_name UNIQUE (name)
);

CREATE TABLE timers (
    kind TEXT NOT NULL,
    key UUID NOT NULL,
    due_time TIMESTAMP WITH TIME ZONE NOT NULL,
    generation BIGINT NOT NULL,
    payload JSONB,
    CONSTRAINT pk_timers PRIMARY KEY (kind, key)
);

CREATE INDEX ix_timers_due_time ON timers (due_time);

CREATE TABLE channel_members (
    channel_id UUID NOT NULL,
    agent_id UUID NOT NULL,
    CONSTRAINT pk_channel_members PRIMARY KEY (channel_id, agent_id),
    CONSTRAINT fk_channel_members_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id) ON DELETE CASCADE,
    CONSTRAINT fk_channel_members_agent_id FOREIGN KEY(agent_id) REFERENCES agents (id) ON DELETE CASCADE
);

CREATE INDEX ix_channel_members_agent_id ON channel_members (agent_id);

CREATE TABLE identities (
    id UUID NOT NULL,
    contact_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    profile_name TEXT,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_identities PRIMARY KEY (id),
    CONSTRAINT fk_identities_contact_id FOREIGN KEY(contact_id) REFERENCES contacts (id),
    CONSTRAINT fk_identities_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id)
);

CREATE INDEX ix_identities_channel_id ON identities (channel_id);

CREATE INDEX ix_identities_contact_id ON identities (contact_id);

CREATE TABLE team_members (
    team_id UUID NOT NULL,
    agent_id UUID NOT NULL,
    CONSTRAINT pk_team_members PRIMARY KEY (team_id, agent_id),
    CONSTRAINT fk_team_members_team_id FOREIGN KEY(team_id) REFERENCES teams (id) ON DELETE CASCADE,
    CONSTRAINT fk_team_members_agent_id FOREIGN KEY(agent_id) REFERENCES agents (id) ON DELETE CASCADE
);

CREATE INDEX ix_team_members_agent_id ON team_members (agent_id);

CREATE TABLE conversations (
    id UUID NOT NULL,
    channel_id UUID NOT NULL,
    provider TEXT NOT NULL,
    contact_id UUID NOT NULL,
    contact_name TEXT NOT NULL,
    identity_id UUID NOT NULL,
    status TEXT NOT NULL,
    assignee_id UUID,
    team_id UUID,
    tags TEXT[] DEFAULT '{}' NOT NULL,
    priority SMALLINT DEFAULT 1 NOT NULL,
    subject TEXT,
    attributes JSONB,
    message_count INTEGER DEFAULT 0 NOT NULL,
    inbound_count INTEGER DEFAULT 0 NOT NULL,
    team_read_count INTEGER DEFAULT 0 NOT NULL,
    last_inbound_arrival INTEGER DEFAULT 0 NOT NULL,
    last_outbound_arrival INTEGER DEFAULT 0 NOT NULL,
    last_outbound_author_id UUID,
    last_inbound_provider_id TEXT,
    last_sequence BIGINT DEFAULT 0 NOT NULL,
    last_message_id UUID,
    last_message_preview TEXT DEFAULT '' NOT NULL,
    last_message_time TIMESTAMP WITH TIME ZONE NOT NULL,
    waiting_since TIMESTAMP WITH TIME ZONE,
    snooze_until TIMESTAMP WITH TIME ZONE,
    snooze_generation INTEGER DEFAULT 0 NOT NULL,
    reply_window_expire_time TIMESTAMP WITH TIME ZONE,
    previous_conversation_id UUID,
    version BIGINT DEFAULT 1 NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    update_time TIMESTAMP WITH TIME ZONE NOT NULL,
    resolve_time TIMESTAMP WITH TIME ZONE,
    delete_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_conversations PRIMARY KEY (id),
    CONSTRAINT ck_conversations_status CHECK (status IN ('new', 'open', 'pending', 'snoozed', 'resolved', 'archived')),
    CONSTRAINT ck_conversations_priority CHECK (priority BETWEEN 1 AND 5),
    CONSTRAINT ck_conversations_team_read_count CHECK (team_read_count BETWEEN 0 AND inbound_count),
    CONSTRAINT ck_conversations_snooze_until CHECK ((status = 'snoozed') OR (snooze_until IS NULL)),
    CONSTRAINT fk_conversations_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id),
    CONSTRAINT fk_conversations_contact_id FOREIGN KEY(contact_id) REFERENCES contacts (id),
    CONSTRAINT fk_conversations_identity_id FOREIGN KEY(identity_id) REFERENCES identities (id),
    CONSTRAINT fk_conversations_assignee_id FOREIGN KEY(assignee_id) REFERENCES agents (id),
    CONSTRAINT fk_conversations_team_id FOREIGN KEY(team_id) REFERENCES teams (id)
);

CREATE INDEX ix_conversations_assignee ON conversations (assignee_id, last_message_time DESC, id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_by_creation ON conversations (create_time DESC, id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_by_message ON conversations (last_message_time DESC, id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_by_priority ON conversations (priority DESC, last_message_time DESC, id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_by_waiting ON conversations (coalesce(waiting_since, 'infinity'::timestamptz), id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_by_window ON conversations (coalesce(reply_window_expire_time, 'infinity'::timestamptz), id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_channel ON conversations (channel_id, last_message_time DESC, id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_contact ON conversations (contact_id);

CREATE INDEX ix_conversations_identity ON conversations (identity_id);

CREATE INDEX ix_conversations_status ON conversations (status, last_message_time DESC, id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_tags ON conversations USING gin (tags);

CREATE INDEX ix_conversations_team ON conversations (team_id, last_message_time DESC, id DESC) WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_unread ON conversations (last_message_time DESC, id DESC) WHERE delete_time IS NULL AND inbound_count > team_read_count;

CREATE UNIQUE INDEX uq_conversations_live ON conversations (channel_id, identity_id) WHERE status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL;

CREATE TABLE identity_aliases (
    id UUID NOT NULL,
    channel_id UUID NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    identity_id UUID NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_identity_aliases PRIMARY KEY (id),
    CONSTRAINT uq_identity_aliases_channel_id_kind_value UNIQUE (channel_id, kind, value),
    CONSTRAINT ck_identity_aliases_kind CHECK (kind IN ('wa_id', 'bsuid', 'parent_bsuid', 'psid', 'igsid', 'user_ref', 'group', 'visitor')),
    CONSTRAINT fk_identity_aliases_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id),
    CONSTRAINT fk_identity_aliases_identity_id FOREIGN KEY(identity_id) REFERENCES identities (id)
);

CREATE INDEX ix_identity_aliases_identity_id ON identity_aliases (identity_id);

CREATE INDEX ix_identity_aliases_kind_value ON identity_aliases (kind, value);

CREATE TABLE identity_conflicts (
    id UUID NOT NULL,
    channel_id UUID NOT NULL,
    identity_id UUID NOT NULL,
    other_identity_id UUID NOT NULL,
    kind TEXT NOT NULL,
    value_hash BYTEA NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_identity_conflicts PRIMARY KEY (id),
    CONSTRAINT uq_identity_conflicts_identity_id_other_identity_id_kin_6d31 UNIQUE (identity_id, other_identity_id, kind, value_hash),
    CONSTRAINT fk_identity_conflicts_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id),
    CONSTRAINT fk_identity_conflicts_identity_id FOREIGN KEY(identity_id) REFERENCES identities (id),
    CONSTRAINT fk_identity_conflicts_other_identity_id FOREIGN KEY(other_identity_id) REFERENCES identities (id)
);

CREATE TABLE conversation_assignments (
    id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    agent_id UUID,
    team_id UUID,
    type TEXT NOT NULL,
    reason TEXT,
    assigned_by_kind SMALLINT NOT NULL,
    assigned_by_id UUID,
    start_time TIMESTAMP WITH TIME ZONE NOT NULL,
    end_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_conversation_assignments PRIMARY KEY (id),
    CONSTRAINT ck_conversation_assignments_type CHECK (type IN ('manual', 'round_robin', 'load_based', 'availability')),
    CONSTRAINT ck_conversation_assignments_target CHECK (agent_id IS NOT NULL OR team_id IS NOT NULL),
    CONSTRAINT ck_conversation_assignments_end_time CHECK (end_time >= start_time),
    CONSTRAINT fk_conversation_assignments_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversations (id),
    CONSTRAINT fk_conversation_assignments_agent_id FOREIGN KEY(agent_id) REFERENCES agents (id),
    CONSTRAINT fk_conversation_assignments_team_id FOREIGN KEY(team_id) REFERENCES teams (id)
);

CREATE INDEX ix_conversation_assignments_conversation ON conversation_assignments (conversation_id, id DESC);

CREATE UNIQUE INDEX uq_conversation_assignments_open ON conversation_assignments (conversation_id) WHERE end_time IS NULL;

CREATE TABLE conversation_notes (
    id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    author_id UUID,
    text TEXT NOT NULL,
    pinned BOOLEAN NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    update_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_conversation_notes PRIMARY KEY (id),
    CONSTRAINT fk_conversation_notes_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversations (id),
    CONSTRAINT fk_conversation_notes_author_id FOREIGN KEY(author_id) REFERENCES agents (id)
);

CREATE INDEX ix_conversation_notes_order ON conversation_notes (conversation_id, pinned DESC, id DESC);

CREATE TABLE conversation_tags (
    conversation_id UUID NOT NULL,
    tag_id UUID NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_conversation_tags PRIMARY KEY (conversation_id, tag_id),
    CONSTRAINT fk_conversation_tags_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE,
    CONSTRAINT fk_conversation_tags_tag_id FOREIGN KEY(tag_id) REFERENCES tags (id)
);

CREATE INDEX ix_conversation_tags_tag_id ON conversation_tags (tag_id);

CREATE TABLE messages (
    id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    direction TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    arrival INTEGER NOT NULL,
    text TEXT,
    details JSONB,
    author_kind SMALLINT NOT NULL,
    author_id UUID,
    request_id TEXT,
    request_hash BYTEA,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    provider_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_messages PRIMARY KEY (id),
    CONSTRAINT ck_messages_direction CHECK (direction IN ('inbound', 'outbound')),
    CONSTRAINT ck_messages_type CHECK (type IN ('text', 'image', 'video', 'audio', 'document', 'sticker', 'location', 'contacts', 'interactive', 'template', 'reaction', 'order', 'system', 'unsupported')),
    CONSTRAINT ck_messages_status CHECK (status IN ('pending', 'unknown', 'sent', 'delivered', 'read', 'failed')),
    CONSTRAINT uq_messages_conversation_id_sequence UNIQUE (conversation_id, sequence),
    CONSTRAINT uq_messages_conversation_id_arrival UNIQUE (conversation_id, arrival),
    CONSTRAINT fk_messages_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversations (id),
    CONSTRAINT fk_messages_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id)
);

CREATE UNIQUE INDEX uq_messages_request ON messages (author_id, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE read_positions (
    conversation_id UUID NOT NULL,
    agent_id UUID NOT NULL,
    arrival INTEGER NOT NULL,
    inbound_count INTEGER NOT NULL,
    update_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_read_positions PRIMARY KEY (conversation_id, agent_id),
    CONSTRAINT fk_read_positions_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE,
    CONSTRAINT fk_read_positions_agent_id FOREIGN KEY(agent_id) REFERENCES agents (id) ON DELETE CASCADE
);

CREATE TABLE message_attachments (
    id UUID NOT NULL,
    message_id UUID NOT NULL,
    position SMALLINT NOT NULL,
    kind TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    file_name TEXT,
    size_bytes BIGINT,
    state TEXT NOT NULL,
    provider_media_id TEXT,
    sha256 TEXT,
    CONSTRAINT pk_message_attachments PRIMARY KEY (id),
    CONSTRAINT uq_message_attachments_message_id_position UNIQUE (message_id, position),
    CONSTRAINT ck_message_attachments_kind CHECK (kind IN ('image', 'video', 'audio', 'document', 'sticker')),
    CONSTRAINT ck_message_attachments_state CHECK (state IN ('linked')),
    CONSTRAINT fk_message_attachments_message_id FOREIGN KEY(message_id) REFERENCES messages (id)
);

CREATE TABLE message_parts (
    id UUID NOT NULL,
    message_id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    position SMALLINT NOT NULL,
    provider_message_id TEXT,
    status TEXT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    CONSTRAINT pk_message_parts PRIMARY KEY (id),
    CONSTRAINT ck_message_parts_status CHECK (status IN ('pending', 'unknown', 'sent', 'delivered', 'read', 'failed')),
    CONSTRAINT uq_message_parts_message_id_position UNIQUE (message_id, position),
    CONSTRAINT uq_message_parts_channel_id_provider_message_id UNIQUE (channel_id, provider_message_id),
    CONSTRAINT fk_message_parts_message_id FOREIGN KEY(message_id) REFERENCES messages (id),
    CONSTRAINT fk_message_parts_conversation_id FOREIGN KEY(conversation_id) REFERENCES conversations (id),
    CONSTRAINT fk_message_parts_channel_id FOREIGN KEY(channel_id) REFERENCES channels (id)
);

-- The role of a tenant owns nothing, so the partitions that the running system needs are made by functions of the owner.
CREATE FUNCTION ensure_event_partition(seq bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    number bigint := seq / 1000000;
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF stream_event FOR VALUES FROM (%s) TO (%s)',
        'stream_event_' || number, number * 1000000, (number + 1) * 1000000);
END $$;

CREATE FUNCTION ensure_journal_day(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF journal FOR VALUES FROM (%L) TO (%L)',
        'journal_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
END $$;

CREATE FUNCTION drop_journal_before(day date) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    name text;
    dropped int := 0;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'journal'::regclass AND c.relname < 'journal_' || to_char(day, 'YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

CREATE FUNCTION ensure_receipt_month(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    month date := date_trunc('month', day)::date;
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF message_status_updates FOR VALUES FROM (%L) TO (%L)',
        'message_status_updates_' || to_char(month, 'YYYYMM'),
        month || ' 00:00:00+00', (month + interval '1 month')::date || ' 00:00:00+00');
END $$;

SELECT ensure_event_partition(n * 1000000) FROM generate_series(0, 3) AS n;

INSERT INTO stream_head (id, epoch, head, floor) VALUES (1, gen_random_uuid(), 0, 1);
