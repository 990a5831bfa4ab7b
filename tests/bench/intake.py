"""Webhooks of a hundred messages: until the answer, and until every message is applied, beside bare inserts of the same rows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.bench.measuring import Costs, Row, at_least, at_most
from tests.bench.stand import Stand

POSTS, MESSAGES, AT_ONCE = 40, 100, 4
APPLIED = "SELECT count(*) FROM messages WHERE direction = 'inbound'"
# The tables that an applied message leaves rows in, parents first.
TABLES = (
    *("contacts", "identities", "identity_aliases", "conversations", "messages", "message_parts", "journal_items"),
    *("timers", "stream_event"),
)


async def rows(stand: Stand) -> list[Row]:
    """Three rows of one run."""
    posts = [stand.webhook(MESSAGES, customers=20) for _ in range(POSTS // (4 if stand.quick else 1))]
    before = await stand.database.fetchval(APPLIED)
    messages = len(posts) * MESSAGES
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
        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        answered = time.perf_counter() - began
        while await stand.database.fetchval(APPLIED) < before + messages:
            await asyncio.sleep(0.02)
        applied = messages / (time.perf_counter() - began)
    bare = await _bare_inserts(stand, since, messages)
    median = sorted(answers)[len(answers) // 2]
    return [
        Row(
            f"webhooks of {MESSAGES}: messages applied",
            f"{applied:,.0f} /s",
            f"{bare:,.0f} /s  bare inserts of the same rows",
            cost=costs.each(messages),
            **at_least(applied / bare, 0.35),
        ),
        Row(
            f"webhooks of {MESSAGES}: messages answered",
            f"{messages / answered:,.0f} /s",
            f"{bare:,.0f} /s  bare inserts of the same rows",
        ),
        Row(
            f"webhook of {MESSAGES}: its 200, p50",
            f"{median:.1f} ms",
            "1,000 ms  what the provider asks for",
            **at_most(median / 1000, 1.0),
        ),
    ]


async def _bare_inserts(stand: Stand, since: int, messages: int) -> float:
    """The rows of the run once more, into tables that are alike, indexes and all: messages per second.

    One INSERT of a row each, prepared, a hundred messages to a transaction; nothing is parsed, looked up, locked or decided.
    """
    database, batches = stand.database, messages // MESSAGES
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
