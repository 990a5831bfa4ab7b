"""One worker, two tenants: a hundred thousand sends of the one do not hold up a single send of the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import pytest

from server.composition import background, compose
from server.embedded import ports
from server.messages.dispatching import PROCESS_MOST, TENANT_MOST, Slots
from server.messages.items import Stored
from server.settings import load
from server.worker import Worker
from tests.desk import Desk, close_desk, open_desk
from tests.installation import Installed, installed_on

MANY, CONVERSATIONS, SINGLES = 100_000, 400, 30
COPIED = """
WITH made AS (
    SELECT gen_random_uuid() AS message_id, gen_random_uuid() AS part_id, c.id AS conversation_id, c.last_sequence + n AS sequence,
        c.message_count + n AS arrival, n
    FROM conversations c, generate_series(1, $2::int) n WHERE c.channel_id = $1
), messages_in AS (
    INSERT INTO messages SELECT m.* FROM made
        JOIN messages t ON t.id = (SELECT id FROM messages WHERE direction = 'outbound' AND channel_id = $1 LIMIT 1),
        LATERAL jsonb_populate_record(t, jsonb_build_object('id', message_id, 'conversation_id', made.conversation_id,
            'sequence', made.sequence, 'arrival', made.arrival, 'request_id', NULL)) m
), parts_in AS (
    INSERT INTO message_parts (id, message_id, conversation_id, channel_id, position, status)
    SELECT part_id, message_id, conversation_id, $1, 0, 'pending' FROM made
)
INSERT INTO deliveries (id, kind, part_id, conversation_id, channel_id, position, state, due_time, create_time)
SELECT gen_random_uuid(), 'send', part_id, conversation_id, $1, sequence, CASE WHEN n = 1 THEN 'queued' ELSE 'waiting' END,
    now(), now()
FROM made
"""


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


@pytest.fixture
async def alone(desks: Installed) -> AsyncIterator[Installed]:
    """An installation of the test's own: a worker works for every tenant that other tests left with something to do."""
    async with installed_on(desks.server_dsn, f"control_{uuid.uuid4().hex[-8:]}") as made:
        yield made


@contextlib.asynccontextmanager
async def simulator(desks: list[tuple[Desk, Any]], folder: Path) -> AsyncIterator[str]:
    """The provider, in a process of its own."""
    unlimited = {"pair_seconds": None, "throughput_per_second": None}
    accounts = [desk.account(channel.id, limits=unlimited) for desk, channel in desks]
    config, port = folder / "simulator.json", ports.choose(folder / "ports", ["simulator"], fixed={})["simulator"]
    config.write_text(json.dumps({"accounts": accounts, "receipts": None}))
    program = [sys.executable, "-m", "server", "simulator", "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    child = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        await child.wait()


@contextlib.asynccontextmanager
async def working(installed: Installed, url: str) -> AsyncIterator[Any]:
    """A real worker in this process; yields its parts."""
    given = {name: getattr(installed.settings, name) for name in ("control_dsn", "master_key")}
    settings = load({**given, "meta_graph_url": url, "valkey_url": ""})
    async with compose(settings, follow_all=True) as (parts, commits):
        worker = Worker(parts, settings)
        commits.local = lambda tenant_id, _: worker.wake(tenant_id)
        async with background(parts.directory.run(), worker.run()):
            yield parts
            await worker.stop()


async def fill(installed: Installed, desk: Desk, channel: Any) -> None:
    """MANY sends over CONVERSATIONS conversations, copied from one that was made the usual way."""
    rows = [await desk.started(channel) for _ in range(CONVERSATIONS)]
    assert isinstance(await desk.writer().submit(desk.send(rows[0].id, "hi")), Stored)
    dsn = f"{installed.server_dsn.rpartition('/')[0]}/{desk.dsn.rpartition('/')[2]}"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("DELETE FROM deliveries")
        await connection.execute(COPIED, channel.id, MANY // CONVERSATIONS, timeout=300)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


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
    await fill(alone, greedy, full)
    async with simulator([(greedy, full), (quiet, single)], tmp_path) as url, working(alone, url) as parts:
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
