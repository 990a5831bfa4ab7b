"""Timers under load, on the whole stack: how late, how many, and what people notice of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
import redis.asyncio
from timers_stack import People, TimerStack, percentile

from server.embedded.stack import Options, Stack
from server.kit.clock import utc_now
from tests.moved_time import move_time

pytestmark = pytest.mark.faults
HOUR = timedelta(hours=1)
AT_ONCE = int(os.environ.get("SWITCHBOARD_TIMERS_AT_ONCE", "100000"))
BEFORE_SECONDS = float(os.environ.get("SWITCHBOARD_TIMERS_BEFORE_SECONDS", "60"))


@pytest.fixture
def timer_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimerStack]:
    """A stack of its own whose time can be moved, without receipts."""
    home = tmp_path_factory.mktemp("timers") / "home"
    with Stack(Options(home=home, receipts=None, environment={"SWITCHBOARD_ENV": "test"})) as stack:
        yield TimerStack(stack)


@pytest.fixture
async def people(timer_stack: TimerStack) -> AsyncIterator[People]:
    made = People(timer_stack)
    yield made
    await made.close()


@pytest.mark.timeout(300)
async def test_a_hundred_due_each_second_are_at_most_a_second_late(timer_stack: TimerStack) -> None:
    snoozes = await timer_stack.snooze(6000, first=timedelta(seconds=8), apart=timedelta(milliseconds=10))
    await timer_stack.settle()
    await timer_stack.until_woken(snoozes, within=90)
    late = await timer_stack.check_once_and_intended(snoozes)
    p50, p99, most = percentile(late, 0.5), percentile(late, 0.99), max(late)
    print(f"\n6,000 in 60 s: late p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, most {most * 1000:.0f} ms")
    assert min(late) >= 0
    assert p99 <= 1


@pytest.mark.timeout(300)
async def test_two_hundred_of_one_second_and_one_of_the_next_tenth_are_in_time(
    timer_stack: TimerStack, people: People
) -> None:
    await people.meet(1)
    snoozes = await timer_stack.snooze(200, first=timedelta(seconds=8), apart=timedelta(milliseconds=5))
    await timer_stack.settle()
    soon = utc_now() + timedelta(milliseconds=100)
    snoozes.due[await people.snooze(soon)] = soon
    await timer_stack.until_woken(snoozes, within=60)
    late = await timer_stack.check_once_and_intended(snoozes)
    print(
        f"\n200 of a second and one of a tenth: late p50 {percentile(late, 0.5) * 1000:.0f} ms, most {max(late) * 1000:.0f} ms"
    )
    assert min(late) >= 0
    assert max(late) <= 1


@pytest.mark.timeout(900)
async def test_a_hundred_thousand_due_at_once_all_fire_and_people_hardly_notice(
    timer_stack: TimerStack, people: People
) -> None:
    """With 1,000 idle tenants, and Valkey emptied a second before.

    The idle tenants are rows of the control database alone: that nobody connects to them is the point, and a worker that did
    would fail there, since their databases do not exist.
    """
    await timer_stack.idle_tenants(1000)
    await people.meet()
    ahead = timedelta(seconds=BEFORE_SECONDS + AT_ONCE / 2500 + 20)
    snoozes = await timer_stack.snooze(AT_ONCE, first=ahead)
    due = time.monotonic() + (min(snoozes.due.values()) - utc_now()).total_seconds()
    await timer_stack.settle()
    await asyncio.sleep(max(due - BEFORE_SECONDS - time.monotonic(), 0))
    before = await people.work(lambda: time.monotonic() > due - 1)
    async with redis.asyncio.from_url(timer_stack.stack.valkey_url()) as valkey:
        await valkey.flushall()
    woken = asyncio.create_task(timer_stack.until_woken(snoozes, within=600))
    await asyncio.sleep(max(due - time.monotonic(), 0))
    meanwhile = await people.work(woken.done)
    took = time.monotonic() - due
    await timer_stack.check_once_and_intended(snoozes)
    print(f"\n{AT_ONCE} at once: all fired within {took:.0f} s ({AT_ONCE / took:.0f}/s)")
    for name, values in before.items():
        report(name, values, meanwhile[name])
    for name, values in before.items():
        assert percentile(meanwhile[name], 0.99) <= 2 * percentile(values, 0.99), name


def report(name: str, before: list[float], meanwhile: list[float]) -> None:
    for label, values in (("before", before), ("meanwhile", meanwhile)):
        p50, p95, p99 = (percentile(values, part) * 1000 for part in (0.5, 0.95, 0.99))
        print(f"{name} {label}: {len(values)} calls, p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")


@pytest.fixture
def still_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimerStack]:
    """A stack whose time is nobody's concern: in a test's, processes ask for it ten times a second."""
    with Stack(Options(home=tmp_path_factory.mktemp("idle") / "home", receipts=None)) as stack:
        yield TimerStack(stack)


@pytest.mark.timeout(300)
async def test_an_idle_tenant_costs_no_connection_and_no_statement(still_stack: TimerStack) -> None:
    """1,000 tenants, rows of the control database alone, and the second seeded tenant, which is a real one.

    The statements on the control database are counted by its transactions: each is a transaction of its own.
    """
    timer_stack = still_stack
    second = timer_stack.dev["tenants"][1]
    alone = await control_transactions(timer_stack, seconds=10)
    names = await timer_stack.idle_tenants(1000)
    async with timer_stack.database("control") as control:
        names.append(await control.fetchval("SELECT database_name FROM tenants WHERE name = $1", second["name"]))
    watching = asyncio.create_task(used(timer_stack, names, seconds=12))
    among_many = await control_transactions(timer_stack, seconds=10)
    seen = await watching
    print(f"\ncontrol database, transactions in 10 s: {alone} alone, {among_many} beside 1,000 idle tenants")
    assert seen == set()
    assert among_many <= alone * 1.2 + 10


async def control_transactions(timer_stack: TimerStack, *, seconds: float) -> int:
    """Transactions of the control database while nobody calls: those of the workers and servers that look for work."""
    async with timer_stack.database("control") as control:
        name = await control.fetchval("SELECT current_database()")
    counts = []
    async with timer_stack.database() as beside:
        for wait in (18.0, seconds):
            # Idle backends report what they did within a second.
            await asyncio.sleep(wait)
            counts.append(await beside.fetchval("SELECT xact_commit FROM pg_stat_database WHERE datname = $1", name))
    return int(counts[1] - counts[0])


async def used(timer_stack: TimerStack, names: list[str], *, seconds: float) -> set[tuple[str, str]]:
    """Those of the databases that a client connected to, or sent a statement to, with its last statement.

    Connections of earlier calls may lie idle.
    """
    seen: set[tuple[str, str]] = set()
    async with timer_stack.database() as connection:
        # What was announced at the start has to run out.
        await asyncio.sleep(16)
        began, end = await connection.fetchval("SELECT clock_timestamp()"), time.monotonic() + seconds
        while time.monotonic() < end:
            rows = await connection.fetch(
                "SELECT DISTINCT datname, left(query, 200) AS query FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND datname = ANY($1) AND greatest(backend_start, state_change) > $2",
                *(names, began),
            )
            seen |= {(row["datname"], row["query"]) for row in rows}
            await asyncio.sleep(0.05)
    return seen


@pytest.mark.timeout(300)
async def test_a_worker_that_was_down_for_an_hour_fires_each_once_with_its_intended_time(
    timer_stack: TimerStack,
) -> None:
    await asyncio.to_thread(timer_stack.stack.terminate, "work")
    snoozes = await timer_stack.snooze(360, first=timedelta(seconds=60), apart=timedelta(seconds=9))
    await move_time(timer_stack.stack.server_dsn(), to=HOUR)
    await asyncio.to_thread(timer_stack.stack.restart, "work")
    took = await timer_stack.until_woken(snoozes, within=30)
    late = await timer_stack.check_once_and_intended(snoozes)
    print(f"\n360 of the hour fired within {took:.1f} s of the worker's return, up to {max(late):.0f} s late")
    assert max(late) > 3000
