"""watch(): one iterator over as many streams as it takes, without a gap and without a repetition."""

import asyncio
import time
from datetime import timedelta

import grpc
import pytest
import switchboard_sdk
from sdk_server import (
    Server,
    bookmark,
    caught_up,
    drop,
    end,
    events,
    goodbye,
    hello,
    reauth_required,
    refuse,
    scope_changed,
    silence,
    status,
)
from switchboard.v1 import event_pb2, inbox_service_pb2
from switchboard_client.switchboard.v1 import ConversationFilter, EventType, WatchStart
from switchboard_sdk import Watch, WatchState

SOON = timedelta(milliseconds=80)


async def take(watch: Watch, count: int) -> list[int]:
    """The seqs of the next events."""
    async with asyncio.timeout(10):
        return [(await anext(watch)).seq for _ in range(count)]


def cursors(server: Server) -> list[str]:
    """Where each stream was opened."""
    return [request.cursor for request in server.inbox.requests]


async def test_events_come_in_order_and_the_cursor_follows(server: Server, client):
    server.inbox.scripts = [[hello(), events(1, 2), events(4), silence]]
    async with client.watch() as watch:
        assert await take(watch, 1) == [1]
        assert watch.cursor == "c1"
        assert await take(watch, 2) == [2, 4]
        assert (watch.cursor, watch.head) == ("c4", 4)


async def test_the_request_says_where_what_and_how(server: Server, client):
    server.inbox.scripts = [[hello(), events(1), silence]]
    watch = client.watch(
        start=WatchStart.EARLIEST,
        filter=ConversationFilter(assignee_id=["me"]),
        event_types=[EventType.MESSAGE_RECEIVED],
        bookmark_interval=timedelta(seconds=5),
    )
    async with watch:
        await take(watch, 1)
    request = server.inbox.requests[0]
    assert request.start == inbox_service_pb2.WATCH_START_EARLIEST
    assert request.filter.assignee_id == ["me"]
    assert request.event_types == [event_pb2.EVENT_TYPE_MESSAGE_RECEIVED]
    assert request.bookmark_interval.ToTimedelta() == timedelta(seconds=5)


async def test_a_dropped_stream_is_resumed_and_repetitions_are_left_out(server: Server, client):
    server.inbox.scripts = [
        [hello(), events(1, 2), drop],
        [drop],
        [hello("c2"), events(1, 2, 3), drop],
        [hello("c3"), events(4), silence],
    ]
    async with client.watch() as watch:
        assert await take(watch, 4) == [1, 2, 3, 4]
    assert cursors(server) == ["", "c2", "c2", "c3"]


async def test_a_stream_dropped_before_its_first_event_resumes_where_it_began(server: Server, client):
    server.inbox.scripts = [[hello("c41"), drop], [hello("c41"), events(42), silence]]
    async with client.watch() as watch:
        assert await take(watch, 1) == [42]
    assert cursors(server) == ["", "c41"]


async def test_a_stream_that_ends_without_a_last_item_is_resumed(server: Server, client):
    server.inbox.scripts = [[hello(), events(1)], [hello("c1"), events(2), silence]]
    async with client.watch() as watch:
        assert await take(watch, 2) == [1, 2]


async def test_bookmarks_move_the_cursor(server: Server, client):
    server.inbox.scripts = [[hello(), events(1), bookmark("c70"), drop], [hello("c70"), events(71), silence]]
    async with client.watch() as watch:
        assert await take(watch, 2) == [1, 71]
        assert watch.head == 99
    assert cursors(server) == ["", "c70"]


async def test_silence_means_dead_whatever_the_transport_says(server: Server, client):
    server.inbox.scripts = [
        [hello(bookmark_interval=timedelta(milliseconds=100)), events(1), silence],
        [hello("c1"), events(2), silence],
    ]
    seen: list[tuple[WatchState, str]] = []
    begin = time.monotonic()
    async with client.watch(on_state=lambda state, error: seen.append((state, str(error or "")))) as watch:
        assert await take(watch, 2) == [1, 2]
    assert time.monotonic() - begin >= 0.25
    assert (WatchState.OFFLINE, "UNAVAILABLE: no sign of life for 0.25 s") in seen


async def test_bookmarks_are_signs_of_life(server: Server, client):
    async def pause(context):
        await asyncio.sleep(0.15)

    beats = [step for n in range(4) for step in (pause, bookmark(f"b{n}"))]
    server.inbox.scripts = [[hello(bookmark_interval=timedelta(milliseconds=100)), *beats, events(1), silence]]
    async with client.watch() as watch:
        assert await take(watch, 1) == [1]
    assert len(server.inbox.requests) == 1


