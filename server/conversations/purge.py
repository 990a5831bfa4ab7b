"""The end of deleted conversations: their rows and everything that belongs to them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

from server.kit.db import Connection

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
    "DELETE FROM conversation_assignments WHERE conversation_id = ANY($1::uuid[])",
    "DELETE FROM timers WHERE key = ANY($1::uuid[]) AND kind IN ('snooze', 'reply_window_closing', 'reply_window_closed', 'auto_resolve')",
    "DELETE FROM conversations WHERE id = ANY($1::uuid[])",
)


async def busy(connection: Connection, ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Conversations that a provider is being asked for just now."""
    records = await connection.fetch(
        "SELECT DISTINCT conversation_id FROM deliveries WHERE conversation_id = ANY($1::uuid[]) AND state = 'in_flight'",
        list(ids),
    )
    return {record["conversation_id"] for record in records}


async def purge(connection: Connection, ids: Sequence[uuid.UUID]) -> None:
    """Deletes locked conversations for good."""
    for statement in STATEMENTS if ids else ():
        await connection.execute(statement, list(ids))
