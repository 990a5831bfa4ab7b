"""What a page of the list costs among a million conversations, by the rows that Postgres says its plan read."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as rpc

from server.conversations import counts, listing
from server.conversations.filter import says
from server.conversations.row import from_record
from server.kit import pb
from server.kit.clock import utc_now
from server.kit.db import Connection
from server.kit.ids import new_id
from server.rpc.call import Scope
from tests.counted_rows import Counting
from tests.desk import Desk
from tests.installation import Installed, connection_to

pytestmark = pytest.mark.faults
COUNT, CHUNKS, SIZE, MOST = 1_000_000, 100, 50, 20
RARE = 3
FILL = """
WITH numbers AS (
    SELECT n, n % 10007 = 5 AND n / 10007 < 3 AS rare, gen_random_uuid() AS id, gen_random_uuid() AS identity_id
    FROM generate_series($1::int, $2::int) n
), known AS (
    SELECT *, CASE WHEN rare THEN $3::uuid ELSE ($4::uuid[])[1 + n % 1000] END AS contact_id,
        CASE WHEN rare THEN $5::uuid ELSE ($6::uuid[])[1 + n % 6] END AS channel_id
    FROM numbers
), people AS (
    INSERT INTO identities (id, contact_id, channel_id, create_time) SELECT identity_id, contact_id, channel_id, now() FROM known
), made AS (INSERT INTO conversations (
    id, channel_id, provider, contact_id, contact_name, identity_id, status, assignee_id, team_id, tags, priority, attributes,
    message_count, inbound_count, team_read_count, last_message_time, waiting_since, reply_window_expire_time, create_time, update_time,
    resolve_time)
SELECT id, channel_id, 'whatsapp', contact_id, 'Cara', identity_id,
    CASE WHEN rare THEN 'snoozed' WHEN n % 20 = 0 THEN 'open' WHEN n % 20 < 3 THEN 'archived' ELSE 'resolved' END,
    CASE WHEN rare THEN $7::uuid WHEN n % 3 > 0 THEN ($8::uuid[])[1 + n % 10] END,
    CASE WHEN rare THEN $9::uuid WHEN n % 5 > 0 THEN $10::uuid END,
    CASE WHEN rare THEN ARRAY['rare'] WHEN n % 2 = 0 AND n % 20 <> 2 THEN ARRAY['common'] ELSE '{}' END,
    CASE WHEN rare THEN 5 ELSE 1 + n % 3 END,
    CASE WHEN rare THEN '{"plan": "rare"}' WHEN n % 4 = 0 THEN '{"plan": "free"}' END::jsonb,
    4, 2, CASE WHEN rare THEN 1 ELSE 2 END, now() - (n % 500000) * interval '10 seconds',
    CASE WHEN rare THEN now() - interval '100 days' WHEN n % 20 = 0 THEN now() - n * interval '1 second' END,
    CASE WHEN rare THEN now() + interval '1 hour' WHEN n % 3 = 0 THEN now() - n * interval '1 second' END,
    CASE WHEN rare THEN now() - interval '900 days' ELSE now() - n * interval '30 seconds' END, now(), now()
FROM known RETURNING id, tags)
INSERT INTO conversation_tags SELECT m.id, t.id, now() FROM made m JOIN tags t ON t.name = ANY(m.tags)
"""
SAID = """
INSERT INTO conversation_words (conversation_id, word)
SELECT c.id, w.word FROM conversations c CROSS JOIN LATERAL (VALUES
    ('the', TRUE), ('parcel', c.priority = 2), ('退货', c.priority = 5), ('refunded', c.priority = 5),
    ('refusal', c.priority = 1 AND c.status = 'archived')
) w (word, said) WHERE w.said
"""
# An agent has read the three that its team has not, and much else, but three of that to their middle only.
READ = """
WITH picked AS (SELECT id, row_number() OVER () AS n FROM conversations WHERE inbound_count = team_read_count LIMIT 50000)
INSERT INTO read_positions (conversation_id, agent_id, arrival, inbound_count, update_time)
SELECT id, $1::uuid, 0, CASE WHEN n % 10007 = 5 AND n / 10007 < 3 THEN 1 ELSE 2 END, now() FROM picked
UNION ALL SELECT id, $1, 0, 2, now() FROM conversations WHERE inbound_count > team_read_count
"""


class Million:
    """The ids that are rare and common among them."""

    def __init__(self) -> None:
        self.contact, self.channel, self.agent, self.team = (new_id() for _ in range(4))
        self.common_channels: list[uuid.UUID] = []
        self.common_agents: list[uuid.UUID] = []
        self.common_team = new_id()

    async def fill(self, desk: Desk) -> None:
        channels = [(await desk.new_channel()).id for _ in range(7)]
        self.channel, self.common_channels = channels[0], channels[1:]
        agents = [await desk.new_agent() for _ in range(11)]
        self.agent, self.common_agents = agents[0], agents[1:]
        contacts = [new_id() for _ in range(1000)]
        people = (
            "INSERT INTO contacts (id, name, name_source, create_time, update_time)"
            " SELECT id, 'Cara', 'provider', now(), now() FROM unnest($1::uuid[]) id"
        )
        await desk.execute(people, [self.contact, *contacts])
        teams = "INSERT INTO teams (id, name, create_time) SELECT id, id::text, now() FROM unnest($1::uuid[]) id"
        await desk.execute(teams, [self.team, self.common_team])
        await desk.execute(
            "INSERT INTO tags (id, name, create_time) VALUES ($1, 'rare', now()), ($2, 'common', now())",
            new_id(),
            new_id(),
        )
        step, began = COUNT // CHUNKS, time.monotonic()
        for chunk in range(CHUNKS):
            first = chunk * step
            await desk.execute(
                FILL,
                *(first, first + step - 1, self.contact, contacts, self.channel, self.common_channels, self.agent),
                *(self.common_agents, self.team, self.common_team),
            )
            print(f"\r{first + step:>9,} conversations, {time.monotonic() - began:4.0f} s", end="", flush=True)
        print()
        await desk.execute(READ, self.common_agents[0])


@pytest.fixture(scope="module")
async def million(desk: Desk, desks: Installed) -> Million:
    made = Million()
    await made.fill(desk)
    # As autovacuum would, a while later; the tenant's role may not.
    async with connection_to(desks.owned(desk.dsn)) as owner:
        # In one statement, which takes longer than a transaction of the tenant's role may.
        await owner.execute(SAID)
        await owner.execute("VACUUM ANALYZE")
    return made


Said = Callable[[Million], dict[str, Any]]
FREE = filters.AttributeCondition(name="plan", string_value="free")
SCARCE = filters.AttributeCondition(name="plan", string_value="rare")


def before(days: int) -> filters.TimeRange:
    return filters.TimeRange(end_time=pb.timestamp(utc_now() - timedelta(days=days)))


# Each finds exactly three of the million.
SCARCELY: dict[str, Said] = {
    "a tag on 3": lambda m: {"tags": ["rare"]},
    "one contact": lambda m: {"contact_id": [str(m.contact)]},
    "window closing soon": lambda m: {"reply_window": [2]},
    "one attribute's value": lambda m: {"attributes": [SCARCE]},
    "unread": lambda m: {"unread": filters.UNREAD_TEAM},
    "unread by me": lambda m: {"unread": filters.UNREAD_MINE},
    "unread by me within": lambda m: {"not": {"tags": ["none"]}, "and": [{"unread": filters.UNREAD_MINE}]},
    "a rare word": lambda m: {"text": "refunded"},
    "a rare word's beginning": lambda m: {"text": "refu the", "priority": [5]},
    "two characters": lambda m: {"text": "退货"},
    "a rare word among common ones": lambda m: {"text": "t th", "or": [{"text": "the refunded"}]},
    "one agent's": lambda m: {"assignee_id": [str(m.agent)]},
    "one team's": lambda m: {"team_id": [str(m.team)]},
    "one channel's": lambda m: {"channel_id": [str(m.channel)]},
    "snoozed": lambda m: {"status": [4]},
    "urgent": lambda m: {"priority": [5]},
    "long ago": lambda m: {"create_time": before(800)},
    "waiting long": lambda m: {"waiting_since": before(90)},
    "a rare tag among many": lambda m: {"tags_none": ["common"], "tags_all": ["rare"]},
    "one of two rare things": lambda m: {"or": [{"tags": ["rare"]}, {"contact_id": [str(m.contact)]}]},
    "rare within": lambda m: {"status": [4, 5], "and": [{"attributes": [SCARCE]}], "not": {"tags": ["common"]}},
}
# These find many, none at all, or what no index knows of.
OTHERS: dict[str, Said] = {
    "all": lambda m: {},
    "almost half of all by a tag": lambda m: {"tags": ["common"]},
    "a quarter by an attribute": lambda m: {"attributes": [FREE]},
    "two that never meet": lambda m: {
        "tags": ["common"],
        "attributes": [FREE],
        "priority": [5],
        "not": {"status": [5, 6, 2]},
    },
    "common ones that never meet": lambda m: {
        "tags_all": ["common"],
        "assignee_id": [str(m.common_agents[0])],
        "status": [6],
        "create_time": before(30),
    },
    "not almost half of all": lambda m: {"not": {"tags": ["common"]}},
    "live": lambda m: {"status": [1, 2, 3, 4]},
    "mine and open": lambda m: {"assignee_id": ["me"], "status": [2]},
    "a word of all": lambda m: {"text": "the"},
    "a word of a third": lambda m: {"text": "par"},
    "words of a twentieth, and not": lambda m: {"text": "refusal the", "not": {"text": "parcel"}},
    "words that never meet": lambda m: {"text": "parcel refusal"},
    "many words": lambda m: {
        "text": "the parcel",
        "and": [{"text": "th parc"}, {"text": "t par", "not": {"text": "x refusal"}}],
    },
    "nobody's": lambda m: {"assignee_id": ["nobody"], "reply_window": [3, 4]},
}


async def pages(
    desk: Desk, scope: Scope, wanted: filters.ConversationFilter, order: int, after: list[Any] | None, most: int
) -> Iterator[tuple[listing.Page, Counting]]:
    """At most so many pages, and what each read."""
    found = []
    for _ in range(most):
        query = listing.Query(wanted, listing.ORDERS[order], after, SIZE + 1)
        async with desk.database.connection() as connection:
            counting = Counting(connection)
            page = await listing.page(cast(Connection, counting), scope, query)
        found.append((page, counting))
        last = page.rows[SIZE - 1] if len(page.rows) > SIZE else page.edge
        if last is None:
            break
        after = listing.keyset(last, query.order)
    return iter(found)


@pytest.mark.parametrize("order", sorted(listing.ORDERS), ids=rpc.ConversationOrder.Name)
@pytest.mark.parametrize("name", [*SCARCELY, *OTHERS])
async def test_a_page_reads_at_most_20_rows_for_each_that_it_may_hold(
    desk: Desk, million: Million, name: str, order: int
) -> None:
    wanted = filters.ConversationFilter(**{**SCARCELY, **OTHERS}[name](million))
    me = million.common_agents[0]
    # Found, read and looked up; or found in vain, walked and looked up.
    most = MOST * SIZE + (3 * listing.SOUGHT_WORDS if says(wanted, "text") else 0)
    deep = "SELECT * FROM conversations WHERE priority = 2 AND status = 'resolved' OFFSET 200000 LIMIT 1"
    (row,) = await desk.rows(deep)
    middle = listing.keyset(from_record(row), listing.ORDERS[order])
    narrow = Scope(all=False, agent_id=me, channel_ids=frozenset(million.common_channels[:1]))
    first = None
    for scope, after in ((Scope(all=True, agent_id=me), None), (Scope(all=True, agent_id=me), middle), (narrow, None)):
        for page, counting in await pages(desk, scope, wanted, order, after, 3):
            first = first or page
            assert counting.read <= most, json.dumps(counting.plans, indent=1)
    if name in SCARCELY:
        assert first is not None
        assert (len(first.rows), first.edge) == (RARE, None)


async def test_live_ones_are_counted_by_their_indexes_alone(desk: Desk, million: Million) -> None:
    me = million.common_agents[0]
    for scope, ways in (
        (Scope(all=True, agent_id=me), 3),
        (Scope(all=False, agent_id=me, channel_ids=frozenset(million.common_channels[:1])), 4),
        (Scope(all=False, agent_id=me, team_ids=frozenset({million.team, million.common_team})), 6),
    ):
        async with desk.database.connection() as connection:
            counting = Counting(connection)
            found = await counts.live(cast(Connection, counting), scope)
        assert found.all == counts.Limited(1000, True)
        assert counting.read <= ways * (counts.LIMIT + 1), json.dumps(counting.plans, indent=1)
