"""The files that a message is to be sent with: looked up, compared with what the channel takes, and made rows of."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from switchboard.v1 import message_pb2, message_service_pb2

from server.conversations import repository as conversations
from server.kit.db import Connection, Write
from server.kit.ids import new_id, parse_id
from server.media import brought
from server.messages import limits
from server.messages.convert import ATTACHMENT_KIND
from server.messages.refusals import Excess, ProviderLimit
from server.messages.row import AttachmentRow
from server.providers.content import (
    Buttons,
    Content,
    ContentKind,
    ContentLimits,
    File,
    FileKind,
    FilledTemplate,
    Flow,
    Link,
    Media,
)
from server.providers.contract import Capabilities
from server.providers.media import FileLimits
from server.providers.template import Parameter
from server.rpc.call import Scope

# Tried in this order where the caller does not say as what a file is to be shown.
GUESSED: Sequence[FileKind] = ("image", "video", "audio")
ABOVE = frozenset({"image", "video", "document"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A file as a caller asks for it. path: of it in the request; kind: "" where it is left to us."""

    path: str
    media_id: str = ""
    link: str = ""
    kind: str = ""
    caption: str | None = None
    file_name: str | None = None
    voice: bool = False
    above: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The same with its row of `media`, None for a link."""

    asked: Asked
    kind: FileKind
    record: Any


def of_request(request: message_service_pb2.SendMessageRequest) -> list[Asked]:
    """The files that a request names itself; a template's stand in its filling."""
    kind = request.WhichOneof("content")
    if kind == "media":
        return [_asked(item, f"media.items[{index}]") for index, item in enumerate(request.media.items)]
    if kind in ("buttons", "link", "flow") and getattr(request, kind).HasField("header_media"):
        return [_asked(getattr(request, kind).header_media, f"{kind}.header_media", above=True)]
    return []


def of_template(filled: FilledTemplate) -> list[Asked]:
    """The file of a template's header."""
    return [
        Asked(
            path=f"template.filling.header[{index}].{given.kind}",
            media_id=given.value.get("media_id", ""),
            link=given.value.get("link", ""),
            kind=given.kind,
            file_name=given.value.get("file_name"),
            above=True,
        )
        for index, given in enumerate(filled.filling.header)
        if given.kind in ABOVE
    ]


def unresolved(request: message_service_pb2.SendMessageRequest) -> Media:
    """The content of a call that repeats an earlier one, which answers with what that sent."""
    return Media(items=tuple(File(media_id="", type="document") for _ in request.media.items))


def carrying(content: Content, files: Sequence[AttachmentRow]) -> Content:
    """A content that was asked for with its files."""
    named = [_file(row) for row in files]
    if not named or isinstance(content, Media):
        return content
    if isinstance(content, FilledTemplate):
        return _filled(content, named[0])
    return dataclasses.replace(cast(Buttons | Link | Flow, content), header_media=named[0])


def media_of(files: Sequence[AttachmentRow]) -> Media:
    """The content of a message that is nothing but files."""
    return Media(items=tuple(map(_file, files)))


async def resolved(
    write: Write,
    scope: Scope,
    conversation_id: uuid.UUID,
    asked: Sequence[Asked],
    *,
    capabilities: Callable[[str], Capabilities],
) -> tuple[AttachmentRow, ...]:
    """Rows of the files, whose content stays until they are sent. NotFound, ProviderLimit."""
    row, _ = await conversations.get_visible(write.connection, scope, conversation_id)
    can = capabilities(row.provider)
    found = [await _found(write.connection, each, can) for each in asked]
    excesses = [excess for each in found for excess in _excesses(each, can)]
    rows = tuple(_row(position, each) for position, each in enumerate(found))
    if "media" in can.contents and not any(each.above for each in asked):
        excesses += limits.excesses(can.contents["media"], media_of(rows))
    if excesses:
        raise ProviderLimit(*excesses)
    await brought.hold(write.connection, [item.media_id for item in rows if item.media_id is not None])
    for item, each in zip(rows, asked, strict=True):
        if each.link and item.media_id is not None:
            await brought.expect(write.connection, item.media_id, file_name=each.file_name, link=each.link)
    return rows


