"""A send all the way to a provider: the real Graph client, the simulator, and servers that cut the line."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from server.deliveries import claiming
from server.kit.errors import NotFound
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.providers.content import Buttons, QuickReplies, QuickReply
from server.providers.contract import Provider
from server.providers.registry import ProviderSettings, create_providers
from server.simulator.app import create_app
from server.simulator.config import SimulatorConfig
from tests.desk import Desk, phone
from tests.installation import Installed, connection_to
from tests.providers.provider_bench import SHORT, Wire, answer, error_body, saying, wire

Connect = Callable[[str], dict[str, Provider]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    made: list[Provider] = []

    def create(url: str) -> dict[str, Provider]:
        providers = create_providers(ProviderSettings(meta_graph_url=url, meta_limits=SHORT))
        made.extend(providers.values())
        return providers

    yield create
    for provider in made:
        await provider.close()


class Sends:
    """A conversation of a channel, and the status of what is sent into it."""

    def __init__(self, desk: Desk, channel: Any, conversation_id: Any, sender: str) -> None:
        self.desk, self.channel, self.conversation_id, self.sender = desk, channel, conversation_id, sender

    async def send(self, text: str, providers: dict[str, Provider], **more: Any) -> str:
        """Queues a text, delivers what is due, and tells the message's status."""
        stored = await self.desk.writer().submit(self.desk.send(self.conversation_id, text, **more))
        assert isinstance(stored, Stored)
        await self.deliver(providers)
        return str(await self.desk.value("SELECT status FROM messages WHERE id = $1", stored.message.id))

    async def deliver(self, providers: dict[str, Provider], *, begin_by: float = math.inf) -> None:
        async with self.desk.database.connection() as connection:
            claims = (await claiming.claim(connection, worker="w", limit=10, providers=self.desk.providers)).claimed
        worker = Sender(self.desk.database, self.desk.tenant.secrets, providers)
        await asyncio.gather(*(worker.deliver(claimed, begin_by=begin_by) for claimed in claims))

    async def delivery(self) -> Any:
        return (await self.desk.rows("SELECT * FROM deliveries ORDER BY position DESC LIMIT 1"))[0]


@pytest.fixture
async def sends(own_desk: Desk) -> Sends:
    channel, sender = await own_desk.new_channel(), phone()
    row = await own_desk.started(channel, sender)
    return Sends(own_desk, channel, row.id, sender)


@asynccontextmanager
async def simulated(sends: Sends, **account: object) -> AsyncIterator[str]:
    whole = sends.desk.account(sends.channel.id, **account)
    config = SimulatorConfig.model_validate({"accounts": [whole], "receipts": None})
    async with TestServer(create_app(config)) as server:
        yield str(server.make_url("")).rstrip("/")


