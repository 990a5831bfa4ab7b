"""Bad input by name: each is a typed refusal, with the field where one is at fault, the same over gRPC and REST."""

from typing import Any

import grpc
import pytest
from contract_agree import refusal, refused_alike
from contract_edge import Rest, bearer
from contract_outcome import Refused, method_of_request, methods
from contract_requests import nested
from contract_transports import Grpc, Transport
from contract_world import World, nonce, unknown
from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.message import Message
from grpc_status import rpc_status
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import auth_service_pb2 as auth
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_pb2, options_pb2
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import message_service_pb2 as messages

SNOOZED, OPEN = conversation_pb2.CONVERSATION_STATUS_SNOOZED, conversation_pb2.CONVERSATION_STATUS_OPEN


def text(world: World, body: str) -> messages.SendMessageRequest:
    return messages.SendMessageRequest(
        conversation_id=world.sample.id, text=messages.SendText(body=body), request_id=nonce()
    )


def listed(**fields: Any) -> conversations.ListConversationsRequest:
    return conversations.ListConversationsRequest(filter=filters.ConversationFilter(**fields))


def updated(world: World, **fields: Any) -> conversations.UpdateConversationRequest:
    return conversations.UpdateConversationRequest(conversation_id=world.sample.id, **fields)


def moved(world: World, **fields: Any) -> conversations.UpdateConversationStatusRequest:
    return conversations.UpdateConversationStatusRequest(conversation_id=world.sample.id, **fields)


def key(**fields: Any) -> auth.CreateApiKeyRequest:
    return auth.CreateApiKeyRequest(name="key", **fields)


