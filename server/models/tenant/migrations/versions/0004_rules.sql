-- Contacts, invites and channels of one's own, by the rules. Statements are separated by blank lines.

-- == Contacts.

ALTER TABLE contacts ADD COLUMN block_time timestamptz, ADD COLUMN block_reason text,
    ADD CONSTRAINT ck_contacts_block_reason CHECK (block_reason IS NULL OR block_time IS NOT NULL);

-- A copy of the contact's: whoever holds the conversation's lock need not look at the contact.
ALTER TABLE conversations ADD COLUMN contact_blocked boolean NOT NULL DEFAULT false;

-- == Lists.

-- == People.

-- == Channels.

-- == Conversations and deliveries.

