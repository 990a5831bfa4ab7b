"""One call that changes one conversation: its unit of work, its request id, its answer. For servicers."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from google.protobuf.message import Message
from switchboard.v1 import conversation_pb2

from server.conversations import convert, repository
from server.conversations.row import ConversationRow
from server.conversations.service import Changed
from server.kit.db import Write
from server.log.append import append
from server.log.event import Origin, origin_of
from server.requests import service as requests
from server.rpc.call import Call, CallerKind

Work = Callable[[Write, uuid.UUID, Origin], Awaitable[Changed]]


async def change(call: Call, request: Message, work: Work) -> conversation_pb2.Conversation:
    """Runs work(write, conversation id, origin) and appends its events.

    A repeat answers the conversation as it is now, though the first call may have given it away or deleted it: the caller was
    allowed then, and is told what came of it.
    """
    conversation_id = uuid.UUID(request.conversation_id)  # type: ignore[attr-defined]
    origin = origin_of(call, request.request_id)  # type: ignore[attr-defined]

    async def unit(write: Write) -> ConversationRow:
        if await requests.claim(write, call, request, resource_id=conversation_id):
            return (await repository.lock_many(write.connection, [conversation_id]))[conversation_id]
        changed = await work(write, conversation_id, origin)
        await append(write, changed.events)
        return changed.row

    return shown(await call.database.write(unit), call)


def shown(row: ConversationRow, call: Call) -> conversation_pb2.Conversation:
    """The list row as the caller may see it: agents see their own unread count too."""
    return convert.conversation(row, mine=call.caller.kind is CallerKind.AGENT)
