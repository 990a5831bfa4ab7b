"""The form that a file comes in."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from aiohttp.multipart import BodyPartReader

MB = 1024 * 1024
MOST = 100 * MB


@dataclass(frozen=True, slots=True)
class Form:
    """What an upload came as."""

    product: str | None
    type: str | None
    content: bytes | None


async def read(request: web.Request) -> Form:
    """The form of an upload; a body that is none has nothing. Of a file that is too large, a byte more than may be."""
    fields: dict[str, str] = {}
    content = told = None
    if request.content_type != "multipart/form-data":
        return Form(None, None, None)
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        if part.name == "file":
            told, content = part.headers.get("Content-Type"), await _file(part)
        elif part.name is not None:
            fields[part.name] = (await part.read(decode=True)).decode(errors="replace")[:256]
    return Form(fields.get("messaging_product"), fields.get("type") or told, content)


async def _file(part: BodyPartReader) -> bytes:
    found = bytearray()
    while chunk := await part.read_chunk():
        if len(found) <= MOST:
            found += chunk
    return bytes(found)


def plain(mime_type: str) -> str:
    """A type without its parameters."""
    return mime_type.partition(";")[0].strip().lower()
