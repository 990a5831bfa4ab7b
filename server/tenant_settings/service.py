"""The one row of settings. Changes work inside the caller's unit of work and commit nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from switchboard.v1 import event_pb2

from server.kit.db import Connection, Write
from server.log.event import NewEvent, Origin
from server.tenant_settings import convert

# The timer that ends what retention keeps; its key is the deleted conversation.
PURGE = "purge"
UPDATE = """
UPDATE tenant_settings SET conversation_retention = $1, reply_fence_policy = $2, read_receipts = $3 RETURNING *
"""
FOLLOW = """
UPDATE timers t SET due_time = c.delete_time + $2 FROM conversations c
WHERE t.kind = $1 AND t.key = c.id AND c.delete_time IS NOT NULL
"""


async def get(connection: Connection) -> Any:
    """The settings."""
    return await connection.fetchrow("SELECT * FROM tenant_settings")


async def update(
    write: Write,
    *,
    origin: Origin,
    retention: timedelta | None = None,
    fence: str | None = None,
    read_receipts: bool | None = None,
) -> tuple[Any, list[NewEvent]]:
    """Changes settings; None leaves one alone. A new retention moves the ends of what is deleted already."""
    before: Any = await write.connection.fetchrow("SELECT * FROM tenant_settings FOR UPDATE")
    kept = before["conversation_retention"] if retention is None else retention
    told = before["read_receipts"] if read_receipts is None else read_receipts
    after = (kept, fence or before["reply_fence_policy"], told)
    if after == (before["conversation_retention"], before["reply_fence_policy"], before["read_receipts"]):
        return before, []
    record: Any = await write.connection.fetchrow(UPDATE, *after)
    if kept != before["conversation_retention"]:
        await write.connection.execute(FOLLOW, PURGE, kept)
    body = event_pb2.TenantSettingsChanged(settings=convert.settings(record))
    event = event_pb2.InboxEvent(tenant_settings_changed=body)
    return record, [NewEvent(body=event, actor=origin.actor, cause=origin.cause)]
