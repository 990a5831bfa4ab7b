"""What a page of contacts costs among a million of them, by the rows that Postgres says its plan read."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from switchboard.v1 import contact_service_pb2 as rpc

from server.contacts import listing
from server.contacts.filter import Wanted
from server.kit.clock import utc_now
from server.kit.db import Connection
from server.kit.ids import new_id
from server.rpc.call import Scope
from tests.counted_rows import Counting
from tests.desk import Desk
from tests.installation import Installed, connection_to

pytestmark = pytest.mark.faults
COUNT, CHUNKS, SIZE, MOST = 1_000_000, 50, 50, 20
RARE = 3
FILL = """
WITH numbers AS (
    SELECT n, n % 10007 = 5 AND n / 10007 < 3 AS rare, gen_random_uuid() AS id, gen_random_uuid() AS identity_id
    FROM generate_series($1::int, $2::int) n
), made AS (INSERT INTO contacts (id, name, name_source, attributes, create_time, update_time, block_time)
    SELECT id, CASE WHEN rare THEN 'Zyx ' || n WHEN n % 2 = 0 THEN 'Ana ' || n ELSE 'Bea ' || n END, 'provider',
        CASE WHEN rare THEN '{"plan": "rare"}' WHEN n % 4 = 0 THEN '{"plan": "free"}' END::jsonb,
        CASE WHEN rare THEN now() - interval '900 days' ELSE now() - n * interval '30 seconds' END,
        CASE WHEN rare THEN now() - interval '800 days' ELSE now() - (n % 500000) * interval '30 seconds' END,
        CASE WHEN rare OR n % 16 = 0 THEN now() END
    FROM numbers
), met AS (INSERT INTO identities (id, contact_id, channel_id, create_time)
    SELECT identity_id, id, CASE WHEN rare THEN $3::uuid ELSE ($4::uuid[])[1 + n % 6] END, now() FROM numbers
)
INSERT INTO identity_aliases (id, channel_id, kind, value, identity_id, create_time)
SELECT gen_random_uuid(), CASE WHEN rare THEN $3::uuid ELSE ($4::uuid[])[1 + n % 6] END, 'wa_id',
    CASE WHEN rare THEN '999' ELSE '491' END || lpad(n::text, 8, '0'), identity_id, now()
FROM numbers
"""


class Million:
    """The channels that are rare and common among them."""

    channel: uuid.UUID
    common: list[uuid.UUID]

    async def fill(self, desk: Desk) -> None:
        self.channel, *self.common = [(await desk.new_channel()).id for _ in range(7)]
        step, began = COUNT // CHUNKS, time.monotonic()
        for chunk in range(CHUNKS):
            first = chunk * step
            await desk.execute(FILL, first, first + step - 1, self.channel, self.common)
            print(f"\r{first + step:>9,} contacts, {time.monotonic() - began:4.0f} s", end="", flush=True)
        print()


@pytest.fixture(scope="module")
async def million(desk: Desk, desks: Installed) -> Million:
    made = Million()
    await made.fill(desk)
    # As autovacuum would, a while later; the tenant's role may not.
    async with connection_to(desks.owned(desk.dsn)) as owner:
        await owner.execute("VACUUM ANALYZE")
    return made


Said = Callable[[Million], Wanted]
# Each finds exactly three of the million.
SCARCELY: dict[str, Said] = {
    "one channel": lambda m: Wanted(channel_id=m.channel),
    "an attribute's value": lambda m: Wanted(attributes=[("plan", "rare")]),
    "a name": lambda m: Wanted(name_prefix="zyx"),
    "a number": lambda m: Wanted(address_prefix="+999"),
    "changed long ago": lambda m: Wanted(update_until=utc_now() - timedelta(days=700)),
    "blocked and rare": lambda m: Wanted(blocked=True, attributes=[("plan", "rare")], provider="whatsapp"),
    "common and rare": lambda m: Wanted(name_prefix="z", address_prefix="9", channel_id=m.channel, provider="whatsapp"),
}
# Each is one key, and a range of the order's own at most: every page is full.
FULL: dict[str, Said] = {
    "all": lambda m: Wanted(),
    "a sixth by channel": lambda m: Wanted(channel_id=m.common[0]),
    "all by provider": lambda m: Wanted(provider="whatsapp"),
    "a sixteenth by blocked": lambda m: Wanted(blocked=True),
    "a quarter by an attribute": lambda m: Wanted(attributes=[("plan", "free")]),
}
OTHERS: dict[str, Said] = {
    "half by name": lambda m: Wanted(name_prefix="ana"),
    "half by name on a channel": lambda m: Wanted(name_prefix="bea", channel_id=m.common[1]),
    "all by number": lambda m: Wanted(address_prefix="49"),
    "not blocked": lambda m: Wanted(blocked=False),
    "changed lately": lambda m: Wanted(update_from=utc_now() - timedelta(days=90)),
    "two that never meet": lambda m: Wanted(name_prefix="bea", attributes=[("plan", "free")]),
    "four that never meet": lambda m: Wanted(
        name_prefix="bea", attributes=[("plan", "free")], channel_id=m.common[0], provider="whatsapp"
    ),
    "none of such": lambda m: Wanted(attributes=[("plan", "none")]),
}


async def pages(
    desk: Desk, scope: Scope, wanted: Wanted, order: listing.Order, after: list[Any] | None
) -> list[listing.Page]:
    """At most three pages, each of which read as little as it may."""
    found = []
    for _ in range(3):
        async with desk.database.connection() as connection:
            counting = Counting(connection)
            query = listing.Query(SIZE + 1, after, wanted, order)
            page = await listing.page(cast(Connection, counting), scope, query)
        assert counting.read <= MOST * SIZE, f"{counting.read}: {json.dumps(counting.plans, indent=1)}"
        found.append(page)
        last = page.rows[SIZE - 1] if len(page.rows) > SIZE else page.edge
        if last is None:
            break
        after = listing.keyset(last, order)
    return found


@pytest.mark.parametrize("order", sorted(listing.ORDERS), ids=rpc.ContactOrder.Name)
@pytest.mark.parametrize("name", [*SCARCELY, *FULL, *OTHERS])
async def test_a_page_reads_at_most_20_rows_for_each_that_it_may_hold(
    desk: Desk, million: Million, name: str, order: int
) -> None:
    wanted, by = {**SCARCELY, **FULL, **OTHERS}[name](million), listing.ORDERS[order]
    (row,) = await desk.rows("SELECT * FROM contacts ORDER BY create_time OFFSET 500000 LIMIT 1")
    first = await pages(desk, Scope(all=True), wanted, by, None)
    middle = await pages(desk, Scope(all=True), wanted, by, listing.keyset(row, by))
    for channel in (million.channel, million.common[0]):
        await pages(desk, Scope(all=False, agent_id=new_id(), channel_ids=frozenset({channel})), wanted, by, None)
    if name in SCARCELY:
        assert [(len(page.rows), page.edge) for page in first] == [(RARE, None)]
    if name in FULL:
        assert [len(page.rows) for page in [*first, *middle]] == [SIZE + 1] * 6
