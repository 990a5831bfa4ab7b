"""How fast sends are taken: the buckets of accounts and recipients, and what a claim reads however long the queues are."""

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.deliveries import claiming
from server.deliveries.claiming import AGING, AHEAD, CLAIM, LEASE, LOOK, NEXT, PLACE
from server.messages.delivering import Sender
from server.messages.items import Stored
from server.providers.contract import Accepted, ErrorClass, Holds, Outcome, Refused
from tests.desk import Desk
from tests.installation import Installed

MANY = 100_000


async def put(desk: Desk, conversation_id: Any, *names: str) -> None:
    for name in names:
        assert isinstance(await desk.writer().submit(desk.send(conversation_id, name)), Stored)


async def claim(desk: Desk, *, limit: int = 50) -> claiming.Claim:
    async with desk.database.connection() as connection:
        return await claiming.claim(connection, worker="w", limit=limit, providers=desk.providers)


async def settle(desk: Desk, claimed: claiming.Claimed, outcome: Outcome | None = None) -> None:
    given = outcome or Accepted(provider_id=f"wamid.{claimed.part_id}")
    await Sender(desk.database, desk.tenant.secrets, desk.providers).settle(claimed, given)


async def wait_of(desk: Desk) -> timedelta:
    """Until a worker looks again."""
    async with desk.database.connection() as connection:
        coming = await claiming.upcoming(connection, desk.providers)
    assert coming.send is not None
    return coming.send - coming.now


FREE = "UPDATE channels SET send_places = '{}'"


async def back(desk: Desk, taken: claiming.Claim, *, seconds: float) -> None:
    """What was taken was answered: its places are held for so long."""
    async with desk.database.connection() as connection:
        for claimed in taken.claimed:
            assert claimed.place_until is not None
            await claiming.give_back(
                connection, claimed.channel_id, [(claimed.place_until, timedelta(seconds=seconds))]
            )


async def test_a_send_holds_a_place_of_its_account_until_a_second_after_its_answer(own_desk: Desk) -> None:
    channel = await own_desk.new_channel(sends_per_second=10)
    for number in range(60):
        await put(own_desk, (await own_desk.started(channel)).id, f"a{number}")
    first = await claim(own_desk, limit=4)
    second = await claim(own_desk)
    assert (len(first.claimed), len(second.claimed)) == (4, 6), "there are ten places"
    assert max(claimed.wait for claimed in (*first.claimed, *second.claimed)) <= timedelta(0)
    assert len((await claim(own_desk)).claimed) == 0
    assert claiming.PLACE - timedelta(seconds=1) < await wait_of(own_desk) < claiming.PLACE, (
        "nobody says what became of them"
    )
    await back(own_desk, second, seconds=1)
    assert timedelta(milliseconds=700) < await wait_of(own_desk) <= timedelta(seconds=1) - claiming.AHEAD
    await back(own_desk, first, seconds=0)
    third = await claim(own_desk)
    assert len(third.claimed) == 4, "those six are held still"
    await own_desk.execute("UPDATE channels SET send_places = array_fill(now() + interval '40 ms', ARRAY[6])")
    soon = await claim(own_desk)
    assert [claimed.wait > timedelta(0) for claimed in soon.claimed] == [False] * 4 + [True] * 6
    assert max(claimed.wait for claimed in soon.claimed) <= claiming.AHEAD


async def test_places_of_a_clock_that_went_back_hold_nothing_up(own_desk: Desk) -> None:
    channel = await own_desk.new_channel(sends_per_second=1)
    await put(own_desk, (await own_desk.started(channel)).id, "a")
    await own_desk.execute("UPDATE channels SET send_places = ARRAY[now() + interval '1 hour']")
    assert await wait_of(own_desk) <= timedelta(0)
    assert len((await claim(own_desk)).claimed) == 1


