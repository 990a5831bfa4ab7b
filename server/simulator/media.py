"""Files: what customers sent and businesses brought, looked up by id and fetched at an address that is good for five minutes.

Source: Meta's Cloud API media reference, as of November 2026.
"""

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from server.simulator.errors import Json
from server.simulator.forms import Form, plain
from server.simulator.inputs import Input
from server.simulator.payloads import Inbound

KEPT = 1000
ADDRESS_SECONDS = 300
RECEIVED_SECONDS = 7 * 86_400
UPLOADED_SECONDS = 30 * 86_400
# Of all files together, but for the newest.
BYTES_MOST = 256 * 1024 * 1024
PATH = "/whatsapp_business/attachments/"

_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP////////////////////////////////////////////////////////////////////////////////"
    "//////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
_STARTS: Mapping[str, bytes] = {
    "image/png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "image/webp": b"RIFF\x80\x00\x00\x00WEBPVP8 ",
    "video/mp4": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
    "audio/ogg": b"OggS\x00\x02" + bytes(22) + b"OpusHead\x01\x01",
    "audio/mpeg": b"ID3\x04\x00\x00\x00\x00\x00\x00",
    "audio/amr": b"#!AMR\n",
    "application/pdf": b"%PDF-1.4\n",
}


class MediaInput(Input):
    """A file, or how one behaves. `bytes`: its content in base64. `sha256`, `file_size`: told in the place of the true ones. `missing`: so
    many fetches are answered 404; `cut_after`: so many bytes come of each transfer; `redirect_to`: where a fetch is sent; `gone`:
    Meta has deleted it.
    """

    phone_number_id: str | None = None
    bytes: Annotated[str, Field(max_length=4_000_000)] | None = None
    mime_type: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    sha256: Annotated[str, Field(max_length=256)] | None = None
    file_size: str | int | None = None
    missing: Annotated[int, Field(ge=0, le=1000)] | None = None
    cut_after: Annotated[int, Field(ge=1)] | None = None
    redirect_to: Annotated[str, Field(max_length=2000)] | None = None
    gone: bool | None = None


@dataclass
class Media:
    """A file that lies at Meta."""

    id: str
    phone_number_id: str
    mime_type: str
    content: bytes = field(repr=False)
    create_time: float
    behaviour: MediaInput = field(default_factory=MediaInput)
    missing: int = 0
    fetches: int = 0
    uploaded: bool = False

    @property
    def end_time(self) -> float:
        """When Meta deletes it."""
        return self.create_time + (UPLOADED_SECONDS if self.uploaded else RECEIVED_SECONDS)


class MediaBook:
    """The files of all numbers; the newest of them."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)
        self._media: OrderedDict[str, Media] = OrderedDict()

    def receive(self, phone_number_id: str, messages: Iterable[Inbound], now: float) -> None:
        """Keeps the files of customers' messages that are not known yet, with a content made for them."""
        for message in messages:
            what = message.content
            if not isinstance(what, Mapping) or message.type not in ("image", "video", "audio", "document", "sticker"):
                continue
            media_id, mime_type = what.get("id"), what.get("mime_type")
            if isinstance(media_id, str) and isinstance(mime_type, str) and media_id not in self._media:
                self.put(Media(media_id, phone_number_id, mime_type, sample(media_id, mime_type), now))

    def put(self, media: Media) -> None:
        """Keeps one; the oldest make room."""
        self._media[media.id] = media
        self._media.move_to_end(media.id)
        while len(self._media) > KEPT or self._too_many():
            self._media.popitem(last=False)

    def bring(self, form: Form, phone_number_id: str, now: float) -> Media:
        """Keeps what a business brought."""
        media_id = str(secrets.randbelow(9 * 10**14) + 10**14)
        media = Media(media_id, phone_number_id, plain(form.type or ""), form.content or b"", now, uploaded=True)
        self.put(media)
        return media

    def remove(self, media_id: str) -> None:
        """Deletes one."""
        self._media.pop(media_id, None)

    def all(self) -> list[Media]:
        """All of them, the oldest first."""
        return list(self._media.values())

    def _too_many(self) -> bool:
        return len(self._media) > 1 and sum(len(each.content) for each in self._media.values()) > BYTES_MOST

    def get(self, media_id: str) -> Media | None:
        """The file of that id."""
        return self._media.get(media_id)

    def found(self, media_id: str, now: float) -> Media | None:
        """The same, while Meta has it."""
        media = self._media.get(media_id)
        if media is None or media.behaviour.gone or now >= media.end_time:
            return None
        return media

    def shown(self, media: Media, *, base_url: str, now: float) -> Json:
        """What a look-up answers."""
        until, told = int(now) + ADDRESS_SECONDS, media.behaviour
        size = len(media.content) if told.file_size is None else told.file_size
        return {
            "messaging_product": "whatsapp",
            "url": f"{base_url}{PATH}?mid={media.id}&ext={until}&hash={self.sign(media.id, until)}",
            "mime_type": media.mime_type,
            "sha256": told.sha256 or hashlib.sha256(media.content).hexdigest(),
            "file_size": size,
            "id": media.id,
        }

    def sign(self, media_id: str, until: int) -> str:
        """What makes an address ours."""
        return hmac.digest(self._key, f"{media_id}/{until}".encode(), hashlib.sha256).hex()[:32]


def sample(media_id: str, mime_type: str) -> bytes:
    """The content of a file whose id alone is known: always the same one, and of its type."""
    kind, mark = mime_type.partition(";")[0].strip(), media_id.encode()
    if kind == "image/jpeg":
        comment = b"\xff\xfe" + (len(mark) + 2).to_bytes(2, "big") + mark
        return _JPEG[:2] + comment + _JPEG[2:] + b"\xff\xd9"
    return _STARTS.get(kind, b"") + mark


def digest(media_id: str, mime_type: str) -> str:
    """Its hash as a webhook has it."""
    return base64.b64encode(hashlib.sha256(sample(media_id, mime_type)).digest()).decode()
