"""Events and controls as the bytes of a WatchInboxResponse.

An event is serialised once per process, whoever watches: its envelope, then the stored bytes of its body (joined protobuf
messages are the message with the fields of both). What differs per stream, two small fields, is appended.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from google.protobuf import duration_pb2, timestamp_pb2
from switchboard.v1 import event_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.kit.clock import utc_now
from server.kit.pb import timestamp
from server.log.cursor import Cursors, varint
from server.log.read import LogEvent

# Tags of WatchInboxResponse.events and, with their values, of InboxEvent.last_of_transaction and transition.
_ENTRY = b"\x0a"
_LAST = b"\x48\x01"
_ENTERED = b"\x50\x01"
_CONTROLS = frozenset({event_pb2.EVENT_TYPE_SCOPE_CHANGED, event_pb2.EVENT_TYPE_CREDENTIAL_REVOKED})


class Encoder:
    """Writes the cursors and envelopes of one log."""

    def __init__(self, cursors: Cursors, tenant_id: uuid.UUID, epoch: uuid.UUID) -> None:
        self._cursors = cursors
        self._tenant_id = tenant_id
        self.epoch = epoch

    def cursor(self, seq: int, event_id: uuid.UUID | None) -> str:
        """The cursor after an event of this log."""
        return self._cursors.encode(self._tenant_id, self.epoch, seq, event_id)

    def whole(self, event: LogEvent) -> bytes:
        """The InboxEvent that every stream shares."""
        envelope = self._envelope(event)
        envelope.actor.kind = event.actor_kind  # type: ignore[assignment]
        if event.actor_id is not None:
            envelope.actor.id = str(event.actor_id)
        envelope.cause.kind = event.cause_kind  # type: ignore[assignment]
        envelope.cause.id = event.cause_id
        return envelope.SerializeToString() + event.payload

    def left(self, event: LogEvent) -> bytes:
        """What a stream gets that loses sight of the conversation: that, and nothing of what happened."""
        envelope = self._envelope(event)
        envelope.transition = event_pb2.TRANSITION_LEFT
        envelope.conversation_left.conversation_id = str(event.conversation_id)
        return envelope.SerializeToString()

    def _envelope(self, event: LogEvent) -> event_pb2.InboxEvent:
        envelope = event_pb2.InboxEvent(
            seq=event.seq,
            cursor=self.cursor(event.seq, event.id),
            id=str(event.id),
            create_time=timestamp(event.create_time),
            conversation_version=event.conversation_version,
        )
        if event.conversation_id is not None:
            envelope.conversation_id = str(event.conversation_id)
        return envelope


class Outgoing:
    """An event on its way to streams. Its bytes are made when the first of them wants it.

    subject: for events that change rights, the agent or API key concerned; None for all others.
    """

    __slots__ = ("_encoder", "_usual", "_whole", "event", "subject")

    def __init__(self, event: LogEvent, encoder: Encoder) -> None:
        self.event = event
        self.subject = _subject(event) if event.kind in _CONTROLS else None
        self._encoder = encoder
        self._whole: bytes | None = None
        self._usual: bytes | None = None

    @property
    def is_control(self) -> bool:
        """Whether it changes rights: it takes a seq and reaches nobody."""
        return self.event.kind in _CONTROLS

    @property
    def size(self) -> int:
        """About how much memory it takes, in bytes."""
        return len(self.event.payload) + 1024

    def entry(self, transition: int, *, last: bool) -> bytes:
        """One element of WatchInboxResponse.events, tag and length included."""
        if transition == event_pb2.TRANSITION_UNSPECIFIED and last:
            if self._usual is None:
                self._usual = _entry(self._shared() + _LAST)
            return self._usual
        body = self._encoder.left(self.event) if transition == event_pb2.TRANSITION_LEFT else self._shared()
        entered = _ENTERED if transition == event_pb2.TRANSITION_ENTERED else b""
        return _entry(body + entered + (_LAST if last else b""))

    def _shared(self) -> bytes:
        if self._whole is None:
            self._whole = self._encoder.whole(self.event)
        return self._whole


def _entry(body: bytes) -> bytes:
    return _ENTRY + varint(len(body)) + body


def _subject(event: LogEvent) -> uuid.UUID | None:
    body = event_pb2.InboxEvent.FromString(event.payload)
    text = body.scope_changed.agent_id or body.credential_revoked.api_key_id
    return uuid.UUID(text) if text else None


def duration(value: timedelta) -> duration_pb2.Duration:
    """A Duration."""
    result = duration_pb2.Duration()
    result.FromTimedelta(value)
    return result


def now() -> timestamp_pb2.Timestamp:
    """The server's clock."""
    result = timestamp_pb2.Timestamp()
    result.FromDatetime(utc_now())
    return result


def bookmark(cursor: str, head: int) -> bytes:
    """A bookmark at the cursor."""
    return inbox.WatchInboxResponse(
        bookmark=inbox.Bookmark(cursor=cursor, head=head, server_time=now())
    ).SerializeToString()


def caught_up(cursor: str, head: int) -> bytes:
    """The mark between what was there and what is live."""
    return inbox.WatchInboxResponse(caught_up=inbox.CaughtUp(cursor=cursor, head=head)).SerializeToString()


def goodbye(reason: inbox.EndReason.ValueType, cursor: str, after: timedelta) -> bytes:
    """The announcement of an end that is the server's wish."""
    message = inbox.Goodbye(reason=reason, cursor=cursor, reconnect_after=duration(after))
    return inbox.WatchInboxResponse(goodbye=message).SerializeToString()


def reauth_required(deadline: datetime, cursor: str) -> bytes:
    """The announcement that the credential expires at the deadline."""
    message = inbox.ReauthRequired(deadline=timestamp(deadline), cursor=cursor)
    return inbox.WatchInboxResponse(reauth_required=message).SerializeToString()
