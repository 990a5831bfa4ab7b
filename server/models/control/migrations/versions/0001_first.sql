-- The control database: tenants and where they are, keys, routes, work. Statements are separated by blank lines.

CREATE TABLE installation (
    id SMALLINT NOT NULL,
    wrapped_key BYTEA NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_installation PRIMARY KEY (id),
    CONSTRAINT ck_installation_one_row CHECK (id = 1)
);

CREATE TABLE mac_keys (
    id SMALLINT NOT NULL,
    secret BYTEA NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_mac_keys PRIMARY KEY (id)
);

CREATE TABLE meta_apps (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    app_secret BYTEA NOT NULL,
    previous_app_secret BYTEA,
    verify_token BYTEA NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_meta_apps PRIMARY KEY (id)
);

CREATE TABLE postgres_servers (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    admin_user TEXT NOT NULL,
    admin_password BYTEA NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_postgres_servers PRIMARY KEY (id),
    CONSTRAINT uq_postgres_servers_name UNIQUE (name)
);

CREATE TABLE quarantine (
    id UUID NOT NULL,
    provider TEXT NOT NULL,
    app_id TEXT NOT NULL,
    external_id TEXT,
    tenant_id UUID,
    reason TEXT NOT NULL,
    body BYTEA NOT NULL,
    split BOOLEAN NOT NULL,
    content_hash BYTEA NOT NULL,
    secret_index INTEGER NOT NULL,
    receive_time TIMESTAMP WITH TIME ZONE NOT NULL,
    next_time TIMESTAMP WITH TIME ZONE NOT NULL,
    expire_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_quarantine PRIMARY KEY (id)
);

CREATE INDEX ix_quarantine_expire_time ON quarantine (expire_time);

CREATE INDEX ix_quarantine_next_time ON quarantine (next_time);

CREATE INDEX ix_quarantine_provider_external_id ON quarantine (provider, external_id);

CREATE TABLE signing_keys (
    id TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    private_key BYTEA NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    retire_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_signing_keys PRIMARY KEY (id)
);

CREATE TABLE tenants (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    server_id UUID NOT NULL,
    database_name TEXT NOT NULL,
    role_name TEXT NOT NULL,
    role_password BYTEA NOT NULL,
    wrapped_key BYTEA NOT NULL,
    schema_revision TEXT,
    migration_error TEXT,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_tenants PRIMARY KEY (id),
    CONSTRAINT uq_tenants_name UNIQUE (name),
    CONSTRAINT uq_tenants_server_id_database_name UNIQUE (server_id, database_name),
    CONSTRAINT ck_tenants_state CHECK (state IN ('provisioning', 'active', 'disabled')),
    CONSTRAINT fk_tenants_server_id FOREIGN KEY(server_id) REFERENCES postgres_servers (id)
);

CREATE TABLE api_keys (
    id UUID NOT NULL,
    tenant_id UUID,
    key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_hash BYTEA NOT NULL,
    permissions SMALLINT[] NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    expire_time TIMESTAMP WITH TIME ZONE,
    revoke_time TIMESTAMP WITH TIME ZONE,
    last_use_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_api_keys PRIMARY KEY (id),
    CONSTRAINT uq_api_keys_key_id UNIQUE (key_id),
    CONSTRAINT fk_api_keys_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
);

CREATE INDEX ix_api_keys_tenant_id_create_time_id ON api_keys (tenant_id, create_time, id);

CREATE TABLE routes (
    provider TEXT NOT NULL,
    external_id TEXT NOT NULL,
    tenant_id UUID NOT NULL,
    channel_id UUID NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_routes PRIMARY KEY (provider, external_id),
    CONSTRAINT fk_routes_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
);

CREATE INDEX ix_routes_tenant_id ON routes (tenant_id);

CREATE TABLE tenant_work (
    tenant_id UUID NOT NULL,
    active_until TIMESTAMP WITH TIME ZONE,
    next_due_time TIMESTAMP WITH TIME ZONE,
    lessee TEXT,
    lease_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_tenant_work PRIMARY KEY (tenant_id),
    CONSTRAINT fk_tenant_work_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
)
 WITH (fillfactor = 50);

CREATE INDEX ix_tenant_work_active_until ON tenant_work (active_until);

CREATE INDEX ix_tenant_work_next_due_time ON tenant_work (next_due_time);
