"""What the timers of conversations do when they fire."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from switchboard.v1 import event_pb2

from server.channels import service as channels
from server.channels.service import AUTO_RESOLVE
from server.conversations import convert, events, purge, repository, rules
from server.conversations.row import ConversationRow
from server.kit import pb
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.log.event import NewEvent
from server.tenant_settings import service as tenant_settings
from server.timers.service import EARLY, Fired, Handlers, cancel, set_timer, set_timers

SNOOZE, WINDOW_CLOSING, WINDOW_CLOSED = "snooze", "reply_window_closing", "reply_window_closed"
INACTIVE = "no activity"


class ConversationTimers:
    """The timers of some locked conversations. closing_before: how long before its end a window says that it closes."""

    def __init__(
        self,
        write: Write,
        rows: Mapping[uuid.UUID, ConversationRow],
        *,
        auto_resolve: Mapping[uuid.UUID, timedelta],
        closing_before: timedelta,
    ) -> None:
        self._write = write
        self._rows = rows
        self._auto_resolve = auto_resolve
        self._before = {WINDOW_CLOSING: closing_before, WINDOW_CLOSED: timedelta(0)}
        self._changed: dict[uuid.UUID, ConversationRow] = {}
        self._again: dict[str, dict[uuid.UUID, datetime]] = {}
        self._acts = {SNOOZE: self._wake, AUTO_RESOLVE: self._resolve}

    async def fire(self, fired: Fired) -> Sequence[NewEvent]:
        """Ends a snooze, resolves what nobody touched, or says that a reply window closes or closed."""
        row = self._rows.get(fired.key)
        if row is None or row.delete_time is not None:
            return []
        return self._acts.get(fired.kind, self._window)(fired, row)

    async def save(self) -> None:
        """Writes the conversations that changed, and the timers that were early."""
        await repository.save_many(self._write.connection, list(self._changed.values()))
        for kind, due_times in self._again.items():
            await set_timers(self._write.connection, kind=kind, due_times=due_times)

    def _wake(self, fired: Fired, row: ConversationRow) -> list[NewEvent]:
        """A snooze that was replaced or ended otherwise left an old generation, which does nothing."""
        now = utc_now()
        move = rules.wake(row, generation=fired.generation, now=now)
        if move is None:
            return []
        rules.touch(row, now)
        self._changed[row.id] = row
        return [events.status_changed(fired.origin, row, move, intended_time=fired.due_time)]

    def _resolve(self, fired: Fired, row: ConversationRow) -> list[NewEvent]:
        """Whatever changed the conversation meanwhile was activity: then the timer sets itself anew."""
        after = self._auto_resolve.get(row.channel_id)
        if after is None or row.status not in rules.ACTIVE:
            return []
        due_time = row.update_time + after
        if due_time > fired.due_time + EARLY:
            self._again.setdefault(AUTO_RESOLVE, {})[row.id] = due_time
            return []
        now = utc_now()
        move = rules.set_status(row, "resolved", now=now)
        if move is None:
            return []
        rules.touch(row, now)
        self._changed[row.id] = row
        return [events.status_changed(fired.origin, row, move, reason=INACTIVE, intended_time=fired.due_time)]

    def _window(self, fired: Fired, row: ConversationRow) -> list[NewEvent]:
        """Set for a window that has grown meanwhile, it sets itself anew."""
        if row.reply_window_expire_time is None or not row.live:
            return []
        due_time = row.reply_window_expire_time - self._before[fired.kind]
        if due_time > fired.due_time + EARLY:
            self._again.setdefault(fired.kind, {})[row.id] = due_time
            return []
        return [_window_event(fired, row)]


async def open_conversations(write: Write, keys: Sequence[uuid.UUID]) -> ConversationTimers:
    """Locks the conversations."""
    rows = await repository.lock_many(write.connection, keys)
    channel_ids = {row.channel_id for row in rows.values()}
    return ConversationTimers(
        write,
        rows,
        auto_resolve=await channels.auto_resolve_after(write.connection, sorted(channel_ids)),
        closing_before=(await tenant_settings.get(write.connection))["reply_window_closing_before"],
    )


async def closed_now(connection: Connection, row: ConversationRow) -> None:
    """The provider closed the window before its time: the worker says so at once, and no longer that it closes soon."""
    await cancel(connection, kind=WINDOW_CLOSING, keys=[row.id])
    if row.reply_window_expire_time is not None:
        await set_timer(connection, kind=WINDOW_CLOSED, key=row.id, due_time=row.reply_window_expire_time)


def _window_event(fired: Fired, row: ConversationRow) -> NewEvent:
    snapshot: Any = {"conversation": convert.conversation(row), "intended_time": pb.timestamp(fired.due_time)}
    if fired.kind == WINDOW_CLOSING:
        body = event_pb2.InboxEvent(reply_window_closing=event_pb2.ReplyWindowClosing(**snapshot))
    else:
        body = event_pb2.InboxEvent(reply_window_closed=event_pb2.ReplyWindowClosed(**snapshot))
    return events.conversation_event(fired.origin, row, body)


KINDS = (SNOOZE, WINDOW_CLOSING, WINDOW_CLOSED, AUTO_RESOLVE)
HANDLERS: Handlers = {**dict.fromkeys(KINDS, open_conversations), **purge.HANDLERS}
