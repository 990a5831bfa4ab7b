-- What the inbox needs to keep every rule of it. Statements are separated by blank lines.

-- == Conversations.

-- How the whole tenant works. One row.
CREATE TABLE tenant_settings (
    id smallint NOT NULL,
    conversation_retention interval DEFAULT interval '720 hours' NOT NULL,
    reply_fence_policy text DEFAULT 'refuse' NOT NULL,
    CONSTRAINT pk_tenant_settings PRIMARY KEY (id),
    CONSTRAINT ck_tenant_settings_single CHECK (id = 1),
    CONSTRAINT ck_tenant_settings_conversation_retention CHECK (conversation_retention >= interval '0'),
    CONSTRAINT ck_tenant_settings_reply_fence_policy CHECK (reply_fence_policy IN ('accept', 'warn', 'refuse'))
);

INSERT INTO tenant_settings (id) VALUES (1);

-- What values of an attribute must be. Keys without a definition take anything.
CREATE TABLE attribute_definitions (
    id uuid NOT NULL,
    target text NOT NULL,
    key text NOT NULL,
    type text NOT NULL,
    options text[] DEFAULT '{}' NOT NULL,
    label text NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT pk_attribute_definitions PRIMARY KEY (id),
    CONSTRAINT uq_attribute_definitions_target_key UNIQUE (target, key),
    CONSTRAINT ck_attribute_definitions_target CHECK (target IN ('conversation', 'contact')),
    CONSTRAINT ck_attribute_definitions_type CHECK (type IN ('text', 'number', 'boolean', 'date', 'option')),
    CONSTRAINT ck_attribute_definitions_options CHECK ((type = 'option') = (cardinality(options) > 0))
);

-- After how long without a change a conversation of the channel is resolved; NULL: never.
ALTER TABLE channels ADD COLUMN auto_resolve_after interval,
    ADD CONSTRAINT ck_channels_auto_resolve_after CHECK (auto_resolve_after > interval '0');

-- Whatever makes a conversation active sets its timer, if it has none: the timer sees for itself what happened since. Before the row
-- is written, so that the head, which the same statement may advance, is locked last.
CREATE FUNCTION set_auto_resolve() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO timers (kind, key, due_time, generation)
    SELECT 'auto_resolve', NEW.id, NEW.update_time + c.auto_resolve_after, 0 FROM channels c
    WHERE c.id = NEW.channel_id AND c.auto_resolve_after IS NOT NULL
    ON CONFLICT (kind, key) DO NOTHING;
    RETURN NEW;
END
$$;

CREATE TRIGGER set_auto_resolve_inserted BEFORE INSERT ON conversations
    FOR EACH ROW WHEN (NEW.status IN ('new', 'open', 'pending') AND NEW.delete_time IS NULL) EXECUTE FUNCTION set_auto_resolve();

CREATE TRIGGER set_auto_resolve_updated BEFORE UPDATE OF status, delete_time ON conversations
    FOR EACH ROW WHEN (NEW.status IN ('new', 'open', 'pending') AND NEW.delete_time IS NULL
        AND (OLD.status NOT IN ('new', 'open', 'pending') OR OLD.delete_time IS NOT NULL))
    EXECUTE FUNCTION set_auto_resolve();

-- Who was added to a conversation, and who was removed; what else makes an agent take part is told by messages, notes and the ledger.
CREATE TABLE conversation_participants (
    conversation_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    joined boolean NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT pk_conversation_participants PRIMARY KEY (conversation_id, agent_id),
    CONSTRAINT fk_conversation_participants_conversation_id FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE,
    CONSTRAINT fk_conversation_participants_agent_id FOREIGN KEY (agent_id) REFERENCES agents (id)
);

CREATE INDEX ix_conversations_previous ON conversations (previous_conversation_id) WHERE previous_conversation_id IS NOT NULL;

-- == Lists, notes and tags.

-- Both columns go up, so that a page can go on behind any row of it, also among the many that wait alike or not at all.
DROP INDEX ix_conversations_by_waiting;

CREATE INDEX ix_conversations_by_waiting ON conversations (coalesce(waiting_since, 'infinity'::timestamptz), id) WHERE delete_time IS NULL;

