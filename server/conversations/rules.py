"""The rules of a conversation: pure functions that the unit of work and the batch writer share.

Each changes the row in place, or raises a refusal and leaves it alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from server.contacts.blocking import ContactBlocked
from server.conversations.row import ConversationRow
from server.kit.errors import Refusal
from server.providers.contract import FreeEntry

# What "set status" may do: from, to the statuses that change something. Setting the present status changes nothing,
# except for snoozed, where the new time replaces the old.
MOVES: dict[str, tuple[str, ...]] = {
    "new": ("open", "pending", "snoozed", "resolved"),
    "open": ("pending", "snoozed", "resolved"),
    "pending": ("open", "snoozed", "resolved"),
    "snoozed": ("open", "pending", "snoozed", "resolved"),
    "resolved": ("open", "archived"),
    "archived": ("open",),
}
# What the timer for inactivity resolves.
ACTIVE = ("new", "open", "pending")
SEQUENCE_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
SEQUENCE_BITS = 12
PREVIEW_CHARACTERS = 200


class IllegalStatusMove(Refusal):
    """The matrix does not have it."""

    status = "FAILED_PRECONDITION"
    reason = "ILLEGAL_STATUS_MOVE"

    def __init__(self, before: str, after: str) -> None:
        allowed = ", ".join(MOVES[before])
        text = f"a conversation cannot go from {before} to {after}; from {before} it can go to: {allowed}"
        super().__init__(text, metadata={"from": before, "to": after, "allowed": allowed})


class ConversationArchived(Refusal):
    """Archived conversations are read-only."""

    status = "FAILED_PRECONDITION"
    reason = "CONVERSATION_ARCHIVED"

    def __init__(self) -> None:
        metadata = {"from": "archived", "allowed": ", ".join(MOVES["archived"])}
        super().__init__("the conversation is archived; set it open first", metadata=metadata)


class VersionMismatch(Refusal):
    """The conversation moved on."""

    status = "ABORTED"
    reason = "VERSION_MISMATCH"

    def __init__(self, version: int) -> None:
        text = f"the conversation is at version {version} now; read it again"
        super().__init__(text, metadata={"version": str(version)})


class ReplyOutdated(Refusal):
    """Somebody wrote after what the sender had seen."""

    status = "ABORTED"
    reason = "REPLY_OUTDATED"

    def __init__(self, message_id: uuid.UUID | None) -> None:
        super().__init__("somebody wrote since; read the conversation again", metadata={"message_id": str(message_id)})


class ReplyWindowClosed(Refusal):
    """Free text may no longer be sent."""

    status = "FAILED_PRECONDITION"
    reason = "REPLY_WINDOW_CLOSED"

    def __init__(self, expire_time: datetime) -> None:
        text = "the reply window is closed: the customer must write first, or be sent a template"
        super().__init__(text, metadata={"expire_time": expire_time.isoformat()})
        self._expire_time = expire_time

    def with_templates(self, names: Sequence[str]) -> ReplyWindowClosed:
        """The same with what may be sent instead: names and languages."""
        told = ReplyWindowClosed(self._expire_time)
        told.metadata = {**told.metadata, "templates": ", ".join(names)}
        return told


@dataclass(frozen=True, slots=True)
class Move:
    """A change of status."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands in its conversation."""

    sequence: int
    arrival: int


def check_version(row: ConversationRow, expected: int | None) -> None:
    """Refuses a writer who has seen another version."""
    if expected is not None and row.version != expected:
        raise VersionMismatch(row.version)


def check_writable(row: ConversationRow) -> None:
    """Refuses changes of an archived conversation."""
    if row.status == "archived":
        raise ConversationArchived()


def check_not_blocked(row: ConversationRow) -> None:
    """Refuses to send anything to a blocked contact."""
    if row.contact_blocked:
        raise ContactBlocked(row.contact_id)


def touch(row: ConversationRow, now: datetime) -> None:
    """Counts a transaction that changes the row; called once per transaction."""
    row.version += 1
    row.update_time = now


def set_status(row: ConversationRow, to: str, *, now: datetime, snooze_until: datetime | None = None) -> Move | None:
    """Moves the conversation as an agent asks; None when nothing changes. IllegalStatusMove."""
    if to == row.status and to != "snoozed":
        return None
    if to not in MOVES[row.status]:
        raise IllegalStatusMove(row.status, to)
    return _move(row, to, now=now, snooze_until=snooze_until)


def _move(row: ConversationRow, to: str, *, now: datetime, snooze_until: datetime | None = None) -> Move:
    move = Move(before=row.status, after=to)
    if "snoozed" in (row.status, to):
        row.snooze_generation += 1
    row.status = to
    row.snooze_until = snooze_until if to == "snoozed" else None
    if to == "resolved":
        row.resolve_time = now
        row.waiting_since = None
    return move


def wake(row: ConversationRow, *, generation: int, now: datetime) -> Move | None:
    """What the snooze timer does; None when the snooze it was set for is over."""
    if row.status != "snoozed" or row.snooze_generation != generation:
        return None
    return _move(row, "open", now=now)


def takes_inbound(row: ConversationRow, *, now: datetime, reopen_window: timedelta, new_thread_each_time: bool) -> bool:
    """Whether a message of the customer continues this conversation; else it starts a new one, linked to this one."""
    if row.live:
        return True
    if row.status != "resolved" or row.delete_time is not None or new_thread_each_time or row.resolve_time is None:
        return False
    return now - row.resolve_time <= reopen_window