async def test_a_recipient_gets_a_burst_and_then_nothing_until_its_time_has_passed(own_desk: Desk) -> None:
    channel = await own_desk.new_channel(sends_per_second=1_000)
    busy, other = (await own_desk.started(channel)).id, (await own_desk.started(channel)).id
    await put(own_desk, busy, *(f"a{number}" for number in range(47)))
    for number in range(45):
        (claimed,) = (await claim(own_desk)).claimed
        await settle(own_desk, claimed)
        if number == 0:
            await own_desk.execute("UPDATE recipient_buckets SET span_until = now() + interval '1 minute'")
    await put(own_desk, other, "b0")
    found = await claim(own_desk)
    assert [claimed.conversation_id for claimed in found.claimed] == [other], "the 46th has to wait, others go on"
    assert found.put_off == 1
    assert timedelta(seconds=200) < await wait_of(own_desk) <= 45 * timedelta(seconds=6)
    assert (await claim(own_desk)).put_off == 0, "it was put off and is not looked at again"
    await own_desk.execute("UPDATE recipient_buckets SET next_send_time = now(), span_until = now()")
    await own_desk.execute("UPDATE deliveries SET due_time = now() WHERE state = 'queued'")
    (claimed,) = (await claim(own_desk)).claimed
    assert claimed.conversation_id == busy


async def test_after_the_span_of_a_burst_nothing_more_is_borrowed(own_desk: Desk) -> None:
    channel = await own_desk.new_channel(sends_per_second=1_000)
    busy = (await own_desk.started(channel)).id
    await put(own_desk, busy, *(f"a{number}" for number in range(4)))
    for _ in range(2):
        await own_desk.execute("UPDATE recipient_buckets SET span_until = now() + interval '1 minute'")
        (claimed,) = (await claim(own_desk)).claimed
        await settle(own_desk, claimed)
    await own_desk.execute("UPDATE recipient_buckets SET span_until = now()")
    assert (await claim(own_desk)).claimed == []
    assert timedelta(seconds=6) < await wait_of(own_desk) <= timedelta(seconds=12), "two went, two spans have to pass"


@pytest.mark.parametrize(
    ("holds", "goes"),
    [(Holds.MESSAGE, ["a2", "b1", "c1"]), (Holds.RECIPIENT, ["b1", "c1"]), (Holds.ACCOUNT, ["c1"])],
)
async def test_a_rate_limit_of_the_provider_holds_what_it_is_about_and_nothing_else(
    own_desk: Desk, holds: Holds, goes: list[str]
) -> None:
    limited, other = await own_desk.new_channel(), await own_desk.new_channel()
    a, b, c = [(await own_desk.started(channel)).id for channel in (limited, limited, other)]
    await put(own_desk, a, "a1")
    (claimed,) = (await claim(own_desk)).claimed
    await put(own_desk, a, "a2")
    await put(own_desk, b, "b1")
    await put(own_desk, c, "c1")
    minute = timedelta(seconds=60)
    told = Refused(error_class=ErrorClass.RETRY, code="131056", message="slow", retry_after=minute, holds=holds)
    await settle(own_desk, claimed, told)
    # The delivery itself waits as well, so another one of its conversation stands for the recipient.
    await own_desk.execute("UPDATE deliveries SET state = 'accepted' WHERE id = $1", claimed.id)
    await own_desk.execute("UPDATE deliveries SET state = 'queued' WHERE state = 'waiting'")
    taken = (await claim(own_desk)).claimed
    names = await own_desk.rows(
        "SELECT m.text FROM message_parts p JOIN messages m ON m.id = p.message_id WHERE p.id = ANY($1::uuid[])",
        [item.part_id for item in taken],
    )
    assert sorted(row["text"] for row in names) == goes
    if holds is not Holds.MESSAGE:
        await own_desk.execute("UPDATE channels SET next_send_time = next_send_time - interval '73 seconds'")
        await own_desk.execute("UPDATE recipient_buckets SET next_send_time = now()")
        await own_desk.execute("UPDATE deliveries SET due_time = now() WHERE state = 'queued'")
        assert {item.conversation_id for item in (await claim(own_desk)).claimed} >= {a}


async def test_one_channel_with_much_to_send_leaves_room_for_another(own_desk: Desk) -> None:
    full, quiet = await own_desk.new_channel(), await own_desk.new_channel()
    for number in range(9):
        await put(own_desk, (await own_desk.started(full)).id, f"a{number}")
    await put(own_desk, (await own_desk.started(quiet)).id, "b")
    taken = (await claim(own_desk, limit=2)).claimed
    assert {item.channel_id for item in taken} == {full.id, quiet.id}


