"""How streams end: always with an end item, for a reason, with a place to resume from."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import StatusCode, aio
from switchboard.v1 import error_reason_pb2, event_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.inbox.stream import StreamLimits
from server.kit.errors import DatabaseUnavailable, Refusal
from server.log.append import Appended
from server.log.event import NewEvent
from tests.inbox.conftest import StartProcess
from tests.inbox.inbox_bench import CAUSE, SYSTEM, Process, Tenant, Watcher
from tests.inbox.test_inbox_resume import reason, refused


class TenantDisabled(Refusal):
    status = "PERMISSION_DENIED"
    reason = "TENANT_DISABLED"


async def resumes(process: Process, credential: str, tenant: Tenant, cursor: str) -> list[int]:
    async with process.watch(credential, cursor=cursor) as watcher:
        await watcher.control("caught_up")
        return watcher.seqs


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_a_drain_says_goodbye_and_ends_every_stream_where_it_can_resume(
    start: StartProcess, tenant: Tenant
) -> None:
    process, next_process = await start(tenant), await start(tenant)
    key = process.credentials.key(tenant)
    ends: list[inbox.End] = []

    async def watch() -> None:
        async with process.watch(key) as watcher:
            await watcher.control("caught_up")
            ready.release()
            ends.append(await watcher.end())
            assert watcher.controls[-2:] == ["goodbye", "end"]

    ready = asyncio.Semaphore(0)
    watching = [asyncio.ensure_future(watch()) for _ in range(8)]
    for _ in watching:
        await ready.acquire()
    await tenant.say(count=2)
    await process.streams.drain(timedelta(seconds=0.2))
    await asyncio.gather(*watching)
    assert {end.reason for end in ends} == {inbox.END_REASON_DRAIN}
    assert await refused(process.watch(key)) == (StatusCode.UNAVAILABLE, "DRAINING")
    for end in ends:
        assert 0.1 <= end.retry_after.ToTimedelta().total_seconds() <= 1
        assert await resumes(next_process, next_process.credentials.key(tenant), tenant, end.cursor) in ([], [1, 2])


async def test_the_lifetime_ends_with_a_goodbye(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant, limits=StreamLimits(max_lifetime=timedelta(seconds=0.5)))
    async with process.watch(process.credentials.key(tenant)) as watcher:
        assert (await watcher.control("hello")).max_lifetime.ToMilliseconds() == 500
        end = await watcher.end()
    assert end.reason == inbox.END_REASON_LIFETIME
    assert watcher.controls[-2:] == ["goodbye", "end"]


async def test_an_expiring_credential_is_announced_and_ends_the_stream(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant, limits=StreamLimits(reauth_notice=timedelta(seconds=2)))
    expire_time = in_seconds(3)
    key = process.credentials.key(tenant, expire_time=expire_time)
    async with process.watch(key) as watcher:
        notice = await watcher.control("reauth_required")
        assert notice.deadline.ToDatetime(UTC) == expire_time
        assert datetime.now(UTC) < expire_time
        end = await watcher.end()
    assert end.reason == inbox.END_REASON_CREDENTIAL_EXPIRED
    assert end.error == error_reason_pb2.ERROR_REASON_CREDENTIAL_EXPIRED
    assert datetime.now(UTC) >= expire_time


async def test_a_credential_that_expires_soon_is_announced_at_once(process: Process, tenant: Tenant) -> None:
    async with process.watch(process.credentials.key(tenant, expire_time=in_seconds(30))) as watcher:
        await watcher.control("reauth_required", within=20)


async def test_an_expired_credential_ends_a_busy_stream_too(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant)
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await tenant.say()

    writing = asyncio.ensure_future(write())
    async with process.watch(process.credentials.key(tenant, expire_time=in_seconds(2))) as watcher:
        end = await watcher.end()
    stop.set()
    await writing
    assert end.reason == inbox.END_REASON_CREDENTIAL_EXPIRED


async def test_a_revoked_key_ends_its_streams_at_once_and_shows_nothing_after_it(
    process: Process, tenant: Tenant
) -> None:
    key, other = process.credentials.key(tenant), process.credentials.key(tenant)
    key_id = process.credentials.keys[key].caller.id
    revoked = event_pb2.InboxEvent(credential_revoked=event_pb2.CredentialRevoked(api_key_id=str(key_id)))
    async with process.watch(key) as watcher, process.watch(other) as bystander:
        await watcher.control("caught_up")
        await bystander.control("caught_up")
        await tenant.commit(
            tenant.event(event_pb2.InboxEvent(note_added=event_pb2.NoteAdded())),
            NewEvent(body=revoked, actor=SYSTEM, cause=CAUSE),
            tenant.event(event_pb2.InboxEvent(note_added=event_pb2.NoteAdded())),
        )
        end = await watcher.end()
        await bystander.to_seq(3)
    assert end.reason == inbox.END_REASON_CREDENTIAL_REVOKED
    assert watcher.seqs == [1]
    assert bystander.seqs == [1, 3]


async def test_a_revocation_that_the_log_does_not_tell_is_found_by_asking(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant, limits=StreamLimits(recheck=timedelta(seconds=0.3)))
    key = process.credentials.key(tenant)
    async with process.watch(key) as watcher:
        await watcher.control("caught_up")
        key_id = process.credentials.keys[key].caller.id
        assert key_id is not None
        process.credentials.revoked.add(key_id)
        end = await watcher.end()
    assert end.reason == inbox.END_REASON_CREDENTIAL_REVOKED


async def test_a_disabled_agent_ends(process: Process, tenant: Tenant) -> None:
    agent_id = await tenant.new_agent(channels=1)
    async with process.watch(process.credentials.agent(tenant, agent_id)) as watcher:
        await watcher.control("caught_up")
        await tenant.move_rights(agent_id, "UPDATE agents SET state = 'disabled' WHERE id = $1", agent_id)
        await tenant.say()
        end = await watcher.end()
    assert end.reason == inbox.END_REASON_CREDENTIAL_REVOKED
    assert watcher.seqs == []


async def test_a_disabled_tenant_ends_its_streams(process: Process, tenant: Tenant) -> None:
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        process.refusal = TenantDisabled("disabled")
        end = await watcher.end()
    assert end.reason == inbox.END_REASON_CREDENTIAL_REVOKED
    assert end.error == error_reason_pb2.ERROR_REASON_TENANT_DISABLED


async def test_a_database_that_stays_away_ends_the_stream(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant, limits=StreamLimits(unavailable_after=timedelta(seconds=1)))
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        process.refusal = DatabaseUnavailable()
        end = await watcher.end()
    assert end.reason == inbox.END_REASON_UNAVAILABLE
    assert end.retry_after.ToTimedelta() >= timedelta(seconds=1)
    assert end.cursor


async def test_a_database_that_comes_back_is_followed_again(process: Process, tenant: Tenant) -> None:
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        process.refusal = DatabaseUnavailable()
        await asyncio.sleep(0.5)
        await tenant.say(count=3)
        process.refusal = None
        await watcher.to_seq(3)


async def test_rights_that_cannot_be_read_close_the_stream_before_what_follows(
    process: Process, tenant: Tenant
) -> None:
    agent_id = await tenant.new_agent(channels=1)
    async with process.watch(process.credentials.agent(tenant, agent_id)) as watcher:
        await watcher.control("caught_up")
        process.credentials.failing = DatabaseUnavailable()
        await tenant.move_rights(agent_id, "DELETE FROM channel_members")
        await tenant.say()
        end = await watcher.end()
    assert (end.reason, end.error) == (inbox.END_REASON_UNAVAILABLE, error_reason_pb2.ERROR_REASON_SCOPE_UNAVAILABLE)
    assert watcher.seqs == []


async def test_a_defect_of_ours_ends_with_an_end_item_and_without_its_text(process: Process, tenant: Tenant) -> None:
    agent_id = await tenant.new_agent(channels=1)
    async with process.watch(process.credentials.agent(tenant, agent_id)) as watcher:
        await watcher.control("caught_up")
        process.credentials.failing = KeyError("the secret")
        await tenant.move_rights(agent_id, "DELETE FROM channel_members")
        end = await watcher.control("end")
        with pytest.raises(aio.AioRpcError) as caught:
            await watcher.read(10)
    assert (end.reason, end.error) == (inbox.END_REASON_UNAVAILABLE, error_reason_pb2.ERROR_REASON_INTERNAL)
    assert caught.value.code() is StatusCode.INTERNAL
    assert "secret" not in str(caught.value) + end.message


async def test_a_server_that_stops_without_a_drain_still_gives_a_status(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant)
    async with process.watch(process.credentials.key(tenant)) as watcher:
        await watcher.control("caught_up")
        await process.server.stop(0.1)
        with pytest.raises(aio.AioRpcError) as caught:
            await watcher.next(within=10)
    assert caught.value.code() is StatusCode.UNAVAILABLE


async def fill(process: Process, tenant: Tenant, quick: Watcher) -> None:
    """Writes until a stream waits for its reader. The quick one is given time to read what it is to be ahead with."""
    while process.value(process.metrics.stalled) == 0:
        await read_by(quick, await tenant.say("x" * 60_000, count=4))


async def read_by(watcher: Watcher, appended: Appended) -> None:
    """Returns once a watcher that is being read has everything of a commit."""
    async with asyncio.timeout(30):
        while not watcher.seqs or watcher.seqs[-1] < appended.new_head:
            await asyncio.sleep(0.001)


async def test_a_reader_that_stops_is_left_behind_and_then_ended(start: StartProcess, tenant: Tenant) -> None:
    limits = StreamLimits(stalled_after=timedelta(seconds=0.2), slow_events=100)
    process = await start(tenant, limits=limits)
    async with (
        process.watch(process.credentials.key(tenant)) as slow,
        process.watch(process.credentials.key(tenant)) as quick,
    ):
        await slow.control("caught_up")
        await quick.control("caught_up")
        reading = asyncio.ensure_future(quick.until(lambda watcher: "z" in last_words(watcher), within=30))
        await fill(process, tenant, quick)
        for _ in range(200):
            await read_by(quick, await tenant.say())
        await tenant.say("z")
        await reading
        end = await slow.end()
    assert process.value(process.metrics.stalled) == 0
    assert quick.seqs == list(range(1, quick.seqs[-1] + 1))
    assert end.reason == inbox.END_REASON_SLOW_CONSUMER
    assert slow.seqs == list(range(1, slow.seqs[-1] + 1))
    async with process.watch(process.credentials.key(tenant), cursor=end.cursor) as resumed:
        await resumed.control("caught_up")
    assert slow.seqs + resumed.seqs == quick.seqs


def last_words(watcher: Watcher) -> list[str]:
    return list(watcher.events[-1].conversation_updated.changed_fields) if watcher.events else []


async def test_limits_refuse_before_anything_is_read(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant, per_caller=2, per_process=3)
    one, two = process.credentials.key(tenant), process.credentials.key(tenant)
    watching: list[Any] = [process.watch(one), process.watch(one), process.watch(two)]
    for each in watching:
        await (await each.__aenter__()).control("hello")
    assert await refused(process.watch(one)) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    assert await refused(process.watch(two)) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    await watching.pop().__aexit__(None, None, None)
    await gone(process, 2)
    async with process.watch(two) as watcher:
        await watcher.control("hello")
    for each in watching:
        await each.__aexit__(None, None, None)
    await gone(process, 0)


async def test_a_tenant_has_its_own_limit_and_leaves_room_for_others(
    start: StartProcess, tenant: Tenant, other_tenant: Tenant
) -> None:
    process = await start(tenant, other_tenant, per_caller=2, per_tenant=3, per_process=5)
    keys = [process.credentials.key(tenant) for _ in range(2)]
    async with AsyncExitStack() as stack:
        for key in (keys[0], keys[0], keys[1]):
            await (await stack.enter_async_context(process.watch(key))).control("hello")
        assert await refused(process.watch(keys[1])) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        other = await stack.enter_async_context(process.watch(process.credentials.key(other_tenant)))
        await other.control("hello")
    await gone(process, 0)
    async with process.watch(keys[1]) as watcher:
        await watcher.control("hello")


async def test_opens_are_limited_in_rate(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant, opens_per_second=3)
    key = process.credentials.key(tenant)

    refusals: list[tuple[StatusCode, str]] = []

    async def opens() -> None:
        try:
            async with process.watch(key) as watcher:
                await watcher.control("hello")
        except aio.AioRpcError as error:
            refusals.append((error.code(), reason(error)))

    # All at once: three open, and what the time that it takes adds.
    await asyncio.gather(*(opens() for _ in range(12)))
    assert 1 <= len(refusals) <= 9
    assert set(refusals) == {(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")}
    await asyncio.sleep(0.4)
    async with process.watch(key) as watcher:
        await watcher.control("hello")


async def gone(process: Process, left: int) -> None:
    async with asyncio.timeout(30):
        while process.value(process.metrics.open) > left:
            await asyncio.sleep(0.01)


async def test_clients_that_go_leave_nothing_behind(start: StartProcess, tenant: Tenant) -> None:
    process = await start(tenant)
    key = process.credentials.key(tenant)
    await tenant.say("x" * 1000, count=300)
    before = len(asyncio.all_tasks())
    for number in range(30):
        async with process.watch(key, start=inbox.WATCH_START_EARLIEST) as watcher:
            for _ in range(number % 4):
                await watcher.next()
    await gone(process, 0)
    # The last stream's tail lingers, then goes.
    async with asyncio.timeout(30):
        while process.value(process.metrics.tails) > 0 or len(asyncio.all_tasks()) > before + 1:
            await asyncio.sleep(0.02)
    async with process.watch(key) as watcher:
        await watcher.control("caught_up")