def _asked(
    item: message_service_pb2.SendFile | message_service_pb2.SendHeaderMedia, path: str, *, above: bool = False
) -> Asked:
    unsaid = item.kind == message_pb2.ATTACHMENT_KIND_UNSPECIFIED
    asked = Asked(
        path=path,
        media_id=item.media_id,
        link=item.link,
        kind="" if unsaid else ATTACHMENT_KIND.word(item.kind),
        file_name=item.file_name if item.HasField("file_name") else None,
        above=above,
    )
    if isinstance(item, message_service_pb2.SendHeaderMedia):
        return asked
    return dataclasses.replace(asked, caption=item.caption if item.HasField("caption") else None, voice=item.voice)


async def _found(connection: Connection, asked: Asked, can: Capabilities) -> Found:
    if asked.link:
        return Found(asked, cast(FileKind, asked.kind or "document"), None)
    record = await brought.get(connection, parse_id(asked.media_id, field=f"{asked.path}.media_id"))
    guessed = (kind for kind in GUESSED if kind in can.files and record["mime_type"] in can.files[kind].types)
    return Found(asked, cast(FileKind, asked.kind or next(guessed, "document")), record)


def _excesses(found: Found, can: Capabilities) -> Iterator[Excess]:
    """What of a file the channel does not take."""
    asked, record, takes = found.asked, found.record, can.files.get(found.kind)
    if asked.link and not asked.kind:
        yield Excess(f"{asked.path}.kind", "is needed beside a link")
    content, _, key = asked.path.partition(".")
    limits_of = can.contents.get(cast(ContentKind, content), ContentLimits())
    if found.kind not in limits_of.files.get(key, (found.kind,)):
        yield Excess(f"{asked.path}.kind", f"must be one of {', '.join(limits_of.files[key])}")
    if takes is None:
        yield Excess(asked.path, f"the channel cannot send {found.kind}")
        return
    if asked.caption is not None and not takes.captioned:
        yield Excess(f"{asked.path}.caption", f"the channel shows nothing below {found.kind}")
    if asked.file_name is not None and found.kind != "document":
        yield Excess(f"{asked.path}.file_name", "is of documents alone")
    if asked.voice and found.kind != "audio":
        yield Excess(f"{asked.path}.voice", "is of audio alone")
    if record is None:
        return
    if record["state"] != "stored":
        yield Excess(f"{asked.path}.media_id", "its content is not here")
        return
    if asked.voice and found.kind == "audio" and record["mime_type"] not in takes.voice:
        yield Excess(
            f"{asked.path}.voice", f"a recorded note is {', '.join(takes.voice)}, this is {record['mime_type']}"
        )
    yield from fits(takes, found.kind, record, path=asked.path)


def fits(takes: FileLimits, kind: str, record: Any, *, path: str) -> Iterator[Excess]:
    """Whether a channel takes a file of `media` as this kind."""
    most = takes.most(record["mime_type"], animated=record["animated"])
    if most is None:
        known = ", ".join(sorted(takes.types))
        yield Excess(path, f"the channel takes no {record['mime_type']} as {kind}; it takes {known}")
    elif record["size_bytes"] > most:
        yield Excess(path, f"the channel takes at most {most} bytes of it, it has {record['size_bytes']}", most)


def _row(position: int, found: Found) -> AttachmentRow:
    asked, record = found.asked, found.record
    row = AttachmentRow(
        id=new_id(),
        position=position,
        kind=found.kind,
        mime_type="",
        file_name=asked.file_name,
        size_bytes=None,
        state="fetching",
        voice=asked.voice,
        media_id=new_id(),
        caption=asked.caption,
    )
    if record is None:
        return row
    name = record["file_name"] if found.kind == "document" else None
    return dataclasses.replace(
        row,
        mime_type=record["mime_type"] or "",
        file_name=asked.file_name or name,
        size_bytes=record["size_bytes"],
        state="stored",
        animated=record["animated"],
        stored_type=record["mime_type"],
        stored_sha256=record["sha256"],
        media_id=record["id"],
    )


def _file(row: AttachmentRow) -> File:
    return File(
        media_id=str(row.media_id),
        type=cast(FileKind, row.kind),
        caption=row.caption,
        file_name=row.file_name,
        voice=row.voice,
    )


def _filled(content: FilledTemplate, file: File) -> FilledTemplate:
    """A template whose header names its file by our id."""
    value = {"media_id": file.media_id} | ({} if file.file_name is None else {"file_name": file.file_name})
    header = (Parameter(kind=file.type, value=value, name=content.filling.header[0].name),)
    return dataclasses.replace(content, filling=dataclasses.replace(content.filling, header=header))
