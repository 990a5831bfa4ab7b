"""What a file is, by its first bytes; and how a browser may be given it."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

import filetype

HEAD_BYTES = 8192
UNKNOWN = "application/octet-stream"
# What a browser shows without running anything in it. All else is saved: SVG and HTML can be programs.
INLINE = frozenset(
    {
        *("image/jpeg", "image/png", "image/gif", "image/webp"),
        *("video/mp4", "video/3gpp", "video/webm"),
        *("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/opus", "audio/wav"),
    }
)
_SAME = {"audio/x-wav": "audio/wav", "audio/m4a": "audio/mp4", "video/x-m4v": "video/mp4", "audio/x-aac": "audio/aac"}
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def type_of(head: bytes, *, told: str) -> str:
    """The type by the first bytes; what has no such sign is a plain file, whatever was told. told: the provider's word."""
    found = filetype.guess_mime(head)
    if found is None:
        return UNKNOWN
    found = _SAME.get(found, found)
    # A container holds either: the provider knows which.
    family, _, kind = found.partition("/")
    told_family, _, told_kind = told.partition(";")[0].strip().lower().partition("/")
    alike = {found, told_family + "/" + told_kind} <= {"audio/mp4", "video/mp4", "video/3gpp"} or (
        kind == told_kind == "ogg" or kind == told_kind == "webm"
    )
    return f"{told_family}/{told_kind}" if alike else f"{family}/{kind}"


def brought_type(head: bytes, *, told: str) -> str:
    """The type of a file that a caller brings. What has a sign is what that says; told: for what has none, such as text, and for those
    that are an archive to the eye. Pictures, films and sound have signs.
    """
    found, told = type_of(head, told=told), told.lower()
    family = told.partition("/")[0]
    signed = family in ("image", "video", "audio", "")
    return found if signed or found not in (UNKNOWN, "application/zip") else told


def is_animated(head: bytes) -> bool:
    """Whether it is a WebP that moves: flag A of its extended header (RFC 9649)."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 0x02)


def disposition(name: str | None, mime_type: str, *, fallback: str) -> str:
    """Content-Disposition (RFC 6266): shown or saved, and under which name. Names of customers end no header and leave no folder."""
    how = "inline" if mime_type in INLINE else "attachment"
    base = (name or fallback).replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(each for each in base if unicodedata.category(each)[0] != "C").strip(" .")[:150] or fallback
    return f"{how}; filename=\"{_UNFIT.sub('_', clean)}\"; filename*=UTF-8''{quote(clean, safe='')}"
