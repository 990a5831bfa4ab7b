"""What is sent beside plain text, as the Cloud API wants it, and how much of it Meta takes.

Source: Meta's Cloud API documentation, "Interactive reply buttons messages", "Interactive list messages", "Interactive call-to-action
URL button messages", "Location request messages", "Location messages", "Contacts messages".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from server.providers.content import (
    Buttons,
    Card,
    Contacts,
    Content,
    ContentKind,
    ContentLimits,
    Link,
    List,
    ListSection,
    Location,
    LocationRequest,
)
from server.providers.contract import Json

LIMITS: Mapping[ContentKind, ContentLimits] = {
    "buttons": ContentLimits(
        characters={"body": 1024, "header": 60, "footer": 60, "buttons.id": 256, "buttons.title": 20},
        most={"buttons": 3},
        unique=frozenset({"buttons.id", "buttons.title"}),
    ),
    "list": ContentLimits(
        characters={
            **{"body": 4096, "header": 60, "footer": 60, "label": 20, "sections.title": 24},
            **{"sections.rows.id": 200, "sections.rows.title": 24, "sections.rows.description": 72},
        },
        # Ten rows in all, however many sections they stand in.
        most={"sections": 10, "sections.rows": 10},
        unique=frozenset({"sections.rows.id"}),
        titled=frozenset({"sections"}),
    ),
    "link": ContentLimits(characters={"body": 1024, "header": 60, "footer": 60, "label": 20}),
    "location_request": ContentLimits(characters={"body": 1024}),
    "location": ContentLimits(needs={"address": "name"}),
    "contacts": ContentLimits(
        most={"contacts": 257},
        any_of={"contacts.name": ("first_name", "last_name", "middle_name", "prefix", "suffix")},
    ),
}


def rendered(content: Content) -> dict[str, Json]:
    """The members `type` and the object named after it, of the body of POST /{phone_number_id}/messages."""
    match content:
        case Location():
            return {"type": "location", "location": _plain(content)}
        case Contacts():
            return {"type": "contacts", "contacts": [_card(card) for card in content.contacts]}
        case Buttons():
            made = _interactive(
                "button", content, {"buttons": [_button(each.id, each.title) for each in content.buttons]}
            )
        case List():
            made = _interactive(
                "list", content, {"button": content.label, "sections": [*map(_section, content.sections)]}
            )
        case Link():
            parameters = {"display_text": content.label, "url": content.url}
            made = _interactive("cta_url", content, {"name": "cta_url", "parameters": parameters})
        case LocationRequest():
            made = _question("location_request_message", content.body, {"name": "send_location"})
    return {"type": "interactive", "interactive": made}


def _plain(value: Any) -> Any:
    """A value whose members Meta calls as we do; without those that are not there."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    members = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return {name: _plain(member) for name, member in members if member not in (None, ()) and name != "kind"}


def _card(card: Card) -> dict[str, Json]:
    made: dict[str, Json] = _plain(card)
    organization = made.pop("organization", None)
    return made if organization is None else {**made, "org": organization}


def _interactive(word: str, content: Buttons | List | Link, action: Json) -> dict[str, Json]:
    made = _question(word, content.body, action)
    if content.header is not None:
        made["header"] = {"type": "text", "text": content.header}
    if content.footer is not None:
        made["footer"] = {"text": content.footer}
    return made


def _question(word: str, body: str, action: Json) -> dict[str, Json]:
    return {"type": word, "body": {"text": body}, "action": action}


def _button(id_: str, title: str) -> Json:
    return {"type": "reply", "reply": {"id": id_, "title": title}}


def _section(section: ListSection) -> Json:
    rows = [
        {"id": row.id, "title": row.title, **({} if row.description is None else {"description": row.description})}
        for row in section.rows
    ]
    return {"rows": rows} if section.title is None else {"title": section.title, "rows": rows}