DROP INDEX ix_conversations_by_window;

CREATE INDEX ix_conversations_by_window ON conversations (coalesce(reply_window_expire_time, 'infinity'::timestamptz), id)
    WHERE delete_time IS NULL;

CREATE INDEX ix_conversations_deleted ON conversations (last_message_time DESC, id DESC) WHERE delete_time IS NOT NULL;

CREATE INDEX ix_conversations_live_assignee ON conversations (assignee_id, channel_id)
    WHERE status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL;

CREATE INDEX ix_conversations_live_team ON conversations (team_id, assignee_id)
    WHERE status IN ('new', 'open', 'pending', 'snoozed') AND delete_time IS NULL;

-- A search by tag goes through conversation_tags, which stops where it has enough; an inverted index reads all there is first.
DROP INDEX ix_conversations_tags;

CREATE INDEX ix_conversation_tags_tag ON conversation_tags (tag_id, conversation_id);

DROP INDEX ix_conversation_tags_tag_id;

-- Names of tags that differ in case alone become one, the first of them.
WITH kept AS (SELECT id, first_value(id) OVER (PARTITION BY lower(name) ORDER BY id) AS first FROM tags)
INSERT INTO conversation_tags (conversation_id, tag_id, create_time)
SELECT ct.conversation_id, k.first, ct.create_time FROM conversation_tags ct JOIN kept k ON k.id = ct.tag_id WHERE k.first <> k.id
ON CONFLICT DO NOTHING;

WITH kept AS (SELECT id, first_value(id) OVER (PARTITION BY lower(name) ORDER BY id) AS first FROM tags)
DELETE FROM conversation_tags ct USING kept k WHERE k.id = ct.tag_id AND k.first <> k.id;

WITH named AS (
    SELECT ct.conversation_id, array_agg(t.name ORDER BY t.name COLLATE "C") AS names
    FROM conversation_tags ct JOIN tags t ON t.id = ct.tag_id GROUP BY ct.conversation_id)
UPDATE conversations c SET tags = n.names FROM named n WHERE n.conversation_id = c.id AND c.tags <> n.names;

DELETE FROM tags t USING tags first WHERE lower(first.name) = lower(t.name) AND first.id < t.id;

-- swept_to: the conversation up to which a new name, or a deletion, has come.
ALTER TABLE tags DROP CONSTRAINT uq_tags_name,
    ADD COLUMN color TEXT, ADD COLUMN description TEXT, ADD COLUMN update_time TIMESTAMP WITH TIME ZONE,
    ADD COLUMN delete_time TIMESTAMP WITH TIME ZONE, ADD COLUMN swept_to UUID,
    ADD CONSTRAINT ck_tags_color CHECK (color ~ '^#[0-9a-f]{6}$'),
    ADD CONSTRAINT ck_tags_name CHECK (length(name) BETWEEN 1 AND 50);

CREATE UNIQUE INDEX uq_tags_name ON tags (lower(name)) WHERE delete_time IS NULL;

-- Who is mentioned, and who was told of it already.
ALTER TABLE conversation_notes
    ADD COLUMN mentioned_agent_ids UUID[] DEFAULT '{}' NOT NULL,
    ADD COLUMN mentioned_team_ids UUID[] DEFAULT '{}' NOT NULL,
    ADD COLUMN notified_agent_ids UUID[] DEFAULT '{}' NOT NULL;

