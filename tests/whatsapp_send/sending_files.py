"""Files that are sent on a `Line`: brought as a caller does, and to the simulator as the worker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.kit.egress import Egress
from server.kit.ids import new_id
from server.media import brought
from server.media.store import Store, open_store
from server.messages import attached
from server.messages.attached import Asked
from server.messages.bringing import Bringer
from server.messages.items import Send, Stored
from server.messages.row import AttachmentRow
from server.providers.content import Content
from tests.desk import ALL, nobody
from tests.whatsapp_send.sending import Line

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01" + bytes(100)
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(100)
MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(100)
OGG = b"OggS\x00\x02" + bytes(22) + b"OpusHead\x01\x01" + bytes(100)
PDF = b"%PDF-1.4\n" + bytes(100)
WEBP = b"RIFF\x80\x00\x00\x00WEBPVP8 " + bytes(100)
MOVING = b"RIFF\x80\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02" + bytes(100)

ROWS = """
SELECT a.position, a.kind, a.state, a.mime_type, a.file_name, a.size_bytes, a.caption, a.voice, a.animated, p.status AS part,
    d.state AS delivery
FROM messages m JOIN message_parts p ON p.message_id = m.id JOIN deliveries d ON d.part_id = p.id
LEFT JOIN message_attachments a ON a.message_id = m.id AND a.position = p.position
WHERE m.id = $1 ORDER BY p.position
"""


@dataclass
class Files:
    """A line with a store."""

    line: Line
    store: Store
    networks: tuple[str, ...] = ()

    async def bring(self, content: bytes, told: str = "", *, name: str | None = None) -> Any:
        """A file as a caller brings it; its row."""
        database, media_id = self.line.desk.database, new_id()
        async with database.connection() as connection:
            await brought.expect(connection, media_id, file_name=name)

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return await brought.take(
            database,
            self.store,
            tenant_id=self.line.desk.tenant.id,
            media_id=media_id,
            chunks=chunks(),
            told=told,
            most_bytes=len(content),
        )

    async def rows(self, *asked: Asked) -> tuple[AttachmentRow, ...]:
        """The files of a message to be. ProviderLimit."""
        desk = self.line.desk

        async def unit(write: Any) -> tuple[AttachmentRow, ...]:
            return await attached.resolved(
                write,
                ALL,
                self.line.conversation_id,
                asked,
                capabilities=lambda name: desk.providers[name].capabilities,
            )

        return await desk.database.write(unit)

    async def queue(self, *asked: Asked, content: Content | None = None) -> Any:
        """Stores a message with files, alone or above a content; its id."""
        rows = await self.rows(*asked)
        made = attached.media_of(rows) if content is None else attached.carrying(content, rows)
        send = Send(
            scope=ALL,
            origin=nobody(),
            conversation_id=self.line.conversation_id,
            text=made.items[0].caption if content is None else getattr(content, "body", None),  # type: ignore[union-attr]
            request_id=None,
            request_hash=b"",
            last_seen_message_id=None,
            content=made,
            files=rows,
        )
        stored = await self.line.desk.writer().submit(send)
        assert isinstance(stored, Stored), stored
        return stored.message.id

    async def work(self) -> None:
        """What the worker brings to the provider now."""
        bringer = Bringer(
            providers=self.line.providers,
            store=self.store,
            most_bytes=10_000_000,
            egress=Egress(self.networks),
            slots=asyncio.Semaphore(4),
            wake=lambda: None,
        )
        await bringer.look(self.line.desk.tenant)
        while bringer.busy:
            await asyncio.sleep(0.005)

    async def sent(self, *asked: Asked, content: Content | None = None) -> Any:
        """Sends a message to its end, all parts of it; its id."""
        message_id = await self.queue(*asked, content=content)
        await self.work()
        for _ in asked:
            await self.line.deliver()
        return message_id

    async def left(self, message_id: Any) -> list[dict[str, Any]]:
        """What the database has of each part; what is not so is left out."""
        records = await self.line.desk.rows(ROWS, message_id)
        return [
            {name: value for name, value in dict(record).items() if value not in (None, False)} for record in records
        ]

    async def asked(self) -> list[Any]:
        """The messages that the simulator took, without what all of them have."""
        usual = ("messaging_product", "recipient_type", "to", "biz_opaque_callback_data")
        return [
            {name: value for name, value in request["body"].items() if name not in usual}
            for request in await self.line.requests()
        ]

    async def at_meta(self) -> list[Any]:
        """The files that lie at the simulator."""
        async with self.line.http.get(f"{self.line.url}/_control/media") as response:
            return list((await response.json())["media"])


def files(line: Line, folder: Path) -> Files:
    """A line with a store in a folder."""
    return Files(line, open_store("", folder=folder, endpoint="", region="", access_key="", secret_key=""))
