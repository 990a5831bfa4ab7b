"""One worker, two tenants: a hundred thousand sends of the one do not hold up a single send of the other."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from deliveries_load import fill, simulator, working

from server.messages.dispatching import PROCESS_MOST, TENANT_MOST, Slots
from tests.desk import Desk, close_desk, open_desk
from tests.installation import Installed

MANY, CONVERSATIONS, SINGLES = 100_000, 400, 30


def test_a_tenant_never_keeps_another_out() -> None:
    slots, greedy, late = Slots(), [uuid.uuid4() for _ in range(PROCESS_MOST // TENANT_MOST)], uuid.uuid4()
    for tenant_id in greedy:
        while slots.free(tenant_id):
            slots.take(tenant_id)
    assert slots.free(late) == 1, "nothing is left, and one goes all the same"
    slots.take(late)
    assert slots.free(late) == 0
    slots.give(greedy[0])
    assert slots.free(greedy[0]) == 0, "it has its share"
    for _ in range(TENANT_MOST - 1):
        slots.give(greedy[0])
    assert slots.free(late) > 0


async def delay(parts: Any, desk: Desk, conversation_id: uuid.UUID) -> float:
    """Seconds from a send that is durable to the provider's acceptance, stored."""
    tenant = await parts.tenants.get(desk.tenant.id)
    stored = await parts.writers.of(tenant.id, tenant.database).submit(desk.send(conversation_id, "single"))
    began = time.monotonic()
    query = "SELECT status FROM messages WHERE id = $1"
    while await desk.value(query, stored.message.id) == "pending":
        await asyncio.sleep(0.005)
    return time.monotonic() - began


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_a_hundred_thousand_sends_delay_anothers_single_send_by_a_second_at_most(
    alone: Installed, tmp_path: Path
) -> None:
    greedy, quiet = await open_desk(alone), await open_desk(alone)
    full, single = await greedy.new_channel(sends_per_second=1000), await quiet.new_channel()
    rows = [await quiet.started(single) for _ in range(SINGLES)]
    await fill(alone, greedy, full, many=MANY, conversations=CONVERSATIONS)
    unlimited = {"pair_seconds": None, "throughput_per_second": None}
    accounts = [desk.account(channel.id, limits=unlimited) for desk, channel in ((greedy, full), (quiet, single))]
    async with simulator(accounts, tmp_path) as url, working(alone, url) as parts:
        await parts.directory.announce(greedy.tenant.id)
        left = "SELECT count(*) FROM deliveries WHERE state IN ('waiting', 'queued')"
        while await greedy.value(left) > MANY - 100:
            await asyncio.sleep(0.05)
        before, began = await greedy.value(left), time.monotonic()
        delays = []
        for number in range(SINGLES):
            delays.append(await delay(parts, quiet, rows[number].id))
            await asyncio.sleep(0.1)
        rate = (before - await greedy.value(left)) / (time.monotonic() - began)
    print(f"beside {rate:.0f} sends/s: median {median(delays):.3f} s, longest {max(delays):.3f} s")
    assert rate > 10, "the other tenant sends meanwhile"
    assert max(delays) <= 1.0
    await close_desk(greedy)
    await close_desk(quiet)
