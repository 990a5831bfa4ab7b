"""Unary calls: the typed face, tokens, errors, retries, pages."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import switchboard_sdk
from sdk_server import Server, status
from switchboard.v1 import conversation_pb2, conversation_service_pb2, inbox_service_pb2, message_service_pb2
from switchboard_client.message_pool import default_message_pool
from switchboard_client.switchboard.v1 import (
    Conversation,
    ConversationFilter,
    ConversationStatus,
    GetConversationRequest,
    ListConversationsRequest,
    SendMessageRequest,
    SendText,
    UpdateConversationStatusRequest,
    WatchInboxRequest,
)
from switchboard_sdk.contract import methods_by_request

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def send(text: str = "hi", request_id: str = "") -> SendMessageRequest:
    return SendMessageRequest(conversation_id="k1", text=SendText(body=text), request_id=request_id)


async def test_a_request_finds_its_method_and_answers_with_typed_messages(server: Server, client):
    answer = await client.call(GetConversationRequest(conversation_id="k1"))
    assert answer.conversation == Conversation(id="k1", version=7)
    assert server.conversations.tokens == ["Bearer sb_test"]


async def test_a_service_takes_a_request_or_its_fields(server: Server, client):
    wanted = ListConversationsRequest(filter=ConversationFilter(status=[ConversationStatus.OPEN]), page_size=3)
    await client.conversations.list_conversations(wanted)
    await client.conversations.list_conversations(filter=wanted.filter, page_size=3)
    first, second = server.conversations.requests
    assert first == second
    assert first.filter.status == [conversation_pb2.CONVERSATION_STATUS_OPEN]


@pytest.mark.parametrize("method", list(methods_by_request().values()), ids=lambda method: method.path)
async def test_every_rpc_is_there_with_its_messages(client, method):
    assert method.name in dir(getattr(client, method.group))
    assert callable(getattr(getattr(client, method.group), method.name))
    for name in (method.request, method.response):
        kind = default_message_pool.url_to_type[f"type.googleapis.com/{name}"]
        assert bytes(kind()) == b""


def test_the_methods_are_those_of_the_generated_stubs():
    stubs = {
        f"/{service.full_name}/{method.name}"
        for file in (conversation_service_pb2, inbox_service_pb2, message_service_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert stubs <= {method.path for method in methods_by_request().values()}


async def test_what_does_not_exist_says_what_does(client):
    with pytest.raises(AttributeError, match=r"there are agents, .*conversations"):
        client.conversation  # noqa: B018
    with pytest.raises(AttributeError, match=r"it has .*get_conversation"):
        client.conversations.get  # noqa: B018
    with pytest.raises(TypeError, match="takes a GetConversationRequest"):
        client.conversations.get_conversation(ListConversationsRequest())
    with pytest.raises(TypeError, match="Conversation is not the request of an RPC"):
        await client.call(Conversation())
    with pytest.raises(TypeError, match="streams"):
        await client.call(WatchInboxRequest())


async def test_a_method_the_server_lacks_is_unimplemented(client):
    with pytest.raises(switchboard_sdk.UnimplementedError):
        await client.call(UpdateConversationStatusRequest(conversation_id="k1"))


async def test_a_refusal_carries_reason_fields_and_metadata(server: Server, client):
    violations = [("text.body", "must not be empty"), ("conversation_id", "must be a UUID")]
    server.messages.failures = [
        status(grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_FIELDS", violations=violations, limit="4096")
    ]
    with pytest.raises(switchboard_sdk.InvalidArgumentError) as caught:
        await client.call(send())
    error = caught.value
    assert (error.code, error.reason, error.message) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", "no")
    assert [(each.field, each.description) for each in error.violations] == violations
    assert error.metadata == {"limit": "4096"}
    assert error.request_id == server.messages.requests[0].request_id
    assert str(error).startswith("INVALID_ARGUMENT INVALID_FIELDS: no; text.body: must not be empty")


async def test_a_message_that_names_its_fields_does_not_name_them_twice(server: Server, client):
    named = status(grpc.StatusCode.INVALID_ARGUMENT, message="a: is bad", violations=[("a", "is bad"), ("b", "is odd")])
    server.messages.failures = [named]
    with pytest.raises(switchboard_sdk.InvalidArgumentError) as caught:
        await client.call(send())
    assert str(caught.value) == "INVALID_ARGUMENT: a: is bad; b: is odd"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, switchboard_sdk.UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, switchboard_sdk.PermissionDeniedError),
        (grpc.StatusCode.NOT_FOUND, switchboard_sdk.NotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, switchboard_sdk.AlreadyExistsError),
        (grpc.StatusCode.FAILED_PRECONDITION, switchboard_sdk.FailedPreconditionError),
        (grpc.StatusCode.ABORTED, switchboard_sdk.AbortedError),
        (grpc.StatusCode.OUT_OF_RANGE, switchboard_sdk.OutOfRangeError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, switchboard_sdk.ResourceExhaustedError),
        (grpc.StatusCode.INTERNAL, switchboard_sdk.SwitchboardError),
    ],
)
async def test_every_code_has_its_class_and_is_not_repeated(server: Server, client, code, kind):
    server.messages.failures = [status(code)]
    with pytest.raises(switchboard_sdk.SwitchboardError) as caught:
        await client.call(send())
    assert type(caught.value) is kind
    assert len(server.messages.requests) == 1


async def test_each_send_gets_its_own_request_id(server: Server, client):
    request = send()
    await client.call(request)
    await client.call(request)
    ids = [each.request_id for each in server.messages.requests]
    assert len(set(ids)) == 2
    assert request.request_id == ""


async def test_an_unavailable_server_is_asked_again_with_the_same_request_id(server: Server, client):
    server.messages.failures = [status(UNAVAILABLE), status(UNAVAILABLE)]
    answer = await client.call(send(request_id="mine"))
    assert answer.message.request_id == "mine"
    assert [each.request_id for each in server.messages.requests] == ["mine"] * 3


async def test_the_server_says_how_long_to_wait(server: Server, client):
    server.conversations.failures = [status(UNAVAILABLE, retry_after=timedelta(milliseconds=300))]
    begin = time.monotonic()
    await client.conversations.get_conversation(conversation_id="k1")
    assert time.monotonic() - begin >= 0.3


async def test_retries_end(server: Server):
    server.conversations.failures = [status(UNAVAILABLE) for _ in range(9)]
    async with switchboard_sdk.connect(server.url, token="t", retries=2) as client:
        with pytest.raises(switchboard_sdk.UnavailableError):
            await client.conversations.get_conversation(conversation_id="k1")
    assert len(server.conversations.requests) == 3


async def test_a_pause_beyond_the_deadline_is_not_waited_for(server: Server, client):
    server.conversations.failures = [status(UNAVAILABLE, retry_after=timedelta(minutes=5))]
    with pytest.raises(switchboard_sdk.UnavailableError) as caught:
        await client.conversations.get_conversation(conversation_id="k1")
    assert caught.value.retry_after == timedelta(minutes=5)


async def test_a_write_that_cannot_be_repeated_safely_is_not(server: Server, client):
    server.messages.failures = [status(UNAVAILABLE)]
    with pytest.raises(switchboard_sdk.UnavailableError):
        await client.invoke("/switchboard.v1.MessageService/SendMessage", bytes(send()), repeatable=False)
    assert len(server.messages.requests) == 1


async def test_a_deadline_names_the_request_id_to_repeat_with(server: Server, client):
    server.messages.delay = timedelta(seconds=5)
    with pytest.raises(switchboard_sdk.DeadlineExceededError) as caught:
        await client.call(send(), within=timedelta(milliseconds=100))
    assert caught.value.request_id == server.messages.requests[0].request_id != ""


async def test_nobody_listening_is_unavailable(server: Server):
    async with switchboard_sdk.connect("http://127.0.0.1:1", token="t", retries=0) as client:
        with pytest.raises(switchboard_sdk.UnavailableError):
            await client.conversations.get_conversation(conversation_id="k1")


async def test_pages_follow_the_token_through_an_empty_page(server: Server, client):
    def page(*ids: str, token: str = ""):
        rows = [conversation_pb2.Conversation(id=each) for each in ids]
        return conversation_service_pb2.ListConversationsResponse(conversations=rows, next_page_token=token)

    server.conversations.pages = {"": page("a", "b", token="2"), "2": page(token="3"), "3": page("c")}
    request = ListConversationsRequest(page_size=2)
    pages = [[each.id for each in got.conversations] async for got in client.pages(request)]
    assert pages == [["a", "b"], [], ["c"]]
    assert request.page_token == ""
    with pytest.raises(TypeError, match="not answered in pages"):
        await anext(client.pages(GetConversationRequest()))


async def test_a_token_may_be_renewed_before_every_call(server: Server):
    tokens = iter(["first", "second", "third"])

    async def renew() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    async with switchboard_sdk.connect(server.url, token=renew) as client:
        await client.conversations.get_conversation(conversation_id="k1")
        await client.conversations.get_conversation(conversation_id="k1")
    assert server.conversations.tokens == ["Bearer first", "Bearer second"]


async def test_url_and_token_come_from_the_environment(server: Server, monkeypatch):
    monkeypatch.setenv("SWITCHBOARD_URL", server.url)
    monkeypatch.setenv("SWITCHBOARD_TOKEN", "from the environment")
    async with switchboard_sdk.connect() as client:
        await client.conversations.get_conversation(conversation_id="k1")
    assert server.conversations.tokens == ["Bearer from the environment"]


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://", "http://localhost/v1", "http://a?b=c"])
async def test_a_url_of_another_form_is_refused(url):
    with pytest.raises(ValueError, match="is not of the form"):
        switchboard_sdk.connect(url)


async def test_no_url_at_all_is_refused(monkeypatch):
    monkeypatch.delenv("SWITCHBOARD_URL", raising=False)
    with pytest.raises(ValueError, match="set SWITCHBOARD_URL"):
        switchboard_sdk.connect()


async def test_messages_say_times_as_datetimes(server: Server, client):
    row = conversation_pb2.Conversation(id="a")
    row.create_time.FromJsonString("2026-11-22T10:00:00.5Z")
    server.conversations.pages[""] = conversation_service_pb2.ListConversationsResponse(conversations=[row])
    page = await client.conversations.list_conversations()
    assert page.conversations[0].create_time == datetime(2026, 11, 22, 10, 0, 0, 500_000, tzinfo=UTC)
