"""Who takes part in a conversation, and the thread that it belongs to."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from switchboard.v1.participant_pb2 import (
    PARTICIPANT_REASON_ASSIGNED,
    PARTICIPANT_REASON_JOINED,
    PARTICIPANT_REASON_NOTED,
    PARTICIPANT_REASON_WROTE,
)

from server.assignments import service as assignments
from server.conversations import notes, participants, repository, service
from server.conversations.service import Changed
from server.kit.errors import NotFound
from server.kit.ids import new_id
from server.rpc.call import Scope
from tests.desk import ALL, Desk, agent, nobody, phone


async def taking_part(desk: Desk, some: uuid.UUID) -> dict[uuid.UUID, list[int]]:
    async with desk.database.connection() as connection:
        return {
            uuid.UUID(item.agent_id): [int(reason) for reason in item.reasons]
            for item in await participants.of(connection, some)
        }


async def add(desk: Desk, some: uuid.UUID, who: uuid.UUID) -> Changed:
    return await desk.do(lambda write: participants.add(write, ALL, some, origin=nobody(), agent_id=who))


async def remove(desk: Desk, some: uuid.UUID, who: uuid.UUID) -> Changed:
    return await desk.do(lambda write: participants.remove(write, ALL, some, origin=nobody(), agent_id=who))


async def note(desk: Desk, some: uuid.UUID, who: uuid.UUID) -> None:
    await desk.do(
        lambda write: notes.add(write, ALL, some, origin=agent(who), note_id=new_id(), text="x", pinned=False)
    )


async def test_whoever_wrote_had_it_or_was_added_takes_part_in_the_order_of_that(desk: Desk) -> None:
    row = await desk.started(await desk.new_channel())
    ana, ben, cid, dan = [await desk.new_agent() for _ in range(4)]
    assert await taking_part(desk, row.id) == {}
    await desk.writer().submit(desk.send(row.id, by=agent(ana)))
    whole: dict[str, Any] = {"team_id": None, "reason": None, "expected_version": None}
    await desk.do(lambda write: assignments.assign(write, ALL, row.id, origin=nobody(), agent_id=ben, **whole))
    await note(desk, row.id, cid)
    await note(desk, row.id, ana)
    await add(desk, row.id, dan)
    found = await taking_part(desk, row.id)
    assert list(found) == [ana, ben, cid, dan]
    assert found == {
        ana: [PARTICIPANT_REASON_WROTE, PARTICIPANT_REASON_NOTED],
        ben: [PARTICIPANT_REASON_ASSIGNED],
        cid: [PARTICIPANT_REASON_NOTED],
        dan: [PARTICIPANT_REASON_JOINED],
    }


async def test_whoever_was_removed_takes_part_again_by_what_it_does_later(own_desk: Desk) -> None:
    desk = own_desk
    row = await desk.started(await desk.new_channel())
    ana, ben = await desk.new_agent(), await desk.new_agent()
    await note(desk, row.id, ana)
    await add(desk, row.id, ben)
    head = (await desk.head())[1]
    assert not (await add(desk, row.id, ben)).events, "adding twice changes nothing"
    await remove(desk, row.id, ana)
    await remove(desk, row.id, ben)
    assert not (await remove(desk, row.id, ben)).events
    assert await taking_part(desk, row.id) == {}
    await note(desk, row.id, ana)
    await add(desk, row.id, ben)
    assert await taking_part(desk, row.id) == {ana: [PARTICIPANT_REASON_NOTED], ben: [PARTICIPANT_REASON_JOINED]}
    kinds = ["participant_removed", "participant_removed", "note_added", "participant_added"]
    assert await desk.kinds(after=head) == kinds
    await desk.check()
    with pytest.raises(NotFound):
        await add(desk, row.id, new_id())


async def test_a_thread_is_found_from_each_of_its_conversations(desk: Desk) -> None:
    channel, sender = await desk.new_channel(new_thread_each_time=True), phone()
    ids = []
    for _ in range(3):
        row = await desk.started(channel, sender)
        ids.append(row.id)
        await desk.move(row.id, "resolved")
    await desk.started(channel)
    async with desk.database.connection() as connection:
        for some in ids:
            rows, _ = await repository.thread(connection, ALL, some)
            assert [row.id for row in rows] == ids
            assert [row.previous_conversation_id for row in rows] == [None, *ids[:-1]]
        with pytest.raises(NotFound):
            await repository.thread(connection, Scope(all=False, agent_id=new_id()), ids[0])
    await desk.do(lambda write: service.delete(write, ALL, ids[0], origin=nobody()))
    async with desk.database.connection() as connection:
        assert [row.id for row in (await repository.thread(connection, ALL, ids[1]))[0]] == ids[1:]
