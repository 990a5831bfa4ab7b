"""What the provider makes wait for long holds no answer: templates step aside for it in their own conversation, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from server.deliveries import service as deliveries
from server.deliveries.claiming import Lane
from server.kit.db import Write
from server.kit.ids import new_id
from tests.desk import Desk
from tests.whatsapp_send.sending import Line, line

STATES = """
SELECT m.text, d.state FROM deliveries d JOIN message_parts p ON p.id = d.part_id JOIN messages m ON m.id = p.message_id
WHERE d.channel_id = $1 ORDER BY d.position
"""


async def put(made: Line, *texts: str, lane: Lane = Lane.PERSON) -> None:
    """Queues messages to the one customer."""
    for text in texts:
        message_id = await made.queue(text)
        await made.desk.execute(
            "UPDATE deliveries SET lane = $2 WHERE part_id = (SELECT id FROM message_parts WHERE message_id = $1)",
            message_id,
            lane.value,
        )


async def work(made: Line) -> dict[str, str]:
    """Sends what may be sent now; the state of each message by its text."""
    while await made.sent():
        pass
    return {row["text"]: row["state"] for row in await made.desk.rows(STATES, made.channel.id)}


async def due(made: Line) -> None:
    """What waits need not wait longer."""
    await made.desk.execute("UPDATE deliveries SET due_time = clock_now() WHERE channel_id = $1", made.channel.id)
    await made.desk.execute("UPDATE channels SET templates_held_until = NULL WHERE id = $1", made.channel.id)


async def arrived(made: Line) -> list[str]:
    """What Meta was asked to send, in its order."""
    return [request["body"]["text"]["body"] for request in await made.requests()]


@pytest.mark.parametrize("lane", [Lane.TEMPLATE, Lane.BULK])
async def test_answers_pass_a_template_that_meta_wants_tomorrow_and_keep_their_order(desk: Desk, lane: Lane) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131049, count=1)
        await put(made, "offer", lane=lane)
        await put(made, "before one", "before two")
        assert await work(made) == {"offer": "queued", "before one": "accepted", "before two": "accepted"}
        await put(made, "after one", "after two")
        assert (await work(made))["offer"] == "queued", "it is the head again, for the time that it is due"
        assert await arrived(made) == ["offer", "before one", "before two", "after one", "after two"]
        await due(made)
        assert set((await work(made)).values()) == {"accepted"}
        assert (await arrived(made))[-1] == "offer"


async def test_a_template_that_is_due_while_an_answer_is_under_way_comes_after_it(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131049, count=1)
        await put(made, "offer", lane=Lane.TEMPLATE)
        await work(made)
        await put(made, "one", "two")
        assert len(await made.claimed()) == 1
        await due(made)
        rows = {row["text"]: row["state"] for row in await desk.rows(STATES, made.channel.id)}
        assert rows == {"offer": "waiting", "one": "in_flight", "two": "waiting"}
        await desk.execute(
            "UPDATE deliveries SET state = 'failed' WHERE state = 'in_flight' AND channel_id = $1", made.channel.id
        )
        conversation = made.conversation_id

        async def unit(write: Write) -> None:
            await deliveries.lock(write.connection, [conversation])
            await deliveries.promote(write.connection, [conversation])

        await desk.database.write(unit)
        assert await work(made) == {"offer": "accepted", "one": "failed", "two": "accepted"}
        assert await arrived(made) == ["offer", "offer", "two"], "in its place, once nothing holds it"


async def test_what_is_tried_again_soon_keeps_its_place(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131016, count=1)
        await put(made, "template", lane=Lane.TEMPLATE)
        await put(made, "text")
        assert await work(made) == {"template": "queued", "text": "waiting"}
        await put(made, "more")
        assert await work(made) == {"template": "queued", "text": "waiting", "more": "waiting"}
        await due(made)
        await work(made)
        assert await arrived(made) == ["template", "template", "text", "more"]


async def test_an_answer_that_has_to_wait_for_long_keeps_its_place_too(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131048, count=1)
        await put(made, "one", "two")
        assert await work(made) == {"one": "queued", "two": "waiting"}


async def test_answers_pass_what_a_limit_of_the_number_holds_whenever_it_came(own_desk: Desk) -> None:
    async with line(own_desk) as made:
        await put(made, "template", lane=Lane.TEMPLATE)
        await put(made, "before")
        hold = "UPDATE channels SET templates_held_until = clock_now() + interval '1 hour' WHERE id = $1"
        await own_desk.execute(hold, made.channel.id)
        assert await work(made) == {"template": "queued", "before": "waiting"}, "until a worker looks for such"

        async def unit(write: Write) -> None:
            found = await deliveries.heads_aside(write.connection)
            assert found == [made.conversation_id]
            await deliveries.lock(write.connection, found)
            await deliveries.step_aside(write.connection, found)
            assert await deliveries.heads_aside(write.connection) == []

        await own_desk.database.write(unit)
        assert await work(made) == {"template": "queued", "before": "accepted"}
        await put(made, "after")
        assert (await work(made))["after"] == "accepted"
        waits = await own_desk.value("SELECT waits_for_head($1, $2)", made.conversation_id, Lane.TEMPLATE.value)
        assert waits, "another template is held as well"
        await due(made)
        await work(made)
        assert await arrived(made) == ["before", "after", "template"]


async def test_a_template_that_was_released_goes_next_although_it_had_made_way(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131049, count=1)
        await put(made, "offer", lane=Lane.TEMPLATE)
        await work(made)
        template_id: Any = new_id()
        await desk.execute(
            "UPDATE deliveries SET awaited_template_id = $2 WHERE channel_id = $1", made.channel.id, template_id
        )
        await put(made, "one")
        async with desk.database.connection() as connection:
            await deliveries.release_template(connection, [template_id])
        assert await work(made) == {"offer": "accepted", "one": "accepted"}
        assert await arrived(made) == ["offer", "one", "offer"]
