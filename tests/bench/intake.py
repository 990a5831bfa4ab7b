"""Webhooks of 1 to 1,000 messages: until the answer, and until every message is applied, beside bare inserts of the same rows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from tests.bench.measuring import Costs, Row, at_least, at_most
from tests.bench.stand import Stand

APPLIED = "SELECT count(*) FROM messages WHERE direction = 'inbound'"
# The tables that an applied message leaves rows in, parents first.
TABLES = (
    *("contacts", "identities", "identity_aliases", "conversations", "messages", "message_parts", "journal_items"),
    *("timers", "stream_event"),
)


@dataclass(frozen=True)
class Load:
    """POSTs of so many messages, so many at a time. target: of the rate beside bare inserts, None where there is none."""

    messages: int
    posts: int
    at_once: int
    target: float | None = None


LOADS = (Load(1, 1_000, 16), Load(10, 300, 8), Load(100, 40, 4, target=0.35), Load(1_000, 5, 2))


async def rows(stand: Stand) -> list[Row]:
    """Two or three rows for each size of a POST."""
    return [row for load in LOADS for row in await _measured(stand, load)]


async def _measured(stand: Stand, load: Load) -> list[Row]:
    # One in five of the messages is of a customer whom nobody knows yet.
    count = max(load.posts // (4 if stand.quick else 1), 1)
    posts = [stand.webhook(load.messages, customers=-(-load.messages // 5)) for _ in range(count)]
    before = await stand.database.fetchval(APPLIED)
    messages = len(posts) * load.messages
    since = await stand.database.fetchval("SELECT pg_current_xact_id()::text::bigint")
    answers: list[float] = []
    waiting = iter(posts)

    async def caller() -> None:
        for request, signature in waiting:
            began = time.perf_counter()
            await stand.post(request, signature)
            answers.append((time.perf_counter() - began) * 1000)

    with Costs(**stand.pids) as costs:
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(load.at_once)))
        answered = time.perf_counter() - began
        while await stand.database.fetchval(APPLIED) < before + messages:
            await asyncio.sleep(0.02)
        applied = messages / (time.perf_counter() - began)
    bare = await _bare_inserts(stand, since, messages, load.messages)
    median = sorted(answers)[len(answers) // 2]
    reference = f"{bare:,.0f} /s  bare inserts of the same rows"
    beside: dict[str, Any] = {"ratio": applied / bare} if load.target is None else at_least(applied / bare, load.target)
    name = f"webhooks of {load.messages:,}"
    return [
        Row(f"{name}: messages applied", f"{applied:,.0f} /s", reference, cost=costs.each(messages), **beside),
        Row(f"{name}: messages answered", f"{messages / answered:,.0f} /s", reference),
        Row(
            f"{name}: the 200, p50",
            f"{median:.1f} ms",
            "1,000 ms  what the provider asks for",
            **at_most(median / 1000, 1.0),
        ),
    ]


async def _bare_inserts(stand: Stand, since: int, messages: int, together: int) -> float:
    """The rows of the run once more, into tables that are alike, indexes and all: messages per second.

    One INSERT of a row each, prepared, a POST's messages to a transaction; nothing is parsed, looked up, locked or decided.
    """
    database, batches = stand.database, messages // together
    statements: list[tuple[str, list[tuple[Any, ...]]]] = []
    for table in TABLES:
        await database.execute(f"DROP TABLE IF EXISTS bench_{table}")
        await database.execute(f"CREATE TABLE bench_{table} (LIKE {table} INCLUDING ALL)")
        # Postgres makes the generated ones, here as there.
        names = await database.fetchval(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            table,
        )
        found = await database.fetch(f"SELECT {names} FROM {table} WHERE xmin::text::bigint >= $1", since)
        places = ", ".join(f"${number + 1}" for number in range(len(found[0])))
        insert = f"INSERT INTO bench_{table} ({names}) VALUES ({places})"
        statements.append((insert, [tuple(row) for row in found]))
    began = time.perf_counter()
    for batch in range(batches):
        async with database.transaction():
            for insert, rows in statements:
                share = len(rows) / batches
                await database.executemany(insert, rows[round(batch * share) : round((batch + 1) * share)])
    took = time.perf_counter() - began
    for table in TABLES:
        await database.execute(f"DROP TABLE bench_{table}")
    return messages / took
