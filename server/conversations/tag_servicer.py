"""TagService: the vocabulary of tags."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from switchboard.v1 import tag_service_pb2 as rpc
from switchboard.v1.tag_service_pb2_grpc import TagServiceServicer

from server.conversations import convert, vocabulary
from server.conversations.vocabulary import Tagged
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.log.cursor import Cursors
from server.log.event import Origin, origin_of
from server.log.read import read_head
from server.requests import service as requests
from server.rpc.call import Call
from server.rpc.paging import PageTokens, cut, page_size

Change = rpc.CreateTagRequest | rpc.UpdateTagRequest | rpc.DeleteTagRequest


class TagServicer(TagServiceServicer):
    """The vocabulary of tags."""

    def __init__(self, *, tokens: PageTokens, cursors: Cursors) -> None:
        self._tokens = tokens
        self._cursors = cursors

    async def ListTags(self, request: rpc.ListTagsRequest, call: Call) -> rpc.ListTagsResponse:
        """A page of the vocabulary."""
        size, after = page_size(request.page_size), self._tokens.read(call, request)
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            records = await vocabulary.page(connection, after=after, limit=size + 1)
        items, last = cut(records, size, convert.tag)
        return rpc.ListTagsResponse(
            tags=items,
            next_page_token="" if last is None else self._tokens.write(call, request, [last["name"]]),
            as_of=self._cursors.at(call.tenant_id, head),
        )

    async def CreateTag(self, request: rpc.CreateTagRequest, call: Call) -> rpc.CreateTagResponse:
        """Adds a tag."""
        tag_id = new_id()

        async def work(write: Write, origin: Origin) -> Tagged:
            return await vocabulary.create(
                write,
                origin=origin,
                tag_id=tag_id,
                name=request.name,
                color=request.color,
                description=request.description,
            )

        tagged = await _change(call, request, tag_id, work)
        return rpc.CreateTagResponse(tag=convert.tag(tagged.tag))

    async def UpdateTag(self, request: rpc.UpdateTagRequest, call: Call) -> rpc.UpdateTagResponse:
        """Changes a tag."""
        tag_id = uuid.UUID(request.tag_id)

        async def work(write: Write, origin: Origin) -> Tagged:
            return await vocabulary.update(
                write,
                tag_id,
                origin=origin,
                name=request.name if request.HasField("name") else None,
                color=request.color if request.HasField("color") else None,
                description=request.description if request.HasField("description") else None,
            )

        tagged = await _change(call, request, tag_id, work)
        return rpc.UpdateTagResponse(tag=convert.tag(tagged.tag))

    async def DeleteTag(self, request: rpc.DeleteTagRequest, call: Call) -> rpc.DeleteTagResponse:
        """Deletes a tag."""
        tag_id = uuid.UUID(request.tag_id)

        async def work(write: Write, origin: Origin) -> Tagged:
            return await vocabulary.delete(write, tag_id, origin=origin)

        await _change(call, request, tag_id, work)
        return rpc.DeleteTagResponse()


async def _change(
    call: Call, request: Change, tag_id: uuid.UUID, work: Callable[[Write, Origin], Awaitable[Tagged]]
) -> Tagged:
    """Runs work and appends its events; a repeat answers the tag as it is now. NotFound when that is deleted since."""
    origin = origin_of(call, request.request_id)

    async def unit(write: Write) -> Tagged:
        earlier = await requests.claim(write, call, request, resource_id=tag_id)
        if earlier is not None:
            deleted = isinstance(request, rpc.DeleteTagRequest)
            return Tagged(None if deleted else await vocabulary.get(write.connection, earlier))
        tagged = await work(write, origin)
        await append(write, tagged.events)
        return tagged

    return await call.database.write(unit)