async def requests(url: str) -> list[Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_control/requests") as response:
        return list((await response.json())["requests"])


async def test_an_accepted_send_is_sent_with_our_part_id_and_gets_its_wamid(sends: Sends, connect: Connect) -> None:
    async with simulated(sends) as url:
        assert await sends.send("grüße", connect(url)) == "sent"
        (request,) = await requests(url)
    part = (await sends.desk.rows("SELECT id, provider_message_id FROM message_parts ORDER BY id DESC LIMIT 1"))[0]
    assert request["body"]["biz_opaque_callback_data"] == str(part["id"])
    assert (request["body"]["to"], request["body"]["text"]["body"]) == ("+" + sends.sender, "grüße")
    assert request["wamid"] == part["provider_message_id"]
    assert (await sends.delivery())["state"] == "accepted"


async def test_a_question_with_buttons_goes_out_as_it_was_stored_and_quotes(sends: Sends, connect: Connect) -> None:
    row = await sends.desk.conversation(sends.conversation_id)
    question = Buttons(body="Is it this one?", buttons=(QuickReply(id="y", title="Yes"),), footer="Order 4711")
    asked = {"content": question, "reply_to_message_id": row.last_message_id}
    async with simulated(sends) as url:
        assert await sends.send(question.body, connect(url), **asked) == "sent"
        (request,) = await requests(url)
    assert request["body"]["interactive"] == {
        "type": "button",
        "body": {"text": "Is it this one?"},
        "footer": {"text": "Order 4711"},
        "action": {"buttons": [{"type": "reply", "reply": {"id": "y", "title": "Yes"}}]},
    }
    assert request["body"]["context"] == {"message_id": row.last_inbound_provider_id}
    after = await sends.desk.conversation(sends.conversation_id)
    assert after.last_message_preview == "Is it this one?"
    other = await sends.desk.started(sends.channel)
    with pytest.raises(NotFound):
        await sends.send("not its own", {}, reply_to_message_id=other.last_message_id)


async def test_quick_replies_go_out_as_buttons_and_are_stored_so(sends: Sends, connect: Connect) -> None:
    asked = QuickReplies(body="Is it this one?", quick_replies=(QuickReply(id="y", title="Yes"),))
    async with simulated(sends) as url:
        assert await sends.send(asked.body, connect(url), content=asked) == "sent"
        (request,) = await requests(url)
    assert request["body"]["interactive"]["action"] == {
        "buttons": [{"type": "reply", "reply": {"id": "y", "title": "Yes"}}]
    }
    (stored,) = await sends.desk.rows("SELECT type, text, details FROM messages ORDER BY sequence DESC LIMIT 1")
    assert (stored["type"], stored["text"]) == ("interactive", asked.body)
    assert json.loads(stored["details"])["interactive"]["kind"] == "buttons"


async def test_a_customer_without_a_number_is_written_to_by_user_id(own_desk: Desk, connect: Connect) -> None:
    channel = await own_desk.new_channel()
    stored = await own_desk.writer().submit(own_desk.receive(channel, None, bsuid="DE.1234567890123456789"))
    sends = Sends(own_desk, channel, stored.message.conversation_id, "")  # type: ignore[union-attr]
    async with simulated(sends) as url:
        assert await sends.send("hello", connect(url)) == "sent"
        (request,) = await requests(url)
    assert request["body"]["recipient"] == "DE.1234567890123456789"
    assert "to" not in request["body"]


async def test_a_wrong_token_pauses_the_channel(sends: Sends, connect: Connect) -> None:
    async with simulated(sends, access_token="EAAJother") as url:
        assert await sends.send("hello", connect(url)) == "pending"
    assert await sends.desk.value("SELECT state FROM channels WHERE id = $1", sends.channel.id) == "paused"
    held = await sends.delivery()
    assert (held["state"], held["attempt"] - held["uncounted"]) == ("queued", 0)


async def test_a_closed_window_fails_the_message_and_closes_ours(sends: Sends, connect: Connect) -> None:
    async with simulated(sends, window="sync") as url:
        assert await sends.send("hello", connect(url)) == "failed"
    row = await sends.desk.conversation(sends.conversation_id)
    assert row.reply_window_expire_time is not None
    assert row.reply_window_expire_time <= row.update_time
    await sends.desk.check()


async def test_nobody_listening_is_tried_again(sends: Sends, connect: Connect) -> None:
    assert await sends.send("hello", connect("http://127.0.0.1:9")) == "pending"
    held = await sends.delivery()
    assert (held["state"], held["attempt"]) == ("queued", 1)
    async with simulated(sends) as url:
        await sends.desk.execute("UPDATE deliveries SET due_time = now()")
        await sends.deliver(connect(url))
        assert len(await requests(url)) == 1
    assert (await sends.delivery())["state"] == "accepted"


async def reads_and_cuts(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.request(reader)
    writer.transport.abort()


async def reads_and_says_nothing(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.request(reader)
    await asyncio.sleep(30)


async def answers_half(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.request(reader)
    writer.write(answer(200, b'{"messages":[{"id":"wam', length=100))
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("script", [reads_and_cuts, reads_and_says_nothing, answers_half])
async def test_a_request_without_a_whole_answer_is_unknown_and_never_sent_again(
    sends: Sends, connect: Connect, script: Callable[..., Awaitable[None]]
) -> None:
    async with wire(script) as server:
        providers = connect(server.url)
        assert await sends.send("hello", providers) == "unknown"
        await sends.desk.execute(
            "UPDATE deliveries SET due_time = now() - interval '1 h', hold_until = now() - interval '1 h'"
        )
        await sends.deliver(providers)
        assert len(server.received) == 1
    assert (await sends.delivery())["state"] == "unknown"


async def test_a_complete_refusal_that_passes_is_tried_again(sends: Sends, connect: Connect) -> None:
    async with wire(saying(answer(400, error_body(130429)))) as server:
        assert await sends.send("hello", connect(server.url)) == "pending"
    held = await sends.delivery()
    assert (held["state"], held["attempt"], held["error_code"]) == ("queued", 1, "130429")


GONE = {
    "no_message": "UPDATE message_parts SET message_id = gen_random_uuid() WHERE id = $1",
    "no_address": "UPDATE identity_aliases SET kind = 'visitor' WHERE identity_id ="
    " (SELECT identity_id FROM conversations WHERE id = (SELECT conversation_id FROM message_parts WHERE id = $1))",
}


@pytest.mark.parametrize("code", GONE)
async def test_what_cannot_be_sent_at_all_is_a_dead_letter_and_no_riddle(
    sends: Sends, desks: Installed, connect: Connect, code: str
) -> None:
    stored = await sends.desk.writer().submit(sends.desk.send(sends.conversation_id, "hello"))
    assert isinstance(stored, Stored)
    async with connection_to(f"{desks.server_dsn.rpartition('/')[0]}/{sends.desk.dsn.rpartition('/')[2]}") as owner:
        await owner.execute("SET session_replication_role = replica")
        await owner.execute(GONE[code], (await sends.delivery())["part_id"])
    async with simulated(sends) as url:
        await sends.deliver(connect(url))
        assert await requests(url) == []
    held = await sends.delivery()
    assert (held["state"], held["error_code"]) == ("failed", code)


async def test_a_token_that_cannot_be_opened_yet_is_no_reason_to_wonder_what_was_sent(
    sends: Sends, connect: Connect
) -> None:
    """Another process may have sealed it with a key that this one has not read."""
    token = await sends.desk.value("SELECT access_token FROM channels WHERE id = $1", sends.channel.id)
    await sends.desk.execute("UPDATE channels SET access_token = 'sealed' WHERE id = $1", sends.channel.id)
    async with simulated(sends) as url:
        assert await sends.send("hello", connect(url)) == "pending"
        assert (await sends.delivery())["state"] == "queued"
        await sends.desk.execute("UPDATE channels SET access_token = $2 WHERE id = $1", sends.channel.id, token)
        await sends.desk.execute("UPDATE deliveries SET due_time = now()")
        await sends.deliver(connect(url))
    assert (await sends.delivery())["state"] == "accepted"


async def test_a_worker_that_comes_to_it_too_late_sends_nothing(sends: Sends, connect: Connect) -> None:
    """It stood still, and somebody else may have decided about the send meanwhile."""
    stored = await sends.desk.writer().submit(sends.desk.send(sends.conversation_id, "hello"))
    assert isinstance(stored, Stored)
    async with simulated(sends) as url:
        await sends.deliver(connect(url), begin_by=time.monotonic())
        assert await requests(url) == []
        assert (await sends.delivery())["state"] == "queued"
