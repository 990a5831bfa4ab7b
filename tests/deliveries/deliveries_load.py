"""Much to send, made without sending it, a worker that sends it, and a provider in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from server.composition import background, compose
from server.embedded import ports
from server.messages.items import Stored
from server.settings import load
from server.worker import Worker
from tests.desk import Desk
from tests.installation import Installed

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


@contextlib.asynccontextmanager
async def simulator(accounts: Sequence[dict[str, Any]], folder: Path) -> AsyncIterator[str]:
    """A simulator of these accounts; yields its address."""
    config, port = folder / "simulator.json", ports.choose(folder / "ports", ["simulator"], fixed={})["simulator"]
    config.write_text(json.dumps({"accounts": accounts, "receipts": None, "requests_kept": 100_000}))
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


async def control(url: str, method: str, path: str, body: Any = None) -> Any:
    """A call of the simulator's control API."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{url}/_control/{path}", json=body) as answer,
    ):
        assert answer.status < 300, await answer.text()
        return await answer.json()


async def fill(installed: Installed, desk: Desk, channel: Any, *, many: int, conversations: int) -> None:
    """Many sends over so many conversations, copied from one that was made the usual way."""
    rows = [await desk.started(channel) for _ in range(conversations)]
    assert isinstance(await desk.writer().submit(desk.send(rows[0].id, "hi")), Stored)
    dsn = f"{installed.server_dsn.rpartition('/')[0]}/{desk.dsn.rpartition('/')[2]}"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("DELETE FROM deliveries")
        await connection.execute(COPIED, channel.id, many // conversations, timeout=300)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