@pytest.mark.parametrize("reason", ["DRAIN", "LIFETIME", "SLOW_CONSUMER", "UNAVAILABLE"])
async def test_an_end_is_resumed_from_its_cursor_after_the_time_it_asks_for(server: Server, client, reason):
    server.inbox.scripts = [
        [hello(), events(1), end(reason, "c5", retry_after=timedelta(milliseconds=400))],
        [hello("c5"), events(6), silence],
    ]
    async with client.watch() as watch:
        assert await take(watch, 1) == [1]
        begin = time.monotonic()
        assert await take(watch, 1) == [6]
    assert time.monotonic() - begin >= 0.4
    assert cursors(server) == ["", "c5"]


async def test_a_goodbye_is_obeyed_before_the_stream_ends(server: Server, client):
    server.inbox.scripts = [
        [hello(), events(1), goodbye("c1", reconnect_after=SOON), silence],
        [hello("c1"), events(2), silence],
    ]
    async with client.watch() as watch:
        assert await take(watch, 2) == [1, 2]
    assert cursors(server) == ["", "c1"]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("CURSOR_EXPIRED", switchboard_sdk.CursorExpiredError),
        ("CURSOR_DIVERGED", switchboard_sdk.CursorDivergedError),
        ("CREDENTIAL_REVOKED", switchboard_sdk.UnauthenticatedError),
        ("CREDENTIAL_EXPIRED", switchboard_sdk.UnauthenticatedError),
        ("REFUSED", switchboard_sdk.InvalidArgumentError),
    ],
)
async def test_an_end_that_cannot_be_resumed_is_raised(server: Server, client, reason, kind):
    server.inbox.scripts = [[hello(), events(1), end(reason)]]
    async with client.watch() as watch:
        await take(watch, 1)
        with pytest.raises(kind) as caught:
            await take(watch, 1)
    assert caught.value.reason == reason
    assert len(server.inbox.requests) == 1


async def test_an_end_names_the_error_behind_the_refusal(server: Server, client):
    server.inbox.scripts = [[hello(), end("REFUSED", error="CURSOR_FOREIGN")]]
    with pytest.raises(switchboard_sdk.InvalidArgumentError) as caught:
        await take(client.watch(), 1)
    assert (caught.value.reason, caught.value.message) == ("CURSOR_FOREIGN", "over")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED", switchboard_sdk.CursorExpiredError),
        (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_DIVERGED", switchboard_sdk.CursorDivergedError),
        (grpc.StatusCode.INVALID_ARGUMENT, "CURSOR_INVALID", switchboard_sdk.InvalidArgumentError),
        (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID", switchboard_sdk.UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_MISSING", switchboard_sdk.PermissionDeniedError),
        (grpc.StatusCode.FAILED_PRECONDITION, "FILTER_NOT_STREAMABLE", switchboard_sdk.FailedPreconditionError),
    ],
)
async def test_a_refusal_before_the_first_item_is_raised(server: Server, client, code, reason, kind):
    server.inbox.scripts = [[refuse(status(code, reason=reason))]]
    with pytest.raises(kind) as caught:
        await take(client.watch("c1"), 1)
    assert caught.value.reason == reason


