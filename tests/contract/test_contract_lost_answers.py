"""Every change, committed and never answered: its server is killed, Valkey forgets everything, and the repeat has the first result."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import asyncpg
import grpc
import pytest
import redis
from contract_mute import mute_way
from contract_outcome import methods
from contract_table import CASES, token
from contract_transports import Grpc
from contract_world import World, nonce
from switchboard.v1 import auth_service_pb2 as auth
from test_contract_repeat import REPEATABLE, one_answer, settled

from server.embedded.stack import Options, Stack

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
COMMITTED = """
SELECT request_id FROM idempotent_requests WHERE request_id = ANY($1::text[])
UNION ALL SELECT request_id FROM messages WHERE request_id = ANY($1::text[])
"""
# Receipts of messages sent before go on coming.
EFFECTS = "SELECT count(*) FROM stream_event WHERE kind <> 22"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One of its own, with one server: this test kills it."""
    with Stack(Options(home=tmp_path_factory.mktemp("lost") / "home", processes=1)) as running:
        yield running


class Tenant:
    """The world's database, read past every server."""

    def __init__(self, stack: Stack, world: World) -> None:
        self._stack = stack
        self._world = world

    def rows(self, statement: str, *values: Any) -> list[Any]:
        return asyncio.run(self._rows(statement, *values))

    async def _rows(self, statement: str, *values: Any) -> list[Any]:
        control = await asyncpg.connect(self._stack.dev()["postgres"]["control"])
        try:
            name = await control.fetchval("SELECT database_name FROM tenants WHERE id = $1::uuid", self._world.id)
        finally:
            await control.close()
        connection = await asyncpg.connect(self._stack.server_dsn(name))
        try:
            found: list[Any] = await connection.fetch(statement, *values)
            return found
        finally:
            await connection.close()


def until_committed(tenant: Tenant, request_ids: list[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = {row["request_id"] for row in tenant.rows(COMMITTED, request_ids)}
        if found == set(request_ids):
            return
        time.sleep(0.1)
    raise AssertionError(f"{len(set(request_ids) - found)} were not committed")


def until_serving(stack: Stack) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            request = urllib.request.Request(
                stack.url + "/v1/auth/caller", headers={"authorization": f"Bearer {stack.dev()['tenant_key']}"}
            )
            with urllib.request.urlopen(request, timeout=5) as answer:
                json.load(answer)
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("nobody serves")


def test_what_was_committed_and_never_answered_is_answered_by_the_repeat(stack: Stack) -> None:
    address = stack.dev()["serve"][0]["grpc"]
    with grpc.insecure_channel(address) as channel:
        world = World(Grpc("direct", channel), stack.dev())
        tenant = Tenant(stack, world)
        asked = {name: CASES[name].ask(world) for name in REPEATABLE}
    for request in asked.values():
        request.request_id = nonce()  # type: ignore[attr-defined]
    ids = [request.request_id for request in asked.values()]  # type: ignore[attr-defined]
    credentials = {name: token(world, CASES[name].caller) for name in REPEATABLE}
    with mute_way(address) as way, grpc.insecure_channel(way.address) as channel:
        mute = Grpc("mute", channel)
        caller = methods()["AuthService.GetCaller"]
        assert mute.call(caller, auth.GetCallerRequest(), token=world.key)
        way.muted = True
        running = [mute.begin(methods()[name], request, token=credentials[name]) for name, request in asked.items()]
        until_committed(tenant, ids)
        stack.kill("serve-1")
        redis.Redis.from_url(stack.valkey_url()).flushall()
    assert len(running) == len(REPEATABLE)
    stack.resurrect()
    until_serving(stack)
    before = tenant.rows(EFFECTS)[0]["count"]
    with grpc.insecure_channel(stack.dev()["serve"][0]["grpc"]) as channel:
        direct = Grpc("direct", channel)
        for name, request in asked.items():
            first, again = (direct.call(methods()[name], request, token=credentials[name]) for _ in range(2))
            assert settled(one_answer(name, first)) == settled(one_answer(name, again)), name
    assert tenant.rows(EFFECTS)[0]["count"] == before, "a repeat does nothing"
    assert len(tenant.rows(COMMITTED, ids)) == len(ids)