async def test_an_account_follows_what_its_provider_allows_it_from_the_next_claim_on(own_desk: Desk) -> None:
    channel = await own_desk.new_channel()
    for number in range(50):
        await put(own_desk, (await own_desk.started(channel)).id, f"a{number}")
    took = []
    for allowed in (None, 20, 1000, 60):
        await own_desk.execute("UPDATE channels SET throughput_per_second = $1", allowed)
        await own_desk.execute("UPDATE deliveries SET state = 'queued', due_time = now()")
        await own_desk.execute("DELETE FROM recipient_buckets")
        took.append(len((await claim(own_desk, limit=50)).claimed))
    assert took == [50, 0, 50, 0], "places that are held are counted against whatever there are"
    await own_desk.execute(FREE)
    await own_desk.execute("UPDATE channels SET throughput_per_second = 1000, sends_per_second = 10")
    await own_desk.execute("UPDATE deliveries SET state = 'queued', due_time = now()")
    await own_desk.execute("DELETE FROM recipient_buckets")
    assert len((await claim(own_desk)).claimed) == 10, "the installation wants less"


async def lanes_of(desk: Desk, taken: claiming.Claim) -> list[int]:
    ids = [claimed.id for claimed in taken.claimed]
    return [row["lane"] for row in await desk.rows("SELECT lane FROM deliveries WHERE id = ANY($1::uuid[])", ids)]


async def test_an_answer_goes_before_templates_and_bulk_which_do_not_wait_for_ever(own_desk: Desk) -> None:
    channel = await own_desk.new_channel(sends_per_second=1)
    for lane in (2, 1, 0, 0):
        conversation = (await own_desk.started(channel)).id
        await put(own_desk, conversation, f"of lane {lane}")
        await own_desk.execute("UPDATE deliveries SET lane = $2 WHERE conversation_id = $1", conversation, lane)
    went = []
    for number in range(4):
        if number == 1:
            await own_desk.execute("UPDATE deliveries SET due_time = now() - interval '61 seconds' WHERE lane = 2")
        await own_desk.execute(FREE)
        went += await lanes_of(own_desk, await claim(own_desk))
    assert went == [0, 2, 0, 1]


async def test_an_answer_passes_more_bulk_than_a_claim_looks_at_and_waits_behind_its_own_conversation(
    own_desk: Desk,
) -> None:
    channel = await own_desk.new_channel(sends_per_second=1)
    for number in range(LOOK + 2):
        await put(own_desk, (await own_desk.started(channel)).id, f"a{number}")
    await own_desk.execute("UPDATE deliveries SET lane = 2")
    behind = await own_desk.value("SELECT conversation_id FROM deliveries ORDER BY due_time DESC LIMIT 1")
    await put(own_desk, behind, "of a person, behind bulk")
    await put(own_desk, (await own_desk.started(channel)).id, "alone")
    assert await lanes_of(own_desk, await claim(own_desk)) == [0]
    await own_desk.execute(FREE)
    assert await lanes_of(own_desk, await claim(own_desk)) == [2]
    told = await own_desk.rows("SELECT state FROM deliveries WHERE conversation_id = $1 ORDER BY position", behind)
    assert told[1]["state"] == "waiting", "the order of a conversation is kept"


