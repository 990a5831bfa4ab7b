"""Files that businesses bring, and everything Meta refuses of them, when they come and when a message names them.

Source: Meta's Cloud API documentation, "Media" (upload, supported types and sizes) and its error 131053.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from server.simulator import errors
from server.simulator.contents import Problem
from server.simulator.forms import MB, MOST, Form, plain
from server.simulator.media import Media

# By kind: the types it has, and how many bytes of each; any type for a document. A sticker that moves may be larger.
KINDS: Mapping[str, Mapping[str, int]] = {
    "image": {"image/jpeg": 5 * MB, "image/png": 5 * MB},
    "video": {"video/mp4": 16 * MB, "video/3gpp": 16 * MB},
    "audio": dict.fromkeys(("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg"), 16 * MB),
    "document": {},
    "sticker": {"image/webp": 100 * 1024},
}
MOVING_MOST = 500 * 1024
# How the content of a type begins, from which byte on.
_SIGNS: Mapping[str, tuple[tuple[int, bytes], ...]] = {
    "image/jpeg": ((0, b"\xff\xd8\xff"),),
    "image/png": ((0, b"\x89PNG\r\n\x1a\n"),),
    "image/webp": ((8, b"WEBP"),),
    "video/mp4": ((4, b"ftyp"),),
    "video/3gpp": ((4, b"ftyp"),),
    "audio/mp4": ((4, b"ftyp"),),
    "audio/ogg": ((0, b"OggS"),),
    "audio/amr": ((0, b"#!AMR"),),
    "audio/mpeg": ((0, b"ID3"), (0, b"\xff\xfb"), (0, b"\xff\xf3"), (0, b"\xff\xf2")),
    "application/pdf": ((0, b"%PDF"),),
}


def problem(form: Form) -> Problem | None:
    """The first thing Meta refuses of an upload."""
    if form.product != "whatsapp":
        return Problem(errors.PARAMETER, "The parameter messaging_product is required.")
    if form.content is None:
        return Problem(errors.PARAMETER, "The parameter file is required.")
    if not form.type or "/" not in form.type:
        return Problem(errors.PARAMETER, "The parameter type is required.")
    if not form.content:
        return Problem(errors.MEDIA_REFUSED, "The file is empty.")
    if len(form.content) > MOST:
        return Problem(errors.MEDIA_REFUSED, f"The file is larger than {MOST} bytes.")
    signs = _SIGNS.get(plain(form.type))
    if signs is not None and not any(form.content[start:].startswith(sign) for start, sign in signs):
        return Problem(errors.MEDIA_REFUSED, f"The content of the file is not {plain(form.type)}.")
    return None


def refused(
    body: Mapping[str, object], *, phone_number_id: str, media: Callable[[str], Media | None]
) -> Problem | None:
    """The first thing Meta refuses of the files that a message names, whose shape was checked before."""
    return next((found for each in named(body) for found in _problems(*each, phone_number_id, media)), None)


def named(body: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Kind and id of each file that a message names by an id."""
    kind = str(body.get("type"))
    header = _at(body, "interactive", "header")
    components = _at(body, "template").get("components")
    parameters = [
        each
        for component in (components if isinstance(components, list) else [])
        for each in (component.get("parameters") if isinstance(component, Mapping) else None) or []
        if isinstance(each, Mapping)
    ]
    for word, holder in [(kind, body), *((str(each.get("type")), each) for each in (header, *parameters))]:
        media_id = _at(holder, word).get("id") if word in KINDS else None
        if isinstance(media_id, str):
            yield word, media_id


def _problems(
    kind: str, media_id: str, phone_number_id: str, media: Callable[[str], Media | None]
) -> Iterator[Problem]:
    found = media(media_id)
    if found is None or found.phone_number_id != phone_number_id:
        detail = f"Param {kind}['id'] is not a valid whatsapp business account media attachment ID"
        yield Problem(errors.PARAMETER, detail)
        return
    types, mime_type = KINDS[kind], plain(found.mime_type)
    if types and mime_type not in types:
        yield Problem(errors.MEDIA_REFUSED, f"Unsupported {kind} mime type {mime_type}.")
    most = MOVING_MOST if kind == "sticker" and found.content[20:21] in _MOVING else types.get(mime_type, MOST)
    if len(found.content) > most:
        yield Problem(errors.MEDIA_REFUSED, f"{kind} file size {len(found.content)} exceeds limit {most}.")


# The extended header of a WebP has a flag for those that move.
_MOVING = frozenset(bytes([flags]) for flags in range(256) if flags & 0x02)


def _at(body: Mapping[str, object], *path: str) -> Mapping[str, object]:
    found: object = body
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