async def test_too_many_streams_is_waited_out(server: Server, client):
    full = status(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TOO_MANY_STREAMS", retry_after=timedelta(seconds=0.3))
    server.inbox.scripts = [[refuse(full)], [hello(), events(1), silence]]
    begin = time.monotonic()
    async with client.watch() as watch:
        assert await take(watch, 1) == [1]
    assert time.monotonic() - begin >= 0.3


async def test_states_tell_what_a_status_line_needs(server: Server, client):
    server.inbox.scripts = [
        [hello(), events(1), caught_up("c1"), events(2), drop],
        [hello("c2"), caught_up("c2"), events(3), silence],
    ]
    states: list[WatchState] = []
    async with client.watch(on_state=lambda state, error: states.append(state)) as watch:
        assert watch.state is WatchState.OFFLINE
        await take(watch, 3)
        assert watch.state is WatchState.LIVE
    once = [WatchState.CATCHING_UP, WatchState.LIVE]
    assert states == [*once, WatchState.OFFLINE, *once]


async def test_changed_rights_are_told_and_move_the_cursor(server: Server, client):
    server.inbox.scripts = [[hello(), scope_changed("c8", "channel-1"), drop], [hello("c8"), events(9), silence]]
    lost: list[str] = []
    watch = client.watch(on_scope_changed=lambda changed: lost.extend(changed.lost_channel_ids))
    async with watch:
        await take(watch, 1)
    assert lost == ["channel-1"]
    assert cursors(server) == ["", "c8"]


async def test_a_renewable_token_is_renewed_when_the_server_asks(server: Server):
    tokens = iter(["old", "new"])
    server.inbox.scripts = [
        [hello(), events(1), reauth_required("c1"), silence],
        [hello("c1"), events(2), silence],
    ]
    async with switchboard_sdk.connect(server.url, token=lambda: next(tokens)) as client:
        assert await take(client.watch(), 2) == [1, 2]
    assert server.inbox.tokens == ["Bearer old", "Bearer new"]


async def test_a_fixed_token_is_used_until_it_ends(server: Server, client):
    server.inbox.scripts = [[hello(), reauth_required("c0"), events(1), end("CREDENTIAL_EXPIRED", "c1")]]
    watch = client.watch()
    assert await take(watch, 1) == [1]
    with pytest.raises(switchboard_sdk.UnauthenticatedError):
        await take(watch, 1)


async def test_a_token_that_is_renewed_in_name_only_is_given_up(server: Server):
    expired = refuse(status(grpc.StatusCode.UNAUTHENTICATED, reason="CREDENTIAL_EXPIRED"))
    server.inbox.scripts = [[expired] for _ in range(9)]
    async with switchboard_sdk.connect(server.url, token=lambda: "stale") as client:
        with pytest.raises(switchboard_sdk.UnauthenticatedError):
            await take(client.watch(), 1)
    assert len(server.inbox.requests) == 3


async def test_a_control_of_the_future_does_no_harm(server: Server, client):
    unknown = inbox_service_pb2.WatchInboxResponse.FromString(b"\xfa\x06\x00")
    server.inbox.scripts = [[hello(), unknown, events(1), silence]]
    async with client.watch() as watch:
        assert await take(watch, 1) == [1]


async def no_stream_open(server: Server) -> bool:
    async with asyncio.timeout(30):
        while server.inbox.open_streams:
            await asyncio.sleep(0.01)
    return True


async def test_closing_the_watch_cancels_its_stream(server: Server, client):
    server.inbox.scripts = [[hello(), events(1), silence]]
    watch = client.watch()
    await take(watch, 1)
    await watch.aclose()
    assert await no_stream_open(server)
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_cancelling_the_reader_cancels_the_stream(server: Server, client):
    watch = client.watch()
    reader = asyncio.ensure_future(anext(watch))
    async with asyncio.timeout(30):
        while not server.inbox.open_streams:
            await asyncio.sleep(0.01)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await no_stream_open(server)


async def test_closing_the_client_ends_its_watches(server: Server):
    server.inbox.scripts = [[hello(), events(1), silence]]
    async with switchboard_sdk.connect(server.url, token="t") as client:
        watch = client.watch()
        await take(watch, 1)
    assert await no_stream_open(server)


@pytest.mark.parametrize("waits_for", ["the next event", "the next attempt"])
async def test_closing_ends_the_iteration_of_whoever_waits(server: Server, waits_for):
    busy = refuse(status(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=timedelta(minutes=5)))
    server.inbox.scripts = [[hello(), silence] if waits_for == "the next event" else [busy]]

    async def read(watch: Watch) -> list[int]:
        return [event.seq async for event in watch]

    async with switchboard_sdk.connect(server.url, token="t") as client:
        reader = asyncio.ensure_future(read(client.watch()))
        async with asyncio.timeout(30):
            while not server.inbox.requests:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        assert await reader == []
    assert await no_stream_open(server)


async def test_leaving_the_loop_cancels_the_stream(server: Server, client):
    server.inbox.scripts = [[hello(), events(1, 2), silence]]
    async for event in client.watch():
        assert event.seq == 1
        break
    assert await no_stream_open(server)


async def test_a_raw_stream_is_not_resumed(server: Server, client):
    server.inbox.scripts = [[hello(), events(1), drop]]
    items = client.inbox.watch_inbox()
    assert (await anext(items)).hello.cursor == "c0"
    assert (await anext(items)).events[0].seq == 1
    with pytest.raises(switchboard_sdk.UnavailableError):
        await anext(items)
