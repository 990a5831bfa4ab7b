"""What the timers of conversations do when they fire."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from switchboard.v1 import event_pb2

from server.conversations import convert, events, repository, rules
from server.conversations.row import ConversationRow
from server.kit import pb
from server.kit.clock import utc_now
from server.kit.db import Connection, Write
from server.log.append import append
from server.log.event import NewEvent
from server.timers.service import Fired, Handler, cancel, set_timer

WINDOW_CLOSING, WINDOW_CLOSED = "reply_window_closing", "reply_window_closed"
CLOSING_BEFORE = convert.CLOSING
EARLY = timedelta(milliseconds=1)


async def _lock(write: Write, conversation_id: uuid.UUID) -> ConversationRow | None:
    return (await repository.lock_many(write.connection, [conversation_id])).get(conversation_id)


async def wake(write: Write, fired: Fired, row: ConversationRow | None) -> None:
    """Ends a snooze. One that was replaced or ended otherwise carries an old generation and does nothing."""
    now = utc_now()
    move = None if row is None or row.delete_time else rules.wake(row, generation=fired.generation, now=now)
    if row is None or move is None:
        return
    rules.touch(row, now)
    await repository.save(write.connection, row)
    await append(write, [events.status_changed(fired.origin, row, move, intended_time=fired.due_time)])


async def window_closing(write: Write, fired: Fired, row: ConversationRow | None) -> None:
    """Says that the reply window closes soon; set for a window that has grown meanwhile, it sets itself anew."""
    await _window(write, fired, row, before=CLOSING_BEFORE)


async def window_closed(write: Write, fired: Fired, row: ConversationRow | None) -> None:
    """Says that the reply window closed."""
    await _window(write, fired, row, before=timedelta(0))


async def closed_now(connection: Connection, row: ConversationRow) -> None:
    """The provider closed the window before its time: the worker says so at once, and no longer that it closes soon."""
    await cancel(connection, kind=WINDOW_CLOSING, keys=[row.id])
    if row.reply_window_expire_time is not None:
        await set_timer(connection, kind=WINDOW_CLOSED, key=row.id, due_time=row.reply_window_expire_time)


async def _window(write: Write, fired: Fired, row: ConversationRow | None, *, before: timedelta) -> None:
    if row is None or row.reply_window_expire_time is None or not row.live:
        return
    due_time = row.reply_window_expire_time - before
    if due_time > fired.due_time + EARLY:
        await set_timer(write.connection, kind=fired.kind, key=row.id, due_time=due_time)
        return
    await append(write, [_window_event(fired, row)])


def _window_event(fired: Fired, row: ConversationRow) -> NewEvent:
    snapshot: Any = {"conversation": convert.conversation(row), "intended_time": pb.timestamp(fired.due_time)}
    if fired.kind == WINDOW_CLOSING:
        body = event_pb2.InboxEvent(reply_window_closing=event_pb2.ReplyWindowClosing(**snapshot))
    else:
        body = event_pb2.InboxEvent(reply_window_closed=event_pb2.ReplyWindowClosed(**snapshot))
    return events.conversation_event(fired.origin, row, body)


HANDLERS = {
    "snooze": Handler(prepare=_lock, fire=wake),
    WINDOW_CLOSING: Handler(prepare=_lock, fire=window_closing),
    WINDOW_CLOSED: Handler(prepare=_lock, fire=window_closed),
}
