"""What goes out: a number at 80 and at 1,000 a second, and how long a send takes to reach the provider when nothing else does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import aiohttp
from switchboard.v1 import message_service_pb2

from tests.bench.measuring import Costs, Row, at_least, quantiles, throughput
from tests.bench.stand import IN_FLIGHT, Stand

ACCEPTED = "SELECT count(*) FROM deliveries WHERE state = 'accepted'"
LEFT = "SELECT EXISTS (SELECT FROM deliveries WHERE state IN ('waiting', 'queued', 'in_flight'))"
SECONDS, SINGLES, QUEUE, AT_ONCE = 16.0, 200, 4000, 32
TIER, UPGRADED = 80, 1000
# Of a number's pace, with the time on the way.
LEAST = 0.98


async def rows(stand: Stand) -> list[Row]:
    """A row for each pace, and one for a send that is alone."""
    # What other rows queued is not what is measured here.
    await stand.database.execute("DELETE FROM deliveries")
    counts = [int(TIER * stand.seconds(SECONDS) * 1.3), int(stand.seconds(SINGLES)), int(stand.seconds(QUEUE))]
    async with aiohttp.ClientSession() as http:
        customers = iter(await written(stand, http, sum(counts)))
        bare = await bare_rate(stand, http)
        slow, single, quick = (list(islice(customers, count)) for count in counts)
        await queued(stand, slow)
        stand.stack.restart("work")
        found = [await paced(stand, TIER, TIER, "what the number may")]
        while await stand.database.fetchval(LEFT):
            await asyncio.sleep(0.1)
        found.append(await alone(stand, http, single))
        stand.stack.terminate("work")
        await upgraded(stand, http)
        await queued(stand, quick)
        stand.stack.restart("work")
        found.append(await paced(stand, UPGRADED, bare, "bare requests"))
        stand.stack.terminate("work")
    return found


async def written(stand: Stand, http: aiohttp.ClientSession, many: int) -> list[str]:
    """So many customers write through the provider, which lets nobody else be answered; their conversations, one send for each.

    Two in 6 s to the same customer are more than the provider takes for long.
    """
    before = await stand.database.fetchval("SELECT count(*) FROM conversations")
    for numbers in batched(range(many), 500):
        messages = [{"from": f"4917{number:08d}", "text": "hello"} for number in numbers]
        async with http.post(f"{simulator(stand)}/_control/inbound", json={"messages": messages}) as answer:
            assert answer.status < 300, await answer.text()
    while await stand.database.fetchval("SELECT count(*) FROM conversations") < before + many:
        await asyncio.sleep(0.2)
    rows = await stand.database.fetch("SELECT id::text FROM conversations ORDER BY id DESC LIMIT $1", many)
    return [row["id"] for row in rows]


def batched(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def simulator(stand: Stand) -> str:
    return str(stand.dev["simulator"]["url"])


async def bare_rate(stand: Stand, http: aiohttp.ClientSession) -> float:
    """Requests a second that a client makes of the simulator with as many under way as a tenant may have."""
    channel = stand.dev["channels"][0]
    url = f"{simulator(stand)}/v26.0/{channel['phone_number_id']}/messages"
    body = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": "+4915112345678", "type": "text"}
    data = json.dumps({**body, "text": {"body": "a reply"}}).encode()
    headers = {"Authorization": "Bearer nobody's", "Content-Type": "application/json"}

    async def ask() -> None:
        async with http.post(url, data=data, headers=headers) as answer:
            await answer.read()

    return await throughput(ask, in_flight=AT_ONCE, seconds=stand.seconds(4))


async def queued(stand: Stand, conversations: list[str]) -> None:
    """A send in each that is durable and not delivered: nobody works."""
    stand.conversations = conversations
    send, left = stand.sending(), iter(conversations)

    async def caller() -> None:
        for _ in left:
            await send()

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))


async def upgraded(stand: Stand, http: aiohttp.ClientSession) -> None:
    """The provider says that the number may send more, and it is known here."""
    told = {"field": "phone_number_quality_update", "value": {"event": "THROUGHPUT_UPGRADE"}}
    async with http.post(f"{simulator(stand)}/_control/fields", json=told) as answer:
        assert answer.status < 300, await answer.text()
    while await stand.database.fetchval("SELECT max(throughput_per_second) FROM channels") != UPGRADED:
        await asyncio.sleep(0.05)


async def paced(stand: Stand, tier: int, reference: float, what: str) -> Row:
    """How much is accepted in a time, from when the first was."""
    start = await stand.database.fetchval(ACCEPTED)
    while await stand.database.fetchval(ACCEPTED) == start:
        await asyncio.sleep(0.002)
    pids = {**stand.pids, "work": stand.stack.pid("work"), "simulator": stand.stack.pid("simulator")}
    with Costs(**pids) as costs:
        began = time.perf_counter()
        while time.perf_counter() - began < stand.seconds(SECONDS) and await stand.database.fetchval(LEFT):
            await asyncio.sleep(0.05)
        found = await stand.database.fetchval(ACCEPTED) - start
        took = time.perf_counter() - began
    rate = found / took
    target: dict[str, Any] = at_least(rate / tier, LEAST) if tier == TIER else {"ratio": rate / min(tier, reference)}
    return Row(
        name=f"outbound of one number, {tier:,} a second",
        measured=f"{rate:,.1f}/s",
        reference=f"{reference:,.0f}/s {what}",
        cost=costs.each(max(found, 1)),
        **target,
    )


async def alone(stand: Stand, http: aiohttp.ClientSession, conversations: list[str]) -> Row:
    """From the call to the request at the provider, one at a time, on a channel that sends nothing else; and to the call's answer."""
    stand.conversations = conversations
    send, began, answered = stand.sending("alone"), {}, []
    for _ in conversations:
        at = time.time()
        answer = message_service_pb2.SendMessageResponse.FromString(await send())
        answered.append((time.time() - at) * 1000)
        began[answer.message.id] = at
        await asyncio.sleep(0.05)
    parts = await stand.database.fetch(
        "SELECT id::text, message_id::text FROM message_parts WHERE message_id = ANY($1::uuid[])", list(began)
    )
    arrived: dict[str, str] = {}
    while any(part["id"] not in arrived for part in parts):
        await asyncio.sleep(0.5)
        async with http.get(f"{simulator(stand)}/_control/requests") as response:
            requests = (await response.json())["requests"]
        arrived = {item["body"].get("biz_opaque_callback_data", ""): item["time"] for item in requests}
    took = [
        (datetime.fromisoformat(arrived[part["id"]]).timestamp() - began[part["message_id"]]) * 1000 for part in parts
    ]
    (p50, p99), (answer_p50, answer_p99) = quantiles(took), quantiles(answered)
    return Row(
        name="SendMessage → Graph request, alone",
        measured=f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        reference=f"the call's own answer: p50 {answer_p50:.1f} ms, p99 {answer_p99:.1f} ms",
        ratio=p50 / answer_p50,
    )
