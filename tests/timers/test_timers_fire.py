"""Timers: once, at the intended time, and only for what they were set for."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import asyncpg
import pytest
from switchboard.v1 import conversation_pb2, event_pb2

from server.conversations import service
from server.conversations.timers import HANDLERS, WINDOW_CLOSED, WINDOW_CLOSING
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.event import ActorKind, CauseKind, NewEvent
from server.tenant_settings import service as tenant_settings
from server.timers import service as timers
from server.timers.service import RETRIES, Fired, Handlers, Ran
from tests.desk import ALL, Desk, nobody, phone

LATE = timedelta(minutes=30)


async def fire(desk: Desk, handlers: Handlers = HANDLERS) -> Ran:
    return await timers.run_due(desk.database, handlers)


async def make_due(desk: Desk, kind: str, key: uuid.UUID, *, ago: timedelta = LATE) -> datetime:
    """Moves a timer into the past; its intended time."""
    due: datetime = await desk.value(
        "UPDATE timers SET due_time = now() - $3::interval WHERE kind = $1 AND key = $2 RETURNING due_time",
        kind,
        key,
        ago,
    )
    return due


async def events(desk: Desk, after: int) -> list[event_pb2.InboxEvent]:
    return [event for _, event in await desk.events(after=after)]


async def snoozed(desk: Desk, **until: int) -> uuid.UUID:
    row = await desk.started(await desk.new_channel())
    await desk.move(row.id, "snoozed", snooze_until=utc_now() + timedelta(**until))
    return row.id


async def test_a_snooze_ends_with_its_timer_which_keeps_the_intended_time(desk: Desk) -> None:
    some = await snoozed(desk, hours=1)
    assert await desk.value("SELECT due_time FROM timers WHERE key = $1 AND kind = 'snooze'", some) > utc_now()
    intended = await make_due(desk, "snooze", some)
    before = (await desk.head())[1]
    await fire(desk)
    row = await desk.conversation(some)
    assert (row.status, row.snooze_until) == ("open", None)
    (event,) = await events(desk, before)
    changed = event.conversation_status_changed
    assert changed.intended_time.ToDatetime(UTC) == intended
    assert getattr(changed, "from") == conversation_pb2.CONVERSATION_STATUS_SNOOZED
    assert changed.to == conversation_pb2.CONVERSATION_STATUS_OPEN
    (stored,) = await desk.rows("SELECT actor_kind, cause_kind FROM stream_event WHERE seq > $1", before)
    assert tuple(stored) == (ActorKind.ACTOR_KIND_SYSTEM, CauseKind.CAUSE_KIND_TIMER)
    assert await desk.value("SELECT count(*) FROM timers WHERE kind = 'snooze' AND key = $1", some) == 0


async def test_what_is_due_fires_once_with_several_runners_at_once(own_desk: Desk) -> None:
    desk = own_desk
    channel = await desk.new_channel()
    rows = [await desk.started(channel) for _ in range(40)]
    for row in rows:
        await desk.move(row.id, "snoozed", snooze_until=utc_now() + timedelta(hours=1))
        await make_due(desk, "snooze", row.id)
    before = (await desk.head())[1]
    runners = (desk.database, desk.beside, desk.database, desk.beside)
    await asyncio.gather(*(timers.run_due(database, HANDLERS) for database in runners))
    changed = [item.conversation_status_changed.conversation.id for item in await events(desk, before)]
    assert sorted(changed) == sorted(str(row.id) for row in rows)
    assert (await fire(desk)).fired == 0
    await desk.check()


async def test_a_timer_that_is_not_due_does_not_fire(desk: Desk) -> None:
    some = await snoozed(desk, hours=1)
    await fire(desk)
    assert (await desk.conversation(some)).status == "snoozed"


@pytest.mark.parametrize("ends", ["open", "pending", "resolved", "delete", "message"])
async def test_whatever_ends_a_snooze_cancels_its_timer(desk: Desk, ends: str) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    await desk.move(row.id, "snoozed", snooze_until=utc_now() + timedelta(hours=1))
    if ends == "message":
        await desk.writer().submit(desk.receive(channel, sender))
    elif ends == "delete":
        await desk.do(lambda write: service.delete(write, ALL, row.id, origin=nobody()))
    else:
        await desk.move(row.id, ends)
    assert await desk.value("SELECT count(*) FROM timers WHERE kind = 'snooze' AND key = $1", row.id) == 0


async def test_an_old_generation_does_nothing(desk: Desk) -> None:
    some = await snoozed(desk, hours=1)
    await make_due(desk, "snooze", some)
    await desk.execute("UPDATE timers SET generation = generation - 1 WHERE kind = 'snooze' AND key = $1", some)
    before = await desk.head()
    await fire(desk)
    assert (await desk.conversation(some)).status == "snoozed"
    assert await desk.head() == before


async def test_a_new_snooze_replaces_the_time_of_the_old(desk: Desk) -> None:
    some = await snoozed(desk, hours=1)
    await make_due(desk, "snooze", some)
    await desk.move(some, "snoozed", snooze_until=utc_now() + timedelta(hours=2))
    await fire(desk)
    assert (await desk.conversation(some)).status == "snoozed"
    assert await desk.value("SELECT due_time > now() FROM timers WHERE kind = 'snooze' AND key = $1", some)


async def test_a_snooze_until_a_reply_has_no_timer(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    await desk.move(row.id, "snoozed")
    assert await desk.value("SELECT count(*) FROM timers WHERE kind = 'snooze' AND key = $1", row.id) == 0


async def windows(desk: Desk, some: uuid.UUID) -> dict[str, datetime]:
    rows = await desk.rows("SELECT kind, due_time FROM timers WHERE key = $1 AND kind LIKE 'reply_window%'", some)
    return {row["kind"]: row["due_time"] for row in rows}


async def test_a_window_timer_of_a_window_that_grew_sets_itself_anew_and_says_nothing(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    first = await windows(desk, row.id)
    assert first[WINDOW_CLOSED] - first[WINDOW_CLOSING] == timedelta(hours=2)
    assert first[WINDOW_CLOSED] == row.reply_window_expire_time
    for kind in first:
        await make_due(desk, kind, row.id)
    before = await desk.head()
    assert (await fire(desk)).fired == 2
    assert await desk.head() == before
    assert await windows(desk, row.id) == first


async def test_a_window_says_once_that_it_closes_and_once_that_it_closed(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row = await desk.started(channel, sender)
    expire = utc_now() + timedelta(hours=1)
    await desk.execute("UPDATE conversations SET reply_window_expire_time = $2 WHERE id = $1", row.id, expire)
    await desk.execute(
        "UPDATE timers SET due_time = $2 WHERE kind = $3 AND key = $1",
        row.id,
        expire - timedelta(hours=2),
        WINDOW_CLOSING,
    )
    before = (await desk.head())[1]
    await fire(desk)
    (closing,) = await events(desk, before)
    assert closing.reply_window_closing.intended_time.ToDatetime(UTC) == expire - timedelta(hours=2)
    await desk.writer().submit(desk.send(row.id))
    await fire(desk)
    assert [name for name in await desk.kinds(after=before) if name.startswith("reply_window")] == [
        "reply_window_closing"
    ]

    ended = utc_now() - timedelta(seconds=5)
    await desk.execute("UPDATE conversations SET reply_window_expire_time = $2 WHERE id = $1", row.id, ended)
    await desk.execute("UPDATE timers SET due_time = $2 WHERE kind = $3 AND key = $1", row.id, ended, WINDOW_CLOSED)
    await fire(desk)
    closed = (await events(desk, before))[-1].reply_window_closed
    assert closed.intended_time.ToDatetime(UTC) == ended
    assert closed.conversation.reply_window.state == conversation_pb2.REPLY_WINDOW_STATE_CLOSED
    assert await windows(desk, row.id) == {}


async def closing_before(desk: Desk, lead: timedelta) -> int:
    """How many events it took."""

    async def change(write: Write) -> int:
        _, found = await tenant_settings.update(write, origin=nobody(), closing_before=lead)
        await append(write, found)
        return len(found)

    return await desk.database.write(change)


async def test_the_tenant_says_how_early_a_window_says_that_it_closes(own_desk: Desk) -> None:
    desk, channel = own_desk, await own_desk.new_channel()
    row = await desk.started(channel)
    expire = row.reply_window_expire_time
    assert expire is not None
    for lead in (timedelta(hours=5), timedelta(minutes=1)):
        assert await closing_before(desk, lead) == 1
        assert await closing_before(desk, lead) == 0
        assert await windows(desk, row.id) == {WINDOW_CLOSING: expire - lead, WINDOW_CLOSED: expire}
        other = await desk.started(channel)
        found = await windows(desk, other.id)
        assert found[WINDOW_CLOSED] - found[WINDOW_CLOSING] == lead, "of a window that opens afterwards, too"
    ((_, changed),) = [(seq, event) for seq, event in await desk.events() if event.HasField("tenant_settings_changed")][
        1:
    ]
    settings = changed.tenant_settings_changed.settings
    assert settings.reply_window_closing_before.ToTimedelta() == timedelta(minutes=1)
    assert settings.conversation_retention.ToTimedelta() == timedelta(days=30)


async def test_a_longer_time_before_the_end_is_over_at_once_for_a_window_that_closes_sooner(own_desk: Desk) -> None:
    desk, channel = own_desk, await own_desk.new_channel()
    row = await desk.started(channel)
    expire = utc_now() + timedelta(hours=4)
    await desk.execute("UPDATE conversations SET reply_window_expire_time = $2 WHERE id = $1", row.id, expire)
    await make_due(desk, WINDOW_CLOSING, row.id)
    before = (await desk.head())[1]
    await fire(desk)
    assert await desk.kinds(after=before) == [], "set for a shorter window, it was early"
    await closing_before(desk, timedelta(hours=12))
    await fire(desk)
    await fire(desk)
    _, closing = await events(desk, before)
    assert closing.reply_window_closing.intended_time.ToDatetime(UTC) == expire - timedelta(hours=12)
    assert await windows(desk, row.id) == {WINDOW_CLOSED: row.reply_window_expire_time}


async def test_a_window_of_a_resolved_conversation_closes_in_silence(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    await desk.move(row.id, "resolved")
    await desk.execute(
        "UPDATE conversations SET reply_window_expire_time = now() - interval '1 hour' WHERE id = $1", row.id
    )
    for kind in (WINDOW_CLOSING, WINDOW_CLOSED):
        await make_due(desk, kind, row.id)
    before = await desk.head()
    await fire(desk)
    assert await desk.head() == before


class Recorder:
    """Notes which timers fired; those with a payload {"fails": true} cannot."""

    fired: ClassVar[list[uuid.UUID]] = []

    def __init__(self, write: Write) -> None:
        self._write = write
        self._noted: list[uuid.UUID] = []

    async def fire(self, fired: Fired) -> list[NewEvent]:
        if fired.payload.get("fails") == "here":
            raise KeyError(fired.key)
        if fired.payload.get("fails"):
            await self._write.connection.execute("SELECT 1 / 0")
        self._noted.append(fired.key)
        return []

    async def save(self) -> None:
        self.fired.extend(self._noted)


async def record(write: Write, _keys: Sequence[uuid.UUID]) -> Recorder:
    return Recorder(write)


RECORDED: Handlers = {"test": record}


async def set_test(desk: Desk, key: uuid.UUID, *, kind: str = "test", **payload: object) -> None:
    async def unit(write: Write) -> None:
        await timers.set_timer(write.connection, kind=kind, key=key, due_time=utc_now() - LATE, payload=payload)

    await desk.database.write(unit)


async def stored(desk: Desk, key: uuid.UUID) -> Any:
    (row,) = await desk.rows(
        "SELECT attempt, error, due_time, retry_time - clock_now() AS wait, dead_time FROM timers WHERE key = $1", key
    )
    return row


@pytest.mark.parametrize(("fails", "error"), [("there", "DivisionByZeroError 22012"), ("here", "KeyError")])
async def test_one_that_fails_is_found_among_its_siblings_which_fire_once(
    own_desk: Desk, fails: str, error: str
) -> None:
    Recorder.fired.clear()
    good, bad = [new_id() for _ in range(40)], new_id()
    await set_test(own_desk, new_id(), kind="of another release")
    for key in good[:20]:
        await set_test(own_desk, key)
    await set_test(own_desk, bad, fails=fails)
    for key in good[20:]:
        await set_test(own_desk, key)
    due = (await stored(own_desk, bad))["due_time"]
    assert await fire(own_desk, RECORDED) == Ran(40, 1, more=False)
    assert sorted(Recorder.fired) == sorted(good)
    row = await stored(own_desk, bad)
    assert (row["attempt"], row["error"], row["due_time"]) == (1, error, due)
    assert timedelta(seconds=1) < row["wait"] <= RETRIES[0]
    assert await fire(own_desk, RECORDED) == Ran(0, 0, more=False), "it rests"
    async with own_desk.database.connection() as connection:
        found = await timers.next_due(connection, kinds=["test"])
    assert found is not None
    assert timedelta(seconds=1) < found.wait <= RETRIES[0]


async def test_one_that_always_fails_is_dead_at_last_and_fires_when_an_operator_asks(own_desk: Desk) -> None:
    Recorder.fired.clear()
    bad = new_id()
    await set_test(own_desk, bad, fails="there")
    due = (await stored(own_desk, bad))["due_time"]
    waits = []
    for _ in range(len(RETRIES) + 1):
        assert (await fire(own_desk, RECORDED)).failed == 1
        waits.append((await stored(own_desk, bad))["wait"])
        await own_desk.execute("UPDATE timers SET retry_time = now() WHERE key = $1", bad)
    rounded = [round(wait.total_seconds()) for wait in waits[:-1]]
    assert rounded == [round(wait.total_seconds()) for wait in RETRIES]
    assert (await stored(own_desk, bad))["dead_time"] is not None
    assert await fire(own_desk, RECORDED) == Ran(0, 0, more=False)
    async with own_desk.database.connection() as connection:
        assert await timers.next_due(connection, kinds=["test"]) is None
        (listed,) = await timers.list_timers(connection, failed=True)
    assert (listed.key, listed.due_time, listed.attempt) == (bad, due, len(RETRIES) + 1)
    await own_desk.execute("UPDATE timers SET payload = NULL WHERE key = $1", bad)
    async with own_desk.database.connection() as connection:
        assert await timers.rearm(connection, kind="test", key=bad) == 1
    assert (await fire(own_desk, RECORDED)).fired == 1
    assert Recorder.fired == [bad]


async def test_one_that_is_set_anew_has_never_failed(own_desk: Desk) -> None:
    bad = new_id()
    await set_test(own_desk, bad, fails="there")
    await fire(own_desk, RECORDED)
    await set_test(own_desk, bad)
    assert await fire(own_desk, RECORDED) == Ran(1, 0, more=False)


async def test_a_kind_of_another_release_is_looked_at_once_a_minute(own_desk: Desk) -> None:
    await set_test(own_desk, new_id(), kind="of another release")
    async with own_desk.database.connection() as connection:
        alone = await timers.next_due(connection, kinds=["test"])
        await set_test(own_desk, new_id())
        beside = await timers.next_due(connection, kinds=["test"])
    assert alone is not None
    assert alone.wait == timers.UNKNOWN_AGAIN
    assert beside is not None
    assert beside.wait < timedelta(0)


async def test_timers_of_a_batch_speak_in_the_order_of_their_due_times(own_desk: Desk) -> None:
    channel = await own_desk.new_channel()
    rows = [await own_desk.started(channel) for _ in range(10)]
    for position, row in enumerate(rows):
        ago = timedelta(minutes=10 + position)
        closed = await make_due(own_desk, WINDOW_CLOSED, row.id, ago=ago)
        await make_due(own_desk, WINDOW_CLOSING, row.id, ago=ago + timedelta(hours=2))
        await own_desk.execute("UPDATE conversations SET reply_window_expire_time = $2 WHERE id = $1", row.id, closed)
    before = (await own_desk.head())[1]
    assert (await fire(own_desk)).fired == 20
    said = await own_desk.rows("SELECT cause_id FROM stream_event WHERE seq > $1 ORDER BY seq", before)
    expected = [f"{kind}/{row.id}" for kind in (WINDOW_CLOSING, WINDOW_CLOSED) for row in reversed(rows)]
    assert [row["cause_id"] for row in said] == expected
    (transactions,) = await own_desk.rows(
        "SELECT count(DISTINCT tx_last) AS n FROM stream_event WHERE seq > $1", before
    )
    assert transactions["n"] == 1


async def test_a_crash_between_firing_and_commit_leaves_the_timer_due(own_desk: Desk) -> None:
    some = await snoozed(own_desk, hours=1)
    intended = await make_due(own_desk, "snooze", some)
    connection = await asyncpg.connect(own_desk.dsn)
    transaction = connection.transaction()
    await transaction.start()
    assert await connection.fetchval("DELETE FROM timers WHERE key = $1 AND kind = 'snooze' RETURNING true", some)
    await connection.close()
    assert (await fire(own_desk)).fired >= 1
    changed = (await events(own_desk, 0))[-1].conversation_status_changed
    assert changed.intended_time.ToDatetime(UTC) == intended
