"""What goes wrong around a send beside the codes, one test for each: the rows that are left, and what Meta was asked."""

from __future__ import annotations

from typing import Any

from server.channels import service as channels
from server.contacts import consents
from server.kit.clock import utc_now
from server.log.append import append
from server.messages.items import Stored
from server.providers.checks import CheckReport
from tests.desk import ALL, Desk, nobody, phone
from tests.whatsapp_send.sending import Line, line

SENT = {"delivery": "accepted", "attempt": 1, "message": "sent", "channel": "active"}
HOUR = (
    "UPDATE deliveries SET due_time = now() - interval '1 h', hold_until = now() - interval '1 h' WHERE channel_id = $1"
)
STATES = """
SELECT d.state, d.attempt - d.uncounted AS tries, count(*)::int AS number FROM deliveries d WHERE channel_id = $1
GROUP BY 1, 2 ORDER BY 1, 2
"""


async def another(made: Line) -> Any:
    """Another customer of the channel who wrote; the conversation's id."""
    return (await made.desk.started(made.channel, phone())).id


async def states(made: Line) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await made.desk.rows(STATES, made.channel.id)]


async def test_o1_an_answer_that_never_comes_is_unknown_and_is_not_sent_again(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="timeout_after_accept", then="close", count=1)
        message_id, found = await made.settled()
        wanted = {
            "delivery": "unknown",
            "attempt": 1,
            "error_message": "connection_lost",
            "message": "unknown",
            "channel": "active",
        }
        assert found == wanted
        await desk.execute(HOUR, made.channel.id)
        assert await made.claimed() == []
        assert await made.rows(message_id, since=await desk.value("SELECT clock_now()")) == wanted
        assert len(await made.requests()) == 1


async def test_o2_a_500_with_an_error_of_meta_is_tried_again_with_the_same_id(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=2, status=500, count=1)
        message_id, found = await made.settled()
        assert (found["delivery"], found["message"], found["error_code"]) == ("queued", "pending", "2")
        await desk.execute(HOUR, made.channel.id)
        now = await desk.value("SELECT clock_now()")
        await made.deliver()
        found = await made.rows(message_id, since=now)
        assert (found["delivery"], found["attempt"], found["message"]) == ("accepted", 2, "sent")
        ours = [request["body"]["biz_opaque_callback_data"] for request in await made.requests()]
    assert len(ours) == 2
    assert len(set(ours)) == 1


async def test_o4_a_customer_who_gets_too_much_waits_alone(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131056, filter={"recipient": made.recipient})
        now = await desk.value("SELECT clock_now()")
        held = await made.queue("too much")
        await made.deliver()
        made.conversation_id = await another(made)
        _, other = await made.settled("goes on")
        assert other == SENT
        rows = await made.rows(held, since=now)
        assert (rows["delivery"], rows["message"], rows["error_code"]) == ("queued", "pending", "131056")
        assert "account_waits" not in rows


async def test_o5_a_revoked_token_burns_no_attempt_and_all_go_after_a_new_one(desk: Desk) -> None:
    number = 30
    async with line(desk, access_token="EAAJnew") as made:
        for _ in range(number):
            await made.queue()
            made.conversation_id = await another(made)
        await made.deliver(at_once=8)
        assert await states(made) == [("queued", 0, number)], "none failed, none counts"
        assert len(await made.requests()) < number, "a paused channel asks no more"
        assert await desk.value("SELECT state FROM channels WHERE id = $1", made.channel.id) == "paused"
        assert await made.claimed() == []

        async def resume(write: Any) -> None:
            keeping = channels.Keeping(desk.tenant.secrets, desk.providers)
            answered = channels.Answered(CheckReport(), utc_now(), "EAAJnew")
            _, events = await channels.reauthorize(
                write, ALL, keeping, made.channel.id, origin=nobody(), answered=answered
            )
            await append(write, events)

        await desk.database.write(resume)
        while (await states(made))[0][0] != "accepted" or len(await states(made)) > 1:
            await made.deliver(at_once=8)
        assert await states(made) == [("accepted", 1, number)]


async def test_o6_what_is_sent_quickly_comes_in_its_order(desk: Desk) -> None:
    async with line(desk) as made:
        for text in ("one", "two", "three"):
            await made.queue(text)
        for _ in range(3):
            await made.deliver()
        assert [request["body"]["text"]["body"] for request in await made.requests()] == ["one", "two", "three"]


async def test_o7_the_same_request_is_one_message(desk: Desk) -> None:
    async with line(desk) as made:
        by = nobody()
        first = await made.queue("once", request_id="twice", by=by)
        again = await desk.writer().submit(desk.send(made.conversation_id, "once", request_id="twice", by=by))
        assert isinstance(again, Stored)
        assert (again.message.id, again.duplicate) == (first, True)
        await made.deliver()
        assert len(await made.requests()) == 1
        assert await made.claimed() == []


async def test_o12_what_cannot_go_to_a_user_id_fails_and_says_why(desk: Desk) -> None:
    async with line(desk) as made:
        stored = await desk.writer().submit(desk.receive(made.channel, None, bsuid="DE.1234567890123456789"))
        made.conversation_id = stored.message.conversation_id  # type: ignore[union-attr]
        await made.arm(kind="error", code=131062)
        _, found = await made.settled()
        assert (found["delivery"], found["message"], found["part_error"]) == ("failed", "failed", "131062")
        assert "user ID" in found["error_message"]


async def test_who_wants_no_marketing_says_so_by_a_refusal_too(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131050)
        before = await desk.value("SELECT head FROM stream_head")
        await made.settled()
        rows = await desk.rows("SELECT value, state FROM marketing_consents WHERE channel_id = $1", made.channel.id)
        assert [tuple(row) for row in rows] == [(made.recipient, "stopped")]
        identity_id = await desk.value("SELECT identity_id FROM conversations WHERE id = $1", made.conversation_id)
        async with desk.database.connection() as connection:
            assert await consents.stopped(connection, [identity_id]) == {identity_id}
        assert (await desk.kinds(after=before))[-2:] == ["message_status_updated", "contact_consent_changed"]
