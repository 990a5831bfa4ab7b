"""Tags of conversations, by name; unknown names join the tenant's vocabulary. Names that differ in case alone are one tag."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from server.conversations import events, repository, rules
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import FieldViolation, InvalidFields
from server.kit.ids import new_id
from server.log.event import Origin
from server.rpc.call import Scope

MOST = 100
ENSURE = """
INSERT INTO tags (id, name, create_time)
SELECT DISTINCT ON (lower(name)) id, name, $3::timestamptz FROM unnest($1::uuid[], $2::text[]) AS u (id, name) ORDER BY lower(name)
ON CONFLICT (lower(name)) DO UPDATE SET name = tags.name
RETURNING id, name
"""
ATTACH = """
INSERT INTO conversation_tags (conversation_id, tag_id, create_time) SELECT $1, tag_id, $3 FROM unnest($2::uuid[]) AS tag_id
ON CONFLICT DO NOTHING
"""
DETACH = """
DELETE FROM conversation_tags ct USING tags t WHERE ct.conversation_id = $1 AND ct.tag_id = t.id AND t.name = ANY($2::text[])
"""


ALIKE = """
SELECT held FROM unnest($1::text[]) AS held WHERE lower(held) = ANY(ARRAY(SELECT lower(name) FROM unnest($2::text[]) AS name))
"""


async def add(
    write: Write, scope: Scope, conversation_id: uuid.UUID, *, origin: Origin, names: Sequence[str]
) -> Changed:
    """Adds tags; those that are there already change nothing. A conversation has at most 100."""
    row = await _locked(write, scope, conversation_id)
    unseen = sorted(set(names) - set(row.tags))
    if not unseen:
        return Changed(row)
    now = utc_now()
    records = await write.connection.fetch(ENSURE, [new_id() for _ in unseen], unseen, now)
    after = sorted({*row.tags, *(record["name"] for record in records)})
    if len(after) > MOST:
        raise InvalidFields(FieldViolation("tags", f"a conversation has at most {MOST} tags"))
    if after == row.tags:
        return Changed(row)
    await write.connection.execute(ATTACH, row.id, [record["id"] for record in records], now)
    return await _saved(write, row, after, origin=origin)


async def remove(
    write: Write, scope: Scope, conversation_id: uuid.UUID, *, origin: Origin, names: Sequence[str]
) -> Changed:
    """Removes tags; those that are not there change nothing."""
    row = await _locked(write, scope, conversation_id)
    present = [record["held"] for record in await write.connection.fetch(ALIKE, row.tags, list(names))]
    if not present:
        return Changed(row)
    await write.connection.execute(DETACH, row.id, present)
    return await _saved(write, row, sorted(set(row.tags) - set(present)), origin=origin)


async def _locked(write: Write, scope: Scope, conversation_id: uuid.UUID) -> ConversationRow:
    row = await repository.lock_visible(write.connection, scope, conversation_id)
    rules.check_writable(row)
    return row


async def _saved(write: Write, row: ConversationRow, tags: list[str], *, origin: Origin) -> Changed:
    row.tags = tags
    rules.touch(row, utc_now())
    await repository.save(write.connection, row)
    await repository.save_tags(write.connection, row)
    return Changed(row, [events.updated(origin, row, "tags")])