def attributes(value: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update({"key": value})
    return made


def wide(count: int) -> filters.ConversationFilter:
    """A filter of so many conditions."""
    found = filters.ConversationFilter()
    for _ in range(count):
        getattr(found, "or").add(tags=["vip"])
    return found


def opened() -> filters.ConversationFilter:
    """A filter without fault."""
    return filters.ConversationFilter(status=[OPEN])


FAR = timestamp_pb2.Timestamp(seconds=10**15)
ADDED = conversations.AddConversationNoteRequest
TAGGED = conversations.AddConversationTagsRequest

# What is asked, the fields at fault.
INVALID: dict[str, tuple[Any, list[str]]] = {
    "empty text": (lambda w: text(w, ""), ["text.body"]),
    "65,537 bytes": (lambda w: text(w, "x" * 65_537), ["text.body"]),
    "65,538 bytes in half as many characters": (lambda w: text(w, "ä" * 32_769), ["text.body"]),
    "NUL in text": (lambda w: text(w, "a\0b"), ["text.body"]),
    "no content": (
        lambda w: messages.SendMessageRequest(conversation_id=w.sample.id, request_id="r"),
        ["content"],
    ),
    "request id of 129 characters": (
        lambda w: messages.SendMessageRequest(
            conversation_id=w.sample.id, text=messages.SendText(body="x"), request_id="r" * 129
        ),
        ["request_id"],
    ),
    "negative page size": (lambda w: conversations.ListConversationsRequest(page_size=-1), ["page_size"]),
    "two fields at fault": (
        lambda w: conversations.ListConversationsRequest(page_size=-1, page_token="x" * 1025),
        ["page_size", "page_token"],
    ),
    "filter of four levels": (
        lambda w: conversations.CountConversationsRequest(filter=nested(4)),
        ["filter.and[0].and[0].and[0]"],
    ),
    "filter of 21 conditions": (
        lambda w: conversations.CountConversationsRequest(
            filter=filters.ConversationFilter(**{"and": [wide(11), wide(10)]})
        ),
        ["filter.and[1].or[9].tags"],
    ),
    "filter of 201 ids in two fields": (
        lambda w: conversations.CountConversationsRequest(
            filter=filters.ConversationFilter(
                channel_id=[unknown() for _ in range(101)], contact_id=[unknown() for _ in range(100)]
            )
        ),
        ["filter.contact_id"],
    ),
    "filter of 201 ids in one field": (
        lambda w: conversations.CountConversationsRequest(
            filter=filters.ConversationFilter(contact_id=[unknown() for _ in range(201)])
        ),
        ["filter.contact_id"],
    ),
    "filter by a word that is no agent": (lambda w: listed(assignee_id=["ana"]), ["filter.assignee_id[0]"]),
    "filter of 21 words in two fields": (
        lambda w: conversations.CountConversationsRequest(
            filter=filters.ConversationFilter(
                **{"text": " ".join("abcdefghijk"), "or": [{"text": "九十月火水木金土日曜日"}]}
            )
        ),
        ["filter.or[0].text"],
    ),
    "a text without a word, deep in a filter": (
        lambda w: conversations.CountConversationsRequest(
            filter=filters.ConversationFilter(**{"not": {"text": " … !"}})
        ),
        ["filter.not.text"],
    ),
    "filter by me as a service": (lambda w: listed(assignee_id=["nobody", "me"]), ["filter.assignee_id[1]"]),
    "filter by mine as a service": (lambda w: listed(unread=filters.UNREAD_MINE), ["filter.unread"]),
    "me as a service, deep in a filter": (
        lambda w: conversations.CountConversationsRequest(
            filter=filters.ConversationFilter(**{"and": [opened(), {"not": {"assignee_id": ["me"]}}]})
        ),
        ["filter.and[1].not.assignee_id[0]"],
    ),
    "mine as a service, deep in a filter": (
        lambda w: conversations.CountConversationsRequest(
            filter=filters.ConversationFilter(**{"or": [opened(), {"unread": filters.UNREAD_MINE}]})
        ),
        ["filter.or[1].unread"],
    ),
    "a word that is no tag, deep in a filter": (
        lambda w: conversations.CountConversationsRequest(
            filter=filters.ConversationFilter(**{"and": [opened(), {"not": {"tags": ["vip", ""]}}]})
        ),
        ["filter.and[1].not.tags[1]"],
    ),
    "unspecified status in a filter": (lambda w: listed(status=[0]), ["filter.status[0]"]),
    "statistics by status": (
        lambda w: conversations.GetConversationStatisticsRequest(filter=filters.ConversationFilter(status=[OPEN])),
        ["filter.status"],
    ),
    "unknown status": (lambda w: moved(w, status=99), ["status"]),
    "unspecified status": (moved, ["status"]),
    "snooze without an end": (lambda w: moved(w, status=SNOOZED), [""]),
    "end of a snooze that is none": (lambda w: moved(w, status=OPEN, snooze_until_reply=True), [""]),
    "snooze into the past": (
        lambda w: moved(w, status=SNOOZED, snooze_until_time=timestamp_pb2.Timestamp(seconds=1)),
        ["snooze_until_time"],
    ),
    "negative version": (lambda w: updated(w, subject="x", expected_version=-1), ["expected_version"]),
    "subject of 201 characters": (lambda w: updated(w, subject="x" * 201), ["subject"]),
    "attributes above 16 KiB": (lambda w: updated(w, attributes=attributes("x" * 17_000)), ["attributes"]),
    "NUL in attributes": (lambda w: updated(w, attributes=attributes("a\0b")), ["attributes"]),
    "nobody to assign to": (lambda w: assignments.AssignConversationRequest(conversation_id=w.sample.id), [""]),
    "note of 65,537 bytes": (lambda w: ADDED(conversation_id=w.sample.id, text="x" * 65_537), ["text"]),
    "no tags": (lambda w: TAGGED(conversation_id=w.sample.id), ["tags"]),
    "21 tags": (lambda w: TAGGED(conversation_id=w.sample.id, tags=[str(i) for i in range(21)]), ["tags"]),
    "an empty tag": (lambda w: TAGGED(conversation_id=w.sample.id, tags=["vip", ""]), ["tags[1]"]),
    "a tag of 51 characters": (lambda w: TAGGED(conversation_id=w.sample.id, tags=["x" * 51]), ["tags[0]"]),
    "no phone number": (
        lambda w: conversations.CreateConversationRequest(channel_id=w.channel_id, phone_number="0170 123"),
        ["phone_number"],
    ),
    "an impossible phone number": (
        lambda w: conversations.CreateConversationRequest(channel_id=w.channel_id, phone_number="+999999999999999"),
        ["phone_number"],
    ),
    "a key without permissions": (lambda _: key(), ["permissions"]),
    "a key with a permission twice": (
        lambda w: key(permissions=[options_pb2.PERMISSION_EVENTS_READ] * 2),
        ["permissions"],
    ),
    "a token for 16 minutes": (
        lambda w: auth.CreateAgentTokenRequest(agent_id=w.agents["agent"], lifetime={"seconds": 901}),  # type: ignore[arg-type]
        ["lifetime"],
    ),
    "a token for no time": (
        lambda w: auth.CreateAgentTokenRequest(agent_id=w.agents["agent"], lifetime={}),  # type: ignore[arg-type]
        ["lifetime"],
    ),
    "event type 0": (lambda w: inbox.ListInboxEventsRequest(event_types=[0]), ["event_types[0]"]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("name", INVALID)
def test_a_field_at_fault_is_named(edges: list[Transport], world: World, name: str) -> None:
    ask, fields = INVALID[name]
    request: Message = ask(world)
    refused = refused_alike(edges, method_of_request(request.DESCRIPTOR.full_name), request, world.key)
    assert (refused.code, refused.reason) == (3, "INVALID_FIELDS")
    assert refused.fields == fields


# JSON has no word for these, and the edge itself refuses a query with an enum that it does not know.
OVER_GRPC_ONLY: dict[str, tuple[Any, list[str]]] = {
    "a time beyond the calendar": (lambda w: moved(w, status=SNOOZED, snooze_until_time=FAR), ["snooze_until_time"]),
    "an expiry beyond the calendar": (
        lambda w: key(permissions=[options_pb2.PERMISSION_EVENTS_READ], expire_time=FAR),
        ["expire_time"],
    ),
    "not a number in attributes": (lambda w: updated(w, attributes=attributes(float("nan"))), ["attributes"]),
    "infinity in attributes": (lambda w: updated(w, attributes=attributes(float("inf"))), ["attributes"]),
    "unknown status in a filter": (lambda w: listed(status=[99]), ["filter.status[0]"]),
    "unknown unread in a filter": (lambda w: listed(unread=9), ["filter.unread"]),
    "unknown order": (lambda w: conversations.ListConversationsRequest(order=99), ["order"]),  # type: ignore[arg-type]
    "unknown start": (lambda w: inbox.ListInboxEventsRequest(start=7), ["start"]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", OVER_GRPC_ONLY)
def test_what_only_grpc_can_say_is_refused_there(direct: Grpc, world: World, name: str) -> None:
    ask, fields = OVER_GRPC_ONLY[name]
    request: Message = ask(world)
    refused = refusal(direct, method_of_request(request.DESCRIPTOR.full_name), request, world.key)
    assert (refused.reason, refused.fields) == ("INVALID_FIELDS", fields)


@pytest.mark.parametrize("body", ["x" * 4097, "ä" * 4097, "x" * 65_536])
def test_what_the_provider_does_not_take_is_refused_with_its_limit(
    edges: list[Transport], world: World, body: str
) -> None:
    refused = refused_alike(edges, methods()["MessageService.SendMessage"], text(world, body), world.key)
    assert (refused.code, refused.reason, refused.info.metadata["limit"]) == (3, "PROVIDER_LIMIT", "4096")
    assert refused.fields == ["text.body"]


def test_what_the_provider_just_takes_is_taken(world: World) -> None:
    request = text(world, "ä" * 4096)
    request.conversation_id = world.conversation().id
    assert world.call(request).message.text.body == "ä" * 4096


def test_a_request_above_one_mebibyte_is_too_large(edges: list[Transport], world: World) -> None:
    refused = refused_alike(edges, methods()["MessageService.SendMessage"], text(world, "x" * (1 << 20)), world.key)
    assert (refused.code, refused.reason, dict(refused.info.metadata)) == (
        8,
        "REQUEST_TOO_LARGE",
        {"limit": str(1 << 20)},
    )


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("GET", "/v1/conversations?filter.status=DANCING", None),
        ("GET", "/v1/conversations?filter.status=99", None),
        ("GET", "/v1/conversations?order=99", None),
        ("GET", "/v1/conversations?status=CONVERSATION_STATUS_OPEN", None),
        ("GET", "/v1/conversations?pageSize=many", None),
        ("GET", "/v1/conversations?filter.nothing=1", None),
        ("POST", "/v1/conversations:search", {"filter": {"status": ["DANCING"]}}),
        ("POST", "/v1/conversations:search", b'{"filter":'),
        ("POST", "/v1/conversations:search", {"pageSize": "many"}),
        ("POST", "/v1/conversations:search", {"pageSize": 1 << 40}),
        ("POST", "/v1/conversations:search", []),
    ],
)
def test_what_the_edge_cannot_read_is_malformed(rest: Rest, world: World, verb: str, path: str, body: Any) -> None:
    status, told = rest.get(verb, path, body, world.key)
    assert (status, told["code"]) == (400, 3)
    assert [(each["reason"], each["domain"]) for each in told["details"]] == [("MALFORMED_REQUEST", "switchboard")]


def test_an_unknown_enum_number_over_rest_is_refused_by_the_server(rest: Rest, world: World) -> None:
    path = f"/v1/conversations/{world.sample.id}/status"
    status, told = rest.get("PATCH", path, {"status": 99}, world.key)
    reasons = [each.get("reason") for each in told["details"]]
    assert (status, [reason for reason in reasons if reason]) == (400, ["INVALID_FIELDS"])
    assert told["details"][1]["fieldViolations"][0]["field"] == "status"


def test_a_method_that_there_is_not_is_unknown(grpc_channel: grpc.Channel, world: World) -> None:
    assert _raw(grpc_channel, "/switchboard.v1.ConversationService/Dance", b"", world.key).reason == "METHOD_UNKNOWN"


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"], ids=["junk", "cut", "no UTF-8"])
def test_bytes_that_are_no_request_are_malformed(grpc_channel: grpc.Channel, world: World, data: bytes) -> None:
    refused = _raw(grpc_channel, "/switchboard.v1.ConversationService/GetConversation", data, world.key)
    assert (refused.code, refused.reason) == (3, "MALFORMED_REQUEST")


def test_a_filter_deeper_than_a_parser_goes_is_malformed(grpc_channel: grpc.Channel, world: World) -> None:
    filter_bytes = b""
    for _ in range(200):
        filter_bytes = b"\x6a" + _varint(len(filter_bytes)) + filter_bytes
    data = b"\x0a" + _varint(len(filter_bytes)) + filter_bytes
    refused = _raw(grpc_channel, "/switchboard.v1.ConversationService/ListConversations", data, world.key)
    assert (refused.code, refused.reason) == (3, "MALFORMED_REQUEST")


def test_bytes_that_are_no_request_are_first_of_all_not_from_a_caller(grpc_channel: grpc.Channel) -> None:
    refused = _raw(grpc_channel, "/switchboard.v1.ConversationService/GetConversation", b"\xff", "sb_broken")
    assert refused.reason == "CREDENTIAL_INVALID"


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _raw(channel: grpc.Channel, path: str, data: bytes, token: str) -> Refused:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(path)(data, metadata=list(bearer(token).items()), timeout=10)
    status = rpc_status.from_call(raised.value)  # type: ignore[arg-type]
    assert status is not None, raised.value
    return Refused(status)
