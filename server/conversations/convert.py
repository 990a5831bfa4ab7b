"""Conversations, notes and assignments as the contract shows them; a leaf, for answers and event snapshots alike."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from switchboard.v1 import (
    actor_pb2,
    assignment_pb2,
    channel_pb2,
    conversation_pb2,
    note_pb2,
    tag_pb2,
)

from server.conversations.row import ConversationRow
from server.kit import pb
from server.kit.clock import utc_now

STATUS = pb.Words(conversation_pb2.ConversationStatus, "CONVERSATION_STATUS_")
PROVIDER = pb.Words(channel_pb2.Provider, "PROVIDER_")
ASSIGNMENT_TYPE = pb.Words(assignment_pb2.AssignmentType, "ASSIGNMENT_TYPE_")
END_REASON = pb.Words(assignment_pb2.AssignmentEndReason, "ASSIGNMENT_END_REASON_")
CLOSING = timedelta(hours=2)


def conversation(row: ConversationRow, *, mine: bool = False) -> conversation_pb2.Conversation:
    """The list row. mine: also the calling agent's own unread count, which events never carry."""
    return conversation_pb2.Conversation(**fields(row, mine=mine))


def fields(row: ConversationRow, *, mine: bool = False) -> dict[str, Any]:
    """The fields of `conversation`, for an event that holds it: made as a whole, an event costs half, as protobuf copies no parts."""
    return {
        "id": str(row.id),
        "channel_id": str(row.channel_id),
        "provider": PROVIDER.number(row.provider),
        "contact": {"id": str(row.contact_id), "name": row.contact_name},
        "identity_id": str(row.identity_id),
        "status": STATUS.number(row.status),
        "assignee_id": _text(row.assignee_id),
        "team_id": _text(row.team_id),
        "tags": row.tags,
        "priority": row.priority,
        "subject": row.subject,
        "attributes": pb.struct(row.attributes_object),
        "unread_count": row.unread_count,
        "my_unread_count": row.my_unread_count if mine else None,
        "last_message_preview": row.last_message_preview,
        "last_message_time": pb.time_fields(row.last_message_time),
        "last_message_id": _text(row.last_message_id),
        "reply_window": reply_window(row.reply_window_expire_time, row.free_entry_expire_time, now=utc_now()),
        "waiting_since": pb.time_fields(row.waiting_since),
        "snooze": snooze(row),
        "previous_conversation_id": _text(row.previous_conversation_id),
        "version": row.version,
        "create_time": pb.time_fields(row.create_time),
        "update_time": pb.time_fields(row.update_time),
        "resolve_time": pb.time_fields(row.resolve_time),
        "delete_time": pb.time_fields(row.delete_time),
    }


def reply_window(
    expire_time: datetime | None, free_entry_expire_time: datetime | None = None, *, now: datetime
) -> conversation_pb2.ReplyWindow:
    """The window's state at a time. No expiry time means that the channel has none."""
    if expire_time is None:
        return conversation_pb2.ReplyWindow(state=conversation_pb2.REPLY_WINDOW_STATE_NONE)
    if now >= expire_time:
        state = conversation_pb2.REPLY_WINDOW_STATE_CLOSED
    elif now >= expire_time - CLOSING:
        state = conversation_pb2.REPLY_WINDOW_STATE_CLOSING
    else:
        state = conversation_pb2.REPLY_WINDOW_STATE_OPEN
    return conversation_pb2.ReplyWindow(
        state=state,
        expire_time=pb.timestamp(expire_time),
        free_entry_expire_time=pb.timestamp(free_entry_expire_time),
    )


def snooze(row: ConversationRow) -> conversation_pb2.Snooze | None:
    """What ends the snooze; None when it is not snoozed."""
    if row.status != "snoozed":
        return None
    return conversation_pb2.Snooze(until_time=pb.timestamp(row.snooze_until), until_reply=True)


def note(record: Any) -> note_pb2.Note:
    """A note."""
    return note_pb2.Note(
        id=str(record["id"]),
        conversation_id=str(record["conversation_id"]),
        author_id=_text(record["author_id"]),
        text=record["text"],
        pinned=record["pinned"],
        create_time=pb.timestamp(record["create_time"]),
        update_time=pb.timestamp(record["update_time"]),
        mentions=_mentions(record),
    )


def _mentions(record: Any) -> note_pb2.Mentions | None:
    agents, teams = record["mentioned_agent_ids"], record["mentioned_team_ids"]
    if not agents and not teams:
        return None
    return note_pb2.Mentions(agent_ids=map(str, agents), team_ids=map(str, teams))


def tag(record: Any) -> tag_pb2.Tag:
    """A word of the vocabulary."""
    return tag_pb2.Tag(
        id=str(record["id"]),
        name=record["name"],
        color=record["color"],
        description=record["description"],
        create_time=pb.timestamp(record["create_time"]),
        update_time=pb.timestamp(record["update_time"]),
    )


def assignment(record: Any) -> assignment_pb2.Assignment:
    """A row of the ledger, without the decision that made it."""
    by_agent, start, end = record["assigned_by_kind"] == 1, record["start_time"], record["end_time"]
    return assignment_pb2.Assignment(
        id=str(record["id"]),
        conversation_id=str(record["conversation_id"]),
        agent_id=_text(record["agent_id"]),
        team_id=_text(record["team_id"]),
        type=ASSIGNMENT_TYPE.number(record["type"]),
        reason=record["reason"],
        assigned_by_id=_text(record["assigned_by_id"]) if by_agent else None,
        start_time=pb.timestamp(start),
        end_time=pb.timestamp(end),
        from_agent_id=_text(record["from_agent_id"]),
        from_team_id=_text(record["from_team_id"]),
        end_reason=None if record["end_reason"] is None else END_REASON.number(record["end_reason"]),
        duration=None if end is None else pb.duration(end - start),
        policy_id=_text(record["policy_id"]),
        waiting_since=pb.timestamp(record["waiting_since"]),
        assigned_by=_actor(record["assigned_by_kind"], record["assigned_by_id"]),
        ended_by=_actor(record["ended_by_kind"], record["ended_by_id"]),
        end_text=record["end_text"],
    )


def _actor(kind: int | None, actor_id: object | None) -> actor_pb2.Actor | None:
    return None if kind is None else actor_pb2.Actor(kind=kind, id=_text(actor_id))  # type: ignore[arg-type]


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
