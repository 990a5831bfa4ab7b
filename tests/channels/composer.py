"""A client that knows the contract and no provider: what it can send, it reads in a channel's capabilities."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import json_format
from switchboard.v1.channel_capabilities_pb2 import ContentCapability, ContentLimit
from switchboard.v1.message_pb2 import AttachmentKind
from switchboard.v1.message_service_pb2 import SendMessageRequest

ROW, PICTURE = {"id": "1", "title": "One"}, "https://shop.example/1.png"
ABOVE = {"body": "See", "header_media": {"link": PICTURE, "kind": "ATTACHMENT_KIND_IMAGE"}}
# One of each content, with one of whatever it may have.
BODIES: dict[str, Any] = {
    "text": {"body": "Hello"},
    "media": {"items": [{"link": PICTURE, "kind": "ATTACHMENT_KIND_DOCUMENT", "caption": "1", "file_name": "1.png"}]},
    "buttons": ABOVE | {"buttons": [ROW], "footer": "1"},
    "list": {
        **{"body": "Which?", "label": "Rows", "header": "1", "footer": "1"},
        "sections": [{"title": "1", "rows": [ROW | {"description": "1"}]}],
    },
    "link": ABOVE | {"label": "Open", "url": "https://shop.example/", "footer": "1"},
    "location_request": {"body": "Where?"},
    "contact_request": {"body": "Which number?"},
    "product": {"body": "This?", "footer": "1", "catalog_id": "1", "product_retailer_id": "1"},
    "product_list": {
        **{"body": "Which?", "header": "1", "footer": "1", "catalog_id": "1"},
        "product_sections": [{"title": "1", "product_retailer_ids": ["1"]}],
    },
    "catalog": {"body": "All", "footer": "1"},
    "flow": ABOVE | {"label": "Open", "footer": "1", "flow": {"flow_id": "1"}},
    "template": {"key": {"name": "order", "language": "en"}},
    "location": {"latitude": 1, "longitude": 2, "name": "Here", "address": "1 High Street"},
    "contacts": {"contacts": [{"name": {"formatted_name": "Ana B", "first_name": "Ana"}, "phones": [{"phone": "1"}]}]},
}


class Try(NamedTuple):
    """A message at a limit or beyond it. field: what a refusal names, "" where there is none."""

    name: str
    body: dict[str, Any]
    field: str

    def request(self, conversation_id: str = "019ab000-0000-7000-8000-000000000000") -> SendMessageRequest:
        """As it is sent."""
        return json_format.ParseDict(self.body, SendMessageRequest(conversation_id=conversation_id))


def plain(field: str) -> str:
    """A path without the places in lists."""
    return re.sub(r"\[\d+\]", "", field)


def tries(content: ContentCapability) -> Iterator[Try]:
    """For each limit a message that keeps to it by nothing, and one that does not."""
    for limit in content.limits:
        yield from _of_limit(content.content, limit)


def _of_limit(kind: str, limit: ContentLimit) -> Iterator[Try]:
    field, path = limit.field, limit.field.split(".")
    if limit.HasField("max_characters"):
        for more in (0, 1):
            yield _try(kind, path, "x" * (limit.max_characters + more), f"characters+{more}", field if more else "")
    if limit.HasField("max_items"):
        (item,) = _at(_body(kind), path)
        for more in (0, 1):
            items = [_numbered(item, number) for number in range(limit.max_items + more)]
            yield _try(kind, path, items, f"items+{more}", field if more else "")
    if limit.unique:
        *above, name = path
        (item,) = _at(_body(kind), above)
        yield _try(kind, above, [item, _numbered(item, 2) | {name: item[name]}], f"{name}-twice", field)
    if limit.no_emoji:
        yield _try(kind, path, "Go \U0001f44d", "emoji", field)
    if limit.titled:
        (item,) = _at(_body(kind), path)
        second = {name: value for name, value in _numbered(item, 2).items() if name != "title"}
        yield _try(kind, path, [item, second], "untitled", f"{field}.title")
    if limit.needed_with:
        yield _try(kind, path, None, "alone", field)
    if limit.any_of:
        found = _at(_body(kind), path)
        kept = {name: value for name, value in found.items() if name not in limit.any_of}
        yield _try(kind, path, kept, "none-of", field)
    for name, number in AttachmentKind.items() if limit.file_kinds else ():
        known = number in limit.file_kinds
        if number:
            yield _try(kind, [*path, "kind"], name, name.lower(), "" if known else f"{field}.kind")


def _try(kind: str, path: list[str], value: Any, name: str, field: str) -> Try:
    body = _body(kind)
    *above, last = path
    if last in ("header", "kind"):
        # One of the two stands above a text.
        body[kind].pop("header_media" if last == "header" else "header", None)
    holder = _at(body, above)
    holder = holder[0] if isinstance(holder, list) else holder
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    return Try(f"{'.'.join(path)}-{name}", body, field)


def _body(kind: str) -> dict[str, Any]:
    return {kind: copy.deepcopy(BODIES[kind])}


def _at(body: Any, path: list[str]) -> Any:
    """What stands there, in the first item of each list."""
    for name in path:
        body = (body[0] if isinstance(body, list) else body)[name]
    return body


def _numbered(item: Any, number: int) -> Any:
    """Another item like this one, whose texts are its own."""
    if isinstance(item, str):
        return str(number)
    if isinstance(item, list):
        return [_numbered(each, number) for each in item]
    own = ("id", "title", "rows", "product_retailer_ids")
    return {name: _numbered(value, number) if name in own else value for name, value in item.items()}
