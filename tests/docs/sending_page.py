"""The tables of docs/sending.md, made from what the API says of a channel: python -m tests.docs.sending_page writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from switchboard.v1.channel_capabilities_pb2 import ChannelCapabilities, ContentCapability, FileCapability

from server.channels.capabilities import CATEGORY, FILE_KIND, capabilities
from server.providers.api.provider import Api
from server.providers.whatsapp.provider import WhatsApp

PAGE = Path(__file__).parents[2] / "docs" / "sending.md"
MB = 1024 * 1024
WHATSAPP, OWN = (capabilities(each.capabilities, per_second=None) for each in (WhatsApp, Api))


def contents(can: ChannelCapabilities) -> str:
    """A row for each content: how long, how many, and what else."""
    rows = [
        f"| {each.content} | {_numbers(each, 'max_characters')} | {_numbers(each, 'max_items')} | {'; '.join(_more(each))} |"
        for each in can.contents
    ]
    return "\n".join(("| | characters | how many | |", "|---|---|---|---|", *rows))


def _numbers(content: ContentCapability, name: str) -> str:
    found = [limit for limit in content.limits if limit.HasField(name)]
    return ", ".join(f"{_short(content, limit.field)} {getattr(limit, name)}" for limit in found)


def _short(content: ContentCapability, field: str) -> str:
    return field.removeprefix(f"{content.content}.")


def _more(content: ContentCapability) -> Iterator[str]:
    if unique := [_short(content, limit.field) for limit in content.limits if limit.unique]:
        yield f"each once: {', '.join(unique)}"
    for limit in content.limits:
        name = _short(content, limit.field)
        if limit.no_emoji:
            yield f"{name} without emoji"
        if limit.titled:
            yield f"{name} need titles where there are several"
        if limit.needed_with:
            yield f"{_short(content, limit.needed_with)} needs {name}"
        if limit.any_of:
            yield f"{name} needs one of {', '.join(limit.any_of)}"
        if limit.file_kinds:
            yield f"{name}: {', '.join(map(FILE_KIND.word, limit.file_kinds))}"
    for limit in content.not_to:
        about = "" if limit.category == 0 else f"{CATEGORY.word(limit.category).upper()} "
        yield f"{about}not to {', '.join(limit.recipients)}"
    if content.outside_reply_window:
        yield "after the reply window too"


def files(can: ChannelCapabilities) -> str:
    """A row for each kind of files."""
    rows = [
        f"| {FILE_KIND.word(each.kind)} | {', '.join(kind.mime_type for kind in each.types) or 'any'} | {_bytes(each)} "
        f"| {'yes' if each.captioned else 'no'} | {', '.join(each.voice_types)} |"
        for each in can.files
    ]
    return "\n".join(("| | types | bytes | caption | as a recorded note |", "|---|---|---|---|---|", *rows))


def _bytes(kind: FileCapability) -> str:
    most = {each.max_bytes for each in kind.types} or {kind.other_max_bytes}
    moving = f", {size(kind.animated_max_bytes)} if it moves" if kind.HasField("animated_max_bytes") else ""
    return "; ".join(map(size, sorted(most))) + moving


def size(count: int) -> str:
    """So many bytes, as people say it."""
    return f"{count // MB} MB" if count >= MB else f"{count // 1024} KB"


# By the line above them.
TABLES = {
    "WhatsApp:": contents(WHATSAPP),
    "A [channel of your own](api-channel.md):": contents(OWN),
    "Files of WhatsApp, by their first bytes; a type that is not here goes as a document:": files(WHATSAPP),
}


def written(page: str) -> str:
    """The page with its tables as they are now."""
    for above, table in TABLES.items():
        page, count = re.subn(rf"^({re.escape(above)}\n\n)(?:\|.*\n)*", rf"\g<1>{table}\n", page, flags=re.MULTILINE)
        assert count == 1, above
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
