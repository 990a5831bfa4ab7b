"""Tags of conversations, by name; unknown names join the tenant's vocabulary. Names that differ in case alone are one tag."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from server.conversations import events, repository, rules, vocabulary
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.kit.clock import utc_now
from server.kit.db import Connection, Raced, Write
from server.kit.errors import FieldViolation, InvalidFields
from server.kit.ids import new_id
from server.log.event import Origin
from server.rpc.call import Scope

MOST = 100
ASKED = """
SELECT count(DISTINCT lower(asked.name)) AS count, count(t.id) < count(*) AS lacking
FROM unnest($1::text[]) AS asked (name) LEFT JOIN tags t ON lower(t.name) = lower(asked.name) AND t.delete_time IS NULL
"""
# Locked against a new name or a deletion, which come before or after; not against others who add the same. Here and where tags
# are made they are locked in the order of their names.
KNOWN = """
SELECT t.*, FALSE AS created FROM tags t
WHERE t.delete_time IS NULL AND lower(t.name) = ANY(ARRAY(SELECT lower(name) FROM unnest($1::text[]) AS name))
ORDER BY lower(t.name) FOR SHARE
"""
# Who comes second waits for the first, and has what that made.
CREATE = """
INSERT INTO tags (id, name, create_time)
SELECT DISTINCT ON (lower(name)) id, name, $3::timestamptz FROM unnest($1::uuid[], $2::text[]) AS u (id, name) ORDER BY lower(name)
ON CONFLICT (lower(name)) WHERE delete_time IS NULL DO UPDATE SET name = tags.name
RETURNING *, old.id IS NULL AS created
"""
ATTACH = """
INSERT INTO conversation_tags (conversation_id, tag_id, create_time) SELECT DISTINCT $1::uuid, tag_id, $3::timestamptz
FROM unnest($2::uuid[]) AS tag_id
ON CONFLICT DO NOTHING
"""
DETACH = """
DELETE FROM conversation_tags ct USING tags t
WHERE ct.conversation_id = $1 AND ct.tag_id = t.id
    AND lower(t.name) = ANY(ARRAY(SELECT lower(name) FROM unnest($2::text[]) AS name))
"""
NAMES = """
SELECT t.name FROM conversation_tags ct JOIN tags t ON t.id = ct.tag_id WHERE ct.conversation_id = $1 AND t.delete_time IS NULL
"""


async def add(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    *,
    origin: Origin,
    names: Sequence[str],
    create: Callable[[], None] = lambda: None,
) -> Changed:
    """Adds tags; those that are there already change nothing. A conversation has at most 100.

    create: called when the vocabulary lacks a name; raises unless the caller may add to it.
    """
    row = await _locked(write, scope, conversation_id)
    found = await _found(write.connection, sorted(set(names)), create=create)
    await write.connection.execute(ATTACH, row.id, [record["id"] for record in found], utc_now())
    created = [vocabulary.created(origin, record) for record in found if record["created"]]
    changed = await _followed(write, row, origin=origin)
    return Changed(changed.row, [*created, *changed.events])


async def _found(connection: Connection, names: list[str], *, create: Callable[[], None]) -> list[Any]:
    """The tags of these names, locked; those that are missing are made. Raced when one is deleted meanwhile."""
    asked: Any = await connection.fetchrow(ASKED, names)
    records: list[Any]
    if asked["lacking"]:
        create()
        records = await connection.fetch(CREATE, [new_id() for _ in names], names, utc_now())
    else:
        records = await connection.fetch(KNOWN, names)
    if len(records) < asked["count"]:
        raise Raced
    return records


async def remove(
    write: Write, scope: Scope, conversation_id: uuid.UUID, *, origin: Origin, names: Sequence[str]
) -> Changed:
    """Removes tags; those that are not there change nothing."""
    row = await _locked(write, scope, conversation_id)
    await write.connection.execute(DETACH, row.id, list(names))
    return await _followed(write, row, origin=origin)


async def _locked(write: Write, scope: Scope, conversation_id: uuid.UUID) -> ConversationRow:
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    rules.check_writable(row)
    return row


async def _followed(write: Write, row: ConversationRow, *, origin: Origin) -> Changed:
    """The row with the names of the tags that it has now; no event when it had them."""
    names = sorted(record["name"] for record in await write.connection.fetch(NAMES, row.id))
    if len(names) > MOST:
        raise InvalidFields(FieldViolation("tags", f"a conversation has at most {MOST} tags"))
    if names == row.tags:
        return Changed(row)
    row.tags = names
    rules.touch(row, utc_now())
    await repository.save(write.connection, row)
    await repository.save_tags(write.connection, row)
    return Changed(row, [events.updated(origin, row, "tags")])