class Queues:
    """A hundred thousand sends, made without the batch writer, and what reading them costs."""

    def __init__(self, desk: Desk, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.desk, self.connection = desk, connection

    async def fill(self, channel_id: uuid.UUID, like: uuid.UUID, *, conversations: int) -> None:
        """MANY deliveries, evenly over so many new conversations that resemble one."""
        await self.connection.execute("SET session_replication_role = replica")
        await self.connection.execute(
            """
            INSERT INTO conversations SELECT made.*
            FROM conversations c, generate_series(1, $1::int) n, LATERAL jsonb_populate_record(c, jsonb_build_object(
                'id', md5('c' || n)::uuid, 'identity_id', md5('i' || n)::uuid, 'channel_id', $3::uuid)) made
            WHERE c.id = $2
            """,
            *(conversations, like, channel_id),
        )
        await self.connection.execute(
            """
            INSERT INTO deliveries (id, kind, part_id, conversation_id, channel_id, position, state, due_time, create_time)
            SELECT gen_random_uuid(), 'send', gen_random_uuid(), c.id, $1, n,
                CASE WHEN n = 1 THEN 'queued' ELSE 'waiting' END, now(), now()
            FROM conversations c, generate_series(1, $2::int) n WHERE c.channel_id = $1
            """,
            *(channel_id, MANY // conversations),
        )
        await self.connection.execute("SET session_replication_role = DEFAULT")
        await self.connection.execute("ANALYZE deliveries, conversations")

    async def rows_read(self, statement: str, *values: object) -> int:
        """Rows that the statement reads, those it throws away included."""
        ((told,),) = [
            tuple(row) for row in await self.connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
        ]
        nodes = _nodes(json.loads(told)[0]["Plan"])
        for node in nodes:
            if _read(node) > LOOK * 2:
                print(node["Node Type"], node["Relation Name"], node.get("Alias"), node.get("Index Name"), _read(node))
        return sum(_read(node) for node in nodes)

    async def claim_reads(self) -> int:
        can = self.desk.providers["whatsapp"].capabilities
        paces = ([can.sends_per_second], [can.recipient_pace.every], [can.recipient_pace.ahead])
        return await self.rows_read(CLAIM, "w", LEASE, 32, ["whatsapp"], *paces, LOOK, AGING, AHEAD, PLACE)

    async def next_reads(self) -> int:
        can = self.desk.providers["whatsapp"].capabilities
        return await self.rows_read(NEXT, ["whatsapp"], [can.sends_per_second], AHEAD, PLACE)


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]


def _read(node: dict[str, Any]) -> int:
    if "Relation Name" not in node or node["Node Type"] == "ModifyTable":
        return 0
    gone = sum(node.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Index Recheck"))
    return int((node["Actual Rows"] + gone) * node["Actual Loops"])


BEFORE: dict[str, tuple[int, Callable[[uuid.UUID], str]]] = {
    "in one conversation": (1, lambda _: "SELECT 1"),
    "over as many conversations": (MANY, lambda _: "SELECT 1"),
    "of an account that has to wait": (
        MANY,
        lambda channel: f"UPDATE channels SET next_send_time = now() + interval '1 hour' WHERE id = '{channel}'",
    ),
    "on a paused channel": (MANY, lambda channel: f"UPDATE channels SET state = 'paused' WHERE id = '{channel}'"),
    "in lanes that are held": (
        MANY,
        lambda channel: (
            f"WITH held AS (UPDATE deliveries SET lane = 2 WHERE channel_id = '{channel}')"
            f" UPDATE channels SET templates_held_until = now() + interval '1 hour' WHERE id = '{channel}'"
        ),
    ),
    "to recipients who have to wait": (
        MANY,
        lambda channel: (
            "INSERT INTO recipient_buckets SELECT identity_id, now() + interval '1 hour', now() FROM conversations"
            f" WHERE channel_id = '{channel}' ON CONFLICT (identity_id) DO NOTHING"
        ),
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("where", BEFORE)
async def test_a_claim_reads_little_of_a_hundred_thousand(own_desk: Desk, desks: Installed, where: str) -> None:
    conversations, statement = BEFORE[where]
    channel, other = await own_desk.new_channel(), await own_desk.new_channel()
    dsn = f"{desks.server_dsn.rpartition('/')[0]}/{own_desk.dsn.rpartition('/')[2]}"
    connection = await asyncpg.connect(dsn)
    try:
        queues = Queues(own_desk, connection)
        await queues.fill(channel.id, (await own_desk.started(other)).id, conversations=conversations)
        await put(own_desk, (await own_desk.started(other)).id, "alone")
        await connection.execute(statement(channel.id))
        await connection.execute("ANALYZE recipient_buckets")
        reads = []
        for _ in range(3):
            await own_desk.execute(FREE)
            reads.append(await queues.claim_reads())
        print(f"{where}: a claim reads {reads} rows, the next look {(looks := await queues.next_reads())}")
        assert max(reads) <= 10 * LOOK
        assert looks <= 24, "a probe for each lane of each channel, of rows that are few"
        taken = await own_desk.value(
            "SELECT count(*) FROM deliveries WHERE state = 'in_flight' AND channel_id = $1", other.id
        )
        assert taken == 1, "what is elsewhere goes at once"
    finally:
        await connection.close()
