"""Timers: once, at the intended time, and only for what they were set for."""

import asyncio
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from switchboard.v1 import conversation_pb2, event_pb2

from server.conversations import service
from server.conversations import timers as conversation_timers
from server.conversations.timers import HANDLERS, WINDOW_CLOSED, WINDOW_CLOSING
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.event import ActorKind, CauseKind
from server.timers import service as timers
from server.timers.service import Fired, Handler
from tests.desk import ALL, Desk, nobody, phone

LATE = timedelta(minutes=30)


async def fire(desk: Desk, handlers: Mapping[str, Handler] = HANDLERS) -> int:
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
    assert await fire(desk) == 0
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
    assert first[WINDOW_CLOSED] - first[WINDOW_CLOSING] == conversation_timers.CLOSING_BEFORE
    assert first[WINDOW_CLOSED] == row.reply_window_expire_time
    for kind in first:
        await make_due(desk, kind, row.id)
    before = await desk.head()
    assert await fire(desk) == 2
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


async def test_a_timer_that_fails_stays_due_and_its_siblings_fire(own_desk: Desk) -> None:
    good, bad, unknown = new_id(), new_id(), new_id()
    fired: list[uuid.UUID] = []

    async def prepare(_write: Write, _key: uuid.UUID) -> None:
        return None

    async def act(write: Write, what: Fired, _loaded: Any) -> None:
        if what.key == bad:
            await write.connection.execute("SELECT 1 / 0")
        fired.append(what.key)

    async def set_all(write: Write) -> None:
        for kind, key in (("test", bad), ("test", good), ("of another release", unknown)):
            await timers.set_timer(write.connection, kind=kind, key=key, due_time=utc_now() - LATE, payload={"n": 1})

    await own_desk.database.write(set_all)
    handlers = {"test": Handler(prepare=prepare, fire=act)}
    assert await fire(own_desk, handlers) == 1, "what failed is not counted, so that nobody hurries"
    assert fired == [good]
    assert {row["key"] for row in await own_desk.rows("SELECT key FROM timers")} == {bad, unknown}


async def test_a_crash_between_firing_and_commit_leaves_the_timer_due(own_desk: Desk) -> None:
    some = await snoozed(own_desk, hours=1)
    intended = await make_due(own_desk, "snooze", some)
    connection = await asyncpg.connect(own_desk.dsn)
    transaction = connection.transaction()
    await transaction.start()
    assert await connection.fetchval("DELETE FROM timers WHERE key = $1 AND kind = 'snooze' RETURNING true", some)
    await connection.close()
    assert await fire(own_desk) >= 1
    changed = (await events(own_desk, 0))[-1].conversation_status_changed
    assert changed.intended_time.ToDatetime(UTC) == intended
