"""A real grpc.aio server for the command line to call, and the command line called beside it."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import click.testing
import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from switchboard.v1 import (
    actor_pb2,
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    conversation_pb2,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    event_pb2,
    inbox_service_pb2,
    inbox_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    message_service_pb2_grpc,
    note_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)
from switchboard_cli.root import root

LONG_AGO = "2020-02-03T04:05:06Z"


@dataclass
class Seen:
    """What the server was sent, and what it shall answer."""

    requests: list[Any] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    pages: dict[str, Message] = field(default_factory=dict)
    refusal: status_pb2.Status | None = None
    streams: list[list[Message]] = field(default_factory=list)
    agents: dict[str, str] = field(default_factory=dict)

    async def note(self, request: Message, context: grpc.aio.ServicerContext) -> None:
        self.requests.append(request)
        self.tokens.append(dict(context.invocation_metadata()).get("authorization"))
        if self.refusal is not None:
            await context.abort_with_status(rpc_status.to_status(self.refusal))


class Conversations(conversation_service_pb2_grpc.ConversationServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def ListConversations(self, request, context):
        await self.seen.note(request, context)
        return self.seen.pages[request.page_token]

    async def GetConversation(self, request, context):
        await self.seen.note(request, context)
        found = row(request.conversation_id, notes=[note_pb2.Note(id="n1", text="likes cake")])
        return conversation_service_pb2.GetConversationResponse(conversation=found, as_of="c7")

    async def UpdateConversation(self, request, context):
        await self.seen.note(request, context)
        return conversation_service_pb2.UpdateConversationResponse(conversation=row(request.conversation_id))

    async def UpdateConversationStatus(self, request, context):
        await self.seen.note(request, context)
        return conversation_service_pb2.UpdateConversationStatusResponse(conversation=row(request.conversation_id))

    async def GetConversationStatistics(self, request, context):
        await self.seen.note(request, context)
        counts = [conversation_service_pb2.StatusCount(status=conversation_pb2.CONVERSATION_STATUS_OPEN, count=3)]
        return conversation_service_pb2.GetConversationStatisticsResponse(by_status=counts, unread_count=2, as_of="c1")


class Messages(message_service_pb2_grpc.MessageServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def SendMessage(self, request, context):
        await self.seen.note(request, context)
        message = message_pb2.Message(id="m1", text=message_pb2.TextContent(body=request.text.body), sequence=1 << 60)
        return message_service_pb2.SendMessageResponse(message=message)


class Inbox(inbox_service_pb2_grpc.InboxServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def WatchInbox(self, request, context):
        await self.seen.note(request, context)
        for item in self.seen.streams.pop(0):
            await context.write(item)
        if not self.seen.streams:
            await asyncio.Event().wait()


class Agents(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def ListAgents(self, request, context):
        agents = [agent_pb2.Agent(id=each, name=name) for each, name in self.seen.agents.items()]
        return agent_service_pb2.ListAgentsResponse(agents=agents)


class Tenants(tenant_service_pb2_grpc.TenantServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def ListTenants(self, request, context):
        await self.seen.note(request, context)
        return tenant_service_pb2.ListTenantsResponse()


def register(seen: Seen, server: grpc.aio.Server) -> None:
    conversation_service_pb2_grpc.add_ConversationServiceServicer_to_server(Conversations(seen), server)
    message_service_pb2_grpc.add_MessageServiceServicer_to_server(Messages(seen), server)
    inbox_service_pb2_grpc.add_InboxServiceServicer_to_server(Inbox(seen), server)
    agent_service_pb2_grpc.add_AgentServiceServicer_to_server(Agents(seen), server)
    tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(Tenants(seen), server)


def row(conversation_id: str = "k1", **fields: Any) -> conversation_pb2.Conversation:
    found = conversation_pb2.Conversation(
        id=conversation_id, status=conversation_pb2.CONVERSATION_STATUS_OPEN, version=1 << 53, **fields
    )
    found.contact.name = "Ada"
    found.last_message_time.FromJsonString(LONG_AGO)
    return found


def page(*rows: conversation_pb2.Conversation, token: str = "") -> conversation_service_pb2.ListConversationsResponse:
    return conversation_service_pb2.ListConversationsResponse(conversations=rows, next_page_token=token, as_of="c9")


def refusal(code: grpc.StatusCode, reason: str = "", *, violation: tuple[str, str] | None = None, **metadata: str):
    status = status_pb2.Status(code=code.value[0], message="this is why")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="switchboard", metadata=metadata))
    if violation:
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field=violation[0], description=violation[1])
        status.details.add().Pack(bad)
    return status


def hello(cursor: str) -> inbox_service_pb2.WatchInboxResponse:
    return inbox_service_pb2.WatchInboxResponse(hello=inbox_service_pb2.Hello(cursor=cursor))


def happened(*events: event_pb2.InboxEvent) -> inbox_service_pb2.WatchInboxResponse:
    return inbox_service_pb2.WatchInboxResponse(events=events)


def received(seq: int, text: str) -> event_pb2.InboxEvent:
    event = event_pb2.InboxEvent(seq=seq, cursor=f"c{seq}", id=f"e{seq}", conversation_id="k1")
    event.actor.kind = actor_pb2.ACTOR_KIND_CONTACT
    event.create_time.FromJsonString(LONG_AGO)
    event.message_received.message.text.body = text
    event.message_received.conversation.CopyFrom(row())
    return event


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Cli:
    """Runs the command line against the server of the test."""

    url: str
    environment: dict[str, str]

    async def __call__(self, *words: str, stdin: str = "") -> Result:
        """In this process, in a thread of its own: the command brings its own loop."""
        runner = click.testing.CliRunner(env=self.environment)
        result = await asyncio.to_thread(runner.invoke, root, words, input=stdin, prog_name="switchboard")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    def command(self, *words: str) -> list[str]:
        """What a shell would start."""
        return [sys.executable, "-W", "error", "-m", "switchboard_cli", *words]

    def process_environment(self, path: str = "") -> dict[str, str]:
        """Its environment; `path` goes in front of what Python imports from."""
        roots = [entry for entry in (path, *sys.path) if entry]
        return {**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(roots)}

    async def as_process(self, *words: str, path: str = "") -> Result:
        """As the shell would, in the folder `path`."""
        environment = self.process_environment(path)
        done = await asyncio.to_thread(
            *(subprocess.run, self.command(*words)), env=environment, cwd=path or None, capture_output=True, text=True
        )
        return Result(done.returncode, done.stdout, done.stderr)
