"""Everything at once, for minutes: load, watchers and faults at random. Afterwards every promise is counted out.

SWITCHBOARD_FAULTS_SECONDS is how long the faults last (100), SWITCHBOARD_FAULTS_SEED repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import asyncpg
import pytest
from faults_chaos import Chaos
from faults_load import Load
from faults_watch import Seen, disorders, gaps, watch_rest, watch_sdk

from server.embedded import seeding
from server.embedded.stack import Options, Stack

pytestmark = pytest.mark.faults

SECONDS = float(os.environ.get("SWITCHBOARD_FAULTS_SECONDS", "100"))
SEED = int(os.environ.get("SWITCHBOARD_FAULTS_SEED", str(random.SystemRandom().randrange(10**6))))
# A send whose worker died becomes unknown after its lease of 60 s, and holds its conversation for 60 s more.
QUIET_WITHIN = 150.0
RECEIPTS = {"sent_ms": 20, "delivered_ms": 60, "read_ms": 200}
UNDONE = """
SELECT (SELECT count(*) FROM journal WHERE state = 'received') AS journal,
    (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'in_flight')) AS deliveries,
    (SELECT count(*) FROM message_parts p JOIN messages m ON m.id = p.message_id
        WHERE m.direction = 'outbound' AND p.status IN ('sent', 'delivered')) AS receipts,
    (SELECT head - coalesce((SELECT seq FROM consumers WHERE name = 'statistics'), 0) FROM stream_head) AS statistics
"""
MISCOUNTED = """
SELECT c.id FROM conversations c JOIN (
    SELECT conversation_id, count(*) AS messages, count(*) FILTER (WHERE direction = 'inbound') AS inbound,
        max(sequence) AS newest, count(DISTINCT sequence) AS sequences, count(DISTINCT arrival) AS arrivals,
        min(arrival) AS first, max(arrival) AS last, (array_agg(id ORDER BY sequence DESC))[1] AS newest_id,
        coalesce(max(arrival) FILTER (WHERE direction = 'inbound'), 0) AS last_inbound,
        coalesce(max(arrival) FILTER (WHERE direction = 'outbound'), 0) AS last_outbound
    FROM messages GROUP BY conversation_id) m ON m.conversation_id = c.id
WHERE (c.message_count, c.inbound_count, c.last_sequence, c.last_inbound_arrival, c.last_outbound_arrival, c.last_message_id)
    IS DISTINCT FROM (m.messages, m.inbound, m.newest, m.last_inbound, m.last_outbound, m.newest_id)
    OR (m.sequences, m.arrivals, m.first, m.last) IS DISTINCT FROM (m.messages, m.messages, 1, m.messages)
"""
COUNTED = "SELECT channel_id, status, assigned, unread, count FROM conversation_counts WHERE count > 0"
RECOUNTED = """
SELECT channel_id, status, assignee_id IS NOT NULL AS assigned, inbound_count > team_read_count AS unread, count(*) AS count
FROM conversations WHERE delete_time IS NULL GROUP BY 1, 2, 3, 4
"""
OUTBOUND = """
SELECT p.id::text, p.status, p.provider_message_id AS wamid, m.id::text AS message_id, m.request_id, m.sequence,
    m.conversation_id, d.state AS delivery, d.error_message
FROM message_parts p JOIN messages m ON m.id = p.message_id JOIN deliveries d ON d.part_id = p.id WHERE m.direction = 'outbound'
"""


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose simulator neither limits nor closes windows: here customers write without it."""
    with Stack(Options(home=tmp_path_factory.mktemp("random") / "home", receipts=RECEIPTS)) as stack:
        dev = stack.dev()
        limits = {"throughput_per_second": None, "pair_seconds": None}
        hooks = {
            "app_secret": dev["meta_app"]["app_secret"],
            "webhook_url": stack.url + dev["meta_app"]["webhook_path"],
        }
        for account in seeding.load_accounts(stack.home.accounts).values():
            config = {**asdict(account), **hooks, "limits": limits, "window": "off"}
            request = urllib.request.Request(
                dev["simulator"]["url"] + "/_control/accounts", data=json.dumps(config).encode(), method="POST"
            )
            urllib.request.urlopen(request, timeout=10).close()
        yield stack


