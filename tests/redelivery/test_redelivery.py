"""What an operator decides about deliveries that got stuck, and what comes of it."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server.conversations.rules import ConversationArchived, ReplyWindowClosed
from server.deliveries import claiming
from server.deliveries.claiming import Claimed
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import NotFound
from server.log.append import append
from server.messages import receipts
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.messages.receipts import Update
from server.providers.contract import Accepted, Ambiguous, ErrorClass, NotSent, Outcome, Refused
from server.redelivery import service as redelivery
from server.redelivery.service import DeliveryNotPossible, Wanted
from server.rpc.call import Scope
from tests.desk import ALL, Desk, nobody

REFUSED = Refused(error_class=ErrorClass.PERMANENT, code="131026", message="undeliverable")
CUT = Ambiguous("cut")


class Stuck:
    """A conversation with sends, and what becomes of each."""

    def __init__(self, desk: Desk, conversation_id: uuid.UUID) -> None:
        self.desk, self.conversation_id = desk, conversation_id

    async def put(self, *names: str) -> None:
        for name in names:
            assert isinstance(await self.desk.writer().submit(self.desk.send(self.conversation_id, name)), Stored)

    async def taken(self) -> list[Claimed]:
        async with self.desk.database.connection() as connection:
            claim = await claiming.claim(connection, worker="w", limit=9, providers=self.desk.providers)
        return claim.claimed

    async def settle(self, claimed: Claimed, outcome: Outcome | None = None) -> None:
        given = outcome or Accepted(provider_id=f"wamid.{claimed.id}.{claimed.attempt}")
        await Sender(self.desk.database, self.desk.tenant.secrets, self.desk.providers).settle(claimed, given)

    async def ends(self, outcome: Outcome) -> Claimed:
        (claimed,) = await self.taken()
        await self.settle(claimed, outcome)
        return claimed

    async def retry(self, claimed: Claimed) -> None:
        await self._decide(lambda write: redelivery.retry(write, ALL, claimed.id, origin=nobody()))

    async def give_up(self, claimed: Claimed) -> None:
        await self._decide(lambda write: redelivery.give_up(write, ALL, claimed.id, origin=nobody(), reason="too late"))

    async def _decide(self, decision: Callable[[Write], Awaitable[Any]]) -> None:
        async def unit(write: Write) -> None:
            await append(write, await decision(write))

        await self.desk.database.write(unit)

    async def receipt(self, claimed: Claimed, status: str) -> None:
        update = Update(
            channel_id=claimed.channel_id,
            provider_message_id="wamid.first",
            part_id=claimed.part_id,
            status=status,
            source="receipt",
            origin=nobody(),
            provider_time=utc_now(),
        )

        async def unit(write: Write) -> None:
            await append(write, (await receipts.apply(write, [update])).events)

        await self.desk.database.write(unit)

    async def name(self, claimed: Claimed) -> str:
        query = "SELECT m.text FROM message_parts p JOIN messages m ON m.id = p.message_id WHERE p.id = $1"
        return str(await self.desk.value(query, claimed.part_id))

    async def state(self, claimed: Claimed) -> tuple[str, str]:
        """Of the delivery and of the message."""
        query = (
            "SELECT d.state, m.status FROM deliveries d JOIN message_parts p ON p.id = d.part_id"
            " JOIN messages m ON m.id = p.message_id WHERE d.id = $1"
        )
        return tuple((await self.desk.rows(query, claimed.id))[0])  # type: ignore[return-value]

    async def listed(self, *states: str, scope: Scope = ALL) -> list[uuid.UUID]:
        wanted = Wanted(states=states, channel_id=None, conversation_id=None)
        async with self.desk.database.connection() as connection:
            found, last = await redelivery.page(connection, scope, wanted, after=None, limit=50)
        assert last is None
        return [record["id"] for record in found]


@pytest.fixture
async def stuck(own_desk: Desk) -> Stuck:
    return Stuck(own_desk, (await own_desk.started(await own_desk.new_channel())).id)


@pytest.mark.parametrize(("outcome", "state"), [(REFUSED, "failed"), (CUT, "unknown")])
async def test_a_second_send_is_made_when_an_operator_asks_and_never_before(
    stuck: Stuck, outcome: Outcome, state: str
) -> None:
    await stuck.put("a1")
    claimed = await stuck.ends(outcome)
    assert await stuck.state(claimed) == (state, state)
    assert await stuck.listed("failed", "unknown") == [claimed.id]
    assert await stuck.listed("accepted") == []
    assert await stuck.taken() == []
    await stuck.retry(claimed)
    assert await stuck.state(claimed) == ("queued", "pending")
    (again,) = await stuck.taken()
    assert (again.id, again.attempt, again.tries) == (claimed.id, 2, 1), "a budget of its own"
    await stuck.settle(again)
    assert await stuck.state(claimed) == ("accepted", "sent")
    trail = await stuck.desk.rows("SELECT status, source FROM message_status_updates ORDER BY create_time, id")
    assert [tuple(row) for row in trail][1:] == [("pending", "system"), ("sent", "response")]
    await stuck.desk.check_log()


async def test_a_retried_one_goes_before_what_waits_and_after_what_is_queued(stuck: Stuck) -> None:
    await stuck.put("a1", "a2", "a3")
    first = await stuck.ends(REFUSED)
    await stuck.retry(first)
    order = []
    while taken := await stuck.taken():
        order.append(await stuck.name(taken[0]))
        await stuck.settle(taken[0])
    assert order == ["a2", "a1", "a3"]


async def test_what_an_unknown_one_held_back_goes_once_it_is_given_up(stuck: Stuck) -> None:
    await stuck.put("a1", "a2")
    claimed = await stuck.ends(CUT)
    assert await stuck.taken() == []
    await stuck.give_up(claimed)
    assert await stuck.state(claimed) == ("failed", "failed")
    (following,) = await stuck.taken()
    assert await stuck.name(following) == "a2"
    await stuck.receipt(claimed, "delivered")
    assert await stuck.state(claimed) == ("accepted", "delivered"), "a receipt that it arrived wins"


async def test_a_waiting_and_a_queued_one_can_be_given_up(stuck: Stuck) -> None:
    await stuck.put("a1", "a2", "a3")
    ids = await stuck.listed("waiting")
    assert len(ids) == 2
    (claimed,) = await stuck.taken()
    await stuck.settle(claimed, NotSent("refused"))
    await stuck.give_up(claimed)
    (following,) = await stuck.taken()
    assert await stuck.name(following) == "a2"


async def test_the_second_send_is_not_made_when_the_first_turns_out_to_have_arrived(stuck: Stuck) -> None:
    await stuck.put("a1", "a2")
    claimed = await stuck.ends(CUT)
    await stuck.retry(claimed)
    await stuck.receipt(claimed, "delivered")
    assert await stuck.state(claimed) == ("accepted", "delivered")
    (following,) = await stuck.taken()
    assert await stuck.name(following) == "a2"


async def test_a_late_refusal_of_the_first_attempt_says_nothing_of_the_second(stuck: Stuck) -> None:
    await stuck.put("a1")
    claimed = await stuck.ends(CUT)
    await stuck.retry(claimed)
    await stuck.settle(claimed, REFUSED)
    assert await stuck.state(claimed) == ("queued", "pending")
    (again,) = await stuck.taken()
    await stuck.settle(claimed, NotSent("refused"))
    assert await stuck.state(again) == ("in_flight", "pending")


async def test_what_cannot_be_done_is_refused_with_what_can(stuck: Stuck) -> None:
    await stuck.put("a1")
    (claimed,) = await stuck.taken()
    for decide in (stuck.retry, stuck.give_up):
        with pytest.raises(DeliveryNotPossible) as refused:
            await decide(claimed)
        assert refused.value.metadata == {"state": "IN_FLIGHT", "allowed": ""}
    await stuck.settle(claimed, REFUSED)
    with pytest.raises(DeliveryNotPossible) as refused:
        await stuck.give_up(claimed)
    assert refused.value.metadata == {"state": "FAILED", "allowed": "RETRY"}
    await stuck.desk.execute("UPDATE conversations SET reply_window_expire_time = now() - interval '1 s'")
    with pytest.raises(ReplyWindowClosed):
        await stuck.retry(claimed)
    await stuck.desk.execute("UPDATE conversations SET reply_window_expire_time = NULL")
    for status in ("resolved", "archived"):
        await stuck.desk.move(stuck.conversation_id, status)
    with pytest.raises(ConversationArchived):
        await stuck.retry(claimed)


async def test_who_cannot_see_the_conversation_cannot_see_or_decide(stuck: Stuck) -> None:
    await stuck.put("a1")
    claimed = await stuck.ends(REFUSED)
    nothing = Scope(all=False, channel_ids=frozenset({uuid.uuid4()}))
    assert await stuck.listed("failed", scope=nothing) == []
    with pytest.raises(NotFound):
        await stuck.desk.database.write(
            lambda write: redelivery.retry(write, nothing, claimed.id, origin=nobody()),
        )


async def test_an_asynchronous_failure_is_a_dead_letter_too(stuck: Stuck) -> None:
    await stuck.put("a1")
    (claimed,) = await stuck.taken()
    await stuck.settle(claimed)
    await stuck.receipt(claimed, "failed")
    assert await stuck.state(claimed) == ("failed", "failed")
    await stuck.retry(claimed)
    (again,) = await stuck.taken()
    await stuck.settle(again)
    assert await stuck.state(claimed) == ("accepted", "sent")
    found = await stuck.desk.value("SELECT provider_message_id FROM message_parts WHERE id = $1", claimed.part_id)
    assert found == f"wamid.{claimed.id}.2"
