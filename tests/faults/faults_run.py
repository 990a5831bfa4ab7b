"""One run: load, watchers and faults on a supervised stack; then silence, quiet, and every validator."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import grpc
from faults_chaos import Card, Chaos
from faults_load import RATES, Load, written
from faults_points import Points
from faults_probe import until_back
from faults_recorder import Recorder
from faults_supervised import supervised, unlimited
from faults_tables import SESSIONS, accepted_requests, list_pages, read_tables, undone
from faults_validate import Back, History, load_history, recoveries, totals, validate
from faults_watch import Watcher, watch_rest, watch_sdk
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1.conversation_service_pb2_grpc import ConversationServiceStub

from server.embedded.ports import LOOPBACK
from server.embedded.stack import Options, Stack
from server.inbox.tail import DEGRADED_SECONDS

PEOPLE, SLEEPERS = 60, 10
NAMES = ("grpc-1", "grpc-2", "rest-1", "rest-2")
OTHER_EVERY = 40.0
"""Somebody of the second tenant writes: so rarely that a worker retires the tenant in between."""
RECEIPTS = {"sent_ms": 20, "delivered_ms": 60, "read_ms": 200}
# A send whose worker died becomes unknown after its lease of 60 s, and holds its conversation for 60 s more.
QUIET_WITHIN = 400.0
UNHINTED_WITHIN = 6.0
CALM_CALLS, CALM_MEDIAN = 8, 0.2


@dataclass
class Result:
    """What came of a run."""

    seed: int
    findings: dict[str, list[str]]
    acknowledged: Counter[str]
    hits: Counter[tuple[str, str]]
    points: Counter[str]
    back: list[Back]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, int]:
        """Lost, doubled, reordered, gaps, wrong."""
        return totals(self.findings)


@dataclass(frozen=True)
class Plan:
    """What a run does.

    bug: planted in the children; end: shake the quiet system once more when the load is over; receipts: whether the provider
    sends any, or leaves us with what it answered.
    """

    seed: int
    seconds: float
    cards: list[Card]
    rates: Mapping[str, float] = field(default_factory=lambda: RATES)
    bug: str = ""
    quiet_within: float = QUIET_WITHIN
    end: bool = True
    receipts: bool = True


async def run(plan: Plan, folder: Path) -> Result:
    """Runs and validates. folder: for the home and the files; it must be new."""
    points = Points(folder / "points")
    options = Options(
        home=folder / "home",
        receipts=RECEIPTS if plan.receipts else None,
        workers=2,
        environment=points.environment(bug=plan.bug),
        spares=True,
    )
    starting = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        manager = supervised(options)
        stack = await starting.run_in_executor(thread, manager.__enter__)
        try:
            return await _Run(plan, folder, stack, points).run()
        finally:
            await starting.run_in_executor(thread, manager.__exit__, None, None, None)


class _Run:
    """A run on a stack that is ready."""

    def __init__(self, plan: Plan, folder: Path, stack: Stack, points: Points) -> None:
        self._plan, self._folder, self._stack, self._points = plan, folder / "history", stack, points
        self._dev = stack.dev()
        rng = random.Random(plan.seed)
        prefix = f"49151{plan.seed % 10**6:06d}"
        numbers = [f"{prefix}{index:03d}" for index in range(PEOPLE + SLEEPERS)]
        self._load = Load(
            self._dev,
            random.Random(rng.random()),
            numbers[:PEOPLE],
            numbers[PEOPLE:],
            Recorder(self._folder, "writer"),
        )
        self._chaos_file = Recorder(self._folder, "chaos")
        self._chaos = Chaos(stack, points, random.Random(rng.random()), self._chaos_file)
        key = self._dev["tenant_key"]
        self._watchers = [Watcher(name, self._dev, key, Recorder(self._folder, name)) for name in NAMES]
        other = self._dev["tenants"][1]
        self._other = Watcher("other", self._dev, other["key"], Recorder(self._folder, "other"))
        self._findings: dict[str, list[str]] = {}
        self._notes: dict[str, Any] = {}

    async def run(self) -> Result:
        unlimited(self._stack)
        async with self._load as load, self._watching():
            await load.first()
            await self._until_quiet()
            await self._name_conversations()
            await self._storm()
            await self._wait_for_processes()
            self._notes["quiet after"] = round(await self._until_quiet(), 1)
            if self._plan.end:
                await self._calm()
                await self._unheard()
                self._notes["quiet again after"] = round(await self._until_quiet(), 1)
        return await self._judge()

    async def _name_conversations(self) -> None:
        query = (
            "SELECT a.value AS phone, c.id::text AS id FROM identity_aliases a"
            " JOIN conversations c ON c.identity_id = a.identity_id WHERE a.kind = 'wa_id'"
        )
        self._load.conversations = {row["phone"]: row["id"] for row in await self._fetch(query)}
        assert len(self._load.conversations) == PEOPLE + SLEEPERS

    async def _storm(self) -> None:
        loop, seconds = asyncio.get_running_loop(), self._plan.seconds
        others = asyncio.create_task(self._others_write())
        began = time.monotonic()
        with ThreadPoolExecutor(1) as thread:
            chaos = loop.run_in_executor(thread, lambda: self._chaos.run(self._plan.cards, seconds=seconds))
            await asyncio.gather(chaos, self._load.run(seconds=seconds, rates=self._plan.rates))
        others.cancel()
        self._notes["seconds"] = round(time.monotonic() - began, 1)

    async def _others_write(self) -> None:
        """The second tenant has a life of its own: little, and nothing of it may be seen by the first."""
        channel = self._dev["channels"][1]
        for number in range(1000):
            raw, _ = written(channel, [f"49160{self._plan.seed % 10**6:06d}{number % 5:03d}"])
            await self._load.insist("other", lambda raw=raw: self._load.post_webhook(raw), Counter())
            await asyncio.sleep(OTHER_EVERY)

    async def _wait_for_processes(self) -> None:
        """Everything runs and answers."""
        for name in self._stack.names():
            if name != "simulator":
                back = await asyncio.to_thread(until_back, self._stack, name)
                assert back is not None, f"{name} did not come back"

    async def _calm(self) -> None:
        """V12, as far as it is a promise: with hints and nobody in the way, what is committed is heard of at once."""
        await asyncio.sleep(3)
        delays: list[float] = []
        for watcher in self._watchers:
            watcher.verbatim = True
        for _ in range(CALM_CALLS):
            await asyncio.sleep(random.uniform(0.3, 0.7))
            t0, op = time.monotonic(), await self._note(self._load.conversations[self._load.people[0]])
            delays.append(max(await self._heard(op, since=t0)))
        self._notes["calm p50 ms"] = round(median(delays) * 1000, 1)
        if median(delays) > CALM_MEDIAN:
            self._find(
                "V12 calm",
                f"wrong: in calm the slowest watcher was given an event after {median(delays):.2f} s (median)",
            )

    async def _note(self, conversation: str) -> str:
        op = f"calm{random.getrandbits(64):016x}"
        body = {"text": op, "requestId": op}
        await self._load.operation("note", op, lambda: self._load.change("POST", conversation, "notes", body))
        return op

    async def _heard(self, op: str, *, since: float, within: float = UNHINTED_WITHIN) -> list[float]:
        """How long after `since` each watcher was given the event of an operation; one that was not: within."""
        until = time.monotonic() + within
        while time.monotonic() < until and not all(op in watcher.heard for watcher in self._watchers):
            await asyncio.sleep(0.005)
        return [watcher.heard.get(op, since + within) - since for watcher in self._watchers]

    async def _unheard(self) -> None:
        """A server dies between COMMIT and hint, and nothing happens after it: the verify poll alone tells of the event.

        Twice: after the first time every stream is on the other server, so that the second death opens none anew. In between
        passes the time in which a tail that missed a hint reads all the time.
        """
        for pause in (0.0, DEGRADED_SECONDS + 2):
            await asyncio.sleep(pause)
            await self._die_unheard("serve-1")
            await asyncio.to_thread(self._chaos.join)

    async def _die_unheard(self, name: str) -> None:
        pid, op = self._stack.pid(name), f"unheard{random.getrandbits(64):016x}"
        self._points.arm(pid, "committed", "kill")
        self._chaos.returning(name, pid, point="committed, then silence")
        t0 = time.monotonic()
        conversation = self._load.conversations[self._load.people[0]]
        metadata = (("authorization", f"Bearer {self._dev['tenant_key']}"),)
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{self._stack.port(name)}") as channel:
            request = conversations.AddConversationNoteRequest(conversation_id=conversation, text=op, request_id=op)
            try:
                await ConversationServiceStub(channel).AddConversationNote(request, metadata=metadata, timeout=5)
            except grpc.aio.AioRpcError:
                slowest = max(await self._heard(op, since=t0))
                self._notes["unheard heard after"] = round(slowest, 2)
                if slowest >= UNHINTED_WITHIN:
                    self._find("V12 calm", f"gap: {op} was committed unheard, and not given for {UNHINTED_WITHIN} s")
            else:
                self._points.disarm(pid, "committed")
                self._find("V12 calm", "wrong: a server that was to die between COMMIT and hint did not")

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        follow = (watch_sdk, watch_sdk, watch_rest, watch_rest, watch_rest)
        everybody = [*self._watchers, self._other]
        tasks = [asyncio.create_task(watch(each)) for watch, each in zip(follow, everybody, strict=True)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for each, result in zip(everybody, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
                if not isinstance(result, asyncio.CancelledError):
                    each.failures.append(repr(result))
                for failure in each.failures:
                    self._find("watchers", f"wrong: {each.name}: {failure}")

    async def _until_quiet(self) -> float:
        """Waits for what must still happen by itself; what does not happen is a finding."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            left = await self._left()
            took = time.monotonic() - began
            if not left:
                return took
            if took > self._plan.quiet_within:
                for what, count in left.items():
                    self._find("quiet", f"lost: {what} {count} after {took:.0f} s of waiting")
                return took

    async def _left(self) -> dict[str, int]:
        tenants, control = self._dev["tenants"], self._dev["postgres"]["control"]
        left: dict[str, int] = {}
        for tenant, watchers in zip(tenants, (self._watchers, [self._other]), strict=True):
            left |= await undone(tenant["postgres"], control, receipts=self._plan.receipts)
            (row,) = await self._fetch("SELECT head FROM stream_head", dsn=tenant["postgres"])
            left |= {f"{each.name} behind": row["head"] - each.last for each in watchers if each.last < row["head"]}
        return left

    async def _fetch(self, query: str, *, dsn: str = "") -> list[Any]:
        connection = await asyncpg.connect(dsn or self._dev["postgres"]["tenant"])
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    def _find(self, validator: str, finding: str) -> None:
        self._findings.setdefault(validator, []).append(finding)

    async def _judge(self) -> Result:
        for recorder in (
            self._load.out,
            self._chaos_file,
            self._other.out,
            *(watcher.out for watcher in self._watchers),
        ):
            recorder.close()
        await self._resources()
        accepted = await asyncio.to_thread(accepted_requests, self._dev)
        first, second = self._dev["tenants"]
        pages = await list_pages(f"{LOOPBACK}:{self._stack.port('serve-1')}", first["key"])
        tables = await read_tables(first["postgres"], accepted=accepted, pages=pages, receipts=self._plan.receipts)
        history = load_history(self._folder, NAMES)
        for name, found in validate(history, tables).items():
            self._findings.setdefault(name, []).extend(found)
        # V10: the second tenant's stream is the second tenant's log, and nothing else.
        others = load_history(self._folder, ["other"])
        theirs = validate(History(watchers=others.watchers), await read_tables(second["postgres"]))
        for name, found in theirs.items():
            self._findings[name].extend(f"{finding} (second tenant)" for finding in found)
        for what, count in self._load.unexpected.items():
            self._find("answers", f"wrong: {count} times {what}")
        self._notes |= {"events": tables.head, "retries": dict(self._load.retries), "skipped": self._load.skipped}
        self._notes["streams"] = {each.name: each.stream for each in self._watchers}
        self._notes["sends"] = dict(Counter(p["status"] for p in tables.parts if p["direction"] == "outbound"))
        self._notes["missed"] = dict(self._chaos.missed)
        return Result(
            self._plan.seed,
            self._findings,
            self._load.acknowledged,
            self._chaos.hits,
            self._points.passed(),
            recoveries(history),
            self._notes,
        )

    async def _resources(self) -> None:
        """V13: what the run used is given back."""
        (row,) = await self._fetch(SESSIONS, dsn=self._stack.server_dsn())
        self._notes["sessions"] = row["open"]
        if row["in_transaction"] or row["waiting"] or row["open"] > 120:
            self._find("V13 resources", f"wrong: sessions {dict(row)}")
