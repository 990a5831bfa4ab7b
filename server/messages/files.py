"""The files of messages on their way out: a delivery goes when its file is at the provider, and waits until it is.

Bringing a file there is no send: it is repeated as often as it takes (`bringing`), before the request that counts. What came of it is
in `provider_media`: an id that is good for a while, which later messages use too, or an error, which one delivery takes from there and
settles as its own.
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from server.deliveries import service as deliveries
from server.deliveries.claiming import Claimed
from server.kit.db import Connection
from server.providers.content import Buttons, Content, File, FileKind, FilledTemplate, Flow, Link, Media
from server.providers.contract import ErrorClass, NotSent, Refused
from server.providers.template import Parameter

# As the trigger begin_media_upload has it.
WAITS = "waits for its file"
# Should nobody tell it that its file is there.
AT_MOST = timedelta(minutes=10)
OF_PART = """
SELECT a.kind, a.media_id, a.caption, a.file_name, a.voice, p.provider_media_id, p.error_class, p.error_code, p.error_message,
    p.expire_time > clock_now() AS good
FROM message_parts mp JOIN message_attachments a ON a.message_id = mp.message_id AND a.position = mp.position
LEFT JOIN provider_media p ON p.media_id = a.media_id AND p.channel_id = mp.channel_id
WHERE mp.id = $1 AND a.media_id IS NOT NULL
"""
TAKE_ERROR = """
DELETE FROM provider_media WHERE media_id = $1 AND channel_id = $2 AND error_class IS NOT NULL
RETURNING error_class, error_code, error_message
"""
# Nothing comes back when it is there by now.
WANT = """
INSERT INTO provider_media AS p (media_id, channel_id, due_time, attempt) VALUES ($1, $2, clock_now(), 0)
ON CONFLICT (media_id, channel_id) DO UPDATE
SET due_time = coalesce(p.due_time, clock_now()), provider_media_id = NULL, expire_time = NULL
WHERE p.error_class IS NULL AND (p.expire_time IS NULL OR p.expire_time <= clock_now() OR $3)
RETURNING media_id
"""
LAST_CODE = "SELECT error_code FROM deliveries WHERE id = $1 FOR UPDATE"
OF_DELIVERY = """
SELECT a.media_id FROM message_parts p JOIN message_attachments a ON a.message_id = p.message_id AND a.position = p.position
WHERE p.id = $1 AND a.media_id IS NOT NULL
"""
FORGET = "DELETE FROM provider_media WHERE media_id = $1 AND channel_id = $2"
LINK_AGAIN = "UPDATE media SET state = 'linked', error = NULL WHERE id = $1 AND state = 'failed'"
AWAITED = """
UPDATE deliveries d SET due_time = clock_now(), error_message = NULL
FROM message_attachments a JOIN message_parts p ON p.message_id = a.message_id AND p.position = a.position
WHERE a.media_id = $1 AND p.channel_id = $2 AND d.part_id = p.id AND d.state IN ('queued', 'waiting') AND d.error_message = $3
"""


@dataclass(frozen=True, slots=True)
class Waits:
    """The file of a part is not at the provider yet; nothing was sent."""

    media_id: uuid.UUID


async def of_part(connection: Connection, claimed: Claimed) -> File | Waits | Refused | NotSent | None:
    """The file of a part as the provider knows it, None where it has none; Waits, or why it could not be brought there."""
    row = await connection.fetchrow(OF_PART, claimed.part_id)
    if row is None:
        return None
    if row["error_class"] is not None:
        error = await connection.fetchrow(TAKE_ERROR, row["media_id"], claimed.channel_id)
        return Waits(row["media_id"]) if error is None else _outcome(error)
    if not row["good"]:
        return Waits(row["media_id"])
    return File(
        media_id=str(row["media_id"]),
        type=cast(FileKind, row["kind"]),
        caption=row["caption"],
        file_name=row["file_name"],
        voice=row["voice"],
        provider_id=row["provider_media_id"],
    )


def _outcome(error: Any) -> Refused | NotSent:
    """What the error of a file is to its delivery. What passes by itself is tried again as what could not be sent."""
    kind = ErrorClass(error["error_class"])
    if kind in (ErrorClass.RETRY, ErrorClass.WAIT):
        return NotSent(f"its file: {error['error_code']}")
    return Refused(error_class=kind, code=error["error_code"], message=error["error_message"] or "")


def carried(content: Content | None, file: File | None) -> Content | None:
    """The content of a part with its file as the provider knows it."""
    if file is None:
        return content
    if isinstance(content, Buttons | Link | Flow):
        return dataclasses.replace(content, header_media=dataclasses.replace(file, caption=None))
    if isinstance(content, FilledTemplate):
        value = {"media_id": file.provider_id} | ({} if file.file_name is None else {"file_name": file.file_name})
        header = (Parameter(kind=file.type, value=value, name=content.filling.header[0].name),)
        return dataclasses.replace(content, filling=dataclasses.replace(content.filling, header=header))
    return Media(items=(file,))


async def wait(connection: Connection, claimed: Claimed, waits: Waits, *, anew: bool = False) -> None:
    """Has a file brought to the provider, and its delivery wait for that. anew: although it is there."""
    last = await connection.fetchval(LAST_CODE, claimed.id)
    wanted = await connection.fetchval(WANT, waits.media_id, claimed.channel_id, anew)
    after = timedelta(0) if wanted is None else AT_MOST
    await deliveries.again(connection, claimed, after=after, code=last, message=WAITS, counts=False)


async def again(connection: Connection, claimed: Claimed, refused: Refused) -> bool:
    """Has a file that the provider does not know, or does not like, brought there once more; False when that has been done."""
    media_id = await connection.fetchval(OF_DELIVERY, claimed.part_id)
    if media_id is None or await connection.fetchval(LAST_CODE, claimed.id) == refused.code:
        return False
    if await connection.fetchval(WANT, media_id, claimed.channel_id, True) is None:
        return False
    return await deliveries.again(connection, claimed, after=AT_MOST, code=refused.code, message=WAITS, counts=False)


async def forget(connection: Connection, part_id: uuid.UUID, channel_id: uuid.UUID) -> None:
    """Somebody asks for a second send of a part: its file is brought to the provider anew."""
    media_id = await connection.fetchval(OF_DELIVERY, part_id)
    if media_id is not None:
        await connection.execute(FORGET, media_id, channel_id)
        await connection.execute(LINK_AGAIN, media_id)


async def brought(connection: Connection, media_id: uuid.UUID, channel_id: uuid.UUID) -> None:
    """Something became of a file: what waits for it may go, or fail."""
    await connection.execute(AWAITED, media_id, channel_id, WAITS)