-- Attributes that lists are filtered by, as one number for name and value, so that any length of either can be looked up. The value
-- keeps its type; numbers that are equal are one.
CREATE FUNCTION attribute_key(name text, value jsonb) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT md5(length(name) || ':' || name || CASE jsonb_typeof(value)
        WHEN 'number' THEN trim_scale((value #>> '{}')::numeric)::text ELSE value::text END)::uuid
$$;

CREATE TABLE conversation_attribute_keys (
    key uuid NOT NULL,
    conversation_id uuid NOT NULL,
    CONSTRAINT pk_conversation_attribute_keys PRIMARY KEY (key, conversation_id),
    CONSTRAINT fk_conversation_attribute_keys_conversation_id FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);

CREATE INDEX ix_conversation_attribute_keys_conversation_id ON conversation_attribute_keys (conversation_id);

CREATE FUNCTION keep_attribute_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM conversation_attribute_keys WHERE conversation_id = NEW.id;
    INSERT INTO conversation_attribute_keys (key, conversation_id)
    SELECT DISTINCT attribute_key(a.key, a.value), NEW.id FROM jsonb_each(NEW.attributes) a
    WHERE jsonb_typeof(a.value) IN ('string', 'number', 'boolean');
    RETURN NULL;
END $$;

CREATE TRIGGER keep_attribute_keys_inserted AFTER INSERT ON conversations
    FOR EACH ROW WHEN (NEW.attributes IS NOT NULL) EXECUTE FUNCTION keep_attribute_keys();

CREATE TRIGGER keep_attribute_keys_updated AFTER UPDATE OF attributes ON conversations
    FOR EACH ROW WHEN (OLD.attributes IS DISTINCT FROM NEW.attributes) EXECUTE FUNCTION keep_attribute_keys();

INSERT INTO conversation_attribute_keys (key, conversation_id)
SELECT DISTINCT attribute_key(a.key, a.value), c.id FROM conversations c, jsonb_each(c.attributes) a
WHERE jsonb_typeof(a.value) IN ('string', 'number', 'boolean');

-- The rules that a careless statement of the tenant's role cannot break either. Whoever owns the tables may: it repairs and restores.
CREATE FUNCTION refused(relation oid, why text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT has_table_privilege(relation, 'TRUNCATE') THEN
        RAISE EXCEPTION '%', why USING ERRCODE = 'restrict_violation';
    END IF;
END $$;

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refused(TG_RELID, TG_ARGV[0]);
    RETURN NULL;
END $$;

-- Triggers after a row with a condition cost the condition; those before a row would lock each row once more. Those that name
-- columns and come before a statement cost nothing where the columns are not named.
CREATE TRIGGER guard_log_forward AFTER UPDATE ON stream_head FOR EACH ROW
    WHEN (NEW.epoch = OLD.epoch AND (NEW.head < OLD.head OR NEW.floor < OLD.floor))
    EXECUTE FUNCTION refuse('the head and the floor of a log never go back');

CREATE TRIGGER guard_log_head BEFORE DELETE ON stream_head FOR EACH STATEMENT EXECUTE FUNCTION refuse('a log has a head');

CREATE TRIGGER guard_event_final AFTER UPDATE ON stream_event FOR EACH ROW EXECUTE FUNCTION refuse('an event never changes');

CREATE FUNCTION keep_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq >= (SELECT floor FROM stream_head) THEN
        PERFORM refused(TG_RELID, 'an event at or above the floor is kept');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER guard_event_kept AFTER DELETE ON stream_event FOR EACH ROW EXECUTE FUNCTION keep_event();

CREATE TRIGGER guard_payload_final AFTER UPDATE OF id, receive_time, provider, meta_app_id, body, sha256, split ON journal
    FOR EACH ROW EXECUTE FUNCTION refuse('a payload stays as it came');

CREATE TRIGGER guard_trail_final AFTER UPDATE ON message_status_updates
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit trail of receipts never changes');

CREATE TRIGGER guard_message_place
    BEFORE UPDATE OF id, conversation_id, channel_id, direction, sequence, arrival, author_kind, author_id, request_id, create_time
    ON messages FOR EACH STATEMENT EXECUTE FUNCTION refuse('where a message stands, and whose it is, never changes');

CREATE TRIGGER guard_message_forward AFTER UPDATE OF status ON messages FOR EACH ROW
    WHEN ((OLD.status = 'read' AND NEW.status <> 'read') OR (OLD.status = 'delivered' AND NEW.status NOT IN ('delivered', 'read'))
        OR (OLD.status = 'sent' AND NEW.status IN ('pending', 'unknown')))
    EXECUTE FUNCTION refuse('the status of a message moves forward only');

CREATE FUNCTION check_parts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM made) > (
        SELECT count(*) FROM made m
        CROSS JOIN LATERAL (SELECT FROM message_parts p WHERE p.message_id = m.id AND p.position = 0 OFFSET 0) p)
    THEN
        PERFORM refused(TG_RELID, 'a message is written with its parts');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER guard_message_parts AFTER INSERT ON messages REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION check_parts();

CREATE TRIGGER guard_part_place BEFORE UPDATE OF id, message_id, conversation_id, channel_id, position ON message_parts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a part stays with its message');

CREATE TRIGGER guard_part_forward AFTER UPDATE OF status, provider_message_id ON message_parts FOR EACH ROW
    WHEN (NEW.provider_message_id <> OLD.provider_message_id
        OR (OLD.status = 'read' AND NEW.status <> 'read') OR (OLD.status = 'delivered' AND NEW.status NOT IN ('delivered', 'read'))
        OR (OLD.status = 'sent' AND NEW.status IN ('pending', 'unknown'))
        OR (OLD.status = 'failed' AND NEW.status IN ('unknown', 'sent')))
    EXECUTE FUNCTION refuse('a part moves forward only, and keeps the id that the provider gave it');

CREATE TRIGGER guard_delivery_accepted AFTER UPDATE OF state ON deliveries FOR EACH ROW
    WHEN (OLD.state = 'accepted' AND NEW.state NOT IN ('accepted', 'failed'))
    EXECUTE FUNCTION refuse('what the provider accepted is not sent again');

CREATE TRIGGER guard_conversation_place BEFORE UPDATE OF id, channel_id, provider, identity_id, create_time ON conversations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a conversation stays with its identity');

CREATE TRIGGER guard_conversation_forward AFTER UPDATE ON conversations FOR EACH ROW
    WHEN (NEW.version < OLD.version OR NEW.message_count < OLD.message_count OR NEW.inbound_count < OLD.inbound_count
        OR NEW.last_sequence < OLD.last_sequence OR NEW.snooze_generation < OLD.snooze_generation
        OR (NEW.status <> OLD.status AND (NEW.status = 'new' OR (OLD.status = 'archived' AND NEW.status <> 'open')
            OR (OLD.status = 'resolved' AND NEW.status NOT IN ('open', 'archived'))
            OR (NEW.status = 'archived' AND OLD.status <> 'resolved'))))
    EXECUTE FUNCTION refuse('a conversation counts up, and its status makes the moves of the matrix only');

CREATE TRIGGER guard_conversation_archived AFTER UPDATE OF priority, subject, attributes ON conversations FOR EACH ROW
    WHEN (OLD.status = 'archived' AND NEW.status = 'archived'
        AND (OLD.priority, OLD.subject, OLD.attributes) IS DISTINCT FROM (NEW.priority, NEW.subject, NEW.attributes))
    EXECUTE FUNCTION refuse('an archived conversation is read-only');

CREATE FUNCTION check_not_archived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM conversations WHERE id = NEW.conversation_id AND status = 'archived') THEN
        PERFORM refused(TG_RELID, 'an archived conversation is read-only');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER guard_tag_archived AFTER INSERT ON conversation_tags FOR EACH ROW EXECUTE FUNCTION check_not_archived();

CREATE TRIGGER guard_note_archived AFTER INSERT OR UPDATE ON conversation_notes FOR EACH ROW EXECUTE FUNCTION check_not_archived();

CREATE TRIGGER guard_position_forward AFTER UPDATE ON read_positions FOR EACH ROW
    WHEN (NEW.arrival < OLD.arrival OR NEW.inbound_count < OLD.inbound_count)
    EXECUTE FUNCTION refuse('a read position moves forward only');

CREATE FUNCTION check_positions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM moved r CROSS JOIN LATERAL (
            SELECT c.message_count, c.inbound_count FROM conversations c WHERE c.id = r.conversation_id OFFSET 0) c
        WHERE r.arrival > c.message_count OR r.inbound_count > c.inbound_count)
    THEN
        PERFORM refused(TG_RELID, 'nobody has read what is not there');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER guard_position_set AFTER INSERT ON read_positions REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION check_positions();

CREATE TRIGGER guard_position_moved AFTER UPDATE ON read_positions REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION check_positions();

CREATE TRIGGER guard_assignment_place
    BEFORE UPDATE OF id, conversation_id, agent_id, team_id, type, assigned_by_kind, assigned_by_id ON conversation_assignments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the ledger is written once');

CREATE TRIGGER guard_assignment_ended AFTER UPDATE OF end_time ON conversation_assignments FOR EACH ROW
    WHEN (OLD.end_time IS NOT NULL AND NEW.end_time IS DISTINCT FROM OLD.end_time)
    EXECUTE FUNCTION refuse('an assignment ends once');

ALTER TABLE conversations
    ADD CONSTRAINT ck_conversations_counts CHECK (inbound_count BETWEEN 0 AND message_count
        AND last_inbound_arrival BETWEEN 0 AND message_count AND last_outbound_arrival BETWEEN 0 AND message_count),
    ADD CONSTRAINT ck_conversations_waiting_since CHECK (waiting_since IS NULL OR status NOT IN ('resolved', 'archived')),
    ADD CONSTRAINT ck_conversations_resolve_time CHECK (resolve_time IS NOT NULL OR status NOT IN ('resolved', 'archived'));

ALTER TABLE messages ADD CONSTRAINT ck_messages_arrival CHECK (arrival > 0 AND sequence >= 0);

ALTER TABLE read_positions ADD CONSTRAINT ck_read_positions_arrival CHECK (arrival >= 0 AND inbound_count >= 0);

-- == Agents, roles, contacts.

-- A deleted team stays in the ledger and in old conversations; its name is free again.
ALTER TABLE teams ADD COLUMN delete_time timestamptz;

ALTER TABLE teams DROP CONSTRAINT uq_teams_name;

CREATE UNIQUE INDEX uq_teams_name ON teams (name) WHERE delete_time IS NULL;

-- Roles of the tenant's own. permissions: numbers of the contract's Permission.
CREATE TABLE roles (
    id uuid NOT NULL,
    name text NOT NULL,
    permissions smallint[] NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT pk_roles PRIMARY KEY (id)
);

CREATE UNIQUE INDEX uq_roles_name ON roles (lower(name));

ALTER TABLE agents ADD COLUMN role_id uuid,
    DROP CONSTRAINT ck_agents_role,
    ADD CONSTRAINT ck_agents_role CHECK (role IN ('owner', 'admin', 'supervisor', 'agent', 'read_only', 'custom')),
    ADD CONSTRAINT ck_agents_role_id CHECK ((role = 'custom') = (role_id IS NOT NULL)),
    ADD CONSTRAINT fk_agents_role_id FOREIGN KEY (role_id) REFERENCES roles (id);

CREATE INDEX ix_agents_role_id ON agents (role_id);

ALTER TABLE contacts ADD COLUMN attributes jsonb;

-- Beginnings of names and addresses are looked up, whatever the database's collation.
CREATE INDEX ix_contacts_name_prefix ON contacts (lower(name) text_pattern_ops);

CREATE INDEX ix_identity_aliases_value_prefix ON identity_aliases (value text_pattern_ops);

-- == Assignment.

CREATE TABLE assignment_policies (
    id uuid NOT NULL,
    channel_id uuid,
    team_id uuid,
    strategy text NOT NULL,
    required_skills text[] DEFAULT '{}' NOT NULL,
    fairness_most integer,
    fairness_window interval,
    sticky boolean DEFAULT false NOT NULL,
    reclaim_after interval,
    queue_order text DEFAULT 'longest_waiting' NOT NULL,
    weight integer,
    waiting_weight integer,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT pk_assignment_policies PRIMARY KEY (id),
    CONSTRAINT uq_assignment_policies_channel_id UNIQUE (channel_id),
    CONSTRAINT uq_assignment_policies_team_id UNIQUE (team_id),
    CONSTRAINT fk_assignment_policies_channel_id FOREIGN KEY (channel_id) REFERENCES channels (id) ON DELETE CASCADE,
    CONSTRAINT fk_assignment_policies_team_id FOREIGN KEY (team_id) REFERENCES teams (id) ON DELETE CASCADE,
    CONSTRAINT ck_assignment_policies_target CHECK ((channel_id IS NULL) <> (team_id IS NULL)),
    CONSTRAINT ck_assignment_policies_strategy CHECK (strategy IN ('manual', 'round_robin', 'load_based', 'availability')),
    CONSTRAINT ck_assignment_policies_queue_order CHECK (queue_order IN ('longest_waiting', 'priority')),
    CONSTRAINT ck_assignment_policies_fairness CHECK ((fairness_most IS NULL) = (fairness_window IS NULL) AND fairness_most > 0),
    CONSTRAINT ck_assignment_policies_weights
        CHECK ((weight IS NULL) = (channel_id IS NULL) AND (waiting_weight IS NULL) = (channel_id IS NULL) AND weight > 0 AND waiting_weight >= 0)
)

-- What an agent takes and holds. load is in percent of a unit, capacity in units. conversations and load are kept by whatever
-- changes who has a conversation, its status or its weight, in the same transaction.
CREATE TABLE agent_loads (
    agent_id uuid NOT NULL,
    capacity integer DEFAULT 10 NOT NULL,
    skills text[] DEFAULT '{}' NOT NULL,
    load integer DEFAULT 0 NOT NULL,
    conversations integer DEFAULT 0 NOT NULL,
    availability text DEFAULT 'offline' NOT NULL,
    availability_time timestamptz DEFAULT now() NOT NULL,
    heartbeat_time timestamptz DEFAULT now() NOT NULL,
    lost_time timestamptz,
    idle_since timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_agent_loads PRIMARY KEY (agent_id),
    CONSTRAINT fk_agent_loads_agent_id FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE CASCADE,
    CONSTRAINT ck_agent_loads_capacity CHECK (capacity >= 0),
    CONSTRAINT ck_agent_loads_load CHECK (load >= 0 AND conversations >= 0),
    CONSTRAINT ck_agent_loads_availability CHECK (availability IN ('online', 'busy', 'away', 'offline')),
    CONSTRAINT ck_agent_loads_lost_time CHECK (lost_time IS NULL OR availability IN ('online', 'busy', 'away'))
)

INSERT INTO agent_loads (agent_id) SELECT id FROM agents

CREATE FUNCTION make_agent_load() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO agent_loads (agent_id) VALUES (NEW.id);
    RETURN NULL;
END
$$

CREATE TRIGGER make_agent_load AFTER INSERT ON agents FOR EACH ROW EXECUTE FUNCTION make_agent_load()

-- The turns of round robin: when an agent last got a conversation of a policy.
CREATE TABLE assignment_turns (
    policy_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    last_time timestamptz NOT NULL,
    CONSTRAINT pk_assignment_turns PRIMARY KEY (policy_id, agent_id),
    CONSTRAINT fk_assignment_turns_policy_id FOREIGN KEY (policy_id) REFERENCES assignment_policies (id) ON DELETE CASCADE,
    CONSTRAINT fk_assignment_turns_agent_id FOREIGN KEY (agent_id) REFERENCES agents (id) ON DELETE CASCADE
)

-- One row. Everything up to the event `generation` has been looked at; look_time: when to look even if nothing happens.
CREATE TABLE assignment_queue (
    id integer NOT NULL,
    generation bigint NOT NULL,
    look_time timestamptz,
    CONSTRAINT pk_assignment_queue PRIMARY KEY (id),
    CONSTRAINT ck_assignment_queue_single CHECK (id = 1)
)

INSERT INTO assignment_queue (id, generation) VALUES (1, 0)

-- What the conversation weighs for its agent, in percent of a unit: as it is, and while it waits for the customer.
ALTER TABLE conversations ADD COLUMN weight integer DEFAULT 100 NOT NULL, ADD COLUMN waiting_weight integer DEFAULT 50 NOT NULL,
    ADD CONSTRAINT ck_conversations_weight CHECK (weight >= 0 AND waiting_weight >= 0)

CREATE INDEX ix_conversations_queue ON conversations (coalesce(waiting_since, create_time), id)
    WHERE assignee_id IS NULL AND status IN ('new', 'open') AND delete_time IS NULL

CREATE FUNCTION weigh_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT p.weight, p.waiting_weight INTO NEW.weight, NEW.waiting_weight FROM assignment_policies p WHERE p.channel_id = NEW.channel_id;
    IF NOT FOUND THEN
        NEW.weight := 100;
        NEW.waiting_weight := 50;
    END IF;
    RETURN NEW;
END
$$

CREATE TRIGGER weigh_conversation BEFORE INSERT ON conversations FOR EACH ROW EXECUTE FUNCTION weigh_conversation()

-- Counts anew what each agent holds; nobody changes a conversation meanwhile.
CREATE FUNCTION recount_agent_loads() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE conversations IN SHARE ROW EXCLUSIVE MODE;
    UPDATE agent_loads l SET load = counted.load, conversations = counted.conversations FROM (
        SELECT a.agent_id, count(c.id)::integer AS conversations,
            coalesce(sum(CASE WHEN c.status IN ('new', 'open') THEN c.weight ELSE c.waiting_weight END), 0)::integer AS load
        FROM agent_loads a LEFT JOIN conversations c
            ON c.assignee_id = a.agent_id AND c.status IN ('new', 'open', 'pending', 'snoozed') AND c.delete_time IS NULL
        GROUP BY a.agent_id
    ) counted WHERE counted.agent_id = l.agent_id;
END
$$

SELECT recount_agent_loads()

ALTER TABLE conversation_assignments
    ADD COLUMN from_agent_id uuid, ADD COLUMN from_team_id uuid, ADD COLUMN end_reason text, ADD COLUMN policy_id uuid,
    ADD COLUMN waiting_since timestamptz, ADD COLUMN decision jsonb,
    ADD CONSTRAINT ck_conversation_assignments_end_reason CHECK (end_reason IN ('reassigned', 'unassigned', 'reclaimed', 'agent_disabled'))

-- What fairness counts, and whom reclaim asks.
CREATE INDEX ix_conversation_assignments_agent ON conversation_assignments (agent_id, start_time DESC)

-- == Statistics.

-- What was counted so far is counted anew from the log.
DELETE FROM consumers WHERE name = 'statistics';

DROP TABLE conversation_counts;

DROP TABLE counted_conversations;

CREATE TABLE conversation_counts (
    channel_id UUID NOT NULL,
    dimension TEXT NOT NULL,
    value TEXT NOT NULL,
    status TEXT NOT NULL,
    provider TEXT NOT NULL,
    count BIGINT NOT NULL,
    unassigned BIGINT NOT NULL,
    unread BIGINT NOT NULL,
    unattended BIGINT NOT NULL,
    CONSTRAINT pk_conversation_counts PRIMARY KEY (channel_id, dimension, value, status),
    CONSTRAINT ck_conversation_counts_not_negative CHECK (least(count, unassigned, unread, unattended) >= 0),
    CONSTRAINT ck_conversation_counts_parts CHECK (greatest(unassigned, unread, unattended) <= count),
    CONSTRAINT ck_conversation_counts_dimension CHECK (dimension IN ('channel', 'team', 'agent', 'tag', 'priority'))
);

CREATE TABLE counted_conversations (
    conversation_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    provider TEXT NOT NULL,
    status TEXT NOT NULL,
    team_id UUID,
    assignee_id UUID,
    tags TEXT[] NOT NULL,
    priority SMALLINT NOT NULL,
    unread BOOLEAN NOT NULL,
    hidden BOOLEAN NOT NULL,
    answered BOOLEAN NOT NULL,
    waiting_since TIMESTAMP WITH TIME ZONE,
    open_since TIMESTAMP WITH TIME ZONE,
    assigned_agent_id UUID,
    assigned_since TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_counted_conversations PRIMARY KEY (conversation_id)
);

CREATE TABLE statistics_buckets (
    dimension TEXT NOT NULL,
    bucket_time TIMESTAMP WITH TIME ZONE NOT NULL,
    channel_id UUID NOT NULL,
    value TEXT NOT NULL,
    measure TEXT NOT NULL,
    bin SMALLINT NOT NULL,
    count BIGINT NOT NULL,
    total NUMERIC NOT NULL,
    CONSTRAINT pk_statistics_buckets PRIMARY KEY (dimension, bucket_time, channel_id, value, measure, bin),
    CONSTRAINT ck_statistics_buckets_dimension CHECK (dimension IN ('channel', 'team', 'agent', 'tag', 'priority'))
);

CREATE TABLE statistics_starts (
    id SMALLINT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_statistics_starts PRIMARY KEY (id),
    CONSTRAINT ck_statistics_starts_one_row CHECK (id = 1)
);

-- == Audit.

-- Calls, written in the transaction of what they did. They wait there for their place in the trail.
CREATE TABLE audit_pending (
    id UUID NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    actor_kind SMALLINT NOT NULL,
    actor_id UUID NOT NULL,
    method TEXT NOT NULL,
    outcome SMALLINT NOT NULL,
    resource_fields TEXT[] NOT NULL,
    resource_ids TEXT[] NOT NULL,
    fields TEXT[] NOT NULL,
    cause_id TEXT NOT NULL,
    client_address TEXT,
    user_agent TEXT,
    CONSTRAINT pk_audit_pending PRIMARY KEY (id)
);

-- The trail. Each entry has the hash of the one before in its own, so that none can be changed, put in or taken out unseen.
CREATE TABLE audit_entries (
    number BIGINT NOT NULL,
    id UUID NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    actor_kind SMALLINT NOT NULL,
    actor_id UUID NOT NULL,
    method TEXT NOT NULL,
    outcome SMALLINT NOT NULL,
    resource_fields TEXT[] NOT NULL,
    resource_ids TEXT[] NOT NULL,
    fields TEXT[] NOT NULL,
    cause_id TEXT NOT NULL,
    client_address TEXT,
    user_agent TEXT,
    hash BYTEA NOT NULL,
    CONSTRAINT pk_audit_entries PRIMARY KEY (number),
    CONSTRAINT uq_audit_entries_id UNIQUE (id),
    CONSTRAINT ck_audit_entries_number CHECK (number > 0)
);

CREATE INDEX ix_audit_entries_actor ON audit_entries (actor_id, number);

CREATE INDEX ix_audit_entries_method ON audit_entries (method, number);

CREATE INDEX ix_audit_entries_create_time ON audit_entries (create_time);

CREATE INDEX ix_audit_entries_resources ON audit_entries USING gin (resource_ids);

-- The end of the trail: an entry that is cut off there is missed too.
CREATE TABLE audit_head (
    id SMALLINT NOT NULL,
    number BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    reads BOOLEAN NOT NULL,
    CONSTRAINT pk_audit_head PRIMARY KEY (id),
    CONSTRAINT ck_audit_head_one_row CHECK (id = 1)
);

INSERT INTO audit_head (id, number, hash, reads) VALUES (1, 0, '', false);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are never changed and never deleted' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- A message that is sent is its own record: its row says from where, so that a send writes no other.
ALTER TABLE messages ADD COLUMN client_address TEXT, ADD COLUMN user_agent TEXT;

-- == Channels.

-- Nothing here is of one provider: the account by the id its provider has for it, and what the contract shows of it. The sealed
-- column keeps its name, to which what is in it is bound; it holds whatever secret the provider needs.
ALTER TABLE channels RENAME COLUMN phone_number_id TO account_id;

ALTER TABLE channels ADD COLUMN details jsonb NOT NULL DEFAULT '{}';

UPDATE channels SET details = jsonb_strip_nulls(jsonb_build_object('phone_number_id', account_id, 'waba_id', waba_id,
    'display_phone_number', display_phone_number, 'graph_version', graph_version));

DROP INDEX uq_channels_phone_number_id;

ALTER TABLE channels DROP COLUMN waba_id, DROP COLUMN display_phone_number, DROP COLUMN graph_version,
    DROP CONSTRAINT ck_channels_provider;

ALTER TABLE channels ADD CONSTRAINT ck_channels_provider CHECK (provider ~ '^[a-z]{1,32}$');

CREATE UNIQUE INDEX uq_channels_provider_account_id ON channels (provider, account_id) WHERE account_id IS NOT NULL;
