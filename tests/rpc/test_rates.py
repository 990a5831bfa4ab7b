"""Rate limits: exact in the long run over all processes, without a round trip per call, fair, and never a reason to stand still."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from rpc_server import Anybody, Contacts
from switchboard.v1 import contact_service_pb2 as rpc
from switchboard.v1.contact_service_pb2_grpc import ContactServiceStub, add_ContactServiceServicer_to_server

from server.audit.trail import Trail
from server.embedded.stack import Stack
from server.rpc.rates import BURST_SECONDS, QUIET_SECONDS, RateLimited, RateLimits, Rates
from server.rpc.server import public_server
from server.rpc.shared_rates import SharedRates

TENANT, ANA, BEN = (uuid.uuid4() for _ in range(3))


class Time:
    """A monotonic clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    made = Time()
    monkeypatch.setattr("server.rpc.rates.time", made)
    monkeypatch.setattr("server.rpc.shared_rates.time", made)
    return made


def passed(limits: RateLimits, caller: uuid.UUID, count: int, rates: Rates, tenant: uuid.UUID = TENANT) -> int:
    """How many of so many calls pass."""
    return sum(_passes(limits, caller, rates, tenant) for _ in range(count))


def _passes(limits: RateLimits, caller: uuid.UUID, rates: Rates, tenant: uuid.UUID) -> bool:
    try:
        limits.take(tenant, caller, rates)
    except RateLimited:
        return False
    return True


def test_five_seconds_at_once_and_then_the_rate(clock: Time) -> None:
    limits, rates = RateLimits(), Rates(caller=10)
    assert passed(limits, ANA, 1000, rates) == 10 * BURST_SECONDS
    for _ in range(50):
        clock.now += 1
        assert passed(limits, ANA, 1000, rates) == 10


def test_a_refusal_says_how_long_to_wait_and_not_a_moment_more(clock: Time) -> None:
    limits, rates = RateLimits(), Rates(caller=4)
    passed(limits, ANA, 20, rates)
    with pytest.raises(RateLimited) as refused:
        limits.take(TENANT, ANA, rates)
    assert refused.value.retry_after is not None
    wait = refused.value.retry_after.total_seconds()
    assert wait == pytest.approx(0.25)
    clock.now += wait - 0.01
    assert passed(limits, ANA, 1, rates) == 0
    clock.now += 0.02
    assert passed(limits, ANA, 2, rates) == 1


def test_no_limit_is_no_limit_and_keeps_nothing(clock: Time) -> None:
    limits = RateLimits()
    assert passed(limits, ANA, 100_000, Rates()) == 100_000
    clock.now += QUIET_SECONDS + 1
    assert limits.buckets() == {}
    assert limits.tenants == {}


def test_a_limit_that_is_changed_holds_from_the_next_call(clock: Time) -> None:
    limits = RateLimits()
    assert passed(limits, ANA, 100, Rates(caller=1)) == 5
    assert passed(limits, ANA, 100, Rates(caller=10)) == 50


def test_a_greedy_key_takes_nothing_from_a_modest_one(clock: Time) -> None:
    """100 calls per second for the tenant: one key asks for 1,000, the other for 40."""
    limits, rates = RateLimits(), Rates(tenant=100)
    found: Counter[str] = Counter()
    for tick in range(6000):
        clock.now += 0.01
        counts = tick >= 1000
        found["greedy"] += passed(limits, ANA, 10, rates) * counts
        if tick % 5 < 2:
            found["modest"] += passed(limits, BEN, 1, rates) * counts
    assert found["modest"] == 2000
    assert found["greedy"] + found["modest"] == pytest.approx(5000, abs=60)


def test_another_tenant_is_not_touched(clock: Time) -> None:
    limits, rates = RateLimits(), Rates(tenant=10)
    passed(limits, ANA, 1000, rates)
    assert passed(limits, BEN, 50, rates, tenant=uuid.uuid4()) == 50


def test_quiet_callers_have_no_part_any_more(clock: Time) -> None:
    limits, rates = RateLimits(), Rates(tenant=100)
    for _ in range(50):
        passed(limits, uuid.uuid4(), 1, rates)
    clock.now += QUIET_SECONDS + 1
    passed(limits, ANA, 1, rates)
    limits.buckets()
    assert list(limits.tenants[TENANT].callers) == [ANA]


async def test_two_processes_share_one_limit(stack: Stack) -> None:
    """Each alone would let 200 a second through; together they may, whatever they spend at first."""
    tenant, rates = uuid.uuid4(), Rates(tenant=200)
    processes = [RateLimits(), RateLimits()]
    shares = [SharedRates(each, stack.valkey_url()) for each in processes]
    total, began = 0, time.monotonic()
    while time.monotonic() - began < 1.5:
        for limits, shared in zip(processes, shares, strict=True):
            total += passed(limits, ANA, 500, rates, tenant=tenant)
            assert await shared.share()
    seconds = time.monotonic() - began
    for shared in shares:
        await shared._client.aclose()
    assert total <= 200 * (BURST_SECONDS + seconds) + 2 * 200
    assert total >= 200 * BURST_SECONDS


async def test_without_valkey_each_process_counts_alone(clock: Time) -> None:
    limits, rates = RateLimits(), Rates(caller=10)
    shared = SharedRates(limits, "redis://127.0.0.1:1/0")
    for _ in range(3):
        passed(limits, ANA, 1000, rates)
        assert not await shared.share()
        clock.now += 1
        assert passed(limits, ANA, 1000, rates) == 10
    assert all(bucket.spent <= 10 for bucket in limits.buckets().values())
    await shared._client.aclose()


class Limited(Anybody):
    async def verify(self, credential: str):  # type: ignore[no-untyped-def]
        found = await super().verify(credential)
        return type(found)(found.caller, found.scope, found.tenant_id, None, Rates(caller=1))


async def test_a_caller_is_told_everything_it_needs(clock: Time) -> None:
    server = public_server(Limited(), RateLimits(), Trail())
    add_ContactServiceServicer_to_server(Contacts(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ContactServiceStub(channel)
        credential = (("authorization", "Bearer one"),)
        for _ in range(5):
            await stub.ListContacts(rpc.ListContactsRequest(), metadata=credential)
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.ListContacts(rpc.ListContactsRequest(), metadata=credential)
        await stub.ListContacts(rpc.ListContactsRequest(), metadata=(("authorization", "Bearer other"),))
    await server.stop(None)
    error = refused.value
    headers = dict(error.trailing_metadata())
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (headers["retry-after"], headers["ratelimit-limit"], headers["ratelimit-remaining"]) == ("1", "1", "0")
    info, quota, retry = error_details_pb2.ErrorInfo(), error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    details = rpc_status.from_call(error).details  # type: ignore[arg-type]
    assert all(any(detail.Unpack(kind) for detail in details) for kind in (info, quota, retry))
    assert (info.reason, info.metadata["subject"]) == ("RATE_LIMITED", "caller")
    assert quota.violations[0].subject.startswith("caller:")
    assert 0 < retry.retry_delay.ToTimedelta().total_seconds() <= 1
