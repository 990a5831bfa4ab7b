-- Contacts, invites and channels of one's own, by the rules. Statements are separated by blank lines.

-- == Contacts.

ALTER TABLE contacts ADD COLUMN block_time timestamptz, ADD COLUMN block_reason text,
    ADD CONSTRAINT ck_contacts_block_reason CHECK (block_reason IS NULL OR block_time IS NOT NULL);

-- A copy of the contact's: whoever holds the conversation's lock need not look at the contact.
ALTER TABLE conversations ADD COLUMN contact_blocked boolean NOT NULL DEFAULT false;

CREATE INDEX ix_identity_conflicts_create_time_id ON identity_conflicts (create_time, id);

-- == Lists.

-- == People.

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
    CONSTRAINT ck_invites_role CHECK (role IN ('owner', 'admin', 'supervisor', 'agent', 'read_only', 'custom')),
    CONSTRAINT ck_invites_role_id CHECK ((role = 'custom') = (role_id IS NOT NULL)),
    CONSTRAINT ck_invites_agent_id CHECK ((accept_time IS NULL) = (agent_id IS NULL)),
    CONSTRAINT ck_invites_closed_once CHECK (accept_time IS NULL OR revoke_time IS NULL)
);

CREATE UNIQUE INDEX uq_invites_email ON invites (lower(email)) WHERE accept_time IS NULL AND revoke_time IS NULL;

CREATE INDEX ix_invites_role_id ON invites (role_id);

-- == Channels.

-- == Conversations and deliveries.

