"""The provider is told what was read: what of, by whom, once, and again where nobody knows."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from server.conversations import reads
from server.conversations import service as conversations
from server.conversations.timers import HANDLERS
from server.deliveries import claiming, marks
from server.deliveries.marks import Mark
from server.kit.db import Write
from server.log.event import Origin
from server.messages.dispatching import MARKS_MOST
from server.messages.items import Stored
from server.messages.marking import DELAYS, Marker
from server.providers.contract import Accepted, Ambiguous, ErrorClass, NotSent, Outcome, Refused
from server.providers.registry import ProviderSettings, create_providers
from server.simulator.app import create_app
from server.simulator.config import SimulatorConfig
from server.tenant_settings import service as tenant_settings
from server.timers import service as timers
from tests.desk import ALL, Desk, agent, nobody, phone
from tests.providers.provider_bench import SHORT, answer, saying, wire


class Reading:
    """A conversation with messages of its customer, and who reads them."""

    def __init__(self, desk: Desk, channel: Any, sender: str) -> None:
        self.desk, self.channel, self.sender = desk, channel, sender
        self.wamids: list[str] = []
        self.messages: list[Any] = []

    async def writes(self, wamid: str | None = None) -> str:
        """The customer writes; returns the id at the provider."""
        wamid = wamid or f"wamid.{uuid.uuid4().hex}"
        stored = await self.desk.writer().submit(self.desk.receive(self.channel, self.sender, wamid=wamid))
        assert isinstance(stored, Stored)
        self.messages.append(stored.message)
        self.wamids.append(wamid)
        return wamid

    async def read(self, by: Origin | None = None, *, upto: int | None = None) -> None:
        message_id = None if upto is None else self.messages[upto].id
        await self.desk.do(
            lambda write: reads.mark_read(
                write,
                ALL,
                self.messages[0].conversation_id,
                origin=by or nobody(),
                message_id=message_id,
                providers=self.desk.providers,
            )
        )

    async def waiting(self) -> list[str]:
        """The messages of which the provider is to be told."""
        return [row["provider_message_id"] for row in await self.desk.rows("SELECT * FROM marks")]

    async def claim(self) -> list[Mark]:
        async with self.desk.database.connection() as connection:
            return await marks.claim(connection, limit=MARKS_MOST)

    async def settle(self, mark: Mark, outcome: Outcome) -> None:
        await Marker(self.desk.database, self.desk.tenant.secrets, self.desk.providers).settle(mark, outcome)

    async def due(self) -> None:
        await self.desk.execute("UPDATE marks SET due_time = clock_now()")


@pytest.fixture
async def reading(desk: Desk) -> AsyncIterator[Reading]:
    await desk.execute("DELETE FROM marks")
    yield Reading(desk, await desk.new_channel(), phone())
    await desk.execute("UPDATE tenant_settings SET read_receipts = true")


async def test_what_nobody_had_read_is_told_once(reading: Reading) -> None:
    ana, ben = await reading.desk.new_agent(), await reading.desk.new_agent()
    first, second = await reading.writes(), await reading.writes()
    assert await reading.waiting() == []
    await reading.read(agent(ana), upto=0)
    assert await reading.waiting() == [first]
    await reading.read(agent(ana))
    assert await reading.waiting() == [second], "the later one marks the earlier too"
    (mark,) = await reading.claim()
    await reading.settle(mark, Accepted(provider_id=second))
    await reading.read(agent(ben))
    await reading.read(agent(ana))
    assert await reading.waiting() == [], "the customer knows already"


async def test_a_position_after_our_own_message_tells_of_the_customers_last(reading: Reading) -> None:
    first = await reading.writes()
    ana = await reading.desk.new_agent()
    conversation_id = reading.messages[0].conversation_id
    await reading.desk.execute("UPDATE tenant_settings SET read_receipts = false")
    stored = await reading.desk.writer().submit(reading.desk.send(conversation_id, by=agent(ana)))
    assert isinstance(stored, Stored)
    await reading.desk.execute("UPDATE tenant_settings SET read_receipts = true")
    await reading.writes()
    second = await reading.writes()
    reading.messages.insert(1, stored.message)
    await reading.read(agent(ana), upto=1)
    assert await reading.waiting() == [], f"{first} was read with the answer"
    await reading.read(agent(ana))
    assert await reading.waiting() == [second]


@pytest.mark.parametrize("by_agent", [True, False])
async def test_an_answer_tells_too(reading: Reading, by_agent: bool) -> None:
    wamid = await reading.writes()
    by = agent(await reading.desk.new_agent()) if by_agent else nobody()
    conversation_id = reading.messages[0].conversation_id
    await reading.desk.writer().submit(reading.desk.send(conversation_id, by=by))
    assert await reading.waiting() == [wamid]
    (mark,) = await reading.claim()
    await reading.settle(mark, Accepted(provider_id=wamid))
    await reading.desk.writer().submit(reading.desk.send(conversation_id, by=by))
    assert await reading.waiting() == []


async def test_a_tenant_that_wants_none_told_tells_none(reading: Reading) -> None:
    await reading.writes()
    record = await reading.desk.do(lambda write: _settings(write, read_receipts=False))
    assert record["read_receipts"] is False
    await reading.read()
    await reading.writes()
    await reading.desk.writer().submit(reading.desk.send(reading.messages[0].conversation_id))
    assert await reading.waiting() == []


async def _settings(write: Write, *, read_receipts: bool) -> Any:
    record, events = await tenant_settings.update(write, origin=nobody(), read_receipts=read_receipts)
    assert [event.body.WhichOneof("body") for event in events] == ["tenant_settings_changed"]
    return record


async def test_whoever_died_is_followed_by_another_after_the_lease(reading: Reading) -> None:
    wamid = await reading.writes()
    await reading.read()
    (mark,) = await reading.claim()
    assert await reading.claim() == []
    async with reading.desk.database.connection() as connection:
        coming = await claiming.upcoming(connection, {})
    assert coming.mark is not None
    assert timedelta(seconds=50) < coming.mark - coming.now <= marks.LEASE
    await reading.due()
    (again,) = await reading.claim()
    assert (mark.attempt, again.attempt, again.provider_message_id) == (1, 2, wamid)
    # The first one comes back late, with what does not last; the second one's attempt is not touched.
    await reading.settle(mark, NotSent("connect"))
    assert await reading.claim() == []
    await reading.settle(again, Accepted(provider_id=wamid))
    assert await reading.waiting() == []


async def test_what_was_read_meanwhile_is_not_lost(reading: Reading) -> None:
    first = await reading.writes()
    await reading.read()
    (mark,) = await reading.claim()
    second = await reading.writes()
    await reading.read()
    await reading.settle(mark, Accepted(provider_id=first))
    assert await reading.waiting() == [second]
    (later,) = await reading.claim()
    assert (later.provider_message_id, later.attempt) == (second, 1)


@pytest.mark.parametrize(
    "outcome",
    [
        NotSent("connect"),
        Ambiguous("timeout"),
        Refused(error_class=ErrorClass.RETRY, code="2", message="later", retry_after=timedelta(seconds=1)),
        Refused(error_class=ErrorClass.WAIT, code="80007", message="slow", retry_after=timedelta(hours=1)),
    ],
)
async def test_what_may_pass_is_tried_again_and_not_for_ever(reading: Reading, outcome: Outcome) -> None:
    await reading.writes()
    await reading.read()
    for number in range(len(DELAYS)):
        (mark,) = await reading.claim()
        assert mark.attempt == number + 1
        await reading.settle(mark, outcome)
        assert await reading.claim() == []
        await reading.due()
    (mark,) = await reading.claim()
    await reading.settle(mark, outcome)
    assert await reading.waiting() == []


@pytest.mark.parametrize("error_class", [ErrorClass.PERMANENT, ErrorClass.BUG])
async def test_what_will_never_be_taken_is_let_go(reading: Reading, error_class: ErrorClass) -> None:
    await reading.writes()
    await reading.read()
    (mark,) = await reading.claim()
    await reading.settle(mark, Refused(error_class=error_class, code="131009", message="no such message"))
    assert await reading.waiting() == []


async def test_a_token_that_is_refused_pauses_the_channel_and_what_was_read_is_told_after(reading: Reading) -> None:
    wamid = await reading.writes()
    await reading.read()
    (mark,) = await reading.claim()
    await reading.settle(mark, Refused(error_class=ErrorClass.STOP_CHANNEL, code="190", message="token"))
    state = await reading.desk.value("SELECT state FROM channels WHERE id = $1", reading.channel.id)
    assert (state, (await reading.desk.kinds())[-1]) == ("paused", "channel_health_changed")
    async with reading.desk.database.connection() as connection:
        assert (await claiming.upcoming(connection, {})).mark is None
    assert await reading.claim() == []
    await reading.desk.execute("UPDATE channels SET state = 'active' WHERE id = $1", reading.channel.id)
    (mark,) = await reading.claim()
    assert (mark.attempt, mark.provider_message_id) == (1, wamid)


async def test_what_is_purged_is_told_no_more(reading: Reading) -> None:
    await reading.writes()
    await reading.read()
    conversation_id = reading.messages[0].conversation_id
    await reading.desk.do(lambda write: conversations.delete(write, ALL, conversation_id, origin=nobody()))
    assert await reading.waiting() != []
    await reading.desk.execute("UPDATE conversations SET delete_time = '2026-01-01' WHERE id = $1", conversation_id)
    await reading.desk.execute("UPDATE timers SET due_time = '2026-02-01' WHERE key = $1", conversation_id)
    await timers.run_due(reading.desk.database, HANDLERS)
    assert await reading.desk.value("SELECT count(*) FROM conversations WHERE id = $1", conversation_id) == 0
    assert await reading.waiting() == []


async def test_the_provider_is_told_and_may_be_told_twice(reading: Reading) -> None:
    account = reading.desk.account(reading.channel.id)
    config = SimulatorConfig.model_validate({"accounts": [account], "receipts": None})
    async with TestServer(create_app(config)) as server, aiohttp.ClientSession() as session:
        url = str(server.make_url("")).rstrip("/")
        body = {"from": reading.sender, "phoneNumberId": account["phone_number_id"], "text": "hello"}
        async with session.post(f"{url}/_control/inbound", json=body) as response:
            (wamid,) = (await response.json())["wamids"]
        await reading.writes(wamid)
        await reading.read()
        providers = create_providers(ProviderSettings(meta_graph_url=url, meta_limits=SHORT))
        marker = Marker(reading.desk.database, reading.desk.tenant.secrets, providers)
        (mark,) = await reading.claim()
        await asyncio.gather(marker.tell(mark), marker.tell(mark))
        await providers["whatsapp"].close()
        async with session.get(f"{url}/_control/requests") as response:
            requests = (await response.json())["requests"]
    told = {"messaging_product": "whatsapp", "status": "read", "message_id": wamid}
    assert [(request["status"], request["body"]) for request in requests] == [(200, told)] * 2
    assert await reading.waiting() == []


async def test_an_answer_that_does_not_say_success_is_none(reading: Reading) -> None:
    await reading.writes()
    await reading.read()
    async with wire(saying(answer(200, b'{"success":false}'))) as server:
        providers = create_providers(ProviderSettings(meta_graph_url=server.url, meta_limits=SHORT))
        (mark,) = await reading.claim()
        await Marker(reading.desk.database, reading.desk.tenant.secrets, providers).tell(mark)
        await providers["whatsapp"].close()
    assert await reading.waiting() == [mark.provider_message_id]
