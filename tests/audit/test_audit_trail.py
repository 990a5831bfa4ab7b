"""The trail on a real tenant database: a chain that nobody may change, and where it is broken when somebody did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from server.audit import chain, follow, record
from server.audit.record import DONE, Record
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.ids import new_id
from server.rpc.call import client_address
from tests.desk import Desk, agent, nobody
from tests.installation import Installed

Owned = Callable[[str], Awaitable[None]]
ENTRIES = "SELECT * FROM audit_entries ORDER BY number"
# What somebody may do who is stronger than the processes, and where it must be seen.
TAMPERED = {
    "an entry is changed": (
        "UPDATE audit_entries SET fields = '{}' WHERE number = 3",
        "entry 3 of the audit trail is not what",
    ),
    "an entry's author is changed": (
        "UPDATE audit_entries SET actor_id = gen_random_uuid() WHERE number = 1",
        "entry 1 of the audit trail is not what",
    ),
    "an entry is taken out": ("DELETE FROM audit_entries WHERE number = 2", "entry 2 of the audit trail is missing"),
    "the first is taken out": ("DELETE FROM audit_entries WHERE number = 1", "entry 1 of the audit trail is missing"),
    "the end is cut off": (
        "DELETE FROM audit_entries WHERE number > 4",
        "the audit trail ends with entry 4; 5 were written",
    ),
    "all of it is": ("TRUNCATE audit_entries", "the audit trail ends with entry 0; 5 were written"),
    "two change places": (
        "UPDATE audit_entries SET number = 12 - number WHERE number IN (2, 3);"
        " UPDATE audit_entries SET number = number - 7 WHERE number > 5",
        "entry 2 of the audit trail is not what",
    ),
    "the last is made up, with a hash that fits": ("FORGE", "entry 5 of the audit trail, its last, is not the one"),
}


def told(**more: object) -> Record:
    whole: dict[str, object] = {
        "id": new_id(),
        "create_time": utc_now(),
        "actor_kind": 1,
        "actor_id": new_id(),
        "method": "switchboard.v1.ConversationService.UpdateConversation",
        "outcome": DONE,
        "resource_fields": ["conversation_id"],
        "resource_ids": [str(new_id())],
        "fields": ["conversation_id", "subject"],
        "cause_id": "ä request",
        "client_address": "10.0.0.1",
        **more,
    }
    return Record(**whole)  # type: ignore[arg-type]


async def pended(desk: Desk, count: int) -> list[Record]:
    records = [told() for _ in range(count)]

    async def work(write: Write) -> None:
        for item in records:
            await record.pend(write.connection, item)

    await desk.database.write(work)
    return records


async def caught_up(desk: Desk, limit: int = 3) -> None:
    while await desk.database.write(lambda write: follow.follow(write, limit=limit)):
        pass


async def broken(desk: Desk) -> str | None:
    async with desk.database.snapshot() as connection:
        return await chain.broken(connection)


@pytest.fixture
def as_owner(desks: Installed, own_desk: Desk) -> Owned:
    """Runs statements as a superuser to whom no trigger applies."""

    async def run(statement: str) -> None:
        owner = f"{desks.server_dsn.rpartition('/')[0]}/{own_desk.dsn.rpartition('/')[2]}"
        connection = await asyncpg.connect(owner, server_settings={"session_replication_role": "replica"})
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    return run


async def test_entries_are_numbered_in_order_and_chained(own_desk: Desk) -> None:
    records = await pended(own_desk, 7)
    await caught_up(own_desk)
    rows = await own_desk.rows(ENTRIES)
    assert [row["number"] for row in rows] == list(range(1, 8))
    assert [row["id"] for row in rows] == [item.id for item in records]
    assert len({row["hash"] for row in rows}) == 7
    assert await own_desk.rows("SELECT * FROM audit_pending") == []
    assert await broken(own_desk) is None


async def test_a_message_sent_is_entered_from_the_log_once_and_without_its_text(own_desk: Desk) -> None:
    channel, by = await own_desk.new_channel(), await own_desk.new_agent()
    conversation = await own_desk.started(channel)
    await own_desk.writer().submit(
        own_desk.send(conversation.id, "a secret word", by=agent(by), client_address="10.0.0.7", user_agent="x/1")
    )
    await caught_up(own_desk)
    # A follower that lost its place begins at the floor again.
    await own_desk.execute("DELETE FROM consumers WHERE name = 'audit'")
    await caught_up(own_desk)
    rows = await own_desk.rows(ENTRIES)
    (sent,) = [row for row in rows if row["method"] == "switchboard.v1.MessageService.SendMessage"]
    assert (sent["actor_id"], sent["cause_id"]) == (by, "test")
    assert (sent["client_address"], sent["user_agent"]) == ("10.0.0.7", "x/1")
    assert sent["resource_ids"][0] == str(conversation.id)
    assert "secret" not in str(sent)
    assert await broken(own_desk) is None


async def test_a_follower_that_dies_before_its_commit_enters_nothing_twice(own_desk: Desk) -> None:
    class Died(Exception):
        pass

    async def die(write: Write) -> None:
        await follow.follow(write)
        raise Died

    await pended(own_desk, 3)
    with pytest.raises(Died):
        await own_desk.database.write(die)
    assert await own_desk.rows(ENTRIES) == []
    await caught_up(own_desk)
    assert len(await own_desk.rows(ENTRIES)) == 3
    assert await broken(own_desk) is None


async def test_followers_of_two_processes_make_one_chain(own_desk: Desk) -> None:
    for _ in range(5):
        await pended(own_desk, 4)
        await asyncio.gather(own_desk.database.write(follow.follow), own_desk.beside.write(follow.follow))
    await caught_up(own_desk)
    assert len(await own_desk.rows(ENTRIES)) == 20
    assert await broken(own_desk) is None


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_entries SET method = ''", "DELETE FROM audit_entries", "TRUNCATE audit_entries"],
)
async def test_the_tenants_role_may_not_change_an_entry(own_desk: Desk, statement: str) -> None:
    await pended(own_desk, 1)
    await caught_up(own_desk)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await own_desk.execute(statement)


@pytest.mark.parametrize("statement", ["UPDATE audit_entries SET method = ''", "TRUNCATE audit_entries"])
async def test_nor_may_its_owner(desks: Installed, own_desk: Desk, statement: str) -> None:
    await pended(own_desk, 1)
    await caught_up(own_desk)
    owner = await asyncpg.connect(f"{desks.server_dsn.rpartition('/')[0]}/{own_desk.dsn.rpartition('/')[2]}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
        await owner.execute(statement)
    await owner.close()


@pytest.mark.parametrize("deed", TAMPERED)
async def test_tampering_is_found_and_named(own_desk: Desk, as_owner: Owned, deed: str) -> None:
    await pended(own_desk, 5)
    await caught_up(own_desk)
    statement, wanted = TAMPERED[deed]
    if statement == "FORGE":
        rows = await own_desk.rows(ENTRIES)
        forged = {**dict(rows[4]), "method": "switchboard.v1.Nothing.Happened"}
        made = chain.hash_of(bytes(rows[3]["hash"]), 5, forged).hex()
        statement = f"UPDATE audit_entries SET method = '{forged['method']}', hash = '\\x{made}' WHERE number = 5"
    await as_owner(statement)
    assert (await broken(own_desk) or "").startswith(wanted)


async def test_what_customers_write_is_not_entered(own_desk: Desk) -> None:
    conversation = await own_desk.started(await own_desk.new_channel())
    await own_desk.writer().submit(own_desk.send(conversation.id, by=nobody()))
    await caught_up(own_desk)
    assert [row["actor_kind"] for row in await own_desk.rows(ENTRIES)] == [5]


def test_the_address_is_the_one_that_the_edge_added() -> None:
    assert client_address({"x-forwarded-for": "6.6.6.6, 10.1.2.3"}, "ipv4:127.0.0.1:5") == "10.1.2.3"
    assert client_address({}, "ipv4:127.0.0.1:4711") == "127.0.0.1"
    assert client_address({}, "ipv6:%5B::1%5D:4711") == "::1"
    assert client_address({}, "unix:") is None


async def test_a_call_that_writes_in_two_units_is_one_entry_whenever_the_follower_comes(own_desk: Desk) -> None:
    once = told()
    for _ in range(2):
        await own_desk.database.write(lambda write: record.pend(write.connection, once))
        await caught_up(own_desk)
    (last,) = await pended(own_desk, 1)
    await caught_up(own_desk)
    async with own_desk.database.connection() as connection:
        assert [row["id"] for row in await connection.fetch(ENTRIES)] == [once.id, last.id]
    assert await broken(own_desk) is None
