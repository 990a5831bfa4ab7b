"""`inbox watch`: a line per event for people, a JSON object per line for programs, over streams that break."""

import asyncio
import json
import signal

import grpc
import pytest
from cli_server import Cli, Seen, happened, hello, received, refusal
from google.protobuf import json_format
from google.protobuf.message import Message
from switchboard.v1 import actor_pb2, availability_pb2, event_pb2, inbox_service_pb2
from switchboard_cli.watch import describe
from switchboard_client.switchboard.v1 import InboxEvent


async def test_one_json_object_per_line_with_seq_and_cursor(cli: Cli, seen: Seen):
    sent = [received(1, "one\ntwo"), received(2, "ü"), received(3, "three")]
    seen.streams = [[hello("c0"), happened(*sent)]]
    done = await cli("inbox", "watch", "-o", "json", "--limit", "2")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines == [json_format.MessageToDict(each, always_print_fields_with_no_presence=True) for each in sent[:2]]
    assert [(line["seq"], line["cursor"]) for line in lines] == [("1", "c1"), ("2", "c2")]


async def test_a_broken_stream_is_resumed(cli: Cli, seen: Seen):
    seen.streams = [
        [hello("c0"), happened(received(1, "a"))],
        [hello("c1"), happened(received(1, "a"), received(2, "b"))],
    ]
    done = await cli("inbox", "watch", "-o", "json", "--limit", "2")
    assert [json.loads(line)["seq"] for line in done.out.splitlines()] == ["1", "2"]
    assert [request.cursor for request in seen.requests] == ["", "c1"]
    assert "-- offline: UNAVAILABLE: the stream ended" in done.err


async def test_options_fill_the_request(cli: Cli, seen: Seen):
    seen.streams = [[hello("c0"), happened(received(1, "a"))]]
    words = [
        "--cursor",
        "c0",
        "--start",
        "earliest",
        "--event-types",
        "message-received",
        "--bookmark-interval",
        "1m30s",
    ]
    done = await cli("inbox", "watch", *words, "--filter-assignee-id", "me", "--limit", "1")
    assert done.code == 0, done.err
    request = seen.requests[0]
    assert (request.cursor, request.start, request.bookmark_interval.seconds) == ("c0", 1, 90)
    assert request.event_types == [event_pb2.EVENT_TYPE_MESSAGE_RECEIVED]
    assert request.filter.assignee_id == ["me"]


async def test_people_read_time_kind_conversation_who_and_what(cli: Cli, seen: Seen):
    moved = event_pb2.InboxEvent(seq=2, cursor="c2", conversation_id="k1")
    moved.actor.kind, moved.actor.id = actor_pb2.ACTOR_KIND_AGENT, "a1"
    moved.conversation_status_changed.to = 3
    setattr(moved.conversation_status_changed, "from", 2)
    given = event_pb2.InboxEvent(seq=3, cursor="c3", conversation_id="k1")
    given.conversation_assigned.assignment.agent_id = "a2"
    updated = event_pb2.InboxEvent(seq=4, cursor="c3", conversation_id="k1")
    updated.conversation_updated.changed_fields.extend(["tags", "subject"])
    met = event_pb2.InboxEvent(seq=5, cursor="c3")
    met.contact_created.contact.name = "Ada"
    left = event_pb2.InboxEvent(seq=6, cursor="c4", conversation_left=event_pb2.ConversationLeft())
    unheard_of = event_pb2.InboxEvent(seq=7, cursor="c7")
    seen.streams = [[hello("c0"), happened(received(1, "hi\nthere"), moved, given, updated, met, left, unheard_of)]]
    done = await cli("inbox", "watch", "--limit", "7")
    assert done.code == 0, done.err
    assert [line.split() for line in done.out.splitlines()] == [
        ["04:05:06", "message", "received", "k1", "Ada", "hi", "there"],
        ["--:--:--", "conversation", "status", "changed", "k1", "agent", "a1", "open", "->", "pending"],
        ["--:--:--", "conversation", "assigned", "k1", "-", "to", "a2"],
        ["--:--:--", "conversation", "updated", "k1", "-", "tags,", "subject"],
        ["--:--:--", "contact", "created", "-", "-", "Ada"],
        ["--:--:--", "conversation", "left", "-", "-"],
        ["--:--:--", "unknown", "event", "-", "-"],
    ]


