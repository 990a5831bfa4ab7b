"""WatchInbox on every transport: the same items from the first to the end, and the same refusal before the first."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from contract_outcome import Refused, methods, normal
from contract_table import CASES, token
from contract_transports import Cli, Transport
from contract_world import World
from google.protobuf import duration_pb2, json_format
from google.protobuf.message import Message
from switchboard.v1 import auth_service_pb2, event_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

WATCH = methods()["InboxService.WatchInbox"]
Items = list[inbox.WatchInboxResponse]


def streaming(transports: list[Transport]) -> list[Any]:
    return [each for each in transports if not isinstance(each, Cli)]


def cli_of(transports: list[Transport]) -> Cli:
    (found,) = [each for each in transports if isinstance(each, Cli)]
    return found


@pytest.fixture(scope="module")
def watched(transports: list[Transport], world: World) -> dict[str, Items]:
    """What each transport shows of one stream, until the credential expires two seconds later."""
    asked = auth_service_pb2.CreateAgentTokenRequest(
        agent_id=world.agents["owner"], lifetime=duration_pb2.Duration(seconds=2)
    )
    credential, request = world.call(asked).token, CASES["InboxService.WatchInbox"].ask(world)
    with ThreadPoolExecutor(max_workers=len(transports)) as threads:
        running = {
            each.name: threads.submit(lambda one: list(one.items(WATCH, request, token=credential)), each)
            for each in streaming(transports)
        }
        return {name: future.result() for name, future in running.items()}


def controls(items: Items) -> list[str]:
    """The controls in their order, but for bookmarks, which come by the clock."""
    return [kind for item in items if (kind := item.WhichOneof("control")) not in (None, "bookmark")]


def events(items: Items) -> list[event_pb2.InboxEvent]:
    return [event for item in items for event in item.events]


def test_every_transport_shows_the_same_events(watched: dict[str, Items]) -> None:
    assert len(events(watched["grpc"])) >= 3
    for name, items in watched.items():
        assert events(items) == events(watched["grpc"]), name


def test_every_transport_shows_the_same_controls_hello_first_and_end_last(watched: dict[str, Items]) -> None:
    expected = controls(watched["grpc"])
    assert (expected[0], expected[-1]) == ("hello", "end")
    assert "caught_up" in expected
    for name, items in watched.items():
        assert controls(items) == expected, name


def test_every_transport_is_told_why_the_stream_ended_and_where_to_resume(watched: dict[str, Items]) -> None:
    ends = {name: items[-1].end for name, items in watched.items()}
    assert ends["grpc"].reason == inbox.END_REASON_CREDENTIAL_EXPIRED
    assert ends["grpc"].cursor
    for name, end in ends.items():
        assert normal(end) == normal(ends["grpc"]), name


def test_the_command_line_prints_the_same_events(
    transports: list[Transport], world: World, watched: dict[str, Items]
) -> None:
    expected = events(watched["grpc"])[:3]
    request = CASES["InboxService.WatchInbox"].ask(world)
    printed = cli_of(transports).run(WATCH, request, token=world.key, more=("--limit", "3"))
    assert [json_format.ParseDict(each, event_pb2.InboxEvent()) for each in printed] == expected


def test_a_stream_is_refused_alike_before_its_first_item(transports: list[Transport], world: World) -> None:
    case = CASES["InboxService.WatchInbox"]
    request, credential = case.refuse(world), token(world, case.caller)
    refusals = {each.name: _refusal(each, request, credential) for each in streaming(transports)}
    with pytest.raises(Refused) as raised:
        cli_of(transports).run(WATCH, request, token=credential)
    refusals["cli"] = raised.value
    for name, refusal in refusals.items():
        assert refusal.reason == case.reason, name
        assert refusal.status == refusals["grpc"].status, name


def _refusal(transport: Any, request: Message, credential: str) -> Refused:
    with pytest.raises(Refused) as raised:
        list(transport.items(WATCH, request, token=credential))
    return raised.value
