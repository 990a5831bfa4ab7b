"""MessageService."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Literal

from switchboard.v1 import message_pb2
from switchboard.v1 import message_service_pb2 as rpc
from switchboard.v1.message_service_pb2_grpc import MessageServiceServicer

from server.conversations.rules import ReplyWindowClosed
from server.kit import pb
from server.kit.db import Write
from server.kit.ids import parse_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import origin_of
from server.media.links import Links
from server.messages import attached, convert, refetching, repository, service, signalling, templated
from server.messages import content as contents
from server.messages.batch import BatchWriters
from server.messages.items import Send, Stored
from server.messages.row import AttachmentRow, MessageRow
from server.providers.content import Content, FilledTemplate, QuickReplies
from server.providers.contract import Capabilities, Provider
from server.requests import service as requests
from server.requests.service import digest
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size


class MessageServicer(MessageServiceServicer):
    """Sending and reading."""

    def __init__(
        self,
        *,
        tokens: PageTokens,
        cursors: Cursors,
        writers: BatchWriters,
        providers: Mapping[str, Provider],
        links: Links,
    ) -> None:
        self._tokens = tokens
        self._cursors = cursors
        self._writers = writers
        self._providers = providers
        self._links = links

    async def SendMessage(self, request: rpc.SendMessageRequest, call: Call) -> rpc.SendMessageResponse:
        """Answers once the message is durable."""
        content, files = await self._asked(request, call)
        send = Send(
            scope=call.scope,
            origin=origin_of(call, request.request_id),
            conversation_id=uuid.UUID(request.conversation_id),
            text=request.text.body if content is None else contents.text_of(content),
            content=content,
            files=files,
            reply_to_message_id=_id_in(request, "reply_to_message_id"),
            request_id=request.request_id or None,
            request_hash=digest(request),
            last_seen_message_id=_id_in(request, "last_seen_message_id"),
            client_address=call.client_address,
            user_agent=call.user_agent,
        )
        try:
            result = await self._writers.of(call.tenant_id, call.database).submit(send)
        except ReplyWindowClosed as refusal:
            raise await self._told_of_templates(refusal, send, call) from refusal
        assert isinstance(result, Stored)
        unseen_id = result.unseen_message_id
        return rpc.SendMessageResponse(
            message=await self._of(result, call),
            unseen_message_id=None if unseen_id is None else str(unseen_id),
        )

    async def ReactToMessage(self, request: rpc.ReactToMessageRequest, call: Call) -> rpc.ReactToMessageResponse:
        """The tenant's reaction to a message."""
        message_id, origin = uuid.UUID(request.message_id), origin_of(call)

        async def unit(write: Write) -> MessageRow:
            return await signalling.react(
                write, call.scope, message_id, request.emoji, origin=origin, providers=self._providers
            )

        return rpc.ReactToMessageResponse(message=self._shown(call, await call.database.write(unit)))

    async def SendTypingIndicator(
        self, request: rpc.SendTypingIndicatorRequest, call: Call
    ) -> rpc.SendTypingIndicatorResponse:
        """That an answer is being written."""
        conversation_id = uuid.UUID(request.conversation_id)

        async def unit(write: Write) -> datetime | None:
            return await signalling.typing(write, call.scope, conversation_id, providers=self._providers)

        return rpc.SendTypingIndicatorResponse(expire_time=pb.timestamp(await call.database.write(unit)))

    async def _asked(
        self, request: rpc.SendMessageRequest, call: Call
    ) -> tuple[Content | QuickReplies | None, tuple[AttachmentRow, ...]]:
        """What to send, and its files; of a template what the customer reads. A repeat of a call sends what it sent, whatever became of
        its template and files.
        """
        kind, named = request.WhichOneof("content"), attached.of_request(request)
        if kind != "template" and not named:
            return contents.asked(request), ()
        conversation_id = uuid.UUID(request.conversation_id)
        content: Content | QuickReplies | None = None
        async with call.database.snapshot() as connection:
            sent = await service.repeated(connection, call, request.request_id)
            if sent is None and kind == "template":
                content = await templated.filled(
                    connection, call.scope, conversation_id, request.template, self._capabilities
                )
        if sent is not None:
            again = contents.of(sent.text, sent.details)
            return attached.unresolved(request) if kind == "media" else again, ()
        if isinstance(content, FilledTemplate):
            named = attached.of_template(content)
        files = await self._files(call, conversation_id, named) if named else ()
        if kind == "media":
            return attached.media_of(files), files
        content = content or contents.asked(request)
        assert content is not None
        assert not isinstance(content, QuickReplies)
        return attached.carrying(content, files), files

    async def _files(
        self, call: Call, conversation_id: uuid.UUID, named: Sequence[attached.Asked]
    ) -> tuple[AttachmentRow, ...]:
        async def unit(write: Write) -> tuple[AttachmentRow, ...]:
            return await attached.resolved(
                write,
                call.scope,
                conversation_id,
                named,
                capabilities=self._capabilities,
            )

        return await call.database.write(unit)

    async def _of(self, stored: Stored, call: Call) -> message_pb2.Message:
        """The message of a send; its files are read anew where an earlier call sent it."""
        if stored.duplicate:
            return self._shown(call, await service.with_files(call.database, stored.message))
        return self._linked(call, stored.shown or convert.message(stored.message))

    def _capabilities(self, provider: str) -> Capabilities:
        return self._providers[provider].capabilities

    async def _told_of_templates(self, refusal: ReplyWindowClosed, send: Send, call: Call) -> ReplyWindowClosed:
        """The refusal, with the names of some templates that may be sent instead."""
        async with call.database.snapshot() as connection:
            found = await templated.usable(connection, call.scope, send.conversation_id, self._capabilities)
        return refusal.with_templates([f"{row.name}/{row.language}" for row in found])

    async def GetMessage(self, request: rpc.GetMessageRequest, call: Call) -> rpc.GetMessageResponse:
        """A message."""
        row, head = await service.get(call.database, call.scope, uuid.UUID(request.message_id))
        return rpc.GetMessageResponse(message=self._shown(call, row), as_of=self._cursors.at(call.tenant_id, head))

    async def RetryAttachment(self, request: rpc.RetryAttachmentRequest, call: Call) -> rpc.RetryAttachmentResponse:
        """Has files fetched once more."""
        message_id = uuid.UUID(request.message_id)
        position = request.position if request.HasField("position") else None

        async def unit(write: Write) -> MessageRow:
            earlier = await requests.claim(write, call, request, resource_id=message_id)
            if earlier is None:
                origin = origin_of(call, request.request_id)
                await append(write, await refetching.again(write, call.scope, message_id, position, origin=origin))
            return await repository.get_visible(write.connection, call.scope, message_id)

        return rpc.RetryAttachmentResponse(message=self._shown(call, await call.database.write(unit)))

    async def ListMessages(self, request: rpc.ListMessagesRequest, call: Call) -> rpc.ListMessagesResponse:
        """A page of history, and the cursor it stands at."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        conversation_id = uuid.UUID(request.conversation_id)
        rows, head = await service.page(call.database, call.scope, conversation_id, after=after, limit=size + 1)
        items, last = cut(rows, size, partial(self._shown, call))
        return rpc.ListMessagesResponse(
            messages=items,
            next_page_token="" if last is None else self._tokens.write(call, request, [last.sequence]),
            as_of=self._cursors.at(call.tenant_id, head),
        )

    def _shown(self, call: Call, row: MessageRow) -> message_pb2.Message:
        """A message with links to its files, which are good for a while from now."""
        return self._linked(call, convert.message(row))

    def _linked(self, call: Call, message: message_pb2.Message) -> message_pb2.Message:
        for attachment in message.attachments:
            if attachment.state == message_pb2.ATTACHMENT_STATE_STORED:
                attachment.download_url = self._links.url(call.tenant_id, attachment.id)
        return message

    async def ListMessageStatusUpdates(
        self, request: rpc.ListMessageStatusUpdatesRequest, call: Call
    ) -> rpc.ListMessageStatusUpdatesResponse:
        """A page of the audit trail."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        message_id = uuid.UUID(request.message_id)
        part = request.part if request.HasField("part") else None
        records, head = await service.status_updates(
            call.database, call.scope, message_id, part=part, after=after, limit=size + 1
        )
        items, last = cut(records, size, convert.status_update)
        values = None if last is None else [last["create_time"].isoformat(), str(last["id"])]
        token = "" if values is None else self._tokens.write(call, request, values)
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.ListMessageStatusUpdatesResponse(status_updates=items, next_page_token=token, as_of=as_of)


def _id_in(
    request: rpc.SendMessageRequest, field: Literal["last_seen_message_id", "reply_to_message_id"]
) -> uuid.UUID | None:
    """An optional id; None where it is absent."""
    return parse_id(getattr(request, field), field=field) if request.HasField(field) else None
