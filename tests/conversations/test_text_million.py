"""How long a search takes among the words that 5,000,000 messages leave.

What is read of a page is in test_listing_million.py; here it is timed, for words of every frequency, and where a page is short, until
the rest of it is there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as rpc

from server.conversations import listing
from server.kit.ids import new_id
from tests.desk import ALL, Desk
from tests.installation import Installed, connection_to

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
CONVERSATIONS, CHUNKS, MESSAGES, WORDS, VOCABULARY = 500_000, 50, 10, 6, 200_000
SIZE, P95_SECONDS = 50, 0.200
INDEX = "ix_conversation_words_word"
PERSON = "INSERT INTO contacts (id, name, name_source, create_time, update_time) VALUES ($1, 'Cara', 'provider', now(), now())"
FILL = """
WITH numbers AS (SELECT n, uuidv7() AS id, uuidv7() AS identity_id FROM generate_series($1::int, $2::int) n), people AS (
    INSERT INTO identities (id, contact_id, channel_id, create_time) SELECT identity_id, $3::uuid, $4::uuid, now() FROM numbers
)
INSERT INTO conversations (
    id, channel_id, provider, contact_id, contact_name, identity_id, status, message_count, inbound_count, team_read_count,
    last_message_time, create_time, update_time, resolve_time)
SELECT id, $4, 'whatsapp', $3, 'Cara', identity_id, 'resolved', 10, 5, 5, now() - (random() * interval '400 days'), now(), now(), now()
FROM numbers
RETURNING id
"""
# The n-th most common word is said n times as rarely as the first, as in any language.
SAID = """
INSERT INTO conversation_words (conversation_id, word)
SELECT DISTINCT id, left(md5(floor(power($3::float8, random()))::int::text), 8)
FROM unnest($1::uuid[]) id CROSS JOIN generate_series(1, $2::int)
"""
SPREAD = "SELECT left(md5(n::text), 8) FROM generate_series($1::int, $2::int, $3::int) n"


@pytest.fixture(scope="module")
async def said(desk: Desk, desks: Installed) -> Desk:
    contact, channel, began = new_id(), await desk.new_channel(), time.monotonic()
    await desk.execute(PERSON, contact)
    step = CONVERSATIONS // CHUNKS
    async with connection_to(desks.owned(desk.dsn)) as owner:
        definition = await owner.fetchval("SELECT indexdef FROM pg_indexes WHERE indexname = $1", INDEX)
        # It is made once all is there, which gives the same index sooner.
        await owner.execute(f"DROP INDEX {INDEX}")
        for chunk in range(CHUNKS):
            rows = await desk.rows(FILL, chunk * step, (chunk + 1) * step - 1, contact, channel.id)
            await desk.execute(SAID, [row["id"] for row in rows], MESSAGES * WORDS, float(VOCABULARY))
            done = f"{(chunk + 1) * step * MESSAGES:>9,} messages, {time.monotonic() - began:4.0f} s"
            print(f"\r{done}", end="", flush=True)
        await owner.execute(definition)
        await owner.execute("VACUUM ANALYZE")
        size = await owner.fetchval("SELECT pg_size_pretty(pg_total_relation_size('conversation_words'))")
        words = await owner.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'conversation_words'")
    print(f"\n{words:,.0f} words of conversations, {size}, {time.monotonic() - began:.0f} s")
    return desk


async def _search(desk: Desk, text: str) -> tuple[float, float, int]:
    """Seconds until the first page, and until it is as long as it can be; how many calls that took."""
    found, after, calls, first = 0, None, 0, 0.0
    began = time.monotonic()
    while True:
        query = listing.Query(
            filters.ConversationFilter(text=text), listing.ORDERS[rpc.CONVERSATION_ORDER_LAST_MESSAGE], after, SIZE + 1
        )
        async with desk.database.connection() as connection:
            page = await listing.page(connection, ALL, query)
        calls, found = calls + 1, found + len(page.rows)
        first = first or time.monotonic() - began
        if found >= SIZE or page.edge is None:
            return first, time.monotonic() - began, calls
        after = listing.keyset(page.edge, query.order)


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


@pytest.mark.parametrize(
    ("name", "first", "last", "step"),
    [
        ("the hundred most common", 1, 100, 1),
        ("the next nine hundred", 101, 1000, 9),
        ("uncommon", 1001, 20_000, 190),
        ("rare", 20_001, VOCABULARY, 1800),
        ("never said", VOCABULARY + 1, VOCABULARY + 100, 1),
    ],
)
async def test_the_first_page_is_there_in_time(said: Desk, name: str, first: int, last: int, step: int) -> None:
    words = [row["left"] for row in await said.rows(SPREAD, first, last, step)]
    for word in words[:5]:
        await _search(said, word)
    times = [await _search(said, word) for word in words]
    page, whole, calls = (list(column) for column in zip(*times, strict=True))
    print(
        f"\n{name}: first page p50 {sorted(page)[len(page) // 2] * 1000:.1f} ms, p95 {_p95(page) * 1000:.1f} ms;"
        f" {SIZE} rows or all there are p95 {_p95(whole) * 1000:.0f} ms in {_p95(calls):.0f} calls"
    )
    assert _p95(page) <= P95_SECONDS


async def test_two_words_are_found_as_soon(said: Desk) -> None:
    words = [row["left"] for row in await said.rows(SPREAD, 1, 100, 1)]
    pairs = [f"{one} {other}" for one, other in zip(words, reversed(words), strict=True)]
    times = [(await _search(said, pair))[0] for pair in pairs]
    print(f"\ntwo common words: first page p95 {_p95(times) * 1000:.1f} ms")
    assert _p95(times) <= P95_SECONDS
