"""Where a message stands, what the list shows, the reply window and the fence."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from switchboard.v1 import conversation_pb2 as pb
from test_rules_status import LATER, NOW, row

from server.conversations import rules
from server.conversations.convert import reply_window
from server.conversations.row import ConversationRow
from server.conversations.rules import ReplyOutdated, ReplyWindowClosed

DAY, MINUTE = timedelta(hours=24), timedelta(seconds=60)
ANA, BEN = uuid.UUID(int=10), uuid.UUID(int=11)

# Few seconds, so that many messages share one; some of them ours, with milliseconds.
ARRIVALS = st.lists(st.tuples(st.booleans(), st.integers(-5, 5), st.integers(0, 999)), min_size=1, max_size=60)


def place(item: ConversationRow, taken: dict[int, int], *, ours: bool, at: datetime) -> rules.Place:
    base = rules.sequence_base(at)
    theirs = rules.place_inbound(item, order_time=at, taken=taken.get(base))
    found = rules.place_outbound(item, now=at) if ours else theirs
    held = found.sequence >> 12 << 12
    taken[held] = max(found.sequence, taken.get(held, 0))
    rules.count_message(
        item,
        found,
        message_id=uuid.UUID(int=found.arrival),
        time=at,
        preview_text=str(found.arrival),
        outbound_by=ANA if ours else None,
    )
    return found


@settings(max_examples=200, deadline=None)
@given(ARRIVALS)
def test_places_are_unique_sortable_and_the_newest_is_shown(arrivals: list[tuple[bool, int, int]]) -> None:
    item, taken, placed = row(), {}, []
    for ours, second, millisecond in arrivals:
        at = NOW + timedelta(seconds=second, milliseconds=millisecond if ours else 0)
        before = item.last_sequence
        found = place(item, taken, ours=ours, at=at)
        placed.append((found, ours, at))
        if ours:
            assert found.sequence > before, "an answer never stands before what was there"
    sequences = [found.sequence for found, _, _ in placed]
    assert len(set(sequences)) == len(sequences)
    assert [found.arrival for found, _, _ in placed] == list(range(1, len(placed) + 1))
    theirs = [(at, found.arrival) for found, ours, at in sorted(placed, key=lambda it: it[0].sequence) if not ours]
    assert theirs == sorted(theirs), "by the provider's time, then as they came"
    newest = max(placed, key=lambda it: it[0].sequence)[0]
    assert (item.last_sequence, item.last_message_preview) == (newest.sequence, str(newest.arrival))
    assert item.last_message_id == uuid.UUID(int=newest.arrival)


@settings(max_examples=200, deadline=None)
@given(ARRIVALS)
def test_counters_are_a_recount(arrivals: list[tuple[bool, int, int]]) -> None:
    item, taken = row(), {}
    for ours, second, _ in arrivals:
        place(item, taken, ours=ours, at=NOW + timedelta(seconds=second))
    directions = [ours for ours, _, _ in arrivals]
    assert item.message_count == len(directions)
    assert item.inbound_count == directions.count(False)
    newest = {ours: max((n for n, d in enumerate(directions, 1) if d is ours), default=0) for ours in (True, False)}
    assert (item.last_outbound_arrival, item.last_inbound_arrival) == (newest[True], newest[False])
    item.team_read_count = item.inbound_count // 2
    assert item.unread_count == item.inbound_count - item.inbound_count // 2
    assert item.my_unread_count == item.unread_count, "an agent without a position has the team's"
    item.my_read_count = 0
    assert item.my_unread_count == item.inbound_count


def test_the_display_order_is_milliseconds_since_2020_and_never_negative() -> None:
    assert rules.sequence_base(datetime(2020, 1, 1, tzinfo=UTC)) == 0
    assert rules.sequence_base(datetime(2020, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1000 << 12
    assert rules.sequence_base(datetime(2017, 9, 8, tzinfo=UTC)) == 0
    assert rules.sequence_base(datetime(2100, 1, 1, tzinfo=UTC)) < 2**63
    first = rules.place_inbound(row(), order_time=datetime(2017, 9, 8, tzinfo=UTC), taken=None)
    assert first.sequence > row().last_sequence, "it is shown in the list"


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("hello", "text", "hello"),
        ("  two\n\tlines  ", "text", "two lines"),
        ("x" * 500, "text", "x" * 200),
        ("", "image", "[image]"),
        (None, "unsupported", "[unsupported]"),
        ("   ", "text", "[text]"),
        ("<b>{{ 7 * 7 }}</b>", "text", "<b>{{ 7 * 7 }}</b>"),
    ],
)
def test_a_preview_is_one_line(text: str | None, kind: str, shown: str) -> None:
    assert rules.preview(text, kind) == shown


def test_a_message_opens_the_window_by_the_providers_time_and_never_shortens_it() -> None:
    item = row(reply_window_expire_time=NOW)
    assert rules.extend_window(item, provider_time=NOW, window=DAY, margin=MINUTE)
    assert item.reply_window_expire_time == NOW + DAY - MINUTE
    for older in (NOW, NOW - timedelta(hours=1), NOW - timedelta(days=9)):
        assert not rules.extend_window(item, provider_time=older, window=DAY, margin=MINUTE)
    assert item.reply_window_expire_time == NOW + DAY - MINUTE
    assert rules.extend_window(item, provider_time=LATER, window=DAY, margin=MINUTE)


def test_a_channel_without_a_window_has_none() -> None:
    item = row()
    assert not rules.extend_window(item, provider_time=NOW, window=None, margin=MINUTE)
    assert item.reply_window_expire_time is None
    rules.check_window(item, now=NOW + timedelta(days=999))


def test_free_text_is_refused_from_the_moment_the_window_ends() -> None:
    item = row(reply_window_expire_time=NOW)
    rules.check_window(item, now=NOW - timedelta(microseconds=1))
    for late in (NOW, LATER):
        with pytest.raises(ReplyWindowClosed) as refused:
            rules.check_window(item, now=late)
        assert refused.value.metadata == {"expire_time": NOW.isoformat()}


@pytest.mark.parametrize(
    ("left", "state"),
    [
        (None, 1),
        (timedelta(0), 4),
        (timedelta(seconds=-1), 4),
        (timedelta(hours=2), 3),
        (timedelta(hours=2, seconds=1), 2),
    ],
)
def test_the_state_of_a_window(left: timedelta | None, state: int) -> None:
    words = {
        1: pb.REPLY_WINDOW_STATE_NONE,
        2: pb.REPLY_WINDOW_STATE_OPEN,
        3: pb.REPLY_WINDOW_STATE_CLOSING,
        4: pb.REPLY_WINDOW_STATE_CLOSED,
    }
    shown = reply_window(None if left is None else NOW + left, now=NOW)
    assert shown.state == words[state]
    assert shown.HasField("expire_time") == (left is not None)


@pytest.mark.parametrize(
    ("last_inbound", "last_outbound", "author", "seen", "passes"),
    [
        (3, 0, None, 3, True),
        (4, 0, None, 3, False),
        (3, 4, ANA, 3, True),
        (3, 4, BEN, 3, False),
        (3, 4, BEN, 4, True),
        (5, 4, ANA, 4, False),
        (0, 0, None, 0, True),
    ],
)
def test_the_fence_stops_whoever_has_not_seen_what_others_wrote(
    last_inbound: int, last_outbound: int, author: uuid.UUID | None, seen: int, passes: bool
) -> None:
    item = row(last_inbound_arrival=last_inbound, last_outbound_arrival=last_outbound, last_outbound_author_id=author)
    if passes:
        rules.check_fence(item, seen_arrival=seen, author_id=ANA)
    else:
        with pytest.raises(ReplyOutdated):
            rules.check_fence(item, seen_arrival=seen, author_id=ANA)
