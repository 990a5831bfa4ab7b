"""Whatever kills a worker around the provider's call, and whatever becomes of the answer: nothing is sent twice by itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from server.deliveries import claiming
from server.deliveries import service as deliveries
from server.kit.clock import CLOCK
from server.kit.db import Write
from server.log.append import append
from server.messages import receipts
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.messages.receipts import Update
from server.providers.contract import Provider
from server.providers.registry import ProviderSettings, create_providers
from server.redelivery import service as redelivery
from server.simulator.app import create_app
from server.simulator.config import SimulatorConfig
from tests.desk import ALL, Desk, nobody, phone
from tests.installation import Installed
from tests.moved_time import move_database
from tests.providers.provider_bench import SHORT

CRASHES, WORKERS, CONVERSATIONS = 200, 3, 40
MINUTE = timedelta(seconds=61)
LIVE = "state IN ('waiting', 'queued', 'in_flight')"


class Provided:
    """A tenant with two numbers, and the provider that takes what they send."""

    def __init__(self, desk: Desk, installed: Installed, url: str) -> None:
        self.desk, self.installed, self.url = desk, installed, url
        self.conversations: list[uuid.UUID] = []
        self.recipients: list[str] = []
        self.moved = timedelta(0)
        self.providers: dict[str, Provider] = create_providers(ProviderSettings(meta_graph_url=url, meta_limits=SHORT))

    async def start(self, channels: list[Any]) -> None:
        for number in range(CONVERSATIONS):
            self.recipients.append(phone())
            row = await self.desk.started(channels[number % len(channels)], self.recipients[-1])
            self.conversations.append(row.id)

    async def put(self, conversation_id: uuid.UUID, text: str = "hi") -> None:
        assert isinstance(await self.desk.writer().submit(self.desk.send(conversation_id, text)), Stored)

    async def move(self, by: timedelta) -> None:
        """Moves the tenant's time, and this process's."""
        self.moved += by
        CLOCK.move(self.moved)
        server = self.installed.server_dsn.rpartition("/")[0]
        await move_database(f"{server}/{self.desk.dsn.rpartition('/')[2]}", to=self.moved)

    async def work(self) -> int:
        """What a sound worker does in one look, to its end; how many it took."""
        sender = Sender(self.desk.database, self.desk.tenant.secrets, self.providers)
        async with self.desk.database.connection() as connection:
            left = await deliveries.expired(connection, limit=1000)
            claim = await claiming.claim(connection, worker="sound", limit=16, providers=self.providers)
        for claimed in left:
            await sender.expire(claimed)
        await asyncio.gather(*(sender.deliver(claimed) for claimed in claim.claimed))
        return len(claim.claimed)

    async def finish(self) -> None:
        """Works, and lets minutes pass when there is nothing to do, until everything ended."""
        while await self.desk.value(f"SELECT EXISTS (SELECT FROM deliveries WHERE {LIVE})"):
            if await self.work() == 0:
                await self.move(MINUTE)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        async with aiohttp.ClientSession() as session:
            async with session.request(method, f"{self.url}/_control/{path}", json=body) as answer:
                assert answer.status < 300, await answer.text()
                return await answer.json()

    async def accepted(self) -> list[str]:
        """The parts of the messages that the provider accepted, in its order."""
        found = (await self.control("GET", "requests"))["requests"]
        return [item["body"]["biz_opaque_callback_data"] for item in found if item.get("wamid")]

    async def states(self) -> dict[str, str]:
        rows = await self.desk.rows("SELECT part_id, state FROM deliveries")
        return {str(row["part_id"]): row["state"] for row in rows}


@pytest.fixture
async def provided(own_desk: Desk, desks: Installed) -> AsyncIterator[Provided]:
    channels = [await own_desk.new_channel(sends_per_second=2000) for _ in range(2)]
    unlimited = {"pair_seconds": None, "throughput_per_second": None}
    accounts = [own_desk.account(channel.id, limits=unlimited) for channel in channels]
    config = SimulatorConfig.model_validate({"accounts": accounts, "receipts": None, "requests_kept": 100_000})
    async with TestServer(create_app(config)) as server:
        made = Provided(own_desk, desks, str(server.make_url("")).rstrip("/"))
        await made.start(channels)
        try:
            yield made
        finally:
            CLOCK.move(timedelta(0))
            await made.providers["whatsapp"].close()


@contextlib.asynccontextmanager
async def dying_workers(provided: Provided, folder: Path, seed: int) -> AsyncIterator[Path]:
    """Yields the file with a line for each death."""
    settings = provided.installed.settings
    master_key = settings.master_key
    assert master_key is not None
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    running = []
    for number in range(WORKERS):
        told = {
            "control_dsn": settings.control_dsn.get_secret_value(),
            "master_key": master_key.get_secret_value(),
            "graph_url": provided.url,
            "tenant_id": str(provided.desk.tenant.id),
            "folder": str(folder),
            "seed": seed + number,
            "at_once": 4,
        }
        program = [sys.executable, str(Path(__file__).with_name("dying_worker.py"))]
        # What a worker logs tells nothing here: it dies in the midst of it.
        child = await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            cwd=Path.cwd(),
            env=environment,
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(told).encode() + b"\n")
        running.append(child)
    try:
        yield folder / "trace"
    finally:
        (folder / "stop").touch()
        await asyncio.wait_for(asyncio.gather(*(child.wait() for child in running)), 30)


def deaths(trace: Path) -> Counter[str]:
    return Counter(trace.read_text().split()) if trace.exists() else Counter()


async def check(provided: Provided, *, asked: Counter[str] | None = None) -> Counter[str]:
    """What the provider accepted agrees with what is stored; the states of all deliveries."""
    times, states = Counter(await provided.accepted()), await provided.states()
    doubled = {part: count for part, count in times.items() if count > 1 + (asked or Counter())[part]}
    assert doubled == {}, "accepted more than once"
    assert set(times) <= set(states)
    assert {state for part, state in states.items() if part in times} <= {"accepted", "unknown"}, (
        "sent, and told otherwise"
    )
    assert all(part in times for part, state in states.items() if state == "accepted"), "told sent, and not sent"
    return Counter(states.values())


async def check_order(provided: Provided) -> None:
    rows = await provided.desk.rows("SELECT part_id, conversation_id, position FROM deliveries")
    places = {str(row["part_id"]): (row["conversation_id"], row["position"]) for row in rows}
    order = defaultdict(list)
    for part in await provided.accepted():
        conversation_id, position = places[part]
        order[conversation_id].append(position)
    assert all(positions == sorted(positions) for positions in order.values()), "out of order"


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_two_hundred_crashes_around_the_call_send_nothing_twice(provided: Provided, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    async with dying_workers(provided, tmp_path, seed) as trace:
        for looks in itertools.count():
            if sum(deaths(trace).values()) >= CRASHES:
                break
            waiting = await provided.desk.value(f"SELECT count(*) FROM deliveries WHERE {LIVE}")
            for conversation_id in provided.conversations if waiting < 4 * CONVERSATIONS else ():
                await provided.put(conversation_id)
            await asyncio.sleep(0.5)
            if looks % 4 == 3:
                # What dead ones left in flight ends, and so do the holds that follow.
                await provided.move(MINUTE)
    found = deaths(trace)
    print("deaths:", dict(sorted(found.items())))
    await provided.finish()
    states = await check(provided)
    await check_order(provided)
    print("deliveries:", dict(states))
    assert set(states) <= {"accepted", "unknown"}
    assert states["unknown"] <= 4 * sum(found.values())
    assert min(found[point] for point in ("before_request", "unanswered", "answered", "before_commit")) >= 5
    await provided.desk.check_log()


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_two_hundred_answers_that_never_come_stay_unknown_for_an_hour(provided: Provided) -> None:
    for then, count in (("close", 150), ("hang", 50)):
        await provided.control("POST", "faults", {"kind": "timeout_after_accept", "then": then, "count": count})
    for number in range(6):
        for conversation_id in provided.conversations:
            await provided.put(conversation_id, f"{number}")
    await provided.finish()
    states = await check(provided)
    await check_order(provided)
    assert states == {"unknown": 200, "accepted": 6 * CONVERSATIONS - 200}
    before = len(await provided.accepted())
    for _ in range(12):
        await provided.move(timedelta(minutes=5))
        assert await provided.work() == 0
    assert len(await provided.accepted()) == before, "an hour later nothing was sent again"
    await resolve_and_ask(provided)


async def resolve_and_ask(provided: Provided) -> None:
    """Half of what is unknown is resolved by receipts with our callback data; of the rest an operator asks for one again."""
    unknown = await provided.desk.rows(
        "SELECT id, part_id, channel_id FROM deliveries WHERE state = 'unknown' ORDER BY id"
    )
    for row in unknown[::2]:
        update = Update(
            channel_id=row["channel_id"],
            provider_message_id=f"wamid.{row['part_id']}",
            part_id=row["part_id"],
            status="delivered",
            source="receipt",
            origin=nobody(),
        )
        await written(provided, lambda write, update=update: applied(write, update))  # type: ignore[misc]
    assert (await check(provided))["unknown"] == 100
    chosen = unknown[1]
    await written(provided, lambda write: redelivery.retry(write, ALL, chosen["id"], origin=nobody()))
    await provided.finish()
    states = await check(provided, asked=Counter({str(chosen["part_id"]): 1}))
    assert states["unknown"] == 99
    assert Counter(await provided.accepted())[str(chosen["part_id"])] == 2, "because somebody asked"


async def applied(write: Write, update: Update) -> Any:
    return (await receipts.apply(write, [update])).events


async def written(provided: Provided, work: Callable[[Write], Awaitable[Any]]) -> None:
    async def unit(write: Write) -> None:
        await append(write, await work(write))

    await provided.desk.database.write(unit)


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_an_hour_of_errors_is_retried_when_it_was_meant_to_and_ends(provided: Provided) -> None:
    """Code 2 is worth twenty attempts, with pauses of 1 s that double up to 5 minutes; others go on meanwhile."""
    fault = {"kind": "error", "code": 2, "filter": {"recipient": provided.recipients[0]}}
    await provided.control("POST", "faults", fault)
    await provided.put(provided.conversations[0], "never")
    await provided.put(provided.conversations[0], "behind it")
    tries, step = [], timedelta(seconds=20)
    for number in range(400):
        if number % 20 == 0:
            await provided.put(provided.conversations[1], f"goes {number}")
        before = len((await provided.control("GET", "requests"))["requests"])
        while await provided.work():
            pass
        made = (await provided.control("GET", "requests"))["requests"][before:]
        tries += [provided.moved for item in made if item["body"]["text"]["body"] == "never"]
        if await provided.desk.value("SELECT EXISTS (SELECT FROM deliveries WHERE state = 'failed')"):
            break
        await provided.move(step)
    assert len(tries) == 20
    for number, (earlier, later) in enumerate(itertools.pairwise(tries)):
        meant = min(timedelta(seconds=2**number), timedelta(minutes=5))
        # The test looks every 20 s of moved time, and what little real time passes counts too.
        assert meant - step < later - earlier <= meant * 1.2 + step
    assert timedelta(minutes=50) < provided.moved < timedelta(minutes=110)
    await provided.control("DELETE", "faults")
    await provided.finish()
    states = await check(provided)
    assert states["failed"] == 1
    assert states["accepted"] == len(await provided.accepted())
