"""The status matrix, row by row."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from switchboard.v1 import error_reason_pb2

from server.conversations import rules
from server.conversations.row import ConversationRow
from server.conversations.rules import ConversationArchived, IllegalStatusMove, VersionMismatch
from server.kit.errors import Refusal

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
STATUSES = ("new", "open", "pending", "snoozed", "resolved", "archived")
STAYS, NOTHING, REFUSED, NEW_THREAD = "stays", "nothing", "refused", "new thread"


def row(status: str = "open", **fields: object) -> ConversationRow:
    made = ConversationRow(
        id=uuid.UUID(int=1),
        channel_id=uuid.UUID(int=2),
        provider="whatsapp",
        contact_id=uuid.UUID(int=3),
        contact_name="Maria",
        identity_id=uuid.UUID(int=4),
        status=status,
        last_message_time=NOW,
        create_time=NOW,
        update_time=NOW,
        snooze_until=LATER if status == "snoozed" else None,
        resolve_time=NOW - timedelta(hours=1) if status in ("resolved", "archived") else None,
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def set_to(status: str) -> Callable[[ConversationRow], object]:
    until = LATER + timedelta(hours=1) if status == "snoozed" else None
    return lambda item: rules.set_status(item, status, now=NOW, snooze_until=until)


def inbound(item: ConversationRow) -> object:
    if not rules.takes_inbound(item, now=NOW, reopen_window=timedelta(hours=72), new_thread_each_time=False):
        return NEW_THREAD
    return rules.inbound(item, now=NOW)


def snooze_timer(item: ConversationRow) -> object:
    return rules.wake(item, generation=item.snooze_generation, now=NOW)


# One line per event, one word per status that it meets: the status after it, or what else happens.
MATRIX: dict[str, tuple[Callable[[ConversationRow], object], tuple[str, ...]]] = {
    "inbound": (inbound, (STAYS, STAYS, "open", "open", "open", NEW_THREAD)),
    "reply": (lambda item: rules.reply(item, now=NOW), ("open", STAYS, STAYS, STAYS, "open", REFUSED)),
    "set new": (set_to("new"), (NOTHING, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)),
    "set open": (set_to("open"), ("open", NOTHING, "open", "open", "open", "open")),
    "set pending": (set_to("pending"), ("pending", "pending", NOTHING, "pending", REFUSED, REFUSED)),
    "set snoozed": (set_to("snoozed"), ("snoozed", "snoozed", "snoozed", "snoozed", REFUSED, REFUSED)),
    "set resolved": (set_to("resolved"), ("resolved", "resolved", "resolved", "resolved", NOTHING, REFUSED)),
    "set archived": (set_to("archived"), (REFUSED, REFUSED, REFUSED, REFUSED, "archived", NOTHING)),
    "snooze timer": (snooze_timer, (NOTHING, NOTHING, NOTHING, "open", NOTHING, NOTHING)),
    "note, tag, priority, assign": (
        rules.check_writable,
        (NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, REFUSED),
    ),
}
CASES = [
    pytest.param(act, before, after, id=f"{event}: {before} -> {after}")
    for event, (act, expected) in MATRIX.items()
    for before, after in zip(STATUSES, expected, strict=True)
]


@pytest.mark.parametrize(("act", "before", "after"), CASES)
def test_the_matrix(act: Callable[[ConversationRow], object], before: str, after: str) -> None:
    item = row(before)
    untouched = row(before)
    if after == REFUSED:
        with pytest.raises((IllegalStatusMove, ConversationArchived)):
            act(item)
        assert item == untouched, "a refusal changes nothing"
        return
    result = act(item)
    if after == NEW_THREAD:
        assert result == NEW_THREAD
    elif after in (STAYS, NOTHING):
        assert result is None
        assert item.status == before
    else:
        assert result == rules.Move(before=before, after=after)
        assert item.status == after
    if after in (NOTHING, NEW_THREAD):
        assert item == untouched


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("to", STATUSES)
def test_a_refused_move_names_from_to_and_what_is_allowed(before: str, to: str) -> None:
    item = row(before)
    allowed = set(rules.MOVES[before])
    if to == before or to in allowed:
        rules.set_status(item, to, now=NOW, snooze_until=LATER)
        assert item.status == to
        return
    with pytest.raises(IllegalStatusMove) as refused:
        rules.set_status(item, to, now=NOW, snooze_until=LATER)
    assert refused.value.metadata == {"from": before, "to": to, "allowed": ", ".join(rules.MOVES[before])}


@pytest.mark.parametrize("before", ["snoozed"])
@pytest.mark.parametrize("to", ["open", "pending", "snoozed", "resolved"])
def test_whatever_ends_or_replaces_a_snooze_makes_its_timer_old(before: str, to: str) -> None:
    item = row(before)
    generation = item.snooze_generation
    rules.set_status(item, to, now=NOW, snooze_until=LATER + timedelta(days=1) if to == "snoozed" else None)
    assert rules.wake(item, generation=generation, now=NOW) is None
    assert item.status == to
    assert (item.snooze_until is not None) == (to == "snoozed")


def test_a_time_without_snooze_is_not_kept() -> None:
    item = row("new")
    rules.set_status(item, "open", now=NOW, snooze_until=LATER)
    assert item.snooze_until is None


@pytest.mark.parametrize(
    ("since", "each_time", "deleted", "takes"),
    [
        (timedelta(hours=72), False, False, True),
        (timedelta(hours=72, seconds=1), False, False, False),
        (timedelta(0), False, False, True),
        (timedelta(0), True, False, False),
        (timedelta(0), False, True, False),
    ],
)
def test_a_resolved_conversation_takes_a_message_within_the_reopen_window(
    since: timedelta, each_time: bool, deleted: bool, takes: bool
) -> None:
    item = row("resolved", resolve_time=NOW - since, delete_time=NOW if deleted else None)
    window = timedelta(hours=72)
    assert rules.takes_inbound(item, now=NOW, reopen_window=window, new_thread_each_time=each_time) == takes


@pytest.mark.parametrize("status", ["new", "open", "pending", "snoozed"])
def test_a_deleted_conversation_takes_no_message_whatever_its_status(status: str) -> None:
    item = row(status, delete_time=NOW)
    window = timedelta(days=365)
    assert not rules.takes_inbound(item, now=NOW, reopen_window=window, new_thread_each_time=False)


def test_waiting_since_is_the_first_unanswered_message_and_ends_by_reply_or_resolve() -> None:
    item = row("open")
    rules.inbound(item, now=NOW)
    rules.inbound(item, now=LATER)
    assert item.waiting_since == NOW
    rules.reply(item, now=LATER)
    assert item.waiting_since is None
    rules.inbound(item, now=LATER)
    rules.set_status(item, "resolved", now=LATER)
    assert (item.waiting_since, item.resolve_time) == (None, LATER)
    rules.inbound(item, now=LATER + timedelta(hours=1))
    assert (item.status, item.waiting_since) == ("open", LATER + timedelta(hours=1))


def test_a_version_that_moved_on_is_refused_with_the_present_one() -> None:
    item = row(version=7)
    rules.check_version(item, None)
    rules.check_version(item, 7)
    for stale in (0, 6, 8):
        with pytest.raises(VersionMismatch) as refused:
            rules.check_version(item, stale)
        assert refused.value.metadata == {"version": "7"}


def test_a_change_counts_once() -> None:
    item = row(version=7)
    rules.touch(item, LATER)
    assert (item.version, item.update_time) == (8, LATER)


def test_every_refusal_of_the_rules_has_a_reason_of_the_contract() -> None:
    words = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name}
    for refusal in Refusal.__subclasses__():
        assert refusal.reason in words, refusal
