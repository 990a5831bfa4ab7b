"""Definitions of attributes, and conversations that are held to them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from server.attributes import service as definitions
from server.conversations import service
from server.conversations.service import Changed
from server.kit.errors import AlreadyExists, InvalidFields, NotFound
from server.kit.ids import new_id
from server.log.event import NewEvent
from tests.desk import ALL, Desk, nobody


class Done:
    """A definition after a change, and the events to append."""

    def __init__(self, record: Any, events: list[NewEvent]) -> None:
        self.record, self.events = record, events


async def define(desk: Desk, key: str, kind: str, *, target: str = "conversation", options: Any = ()) -> uuid.UUID:
    async def work(write: Any) -> Done:
        wanted = {"target": target, "key": key, "kind": kind, "options": options, "label": ""}
        return Done(*await definitions.create(write, origin=nobody(), definition_id=new_id(), **wanted))

    made: uuid.UUID = (await desk.do(work)).record["id"]
    return made


async def update(desk: Desk, some: uuid.UUID, *, label: str | None = None, options: Any = ()) -> Done:
    async def work(write: Any) -> Done:
        return Done(*await definitions.update(write, some, origin=nobody(), label=label, options=options))

    return await desk.do(work)


async def delete(desk: Desk, some: uuid.UUID) -> None:
    async def work(write: Any) -> Done:
        return Done(None, await definitions.delete(write, some, origin=nobody()))

    await desk.do(work)


async def put(desk: Desk, some: uuid.UUID, attributes: dict[str, Any]) -> Changed:
    whole: dict[str, Any] = {"priority": None, "subject": None, "expected_version": None}
    return await desk.do(
        lambda write: service.update(write, ALL, some, origin=nobody(), attributes=attributes, **whole)
    )


async def test_a_conversation_takes_what_is_defined_and_whatever_is_not(own_desk: Desk) -> None:
    desk = own_desk
    row = await desk.started(await desk.new_channel())
    plan = await define(desk, "plan", "option", options=["gold", "silver"])
    await define(desk, "plan", "number", target="contact")
    await put(desk, row.id, {"plan": "gold", "free": [1, None]})
    with pytest.raises(InvalidFields) as refused:
        await put(desk, row.id, {"plan": "bronze"})
    assert refused.value.message == "attributes: plan must be one of: gold, silver"
    await update(desk, plan, options=["bronze"])
    await put(desk, row.id, {"plan": "gold", "free": 2})
    await put(desk, row.id, {"plan": "bronze"})
    with pytest.raises(InvalidFields):
        await put(desk, row.id, {"plan": "gold"})
    await delete(desk, plan)
    await put(desk, row.id, {"plan": 7})
    assert (await desk.conversation(row.id)).attributes_object == {"plan": 7}
    await desk.check()


async def test_a_key_is_defined_once_for_each_target(desk: Desk) -> None:
    await define(desk, "birthday", "date", target="contact")
    await define(desk, "birthday", "date")
    with pytest.raises(AlreadyExists):
        await define(desk, "birthday", "text")


async def test_only_options_have_options(desk: Desk) -> None:
    with pytest.raises(InvalidFields):
        await define(desk, "one", "option")
    with pytest.raises(InvalidFields):
        await define(desk, "two", "text", options=["a"])
    some = await define(desk, "three", "text")
    with pytest.raises(InvalidFields):
        await update(desk, some, options=["a"])
    assert not (await update(desk, some, label="three")).events
    with pytest.raises(NotFound):
        await update(desk, new_id(), label="x")
    with pytest.raises(NotFound):
        await delete(desk, new_id())


async def test_each_change_is_an_event(own_desk: Desk) -> None:
    desk = own_desk
    some = await define(desk, "plan", "option", options=["gold"])
    await update(desk, some, label="Plan")
    await delete(desk, some)
    changed, deleted = "attribute_definition_changed", "attribute_definition_deleted"
    assert await desk.kinds() == [changed, changed, deleted]
