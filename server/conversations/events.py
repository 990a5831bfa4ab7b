"""Events of conversations: the changed row as a snapshot, and who could see it before and after."""

from __future__ import annotations

from datetime import datetime

from switchboard.v1 import event_pb2

from server.conversations import convert
from server.conversations.row import ConversationRow
from server.conversations.rules import Move
from server.kit import pb
from server.log.event import NewEvent, Origin, Routing


def conversation_event(
    origin: Origin, row: ConversationRow, body: event_pb2.InboxEvent, *, before: Routing | None = None
) -> NewEvent:
    """An event about a conversation. before: its routing before the change, when that changed."""
    after = row.routing
    return NewEvent(
        body=body,
        actor=origin.actor,
        cause=origin.cause,
        conversation_id=row.id,
        conversation_version=row.version,
        before=before if before is not None else after,
        after=after,
    )


def created(origin: Origin, row: ConversationRow) -> NewEvent:
    """conversation_created; nobody saw it before."""
    body = event_pb2.InboxEvent(
        conversation_created=event_pb2.ConversationCreated(conversation=convert.conversation(row))
    )
    return conversation_event(origin, row, body)


def status_changed(
    origin: Origin,
    row: ConversationRow,
    move: Move,
    *,
    reason: str | None = None,
    intended_time: datetime | None = None,
) -> NewEvent:
    """conversation_status_changed."""
    body = event_pb2.ConversationStatusChanged(
        conversation=convert.conversation(row),
        **{"from": convert.STATUS.number(move.before)},
        to=convert.STATUS.number(move.after),
        reason=reason,
        intended_time=pb.timestamp(intended_time),
    )
    return conversation_event(origin, row, event_pb2.InboxEvent(conversation_status_changed=body))


def purged(origin: Origin, row: ConversationRow, *, intended_time: datetime) -> NewEvent:
    """conversation_purged; nobody sees it afterwards, and nothing of it is told."""
    body = event_pb2.ConversationPurged(conversation_id=str(row.id), intended_time=pb.timestamp(intended_time))
    return conversation_event(origin, row, event_pb2.InboxEvent(conversation_purged=body))


def updated(origin: Origin, row: ConversationRow, *changed_fields: str) -> NewEvent:
    """conversation_updated."""
    body = event_pb2.ConversationUpdated(conversation=convert.conversation(row), changed_fields=changed_fields)
    return conversation_event(origin, row, event_pb2.InboxEvent(conversation_updated=body))
