-- == Content.

ALTER TABLE message_attachments
    ADD COLUMN voice boolean NOT NULL DEFAULT false,
    ADD COLUMN animated boolean NOT NULL DEFAULT false;

-- == Sends.

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