async def test_a_refused_stream_ends_with_the_reason(cli: Cli, seen: Seen):
    seen.refusal = refusal(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    done = await cli("inbox", "watch", "--cursor", "old")
    assert done.code == 1
    assert "OUT_OF_RANGE CURSOR_EXPIRED: this is why" in done.err
    assert done.err.count("this is why") == 1
    assert done.out == ""


async def test_a_server_that_is_away_is_told_of_once(cli: Cli, seen: Seen):
    seen.refusal = refusal(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    process = await asyncio.create_subprocess_exec(
        *cli.command("inbox", "watch"), env=cli.process_environment(), stdout=-1, stderr=-1
    )
    async with asyncio.timeout(60):
        while sum(isinstance(request, inbox_service_pb2.WatchInboxRequest) for request in seen.requests) < 3:
            await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 40)
    assert err.count(b"-- offline") == 1


async def test_agents_are_shown_by_name(cli: Cli, seen: Seen):
    seen.agents = {"a1": "Ana", "a2": "Ben"}
    given = event_pb2.InboxEvent(seq=1, cursor="c1", conversation_id="k1")
    given.actor.kind, given.actor.id = actor_pb2.ACTOR_KIND_AGENT, "a1"
    given.conversation_assigned.assignment.agent_id = "a2"
    seen.streams = [[hello("c0"), happened(given)]]
    done = await cli("inbox", "watch", "--limit", "1")
    assert done.out.split()[-3:] == ["Ana", "to", "Ben"]


async def test_a_process_prints_each_event_when_it_comes(cli: Cli, seen: Seen):
    seen.streams = [[hello("c0"), happened(received(1, "a"))]]
    done = await cli.as_process("inbox", "watch", "-o", "json", "--limit", "1")
    assert done.code == 0, done.err
    assert done.json["messageReceived"]["message"]["text"] == {"body": "a"}


async def test_ctrl_c_ends_it_without_a_word(cli: Cli, seen: Seen):
    seen.streams = [[hello("c0"), happened(received(1, "a"))]]
    process = await asyncio.create_subprocess_exec(
        *cli.command("inbox", "watch"), env=cli.process_environment(), stdout=-1, stderr=-1
    )
    assert b"message received" in await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 40)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


@pytest.mark.parametrize("kind", [each.name for each in event_pb2.InboxEvent.DESCRIPTOR.oneofs_by_name["body"].fields])
def test_every_kind_of_event_is_a_line(kind: str):
    event = event_pb2.InboxEvent(seq=1)
    fill(getattr(event, kind), depth=3)
    line = describe(InboxEvent.parse(event.SerializeToString()), {})
    assert line.startswith("--:--:--  ")
    assert kind.replace("_", " ") in line
    assert "None" not in line


def fill(message: Message, *, depth: int) -> None:
    """Sets every field to something, with the messages in it."""
    message.SetInParent()
    for each in message.DESCRIPTOR.fields:
        if each.message_type is not None and depth and not each.is_repeated:
            fill(getattr(message, each.name), depth=depth - 1)
        elif each.message_type is None and not each.is_repeated:
            setattr(message, each.name, "x" if each.cpp_type == each.CPPTYPE_STRING else 1)


async def test_availability_is_shown_with_the_agent_and_both_words(cli: Cli, seen: Seen):
    seen.agents = {"a1": "Ana"}
    changed = event_pb2.InboxEvent(seq=1, cursor="c1")
    changed.agent_availability_changed.availability.agent_id = "a1"
    changed.agent_availability_changed.availability.availability = availability_pb2.AVAILABILITY_AWAY
    setattr(changed.agent_availability_changed, "from", availability_pb2.AVAILABILITY_ONLINE)
    seen.streams = [[hello("c0"), happened(changed)]]
    done = await cli("inbox", "watch", "--limit", "1")
    assert done.out.split()[-4:] == ["Ana", "online", "->", "away"]
