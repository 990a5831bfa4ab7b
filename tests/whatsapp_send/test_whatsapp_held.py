"""What a limit of Meta's holds, and for how long: a number, what it begins, or one customer; and what goes on meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from server.channels import health
from server.deliveries import claiming
from server.deliveries.claiming import Lane
from server.kit.clock import utc_now
from server.log.append import append
from server.providers.health import AccountChange
from server.providers.meta.envelope import Envelope, read_envelope
from server.simulator import payloads
from tests.desk import Desk, nobody, phone
from tests.whatsapp_send.sending import JITTER, SLACK_SECONDS, Line, line

STATES = """
SELECT m.text, d.state, d.attempt - d.uncounted AS tries FROM deliveries d
JOIN message_parts p ON p.id = d.part_id JOIN messages m ON m.id = p.message_id WHERE d.channel_id = $1
"""


async def put(made: Line, text: str, lane: Lane = Lane.PERSON) -> Any:
    """Queues a message to another customer of the channel; the conversation's id."""
    made.conversation_id = (await made.desk.started(made.channel, phone())).id
    await made.queue(text)
    await made.desk.execute(
        "UPDATE deliveries SET lane = $2 WHERE conversation_id = $1", made.conversation_id, lane.value
    )
    return made.conversation_id


async def work(made: Line) -> dict[str, tuple[str, int]]:
    """Sends what may be sent now; the state and the attempts of each message by its text."""
    while await made.sent():
        pass
    return {row["text"]: (row["state"], row["tries"]) for row in await made.desk.rows(STATES, made.channel.id)}


async def test_the_limit_for_spam_holds_what_the_number_begins_and_its_answers_go_on(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131048, count=1)
        await put(made, "template", Lane.TEMPLATE)
        before = (await desk.head())[1]
        assert await work(made) == {"template": ("queued", 1)}
        assert await desk.kinds(after=before) == ["channel_health_changed"]
        for lane in Lane:
            await put(made, lane.name, lane)
        held = {"template": ("queued", 1), "TEMPLATE": ("queued", 0), "BULK": ("queued", 0)}
        assert await work(made) == held | {"PERSON": ("accepted", 1)}
        assert len(await made.requests()) == 2, "what is held is not tried"
        told = await desk.value("SELECT health #>> '{last_error,code}' FROM channels WHERE id = $1", made.channel.id)
        assert told == "131048"
        await desk.execute("UPDATE channels SET templates_held_until = now() WHERE id = $1", made.channel.id)
        gone = {"PERSON": ("accepted", 1), "TEMPLATE": ("accepted", 1), "BULK": ("accepted", 1)}
        assert await work(made) == gone | {"template": ("queued", 1)}


async def test_an_answer_that_is_taken_for_spam_waits_alone_among_answers(desk: Desk) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131048, count=1)
        await put(made, "refused")
        assert await work(made) == {"refused": ("queued", 1)}
        await put(made, "answer")
        await put(made, "bulk", Lane.BULK)
        assert await work(made) == {"refused": ("queued", 1), "answer": ("accepted", 1), "bulk": ("queued", 0)}


async def test_a_customer_who_gets_too_much_waits_four_times_as_long_each_time_and_the_others_do_not(
    desk: Desk,
) -> None:
    async with line(desk) as made:
        await made.arm(kind="error", code=131056, count=4, filter={"recipient": made.recipient})
        first, waits = made.conversation_id, []
        await made.queue("too much")
        for number in range(4):
            now = await desk.value("SELECT clock_now()")
            await work(made)
            due = await desk.value("SELECT due_time FROM deliveries WHERE conversation_id = $1", first)
            held = await desk.value(
                "SELECT next_send_time FROM recipient_buckets b JOIN conversations c USING (identity_id) WHERE c.id = $1",
                first,
            )
            assert held >= due
            waits.append((due - now).total_seconds())
            await put(made, f"another {number}")
            assert (await work(made))[f"another {number}"] == ("accepted", 1)
            await desk.execute("UPDATE recipient_buckets SET next_send_time = now(), span_until = now()")
            await desk.execute("UPDATE deliveries SET due_time = now() WHERE conversation_id = $1", first)
        for wait, least in zip(waits, (1, 4, 16, 64), strict=True):
            assert least <= wait <= least * JITTER + SLACK_SECONDS
        assert (await work(made))["too much"] == ("accepted", 5)


async def restrict(made: Line, *restrictions: dict[str, Any]) -> None:
    """Meta restricts the account of the number; nothing given: lifts that."""
    event = {"event": "ACCOUNT_RESTRICTION" if restrictions else "ACCOUNT_RECONNECTED"}
    value = event | ({"restriction_info": list(restrictions)} if restrictions else {})
    entry = {"id": made.desk.numbers[made.channel.id].waba_id, "changes": [{"field": "account_update", "value": value}]}
    body = payloads.encode({"object": "whatsapp_business_account", "entry": [entry]})
    provider = made.desk.providers["whatsapp"]
    envelope = read_envelope(body, objects=provider.webhook_objects)
    assert isinstance(envelope, Envelope)
    (change,) = provider.parse(envelope.changes[0])
    assert isinstance(change, AccountChange)

    async def tell(write: Any) -> None:
        shared = provider.capabilities.shared_account
        told = await health.apply(write, change, provider="whatsapp", shared=shared, at=utc_now(), origin=nobody())
        await append(write, told)

    await made.desk.database.write(tell)


async def looks_after(desk: Desk) -> float | None:
    """Seconds until a worker has something to send."""
    async with desk.database.connection() as connection:
        coming = await claiming.upcoming(connection, desk.providers)
    return None if coming.send is None else (coming.send - coming.now).total_seconds()


LATER = 4_000_000_000


@pytest.mark.parametrize(
    ("restriction", "goes"),
    [
        ("RESTRICTED_ADD_PHONE_NUMBER_ACTION", {Lane.PERSON, Lane.TEMPLATE, Lane.BULK}),
        ("RESTRICTED_BIZ_INITIATED_MESSAGING", {Lane.PERSON}),
        ("RESTRICTED_CUSTOMER_INITIATED_MESSAGING", set()),
    ],
)
async def test_a_restriction_holds_what_it_is_about(own_desk: Desk, restriction: str, goes: set[Lane]) -> None:
    async with line(own_desk) as made:
        for lane in Lane:
            await put(made, lane.name, lane)
        await restrict(made, {"restriction_type": restriction, "expiration": LATER})
        found = await work(made)
        assert {Lane[text] for text, state in found.items() if state == ("accepted", 1)} == goes
        assert {state for text, state in found.items() if Lane[text] not in goes} <= {("queued", 0)}


async def test_what_a_restriction_holds_goes_when_its_time_is_over_or_it_is_lifted(own_desk: Desk) -> None:
    first = {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING"}
    async with line(own_desk) as made:
        await put(made, "one", Lane.TEMPLATE)
        await restrict(made, first | {"expiration": LATER})
        assert await work(made) == {"one": ("queued", 0)}
        assert (await looks_after(own_desk) or 0) > 86_400, "nothing is looked for meanwhile"
        await own_desk.execute(
            "UPDATE channels SET health = jsonb_set(health, '{restrictions,0,expire_time}', to_jsonb(now()))"
        )
        assert await work(made) == {"one": ("accepted", 1)}
        await put(made, "two", Lane.BULK)
        await restrict(made, first)
        assert await work(made) == {"one": ("accepted", 1), "two": ("queued", 0)}
        assert await looks_after(own_desk) is None, "nobody said how long"
        await restrict(made)
        assert await work(made) == {"one": ("accepted", 1), "two": ("accepted", 1)}
