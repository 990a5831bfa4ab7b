"""MediaService."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from switchboard.v1 import media_pb2
from switchboard.v1 import media_service_pb2 as rpc
from switchboard.v1.media_service_pb2_grpc import MediaServiceServicer

from server.kit import pb
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.cursor import Cursors
from server.log.read import read_head
from server.media import brought, convert
from server.media.links import Links
from server.media.store import Store
from server.requests import service as requests
from server.rpc.call import Call

# How long a link to bring a file by is good.
UPLOAD = timedelta(hours=1)


class MediaServicer(MediaServiceServicer):
    """Files that callers bring."""

    def __init__(self, *, cursors: Cursors, store: Store, links: Links, most_bytes: int) -> None:
        self._cursors = cursors
        self._store = store
        self._links = links
        self._most_bytes = most_bytes

    async def UploadMedia(self, request: rpc.UploadMediaRequest, call: Call) -> rpc.UploadMediaResponse:
        """Stores a small file."""
        record = await brought.take(
            call.database,
            self._store,
            tenant_id=call.tenant_id,
            media_id=await _expected(request, call),
            chunks=_one(request.content),
            told=request.mime_type,
            most_bytes=len(request.content),
        )
        return rpc.UploadMediaResponse(media=self._shown(call, record))

    async def CreateMediaUpload(
        self, request: rpc.CreateMediaUploadRequest, call: Call
    ) -> rpc.CreateMediaUploadResponse:
        """Gives a link to bring a file by."""
        media_id = await _expected(request, call)
        async with call.database.connection() as connection:
            record = await brought.get(connection, media_id)
        until = record["create_time"] + UPLOAD
        return rpc.CreateMediaUploadResponse(
            media=self._shown(call, record),
            upload_url=self._links.upload_url(call.tenant_id, media_id, until=until),
            expire_time=pb.timestamp(until),
            most_bytes=self._most_bytes,
        )

    async def GetMedia(self, request: rpc.GetMediaRequest, call: Call) -> rpc.GetMediaResponse:
        """A file."""
        async with call.database.snapshot() as connection:
            head = await read_head(connection)
            record = await brought.get(connection, uuid.UUID(request.media_id))
        as_of = self._cursors.at(call.tenant_id, head)
        return rpc.GetMediaResponse(media=self._shown(call, record), as_of=as_of)

    def _shown(self, call: Call, record: Any) -> media_pb2.Media:
        stored = record["state"] == "stored"
        url = self._links.url(call.tenant_id, record["id"]) if stored else None
        return convert.media(record, download_url=url)


async def _expected(request: rpc.UploadMediaRequest | rpc.CreateMediaUploadRequest, call: Call) -> uuid.UUID:
    """The file of the call; that of the first one, when this is a repeat."""
    media_id = new_id()
    name = request.file_name if request.HasField("file_name") else None

    async def unit(write: Write) -> uuid.UUID:
        earlier = await requests.claim(write, call, request, resource_id=media_id)
        if earlier is None:
            await brought.expect(write.connection, media_id, file_name=name)
        return earlier or media_id

    return await call.database.write(unit)


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
