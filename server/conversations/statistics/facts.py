"""What an event adds to the statistics: pure functions over the event and what is known of its conversation.

The definitions are those of switchboard.v1.Statistics; this is the only place that puts them into code.
"""

from __future__ import annotations

import copy
import uuid
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from switchboard.v1 import actor_pb2, event_pb2, message_pb2

from server.conversations.convert import PROVIDER, STATUS
from server.conversations.statistics.known import LIVE_STATUSES, Known, time_of
from server.conversations.statistics.periods import quarter_of
from server.conversations.statistics.sketch import bin_of

OUTCOMES = {
    message_pb2.MESSAGE_STATUS_SENT: "sent",
    message_pb2.MESSAGE_STATUS_DELIVERED: "delivered",
    message_pb2.MESSAGE_STATUS_READ: "read",
    message_pb2.MESSAGE_STATUS_FAILED: "failed",
    message_pb2.MESSAGE_STATUS_UNKNOWN: "unknown",
}
REPLIERS = (actor_pb2.ACTOR_KIND_AGENT, actor_pb2.ACTOR_KIND_API_KEY)
MICROSECOND = timedelta(microseconds=1)


class Bucket(NamedTuple):
    """What shares a row: a quarter of an hour, a channel, a value of a dimension, a measure and, of durations, a bin."""

    dimension: str
    bucket_time: datetime
    channel_id: uuid.UUID
    value: str
    measure: str
    bin: int


class Present(NamedTuple):
    """What shares a count of what there is now."""

    channel_id: uuid.UUID
    dimension: str
    value: str
    status: str
    provider: str


class Tally:
    """What some events add up to. since: what happened before it is counted already; None when nothing is.

    buckets: how many, and the sum of their durations in microseconds. present: changes of conversations, unassigned, unread,
    unattended.
    """

    def __init__(self, *, since: datetime | None) -> None:
        self.buckets: dict[Bucket, list[int]] = defaultdict(lambda: [0, 0])
        self.present: dict[Present, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self._since = since

    def happened(self, measure: str, time: datetime, known: Known, *, credit: uuid.UUID | None) -> None:
        """Counts one thing that happened to a conversation."""
        self._add(measure, time, known, credit)

    def took(
        self, measure: str, time: datetime, known: Known, *, credit: uuid.UUID | None, since: datetime | None
    ) -> None:
        """Counts something that ended at a time and began at another; nothing where its beginning is not known."""
        if since is not None:
            duration = max(time - since, timedelta(0))
            self._add(measure, time, known, credit, duration)

    def _add(
        self, measure: str, time: datetime, known: Known, credit: uuid.UUID | None, took: timedelta | None = None
    ) -> None:
        bucket_time = quarter_of(time)
        if self._since is not None and bucket_time < self._since:
            return
        number = 0 if took is None else bin_of(took.total_seconds())
        total = 0 if took is None else took // MICROSECOND
        for dimension, value in known.places(credit):
            sums = self.buckets[Bucket(dimension, bucket_time, known.channel_id, value, measure, number)]
            sums[0] += 1
            sums[1] += total

    def move(self, known: Known, sign: int) -> None:
        """Adds a conversation to what there is now, or takes it away."""
        counts = known.counts
        for dimension, value in known.places(known.assignee_id):
            sums = self.present[Present(known.channel_id, dimension, value, known.status, known.provider)]
            for index, count in enumerate(counts):
                sums[index] += sign * count


def begin(event: event_pb2.InboxEvent, conversation_id: uuid.UUID, *, answered: bool) -> Known | None:
    """What is known of a conversation before its first event that the log has; None when the event does not show it."""
    body = _body(event)
    if "conversation" not in body.DESCRIPTOR.fields_by_name:
        return None
    shown = body.conversation
    return Known(
        conversation_id=conversation_id,
        channel_id=uuid.UUID(shown.channel_id),
        provider=PROVIDER.word(shown.provider),
        # Nothing counts it yet, so there is nothing to take away.
        hidden=True,
        answered=answered,
        # Of one that was resolved before nobody knows when it was opened again.
        open_since=None if shown.HasField("resolve_time") else time_of(shown.create_time),
    )


def count(tally: Tally, known: Known, event: event_pb2.InboxEvent) -> None:
    """Adds what an event means, and brings what is known of its conversation up to it."""
    name, body = str(event.WhichOneof("body")), _body(event)
    if name == "message_status_updated":
        _outcome(tally, known, body.status_update)
        return
    was = copy.copy(known)
    known.show(body.conversation)
    if name == "conversation_created" and known.status in LIVE_STATUSES:
        tally.happened("new", time_of(body.conversation.create_time), known, credit=known.assignee_id)
    elif name == "conversation_status_changed":
        _moved(tally, known, body)
    elif name == "message_received":
        tally.happened("inbound", time_of(body.message.create_time), known, credit=known.assignee_id)
    elif name == "message_created" and not body.message.HasField("origin"):
        _wrote(tally, known, body.message, waiting_since=was.waiting_since)
    elif name in ("conversation_assigned", "conversation_unassigned"):
        _assigned(tally, known, body)
    # After the rest: whether anybody replied counts too.
    tally.move(was, -1)
    tally.move(known, +1)


def _moved(tally: Tally, known: Known, body: event_pb2.ConversationStatusChanged) -> None:
    before, after = STATUS.word(getattr(body, "from")), STATUS.word(body.to)
    time = time_of(body.conversation.update_time)
    if after == "resolved":
        tally.happened("resolved", time, known, credit=known.assignee_id)
        tally.took("resolution", time, known, credit=known.assignee_id, since=known.open_since)
    elif before not in LIVE_STATUSES and after in LIVE_STATUSES:
        tally.happened("reopened", time, known, credit=known.assignee_id)
        known.open_since = time


def _wrote(tally: Tally, known: Known, message: message_pb2.Message, *, waiting_since: datetime | None) -> None:
    time, author = time_of(message.create_time), message.author
    credit = uuid.UUID(author.id) if author.kind == actor_pb2.ACTOR_KIND_AGENT else None
    tally.happened("outbound", time, known, credit=credit)
    if author.kind in REPLIERS:
        measure = "next_response" if known.answered else "first_response"
        tally.took(measure, time, known, credit=credit, since=waiting_since)
        known.answered = True


def _assigned(tally: Tally, known: Known, body: Any) -> None:
    assigned = isinstance(body, event_pb2.ConversationAssigned)
    time = time_of(body.assignment.start_time if assigned else body.conversation.update_time)
    if known.assigned_agent_id is not None:
        tally.took("assignment", time, known, credit=known.assigned_agent_id, since=known.assigned_since)
    known.assigned_agent_id = known.assigned_since = None
    if assigned and body.assignment.HasField("agent_id"):
        known.assigned_agent_id, known.assigned_since = uuid.UUID(body.assignment.agent_id), time
        tally.happened("assigned", time, known, credit=known.assigned_agent_id)


def _outcome(tally: Tally, known: Known, update: Any) -> None:
    measure = OUTCOMES.get(update.status)
    if measure is not None and update.applied:
        tally.happened(measure, time_of(update.create_time), known, credit=known.assignee_id)


def _body(event: event_pb2.InboxEvent) -> Any:
    return getattr(event, event.WhichOneof("body") or "")