def inbound(row: ConversationRow, *, now: datetime) -> Move | None:
    """What a message of the customer does to the status."""
    if row.waiting_since is None:
        row.waiting_since = now
    return _move(row, "open", now=now) if row.status in ("pending", "snoozed", "resolved") else None


def reply(row: ConversationRow, *, now: datetime) -> Move | None:
    """What an answer of an agent or a service does to the status. ConversationArchived."""
    check_writable(row)
    row.waiting_since = None
    return _move(row, "open", now=now) if row.status in ("new", "resolved") else None


def check_window(row: ConversationRow, *, now: datetime) -> None:
    """Refuses free text after the reply window. No expiry time means that the channel has no window."""
    expire_time = row.reply_window_expire_time
    if expire_time is not None and now >= expire_time:
        raise ReplyWindowClosed(expire_time)


def answer_referral(row: ConversationRow, *, now: datetime, free_entry: FreeEntry | None) -> None:
    """The first answer to whom an advertisement led here begins the time in which messages are free, if it comes soon enough."""
    if row.referral_time is None:
        return
    if free_entry is not None and now <= row.referral_time + free_entry.answer_within:
        row.free_entry_expire_time = now + free_entry.lasts
    row.referral_time = None


def outdated(row: ConversationRow, *, seen_arrival: int, author_id: uuid.UUID | None) -> bool:
    """Whether the customer, or somebody else of the tenant, wrote after what the author of an answer has seen."""
    colleague = row.last_outbound_arrival > seen_arrival and row.last_outbound_author_id != author_id
    return row.last_inbound_arrival > seen_arrival or colleague


def check_fence(row: ConversationRow, *, seen_arrival: int, author_id: uuid.UUID | None) -> None:
    """Refuses an answer when somebody else wrote after what its author has seen. ReplyOutdated."""
    if outdated(row, seen_arrival=seen_arrival, author_id=author_id):
        raise ReplyOutdated(row.last_message_id)


def sequence_base(order_time: datetime) -> int:
    """The first sequence of a millisecond: milliseconds since 2020-01-01, shifted by 12 bits; never negative.

    Meta's dashboard sends test messages of 2017: they stand before all others, in the order they came.
    """
    return max(0, (order_time - SEQUENCE_EPOCH) // timedelta(milliseconds=1)) << SEQUENCE_BITS


def place_inbound(row: ConversationRow, *, order_time: datetime, taken: int | None) -> Place:
    """Places a message of the customer by the provider's time.

    taken: the highest sequence of the conversation in the same millisecond, for a message older than the newest; None when
    there is none.
    """
    base = sequence_base(order_time)
    highest = row.last_sequence if row.last_sequence >> SEQUENCE_BITS == base >> SEQUENCE_BITS else taken
    sequence = base if highest is None else highest + 1
    return Place(sequence=sequence, arrival=row.message_count + 1)


def place_outbound(row: ConversationRow, *, now: datetime) -> Place:
    """Places a message of the tenant: by our clock, never before the conversation's newest."""
    return Place(sequence=max(sequence_base(now), row.last_sequence + 1), arrival=row.message_count + 1)


def preview(text: str | None, kind: str) -> str:
    """The beginning of a text on one line, or the type's word in brackets."""
    line = " ".join((text or "").split())
    return line[:PREVIEW_CHARACTERS] if line else f"[{kind}]"


def count_message(
    row: ConversationRow,
    place: Place,
    *,
    message_id: uuid.UUID,
    time: datetime,
    preview_text: str,
    outbound_by: uuid.UUID | None,
) -> None:
    """Counts a message, and shows it when it is the newest by sequence. outbound_by: its author, None for the customer's."""
    row.message_count = place.arrival
    if outbound_by is None:
        row.inbound_count += 1
        row.last_inbound_arrival = place.arrival
    else:
        row.last_outbound_arrival = place.arrival
        row.last_outbound_author_id = outbound_by
    _show(row, place, message_id=message_id, time=time, preview_text=preview_text)


def count_copy(
    row: ConversationRow, place: Place, *, message_id: uuid.UUID, time: datetime, preview_text: str, fenced: bool
) -> None:
    """Counts a message that was written elsewhere. fenced: whether it is news for who answers now; it is unread for nobody."""
    row.message_count = place.arrival
    if fenced:
        row.last_outbound_arrival = place.arrival
        row.last_outbound_author_id = None
    _show(row, place, message_id=message_id, time=time, preview_text=preview_text)


def _show(row: ConversationRow, place: Place, *, message_id: uuid.UUID, time: datetime, preview_text: str) -> None:
    if place.sequence > row.last_sequence:
        row.last_sequence = place.sequence
        row.last_message_id = message_id
        row.last_message_preview = preview_text
        row.last_message_time = time


def extend_window(
    row: ConversationRow, *, provider_time: datetime, window: timedelta | None, margin: timedelta
) -> bool:
    """A message of the customer opens the reply window anew, by the provider's time; it never shortens it. Whether it did."""
    if window is None:
        return False
    until = provider_time + window - margin
    if row.reply_window_expire_time is not None and until <= row.reply_window_expire_time:
        return False
    row.reply_window_expire_time = until
    return True
