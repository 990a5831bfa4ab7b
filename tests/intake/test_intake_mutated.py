"""A hundred thousand signed bodies with something wrong in them: none is refused with a 5xx, none stops those behind it."""

import asyncio
import hashlib
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from intake_mutated import Mutations
from intake_post import Post, text, until, word

from server.embedded.stack import Options, Stack
from server.journal import browse
from server.kit.clock import utc_now
from server.simulator import payloads
from server.simulator.payloads import Number
from tests.known_number import know
from tests.typed import switchboard

AT_ONCE = 12
DAY = timedelta(days=1)
LEFT = """
SELECT id, state, attempts, due_time - now() AS due_in, error, split, octet_length(body) FROM journal WHERE state <> 'applied' LIMIT 5
"""
FAILED_PAYLOADS = "SELECT count(DISTINCT journal_id) FROM journal_items WHERE state = 'failed'"
REACHED = 0.6
MEMORY = 64 * 2**20
"""How much bigger a process may be after all of the bodies than after the first tenth."""
COUNT = int(os.environ.get("SWITCHBOARD_MUTATED", "100000"))
THOUSANDS = 12
SEED = int(os.environ.get("SWITCHBOARD_MUTATED_SEED", "2"))


@dataclass
class Shop:
    """A tenant of its own, whose tables nobody else's tests look at."""

    post: Post
    number: Number
    database: asyncpg.Connection
    tenant: str
    answers: Counter[int] = field(default_factory=Counter)
    hashes: set[bytes] = field(default_factory=set)

    async def take(self, bodies: Iterator[bytes]) -> None:
        """Posts bodies, several at a time."""

        async def post_some() -> None:
            for body in bodies:
                answer = await self.post.signed(body)
                self.answers[answer.status] += 1
                self.hashes.add(hashlib.sha256(body).digest())

        await asyncio.gather(*(post_some() for _ in range(AT_ONCE)))

    async def waiting(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM journal WHERE state <> 'applied'"))

    async def calm(self, *, within: float) -> None:
        async def nothing_waits() -> bool:
            return await self.waiting() == 0

        try:
            await until(nothing_waits, within=within)
        except AssertionError:
            left = await self.database.fetch(LEFT)
            raise AssertionError(f"not applied within {within} s: {[dict(row) for row in left]}") from None

    async def kept(self) -> tuple[int, int]:
        """How many of the bodies are in the journal, and how many in the quarantine."""
        hashes = list(self.hashes)
        mine = {
            row[0]
            for row in await self.database.fetch(
                "SELECT DISTINCT sha256 FROM journal WHERE sha256 = ANY($1::bytea[])", hashes
            )
        }
        apart = {
            row[0]
            for row in await self.post.control.fetch(
                "SELECT DISTINCT content_hash FROM quarantine WHERE content_hash = ANY($1::bytea[])", hashes
            )
        }
        assert mine | apart == self.hashes, "answered 200 and kept nowhere"
        return len(mine), len(apart - mine)

    async def failed(self) -> Counter[str]:
        """Failed items by kind and reason."""
        rows = await self.database.fetch(
            "SELECT kind, result, count(*) AS n FROM journal_items WHERE state = 'failed' GROUP BY 1, 2"
        )
        return Counter({f"{row['kind']}: {row['result']}": row["n"] for row in rows})

    async def seconds_of_a_normal_one(self) -> float:
        """From the POST until the message is there."""
        began, said = time.monotonic(), word()
        body = payloads.inbound_body(self.number, [text(said)])
        assert (await self.post.signed(body)).status == 200

        async def there() -> bool:
            return bool(await self.database.fetchval("SELECT count(*) FROM messages WHERE text = $1", said))

        await until(there, within=30)
        return time.monotonic() - began


async def open_shop(post: Post) -> Shop:
    name, waba_id = f"mutated-{uuid.uuid4().hex[:10]}", f"7{uuid.uuid4().int % 10**14:014}"
    made = await post.call("POST", "/v1/tenants", key=post.dev["platform_key"], body={"name": name})
    number = Number(waba_id, f"7{uuid.uuid4().int % 10**14:014}", "15550783999")
    connect = {"name": "Mutated", "phoneNumberId": number.phone_number_id, "wabaId": waba_id}
    know(post.dev, number.phone_number_id, waba_id, "EAAJtoken", display_phone_number=number.display_phone_number)
    more = {"accessToken": "EAAJtoken", "displayPhoneNumber": number.display_phone_number}
    await post.call("POST", "/v1/channels:connectWhatsapp", key=made["secret"], body=connect | more)
    database = await post.control.fetchval("SELECT database_name FROM tenants WHERE name = $1", name)
    dsn = post.dev["postgres"]["control"].rpartition("/")[0] + f"/{database}"
    return Shop(post, number, await asyncpg.connect(dsn), name)


@pytest.fixture
async def shop(post: Post) -> AsyncIterator[Shop]:
    opened = await open_shop(post)
    yield opened
    await opened.database.close()


def mutations(shop: Shop, seed: int) -> Mutations:
    return Mutations(seed=seed, waba_id=shop.number.waba_id, phone_number_id=shop.number.phone_number_id)


async def proven(shop: Shop) -> None:
    """What must hold after any number of bodies."""
    assert set(shop.answers) == {200}
    stored, apart = await shop.kept()
    failed = await shop.failed()
    print(f"{stored} journaled, {apart} set apart, failed items: {failed.total()}, for {len(failed)} reasons")
    # Whatever is wrong in an item is found by the parser; the database never sees it.
    assert failed
    assert [name for name in failed if not name.startswith("broken: ")] == []
    now = utc_now()
    entries = await browse.entries(
        shop.database, since=now - DAY, until=now + DAY, state=None, failed=True, limit=1_000_000
    )
    assert len(entries) == await shop.database.fetchval(FAILED_PAYLOADS)


async def test_mutated_bodies_are_kept_and_applied_and_stop_nothing(shop: Shop) -> None:
    await shop.take(mutations(shop, 1).bodies(1_000))
    await shop.calm(within=60)
    await proven(shop)
    stored, _ = await shop.kept()
    assert stored >= REACHED * len(shop.hashes)
    await shop.seconds_of_a_normal_one()


def memory(stack: Stack) -> dict[str, int]:
    """Bytes of memory that our processes hold, by name."""
    names = [name for name in stack.names() if name.startswith(("serve", "work"))]
    return {name: resident(stack.pid(name)) for name in names}


def resident(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def received(post: Post) -> Counter[str]:
    """What the servers' metrics count of webhooks, by outcome."""
    found: Counter[str] = Counter()
    for process in post.dev["processes"]:
        if process["name"].startswith("serve") and "metrics" in process:
            async with post.session.get(process["metrics"]) as answer:
                told = await answer.text()
            for outcome, count in re.findall(r'webhooks_received_total\{outcome="(\w+)"\} (\S+)', told):
                found[outcome] += int(float(count))
    return found


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[Stack, Shop]]:
    """A stack of the test's own: nobody else's work counts in its memory."""
    with Stack(Options(home=tmp_path / "home")) as stack:
        async with aiohttp.ClientSession() as session, Post.open(session, stack.dev()) as post:
            shop = await open_shop(post)
            yield stack, shop
            await shop.database.close()


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_a_hundred_thousand_mutated_bodies(own: tuple[Stack, Shop], tmp_path: Path) -> None:
    stack, shop = own
    bodies = mutations(shop, SEED).bodies(COUNT)
    pids = {name: stack.pid(name) for name in stack.names()}
    began, grown = time.monotonic(), []
    for _ in range(10):
        await shop.take(islice(bodies, COUNT // 10))
        await shop.calm(within=60)
        grown.append(memory(stack))
        print(
            f"{shop.answers.total()} bodies in {time.monotonic() - began:.0f} s, memory {shown(grown[-1])}", flush=True
        )
    seconds = await shop.seconds_of_a_normal_one()
    counted = await received(shop.post)
    print(f"counted: {dict(counted)}; a normal message afterwards is there after {seconds:.3f} s")
    await proven(shop)
    assert {name: stack.pid(name) for name in stack.names()} == pids, "a process ended"
    assert counted.total() == COUNT + 1
    assert counted["stored"] >= REACHED * COUNT
    assert seconds < 1
    # What the first tenth brought is caches and pools.
    assert {name: now - grown[0][name] for name, now in grown[-1].items() if now - grown[0][name] > MEMORY} == {}
    code, listed, _ = await switchboard(
        "journal", "list", "--failed", "--tenant", shop.tenant, environment={}, home=tmp_path / "home"
    )
    assert (code, "failed" in listed) == (0, True)
    _, told, _ = await switchboard("doctor", environment={}, home=tmp_path / "home")
    assert f"tenant {shop.tenant}" in told
    assert "items of payloads failed within 7 days" in told


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_t7_a_thousand_updates_in_three_megabytes_are_answered_in_time_and_leave_memory_as_it_was(
    own: tuple[Stack, Shop],
) -> None:
    stack, shop = own
    grown, answered = [], []
    for turn in range(THOUSANDS):
        said = word()
        people = [text(f"{said} {index:03} " + "\u00e4" * 450, f"49151{turn:02}{index:06}") for index in range(1000)]
        body = payloads.inbound_body(shop.number, people)
        body["padding"] = "x" * max(3_000_000 - len(payloads.encode(body)), 0)
        raw = payloads.encode(body)
        assert 3_000_000 <= len(raw) < 4 << 20
        began = time.monotonic()
        assert (await shop.post.signed(raw)).status == 200
        answered.append(time.monotonic() - began)
        await shop.calm(within=60)
        count = await shop.database.fetchval("SELECT count(*) FROM messages WHERE text LIKE $1", f"{said} %")
        assert count == 1000
        grown.append(memory(stack))
        print(f"answered in {answered[-1]:.2f} s, applied in {time.monotonic() - began:.1f} s, {shown(grown[-1])}")
    assert max(answered) < 5
    # The first two bring caches and pools.
    assert {name: now - grown[1][name] for name, now in grown[-1].items() if now - grown[1][name] > MEMORY} == {}


def shown(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size // 2**20} MiB" for name, size in sizes.items())
