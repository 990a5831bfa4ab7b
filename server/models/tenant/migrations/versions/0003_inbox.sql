-- What the inbox needs to keep every rule of it. Statements are separated by blank lines.

-- == Conversations.

-- == Lists, notes and tags.

-- == Agents, roles, contacts.

-- == Assignment.

-- == Statistics.

-- == Audit.
