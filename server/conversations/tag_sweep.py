"""Conversations that follow a tag which was renamed or deleted: so many at a time, the rest by a timer that sets itself again."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence

from server.conversations import events, repository, rules
from server.conversations.row import ConversationRow
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.log.event import NewEvent, Origin
from server.timers.service import Fired, Handlers, set_timer

SWEEP = "tag_sweep"
# Conversations of one transaction, of all tags that it is about together.
BATCH = 100
# After the commit of the tag's change: whoever attached it before has committed too, for it held the tag's row.
START = "UPDATE tags SET swept_to = NULL WHERE id = $1"
NEXT = """
SELECT ct.tag_id, ct.conversation_id FROM tags t CROSS JOIN LATERAL (
    SELECT ct.tag_id, ct.conversation_id FROM conversation_tags ct
    WHERE ct.tag_id = t.id AND (t.swept_to IS NULL OR ct.conversation_id > t.swept_to) ORDER BY ct.conversation_id LIMIT $2
) ct WHERE t.id = ANY($1::uuid[])
"""
NAMES = """
SELECT ct.conversation_id, array_agg(t.name) AS names FROM conversation_tags ct JOIN tags t ON t.id = ct.tag_id
WHERE ct.conversation_id = ANY($1::uuid[]) AND t.delete_time IS NULL GROUP BY ct.conversation_id
"""
DETACH = """
DELETE FROM conversation_tags ct USING tags t
WHERE ct.tag_id = $1 AND ct.conversation_id = ANY($2::uuid[]) AND t.id = ct.tag_id AND t.delete_time IS NOT NULL
"""
GO_ON = "UPDATE tags SET swept_to = $2 WHERE id = $1"
FORGET = "DELETE FROM tags WHERE id = $1 AND delete_time IS NOT NULL"


class TagSweep:
    """The next conversations of some tags, locked, and what follows for them."""

    def __init__(
        self,
        write: Write,
        rows: Mapping[uuid.UUID, ConversationRow],
        members: Mapping[uuid.UUID, Sequence[uuid.UUID]],
        *,
        share: int,
    ) -> None:
        self._write = write
        self._rows = rows
        self._members = members
        self._share = share
        self._changed: dict[uuid.UUID, ConversationRow] = {}

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        """Gives the locked conversations of a tag the names that their tags have now; sets the timer again when there are more."""
        tag_id = fired.key
        connection, members = self._write.connection, list(self._members.get(tag_id, ()))
        await connection.execute(DETACH, tag_id, members)
        found = {record["conversation_id"]: record["names"] for record in await connection.fetch(NAMES, members)}
        changed = []
        for conversation_id in members:
            row, names = self._rows[conversation_id], sorted(found.get(conversation_id, []))
            if row.tags != names:
                row.tags = names
                changed.append(row)
        await self._go_on(tag_id, members)
        return [self._updated(row, origin=fired.origin) for row in changed]

    def _updated(self, row: ConversationRow, *, origin: Origin) -> NewEvent:
        # A conversation of two swept tags changes once in this transaction.
        if row.id not in self._changed:
            rules.touch(row, utc_now())
            self._changed[row.id] = row
        return events.updated(origin, row, "tags")

    async def _go_on(self, tag_id: uuid.UUID, members: Sequence[uuid.UUID]) -> None:
        if len(members) < self._share:
            await self._write.connection.execute(FORGET, tag_id)
            return
        await self._write.connection.execute(GO_ON, tag_id, members[-1])
        await set_timer(self._write.connection, kind=SWEEP, key=tag_id, due_time=utc_now())

    async def save(self) -> None:
        """Writes the conversations that changed."""
        rows = list(self._changed.values())
        await repository.save_many(self._write.connection, rows)
        for row in rows:
            await repository.save_tags(self._write.connection, row)


async def start(connection: Connection, tag_id: uuid.UUID) -> None:
    """Lets the conversations of a tag follow what the caller's transaction changes of it."""
    await connection.execute(START, tag_id)
    await set_timer(connection, kind=SWEEP, key=tag_id, due_time=utc_now())


async def open_tags(write: Write, keys: Sequence[uuid.UUID]) -> TagSweep:
    """Locks the next conversations of the tags."""
    share = max(1, BATCH // max(1, len(keys)))
    members: dict[uuid.UUID, list[uuid.UUID]] = defaultdict(list)
    for record in await write.connection.fetch(NEXT, list(keys), share):
        members[record["tag_id"]].append(record["conversation_id"])
    rows = await repository.lock_many(write.connection, sorted({item for found in members.values() for item in found}))
    return TagSweep(write, rows, members, share=share)


HANDLERS: Handlers = {SWEEP: open_tags}
