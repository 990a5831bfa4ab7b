"""Meta's table of files, its types and sizes: what we take of each kind, and what the simulator takes, to the byte.

Source: Meta's Cloud API documentation, "Media", supported types. Tried in memory: the largest has 100 MB.
"""

from __future__ import annotations

from typing import Any

import pytest

from server.messages import attached
from server.providers.whatsapp.files import LIMITS
from server.simulator import uploads
from server.simulator.media import Media

MB, KB = 1024 * 1024, 1024
NUMBER = "106540352242922"
# How a WebP that moves begins.
MOVES = b"RIFF\x80\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02"
SIZES: list[tuple[Any, str, int, bytes]] = [
    *(("image", word, 5 * MB, b"") for word in ("image/jpeg", "image/png")),
    *(("video", word, 16 * MB, b"") for word in ("video/mp4", "video/3gpp")),
    *(("audio", f"audio/{word}", 16 * MB, b"") for word in ("aac", "amr", "mpeg", "mp4", "ogg")),
    ("document", "application/pdf", 100 * MB, b""),
    ("document", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", 100 * MB, b""),
    ("document", "text/plain", 100 * MB, b""),
    ("document", "application/x-unheard-of", 100 * MB, b""),
    ("sticker", "image/webp", 100 * KB, b""),
    ("sticker", "image/webp", 500 * KB, MOVES),
]
REFUSED = [
    *(("image", f"image/{word}") for word in ("heic", "gif", "webp", "bmp", "svg+xml")),
    *(("video", f"video/{word}") for word in ("quicktime", "webm", "x-matroska")),
    *(("audio", f"audio/{word}") for word in ("wav", "webm", "flac")),
    *(("sticker", f"image/{word}") for word in ("png", "gif")),
]


def ours(kind: Any, mime_type: str, size: int, begins: bytes) -> list[str]:
    record = {"mime_type": mime_type, "size_bytes": size, "animated": begins == MOVES}
    return [each.description for each in attached.fits(LIMITS[kind], kind, record, path="media.items[0]")]


def metas(kind: str, mime_type: str, size: int, begins: bytes) -> int | None:
    """The simulator's code of a message that names such a file."""
    lies = Media("77", NUMBER, mime_type, begins + bytes(size - len(begins)), 0.0)
    body = {"type": kind, kind: {"id": "77"}}
    found = uploads.refused(body, phone_number_id=NUMBER, media={"77": lies}.get)
    return None if found is None else found.error.code


@pytest.mark.parametrize(("kind", "mime_type", "most", "begins"), SIZES)
def test_a_file_may_have_so_many_bytes_and_not_one_more(kind: Any, mime_type: str, most: int, begins: bytes) -> None:
    assert ours(kind, mime_type, most, begins) == []
    assert metas(kind, mime_type, most, begins) is None
    (said,) = ours(kind, mime_type, most + 1, begins)
    assert str(most) in said
    assert metas(kind, mime_type, most + 1, begins) == 131053


@pytest.mark.parametrize(("kind", "mime_type"), REFUSED)
def test_a_file_of_another_type_is_refused(kind: Any, mime_type: str) -> None:
    (said,) = ours(kind, mime_type, 100, b"")
    assert mime_type in said
    assert metas(kind, mime_type, 100, b"") == 131053
