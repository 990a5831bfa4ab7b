"""The end of deleted conversations: their rows and everything that belongs to them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from server.conversations import events, repository
from server.conversations.row import ConversationRow
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.log.event import NewEvent, Origin
from server.tenant_settings import service as tenant_settings
from server.tenant_settings.service import PURGE
from server.timers.service import EARLY, Fired, Handlers, set_timers

# How long a purge waits for a request to a provider that has begun.
IN_FLIGHT = timedelta(minutes=1)
# In an order that every foreign key allows; tags, read positions, participants and keys of attributes go with the row. The raw
# payloads stay in the journal for as long as it keeps them, and what happened stays in the log for as long as that does.
OF_PARTS = "USING message_parts p JOIN messages m ON m.id = p.message_id WHERE m.conversation_id = ANY($1::uuid[])"
OF_MESSAGES = "USING messages m WHERE m.conversation_id = ANY($1::uuid[])"
STATEMENTS = (
    f"DELETE FROM message_status_updates u {OF_MESSAGES} AND m.id = u.message_id",
    f"DELETE FROM message_attachments a {OF_MESSAGES} AND m.id = a.message_id",
    f"DELETE FROM deliveries d {OF_PARTS} AND p.id = d.part_id",
    f"DELETE FROM message_parts p {OF_MESSAGES} AND m.id = p.message_id",
    "DELETE FROM messages WHERE conversation_id = ANY($1::uuid[])",
    "DELETE FROM conversation_notes WHERE conversation_id = ANY($1::uuid[])",
    "DELETE FROM conversation_words WHERE conversation_id = ANY($1::uuid[])",
    "DELETE FROM conversation_assignments WHERE conversation_id = ANY($1::uuid[])",
    "DELETE FROM timers WHERE key = ANY($1::uuid[]) AND kind IN ('snooze', 'reply_window_closing', 'reply_window_closed', 'auto_resolve')",
    "DELETE FROM conversations WHERE id = ANY($1::uuid[])",
)
CONTINUE = "SELECT id FROM conversations WHERE previous_conversation_id = ANY($1::uuid[])"
UNLINK = "UPDATE conversations SET previous_conversation_id = NULL, version = version + 1 WHERE id = ANY($1::uuid[])"
BUSY = "SELECT DISTINCT conversation_id FROM deliveries WHERE conversation_id = ANY($1::uuid[]) AND state = 'in_flight'"


class Purging:
    """The end of some conversations. rows: they and those that continue them, locked. kept: until when each stays."""

    def __init__(
        self, write: Write, rows: Mapping[uuid.UUID, ConversationRow], *, kept: Mapping[uuid.UUID, datetime]
    ) -> None:
        self._write = write
        self._rows = rows
        self._kept = kept
        self._purged: list[uuid.UUID] = []
        self._unlinked: list[uuid.UUID] = []
        self._again: dict[uuid.UUID, datetime] = {}

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        """A retention that has grown meanwhile, or a request that has begun, puts it off."""
        due_time = self._kept.get(fired.key)
        if due_time is None:
            return []
        if due_time > fired.due_time + EARLY:
            self._again[fired.key] = due_time
            return []
        row = self._rows[fired.key]
        self._purged.append(row.id)
        return [*self._unlink(fired, row), events.purged(fired.origin, row, intended_time=fired.due_time)]

    def _unlink(self, fired: Fired, gone: ConversationRow) -> Iterator[NewEvent]:
        """What continued it continues nothing from now on. That is no activity of anybody's: update_time stays."""
        for row in self._rows.values():
            if row.previous_conversation_id == gone.id and row.id not in self._purged:
                row.previous_conversation_id = None
                row.version += 1
                self._unlinked.append(row.id)
                yield events.updated(fired.origin, row, "previous_conversation_id")

    async def save(self) -> None:
        """Deletes what has ended, and sets the timers that were early."""
        connection = self._write.connection
        if self._purged:
            await connection.execute(UNLINK, self._unlinked)
        for statement in STATEMENTS if self._purged else ():
            await connection.execute(statement, self._purged)
        await set_timers(connection, kind=PURGE, due_times=self._again)


async def open_deleted(write: Write, keys: Sequence[uuid.UUID]) -> Purging:
    """Locks the conversations, and those that continue them."""
    connection = write.connection
    rows = await repository.lock_many(connection, keys)
    kept = await _kept(connection, [row for row in rows.values() if row.delete_time is not None])
    # Nobody continues a conversation without its lock, so these are all.
    continue_ = [record["id"] for record in await connection.fetch(CONTINUE, list(kept))]
    rows |= await repository.lock_many(connection, [some for some in continue_ if some not in rows])
    return Purging(write, rows, kept=kept)


async def _kept(connection: Connection, deleted: Sequence[ConversationRow]) -> dict[uuid.UUID, datetime]:
    if not deleted:
        return {}
    retention = (await tenant_settings.get(connection))["conversation_retention"]
    busy = await _busy(connection, [row.id for row in deleted])
    later = utc_now() + IN_FLIGHT
    return {
        row.id: later if row.id in busy else row.delete_time + retention
        for row in deleted
        if row.delete_time is not None
    }


async def _busy(connection: Connection, ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Conversations that a provider is being asked for just now."""
    return {record["conversation_id"] for record in await connection.fetch(BUSY, list(ids))}


async def purge_now(write: Write, ids: Sequence[uuid.UUID], *, origin: Origin) -> list[NewEvent]:
    """Ends conversations at once, whatever the retention; no request to a provider may be under way."""
    connection = write.connection
    continue_ = [record["id"] for record in await connection.fetch(CONTINUE, list(ids))]
    rows = await repository.lock_many(connection, sorted({*ids, *continue_}))
    left = [row for row in rows.values() if row.id not in ids]
    for row in left:
        row.previous_conversation_id = None
        row.version += 1
    await connection.execute(UNLINK, [row.id for row in left])
    for statement in STATEMENTS:
        await connection.execute(statement, list(ids))
    now = utc_now()
    return [
        *(events.updated(origin, row, "previous_conversation_id") for row in left),
        *(events.purged(origin, rows[key], intended_time=now) for key in ids if key in rows),
    ]


HANDLERS: Handlers = {PURGE: open_deleted}
