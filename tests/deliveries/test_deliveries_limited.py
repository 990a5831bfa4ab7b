"""A worker with much to send, and a provider that wants less of it: what is held meanwhile, and that all of it goes in the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import pytest
from deliveries_load import control, fill, simulator, working

from server.channels import service as channels
from server.deliveries.claiming import Lane
from server.kit.clock import utc_now
from server.log.append import append
from server.messages.dispatching import TENANT_MOST
from server.providers.checks import CheckReport
from tests.desk import ALL, Desk, close_desk, nobody, open_desk
from tests.installation import Installed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(580)]
NO_LIMITS: dict[str, Any] = {"pair_seconds": None, "throughput_per_second": None}
NEW_TOKEN = "EAAJnew"
LEFT = "SELECT count(*) FROM deliveries WHERE channel_id = $1 AND state <> 'accepted'"
TRIES = "SELECT max(attempt - uncounted) FROM deliveries WHERE channel_id = $1"


@dataclass
class Busy:
    """A channel with much to send, and a worker at it."""

    desk: Desk
    channel: Any
    url: str
    parts: Any

    async def left(self) -> int:
        """How many were not accepted yet."""
        return int(await self.desk.value(LEFT, self.channel.id))

    async def until_left(self, most: int, *, seconds: float) -> None:
        """Waits until no more than so many are left."""
        deadline = time.monotonic() + seconds
        while (left := await self.left()) > most:
            assert time.monotonic() < deadline, f"{left} are left"
            await asyncio.sleep(0.1)

    async def requests(self) -> list[Any]:
        """What the provider was asked to send, the oldest first."""
        found = (await control(self.url, "GET", "requests"))["requests"]
        return [each for each in found if "type" in each["body"]]

    async def check_sent(self, number: int) -> None:
        """Each message went once, and in the order of its conversation."""
        accepted = [each["body"] for each in await self.requests() if each["status"] == 200]
        ours = [uuid.UUID(body["biz_opaque_callback_data"]) for body in accepted if "biz_opaque_callback_data" in body]
        assert len(ours) == len(set(ours)) == number
        rows = await self.desk.rows("SELECT part_id, conversation_id, position FROM deliveries")
        of = {row["part_id"]: (row["conversation_id"], row["position"]) for row in rows}
        orders: dict[Any, list[int]] = defaultdict(list)
        for part_id in ours:
            conversation_id, position = of[part_id]
            orders[conversation_id].append(position)
        assert all(one < next_one for order in orders.values() for one, next_one in pairwise(order))


@contextlib.asynccontextmanager
async def busy(
    alone: Installed, folder: Path, *, many: int, conversations: int, limits: dict[str, Any], lane: Lane = Lane.PERSON
) -> AsyncIterator[Busy]:
    desk = await open_desk(alone)
    channel = await desk.new_channel(sends_per_second=None if limits["throughput_per_second"] else 1000)
    await fill(alone, desk, channel, many=many, conversations=conversations)
    await desk.execute("UPDATE deliveries SET lane = $1", lane.value)
    async with simulator([desk.account(channel.id, limits=limits)], folder) as url, working(alone, url) as parts:
        await parts.directory.announce(desk.tenant.id)
        yield Busy(desk, channel, url, parts)
    await close_desk(desk)


async def test_a_token_revoked_before_ten_thousand_costs_none_an_attempt_and_all_go_with_a_new_one(
    alone: Installed, tmp_path: Path
) -> None:
    many = 10_000
    async with busy(alone, tmp_path, many=many, conversations=500, limits=NO_LIMITS) as made:
        desk, channel = made.desk, made.channel
        await made.until_left(many - 500, seconds=60)
        known = desk.account(channel.id, limits=NO_LIMITS, access_token=NEW_TOKEN)
        await control(made.url, "POST", "accounts", known)
        while await desk.value("SELECT state FROM channels WHERE id = $1", channel.id) != "paused":
            await asyncio.sleep(0.02)
        while await desk.value("SELECT count(*) FROM deliveries WHERE state = 'in_flight'"):
            await asyncio.sleep(0.02)
        left = await made.left()
        waiting = "SELECT max(attempt - uncounted) FROM deliveries WHERE state IN ('queued', 'waiting')"
        assert await desk.value(waiting) == 0
        asked = len(await made.requests())
        await asyncio.sleep(2)
        refused = Counter(each["status"] for each in await made.requests())
        print(f"{left} are left; asked {dict(refused)} by status")
        assert sum(refused.values()) == asked, "a paused channel asks nothing"
        assert 0 < asked - refused[200] <= 2 * TENANT_MOST
        assert left > many / 2

        async def renew(write: Any) -> None:
            keeping = channels.Keeping(desk.tenant.secrets, desk.providers)
            answered = channels.Answered(CheckReport(), utc_now(), NEW_TOKEN)
            _, events = await channels.reauthorize(write, ALL, keeping, channel.id, origin=nobody(), answered=answered)
            await append(write, events)

        await desk.database.write(renew)
        await made.parts.directory.announce(desk.tenant.id)
        await made.until_left(0, seconds=450)
        assert await desk.value(TRIES, channel.id) == 1
        await made.check_sent(many)


async def test_a_customer_who_is_blocked_holds_nobody_else_under_load(alone: Installed, tmp_path: Path) -> None:
    many, each = 400, 10
    async with busy(alone, tmp_path, many=many, conversations=many // each, limits=NO_LIMITS) as made:
        while not (asked := await made.requests()):
            await asyncio.sleep(0.02)
        blocked = asked[0]["body"]["to"]
        # He may be sent to again after 1 + 4 + 16 seconds.
        fault = {"kind": "error", "code": 131056, "count": 3, "filter": {"recipient": blocked}}
        await control(made.url, "POST", "faults", fault)
        await made.until_left(each, seconds=20)
        assert 0 < await made.left() <= each, "he alone has to wait still"
        await made.until_left(0, seconds=60)
        asked = await made.requests()
        refused = [at["body"]["to"] for at in asked if at["status"] != 200]
        print(f"{len(refused)} refusals, {at_of(asked[-1]) - at_of(asked[0]):.0f} s in all")
        assert refused == [blocked] * 3
        assert await made.desk.value(TRIES, made.channel.id) == 4
        await made.check_sent(many)


async def test_what_other_software_takes_of_a_numbers_throughput_is_waited_for(
    alone: Installed, tmp_path: Path
) -> None:
    many, limits = 600, {"pair_seconds": None, "throughput_per_second": 80}
    async with busy(alone, tmp_path, many=many, conversations=100, limits=limits) as made:
        async with asyncio.TaskGroup() as group:
            group.create_task(others(made, per_second=40, seconds=10.0))
            await made.until_left(0, seconds=90)
        refused = Counter(each["status"] for each in await made.requests())
        print(f"asked {refused.total()} times for {many} and what the others sent, by status {dict(refused)}")
        assert refused.total() > refused[200], "it was too much"
        assert await made.desk.value("SELECT count(*) FROM deliveries WHERE state <> 'accepted'") == 0
        assert await made.desk.value(TRIES, made.channel.id) < 20
        await made.check_sent(many)


async def others(made: Busy, *, per_second: int, seconds: float) -> None:
    """Other software that sends from the same number at a steady pace, whatever comes back."""
    account = made.desk.account(made.channel.id)
    url = f"{made.url}/v26.0/{account['phone_number_id']}/messages"
    headers = {"authorization": f"Bearer {account['access_token']}"}
    body = {"messaging_product": "whatsapp", "to": "16505550000", "type": "text", "text": {"body": "of others"}}
    began = time.monotonic()
    async with aiohttp.ClientSession(headers=headers) as session:
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(began + number / per_second - time.monotonic())
            async with session.post(url, json=body) as answer:
                await answer.read()


async def test_an_answer_passes_a_campaign_that_has_the_whole_pace_of_a_number(
    alone: Installed, tmp_path: Path
) -> None:
    limits = {"pair_seconds": None, "throughput_per_second": 80}
    made_busy = busy(alone, tmp_path, many=10_000, conversations=500, limits=limits, lane=Lane.BULK)
    async with made_busy as made:
        rows = [await made.desk.started(made.channel) for _ in range(20)]
        await made.until_left(9_800, seconds=60)
        tenant, delays = await made.parts.tenants.get(made.desk.tenant.id), []
        for row in rows:
            sent = await made.parts.writers.of(tenant.id, tenant.database).submit(made.desk.send(row.id, "answer"))
            began = time.monotonic()
            while await made.desk.value("SELECT status FROM messages WHERE id = $1", sent.message.id) == "pending":
                await asyncio.sleep(0.005)
            delays.append(time.monotonic() - began)
        refused = sum(1 for each in await made.requests() if each["status"] != 200)
        print(
            f"answers beside a campaign: median {median(delays):.3f} s, longest {max(delays):.3f} s; {refused} refused"
        )
        assert max(delays) <= 1.0
        assert refused == 0


def at_of(request: Any) -> float:
    """When the provider had it, in Unix seconds."""
    return datetime.fromisoformat(request["time"]).timestamp()
