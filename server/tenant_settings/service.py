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
UPDATE tenant_settings SET conversation_retention = $1, reply_fence_policy = $2, read_receipts = $3,
    reply_window_closing_before = $4 RETURNING *
"""
# How timers that are set already follow a setting.
FOLLOW = {
    "conversation_retention": """
        UPDATE timers t SET due_time = c.delete_time + $1::interval FROM conversations c
        WHERE t.kind = 'purge' AND t.key = c.id AND c.delete_time IS NOT NULL
    """,
    "reply_window_closing_before": """
        UPDATE timers t SET due_time = c.reply_window_expire_time - $1::interval FROM conversations c
        WHERE t.kind = 'reply_window_closing' AND t.key = c.id AND c.reply_window_expire_time IS NOT NULL
    """,
}


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
    closing_before: timedelta | None = None,
) -> tuple[Any, list[NewEvent]]:
    """Changes settings; None leaves one alone. Timers that are set already move with what they go by."""
    before: Any = await write.connection.fetchrow("SELECT * FROM tenant_settings FOR UPDATE")
    after = {
        "conversation_retention": before["conversation_retention"] if retention is None else retention,
        "reply_fence_policy": fence or before["reply_fence_policy"],
        "read_receipts": before["read_receipts"] if read_receipts is None else read_receipts,
        "reply_window_closing_before": closing_before or before["reply_window_closing_before"],
    }
    changed = {name for name, value in after.items() if value != before[name]}
    if not changed:
        return before, []
    record: Any = await write.connection.fetchrow(UPDATE, *after.values())
    for name in FOLLOW.keys() & changed:
        await write.connection.execute(FOLLOW[name], after[name])
    body = event_pb2.TenantSettingsChanged(settings=convert.settings(record))
    event = event_pb2.InboxEvent(tenant_settings_changed=body)
    return record, [NewEvent(body=event, actor=origin.actor, cause=origin.cause)]
