"""Files as the Cloud API takes them: which, how large, and what it says of those that it has.

Source: Meta's Cloud API documentation, "Media" (supported types, upload) and its error 131053, as of November 2026.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta

from server.providers.content import Buttons, Content, File, FileKind, FilledTemplate, Link, Media
from server.providers.contract import Json, Outcome, Refused
from server.providers.media import FileLimits, MediaBrought

_MB = 1024 * 1024
# An id of an upload is good for 30 days; a send that waits for its turn must not meet the end.
LASTS = timedelta(days=29)
LIMITS: Mapping[FileKind, FileLimits] = {
    "image": FileLimits(types=dict.fromkeys(("image/jpeg", "image/png"), 5 * _MB)),
    "video": FileLimits(types=dict.fromkeys(("video/mp4", "video/3gpp"), 16 * _MB)),
    "audio": FileLimits(
        types=dict.fromkeys(("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"), 16 * _MB),
        captioned=False,
        voice=("audio/ogg",),
    ),
    "document": FileLimits(types={}, others=100 * _MB),
    "sticker": FileLimits(types={"image/webp": 100 * 1024}, animated_most=500 * 1024, captioned=False),
}
# What Meta answers when a message names a file that it has not, has no more, or does not like.
_OF_FILE = frozenset({"131053", "131009", "100"})


def rendered(file: File) -> dict[str, Json]:
    """The object of a message that names a file."""
    told = {"id": file.provider_id, "caption": file.caption, "filename": file.file_name, "voice": file.voice or None}
    return {name: value for name, value in told.items() if value is not None}


def judged(content: Content | None, outcome: Outcome) -> Outcome:
    """The outcome of a send, which may be about the file that it names."""
    named = isinstance(content, Media) or (isinstance(content, Buttons | Link) and content.header_media is not None)
    named = named or (
        isinstance(content, FilledTemplate)
        and any(each.kind in ("image", "video", "document") for each in content.filling.header)
    )
    if named and isinstance(outcome, Refused) and outcome.code in _OF_FILE:
        return dataclasses.replace(outcome, of_file=True)
    return outcome


def brought(body: Json) -> MediaBrought | None:
    """What an upload is answered with."""
    found = body.get("id") if isinstance(body, dict) else None
    return MediaBrought(found, LASTS) if isinstance(found, str) and 0 < len(found) <= 512 else None