class Tenant:
    """The tenant's database, read when all is over."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def fetch(self, query: str, *values: Any, database: str = "tenant") -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._stack.dev()["postgres"][database])
        try:
            return await connection.fetch(query, *values)
        finally:
            await connection.close()

    async def quarantined(self) -> int:
        (row,) = await self.fetch("SELECT count(*) AS n FROM quarantine", database="control")
        return int(row["n"])

    async def undone(self) -> dict[str, int]:
        """What still has to happen, by name; empty when all is quiet."""
        (row,) = await self.fetch(UNDONE)
        found = {**dict(row), "quarantine": await self.quarantined()}
        return {name: count for name, count in found.items() if count}


@asynccontextmanager
async def watching(dev: dict[str, Any]) -> AsyncIterator[list[Seen]]:
    """Two watchers by gRPC and two by REST. One that raises shows it at the end."""
    seen = [Seen("grpc 1"), Seen("grpc 2"), Seen("rest 1"), Seen("rest 2")]
    follow = (watch_sdk, watch_sdk, watch_rest, watch_rest)
    tasks = [asyncio.create_task(watch(dev, each)) for watch, each in zip(follow, seen, strict=True)]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        for each, result in zip(seen, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if not isinstance(result, asyncio.CancelledError):
                each.failures.append(repr(result))


async def until_quiet(tenant: Tenant, watchers: list[Seen]) -> float:
    """Waits for what must still happen by itself; returns how long it took."""
    began = time.monotonic()
    while True:
        undone = await tenant.undone()
        (row,) = await tenant.fetch("SELECT head FROM stream_head")
        behind = {each.name: row["head"] - each.last for each in watchers if each.last < row["head"]}
        if not undone and not behind:
            return time.monotonic() - began
        if time.monotonic() - began > QUIET_WITHIN:
            raise AssertionError(f"not quiet after {QUIET_WITHIN:.0f} s: {undone}, watchers behind: {behind}")
        await asyncio.sleep(1)


def provider_requests(dev: dict[str, Any]) -> list[dict[str, Any]]:
    """The sends that the provider accepted, in their order."""
    with urllib.request.urlopen(dev["simulator"]["url"] + "/_control/requests", timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["requests"]
    return [item for item in found if item["status"] == 200 and item["body"].get("biz_opaque_callback_data")]


async def check_inbound(tenant: Tenant, load: Load) -> Counter[str]:
    rows = await tenant.fetch("SELECT provider_message_id AS wamid, message_id FROM message_parts")
    stored = Counter(row["wamid"] for row in rows if row["wamid"] in load.written)
    events = await tenant.fetch("SELECT count(*) AS n, count(DISTINCT payload) AS d FROM stream_event WHERE kind = 20")
    (inbound,) = await tenant.fetch("SELECT count(*) AS n FROM messages WHERE direction = 'inbound'")
    failed = await tenant.fetch("SELECT kind, result, count(*) FROM journal_items WHERE state = 'failed' GROUP BY 1, 2")
    assert not failed, failed
    assert (events[0]["n"], events[0]["d"]) == (inbound["n"], inbound["n"])
    return Counter(
        lost=len(load.written - stored.keys()), doubled=sum(count - 1 for count in stored.values() if count > 1)
    )


async def check_outbound(tenant: Tenant, load: Load) -> Counter[str]:
    """Sends: one message for each request id, at most one accepted request for each part, in order, none left over."""
    parts = {row["id"]: row for row in await tenant.fetch(OUTBOUND)}
    by_request = Counter(row["request_id"] for row in parts.values())
    answered = {row["request_id"]: {row["message_id"]} for row in parts.values()}
    accepted = [
        item["body"]["biz_opaque_callback_data"] for item in await asyncio.to_thread(provider_requests, load.dev)
    ]
    newest: dict[Any, int] = {}
    found: Counter[str] = Counter(lost=0, doubled=0, reordered=0)
    for part_id in accepted:
        row = parts[part_id]
        found["reordered"] += row["sequence"] <= newest.get(row["conversation_id"], 0)
        newest[row["conversation_id"]] = row["sequence"]
    found["doubled"] += sum(count - 1 for count in Counter(accepted).values())
    found["doubled"] += sum(count - 1 for count in by_request.values())
    found["lost"] += sum(1 for request_id, ids in load.sent.items() if ids and answered.get(request_id) != ids)
    wrong = {
        row["id"]: row["status"] for row in parts.values() if (row["status"] == "read") != (row["id"] in set(accepted))
    }
    unknown = Counter(row["error_message"] for row in parts.values() if row["status"] == "unknown")
    print(f"sends {len(load.sent)}, accepted {len(accepted)}, unknown {sum(unknown.values())}: {dict(unknown)}")
    assert not {row["status"] for row in parts.values()} - {"read", "failed", "unknown"}
    assert not wrong, wrong
    return found


async def check_notes(tenant: Tenant, load: Load) -> Counter[str]:
    """Units of work: one note for each request id."""
    rows = await tenant.fetch("SELECT id::text, text FROM conversation_notes")
    ids = {row["text"]: {row["id"]} for row in rows}
    lost = sum(1 for request_id, found in load.noted.items() if found and ids.get(request_id) != found)
    return Counter(lost=lost, doubled=len(rows) - len(ids))


async def check_log(tenant: Tenant, watchers: list[Seen]) -> Counter[str]:
    rows = await tenant.fetch("SELECT seq, event_id::text AS id, kind FROM stream_event ORDER BY seq")
    (head,) = await tenant.fetch("SELECT head FROM stream_head")
    assert [row["seq"] for row in rows] == list(range(1, head["head"] + 1))
    expected = [(row["seq"], row["id"]) for row in rows if row["kind"] not in (90, 91)]
    found: Counter[str] = Counter()
    for each in watchers:
        assert not each.failures, (each.name, each.failures)
        assert not set(each.events) - set(expected), each.name
        found += Counter(gaps=gaps(each, expected), repeated=disorders(each))
        assert each.events == expected or found, each.name
    print(f"events {len(rows)}, streams of the REST watchers {[each.streams for each in watchers[2:]]}")
    return found


async def check_counts(tenant: Tenant) -> None:
    assert await tenant.fetch(MISCOUNTED) == []
    counted = {tuple(row) for row in await tenant.fetch(COUNTED)}
    assert counted == {tuple(row) for row in await tenant.fetch(RECOUNTED)}
    (people,) = await tenant.fetch(
        "SELECT count(*) AS identities, (SELECT count(*) FROM contacts) AS contacts, (SELECT count(*) FROM conversations)"
        " AS conversations FROM identities"
    )
    assert people["identities"] == people["contacts"] == people["conversations"], people


@pytest.mark.timeout(900)
async def test_nothing_is_lost_doubled_or_reordered_whatever_dies(storm: Stack) -> None:
    print(f"\nSWITCHBOARD_FAULTS_SEED={SEED} SWITCHBOARD_FAULTS_SECONDS={SECONDS:.0f}")
    rng, dev, tenant = random.Random(SEED), storm.dev(), Tenant(storm)
    load = Load(dev, random.Random(SEED + 1), [f"49151{SEED:06d}{index:03d}" for index in range(50)])
    chaos = Chaos(storm, rng)
    # Children die with the thread that started them: this one lives as long as the test.
    with ThreadPoolExecutor(1) as thread:
        async with watching(dev) as watchers:
            await load.first()
            await until_quiet(tenant, [])
            load.conversations = [
                str(row["id"]) for row in await tenant.fetch("SELECT id FROM conversations ORDER BY id")
            ]
            assert len(load.conversations) == 50
            faults = asyncio.get_running_loop().run_in_executor(thread, lambda: chaos.run(seconds=SECONDS))
            try:
                await asyncio.gather(faults, load.run(seconds=SECONDS + 5))
                quiet = await until_quiet(tenant, watchers)
            finally:
                print("\n".join(chaos.story))
                print(f"retries {dict(load.retries)}\nunexpected {dict(load.unexpected)}\ndied {chaos.died}")
        totals = Counter(lost=0, doubled=0, reordered=0, gaps=0, repeated=0)
        totals.update(await check_inbound(tenant, load))
        totals.update(await check_outbound(tenant, load))
        totals.update(await check_notes(tenant, load))
        totals.update(await check_log(tenant, watchers))
        print(f"inbound {len(load.written)}, notes {len(load.noted)}, quiet after {quiet:.0f} s")
        print(f"{sum(chaos.faults.values())} faults {dict(chaos.faults)}\n{dict(totals)}")
        await check_counts(tenant)
        assert not any(totals.values()), totals
        assert not chaos.died, chaos.died
        assert not load.unexpected, load.unexpected
