-- Contacts, invites and channels of one's own, by the rules. Statements are separated by blank lines.

-- == Contacts.

-- == Lists.

-- == People.

-- == Channels.

-- == Conversations and deliveries.

