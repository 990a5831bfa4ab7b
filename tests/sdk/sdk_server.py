"""A real grpc.aio server that does what a test tells it: answers, refuses, drops, falls silent."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from switchboard.v1 import (
    conversation_pb2,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    event_pb2,
    inbox_service_pb2,
    inbox_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    message_service_pb2_grpc,
)

Context = grpc.aio.ServicerContext
# One thing a stream does: write this item, or await this.
Step = inbox_service_pb2.WatchInboxResponse | Callable[[Context], Awaitable[None]]


def status(
    code: grpc.StatusCode,
    *,
    reason: str = "",
    message: str = "no",
    retry_after: timedelta | None = None,
    violations: Sequence[tuple[str, str]] = (),
    **metadata: str,
) -> status_pb2.Status:
    """A refusal as the server renders it: one ErrorInfo, and BadRequest or RetryInfo where there is something to say."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain="switchboard", metadata=metadata)]
    if violations:
        fields = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(retry_after)
        details.append(retry)
    refusal = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        refusal.details.add().Pack(detail)
    return refusal


def refuse(refusal: status_pb2.Status) -> Callable[[Context], Awaitable[None]]:
    async def step(context: Context) -> None:
        await context.abort_with_status(rpc_status.to_status(refusal))

    return step


async def drop(context: Context) -> None:
    """What a killed process looks like through the edge: a status without details."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")


async def silence(context: Context) -> None:
    """Open, and never a word again."""
    await asyncio.Event().wait()


class Recorded:
    """What all three services note, and the failures that they are told to answer with first."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.tokens: list[str | None] = []
        self.failures: list[status_pb2.Status] = []

    async def note(self, request: Message, context: Context) -> None:
        self.requests.append(request)
        self.tokens.append(dict(context.invocation_metadata()).get("authorization"))
        if self.failures:
            await context.abort_with_status(rpc_status.to_status(self.failures.pop(0)))


class Conversations(conversation_service_pb2_grpc.ConversationServiceServicer, Recorded):
    def __init__(self) -> None:
        Recorded.__init__(self)
        self.pages: dict[str, conversation_service_pb2.ListConversationsResponse] = {}

    async def ListConversations(self, request, context):
        await self.note(request, context)
        return self.pages.get(request.page_token, conversation_service_pb2.ListConversationsResponse())

    async def GetConversation(self, request, context):
        await self.note(request, context)
        found = conversation_pb2.Conversation(id=request.conversation_id, version=7)
        return conversation_service_pb2.GetConversationResponse(conversation=found, as_of="c7")


class Messages(message_service_pb2_grpc.MessageServiceServicer, Recorded):
    def __init__(self) -> None:
        Recorded.__init__(self)
        self.delay = timedelta()

    async def SendMessage(self, request, context):
        await self.note(request, context)
        await asyncio.sleep(self.delay.total_seconds())
        sent = message_pb2.Message(id="m1", status=message_pb2.MESSAGE_STATUS_PENDING, request_id=request.request_id)
        return message_service_pb2.SendMessageResponse(message=sent)


class Inbox(inbox_service_pb2_grpc.InboxServiceServicer, Recorded):
    """Plays one script per opened stream; when there are none left, it says hello and keeps still."""

    def __init__(self) -> None:
        Recorded.__init__(self)
        self.scripts: list[list[Step]] = []
        self.open_streams = 0

    async def WatchInbox(self, request, context):
        self.open_streams += 1
        try:
            await self.note(request, context)
            for step in self.scripts.pop(0) if self.scripts else [hello(), silence]:
                if isinstance(step, inbox_service_pb2.WatchInboxResponse):
                    await context.write(step)
                else:
                    await step(context)
        finally:
            self.open_streams -= 1


@dataclass
class Server:
    conversations: Conversations = field(default_factory=Conversations)
    messages: Messages = field(default_factory=Messages)
    inbox: Inbox = field(default_factory=Inbox)
    url: str = ""

    def register(self, grpc_server: grpc.aio.Server) -> None:
        conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(self.conversations, grpc_server)
        message_service_pb2_grpc.add_MessageServiceServicer_to_server(self.messages, grpc_server)
        inbox_service_pb2_grpc.add_InboxServiceServicer_to_server(self.inbox, grpc_server)


def hello(cursor: str = "c0", *, bookmark_interval: timedelta = timedelta(seconds=10)):
    item = inbox_service_pb2.WatchInboxResponse(hello=inbox_service_pb2.Hello(cursor=cursor, head=1))
    item.hello.bookmark_interval.FromTimedelta(bookmark_interval)
    return item


def events(*seqs: int):
    """One item with the given events, each with a cursor that names its seq."""
    return inbox_service_pb2.WatchInboxResponse(
        events=[
            event_pb2.InboxEvent(seq=seq, cursor=f"c{seq}", conversation_created=event_pb2.ConversationCreated())
            for seq in seqs
        ]
    )


def bookmark(cursor: str):
    return inbox_service_pb2.WatchInboxResponse(bookmark=inbox_service_pb2.Bookmark(cursor=cursor, head=99))


def caught_up(cursor: str):
    return inbox_service_pb2.WatchInboxResponse(caught_up=inbox_service_pb2.CaughtUp(cursor=cursor))


def end(reason: str, cursor: str = "", *, retry_after: timedelta | None = None, error: str = ""):
    item = inbox_service_pb2.WatchInboxResponse(
        end=inbox_service_pb2.End(reason=f"END_REASON_{reason}", cursor=cursor, message="over")
    )
    if retry_after is not None:
        item.end.retry_after.FromTimedelta(retry_after)
    if error:
        item.end.error = f"ERROR_REASON_{error}"
    return item


def goodbye(cursor: str, *, reconnect_after: timedelta):
    item = inbox_service_pb2.WatchInboxResponse(
        goodbye=inbox_service_pb2.Goodbye(reason="END_REASON_DRAIN", cursor=cursor)
    )
    item.goodbye.reconnect_after.FromTimedelta(reconnect_after)
    return item


def reauth_required(cursor: str):
    return inbox_service_pb2.WatchInboxResponse(reauth_required=inbox_service_pb2.ReauthRequired(cursor=cursor))


def scope_changed(cursor: str, lost: str):
    changed = inbox_service_pb2.ScopeChanged(cursor=cursor, lost_channel_ids=[lost])
    return inbox_service_pb2.WatchInboxResponse(scope_changed=changed)
