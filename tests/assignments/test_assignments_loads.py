"""What agents hold, kept in the write path: after whatever happens, the counters equal a recount."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

from server.assignments import service
from server.conversations import service as conversations
from server.conversations.timers import HANDLERS
from server.kit.clock import utc_now
from server.timers import service as timers
from tests.desk import ALL, Desk, nobody, phone


async def give(desk: Desk, some: uuid.UUID, who: uuid.UUID) -> None:
    whole: dict[str, Any] = {"team_id": None, "reason": None, "expected_version": None}
    await desk.do(lambda write: service.assign(write, ALL, some, origin=nobody(), agent_id=who, **whole))


async def held(desk: Desk, who: uuid.UUID) -> tuple[int, int]:
    (row,) = await desk.rows("SELECT load, conversations FROM agent_loads WHERE agent_id = $1", who)
    return tuple(row)


async def test_each_move_of_a_conversation_moves_what_its_agent_holds(desk: Desk) -> None:
    channel, sender = await desk.new_channel(), phone()
    row, ana, ben = await desk.started(channel, sender), await desk.new_agent(), await desk.new_agent()
    assert await held(desk, ana) == (0, 0)
    await give(desk, row.id, ana)
    assert await held(desk, ana) == (100, 1)
    await desk.move(row.id, "pending")
    assert await held(desk, ana) == (50, 1), "one that waits for the customer weighs less"
    await desk.writer().submit(desk.receive(channel, sender, "here I am"))
    assert await held(desk, ana) == (100, 1), "the batch writer counts too"
    await desk.move(row.id, "snoozed", snooze_until=utc_now() + timedelta(milliseconds=200))
    assert await held(desk, ana) == (50, 1)
    while (await desk.conversation(row.id)).status == "snoozed":
        await asyncio.sleep(0.05)
        await timers.run_due(desk.database, HANDLERS)
    assert await held(desk, ana) == (100, 1), "and so does a timer"
    await give(desk, row.id, ben)
    assert (await held(desk, ana), await held(desk, ben)) == ((0, 0), (100, 1))
    await desk.move(row.id, "resolved")
    assert await held(desk, ben) == (0, 0)
    await desk.writer().submit(desk.send(row.id))
    assert await held(desk, ben) == (100, 1), "an answer brought it back, without locks it would not have been counted"
    await desk.do(lambda write: conversations.delete(write, ALL, row.id, origin=nobody()))
    assert await held(desk, ben) == (0, 0)
    await desk.do(lambda write: conversations.restore(write, ALL, row.id, origin=nobody()))
    assert await held(desk, ben) == (100, 1)
    await desk.check()


async def test_counters_agree_while_two_processes_move_the_same_conversations(desk: Desk) -> None:
    channel, agents = await desk.new_channel(), [await desk.new_agent() for _ in range(4)]
    senders = [phone() for _ in range(12)]
    rows = [await desk.started(channel, sender) for sender in senders]
    for index, row in enumerate(rows):
        await give(desk, row.id, agents[index % 4])

    async def swap(offset: int) -> None:
        for index, row in enumerate(rows):
            await give(desk, row.id, agents[(index + offset) % 4])

    async def talk(writer: Any) -> None:
        for index, row in enumerate(rows):
            to = ("resolved", "pending", "open")[index % 3]
            if (await desk.conversation(row.id)).status != to:
                await desk.move(row.id, to)
            await asyncio.gather(
                *(writer.submit(desk.receive(channel, sender)) for sender in senders[:6]),
                writer.submit(desk.send(row.id)),
            )

    await asyncio.gather(swap(1), swap(2), talk(desk.writer()), talk(desk.writer(desk.beside)), return_exceptions=False)
    await desk.check()
