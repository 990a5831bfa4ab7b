"""Templates of a WhatsApp business account: the pages of their list, and the webhooks about them.

Lists and webhooks write the same things differently: ids as text and as numbers, languages with "_" and with "-", enums in either
case. Here they are made one, so that what a webhook names is found.

Source: Meta's Business Management API, "Message templates", and its webhook fields of templates, as of November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from server.providers.contract import Change, Json
from server.providers.meta.text import clean_text, fingerprint
from server.providers.template import Aspect, ListedTemplate, TemplateChange, TemplatePage
from server.providers.whatsapp import fields
from server.providers.whatsapp.fields import Malformed

FIELDS = "id,name,language,status,category,quality_score,rejected_reason,parameter_format,components"
PAGE = 100
_WORD_MOST, _REASON_MOST = 64, 1024
_PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")

# Events after which the template is in a status that they do not name.
_READ_AGAIN = frozenset({"REINSTATED", "UNARCHIVED", "FLAGGED"})


def read_page(body: Json) -> TemplatePage | None:
    """A page of `GET /{waba_id}/message_templates`; None for what is none. The end is where `next` is absent."""
    listed = body.get("data") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(listed, list):
        return None
    found: list[ListedTemplate] = []
    for item in listed:
        try:
            found.append(read_template(fields.mapping(item, "data")))
        except Malformed:
            continue
    paging = body.get("paging")
    after = _after(paging) if isinstance(paging, dict) and paging.get("next") else None
    if after == "":
        return None
    return TemplatePage(templates=tuple(found), after=after, unreadable=len(listed) - len(found))


def _after(paging: Mapping[str, Json]) -> str:
    """Where the next page begins; empty where there is one that nobody can ask for."""
    cursors = paging.get("cursors")
    after = cursors.get("after") if isinstance(cursors, dict) else None
    return after if isinstance(after, str) else ""


def read_template(item: Mapping[str, Json]) -> ListedTemplate:
    """One template of a list. Malformed without id, name, language or status."""
    quality = fields.optional_mapping(item.get("quality_score"), "quality_score")
    return ListedTemplate(
        provider_id=_id(item, "id"),
        name=fields.identifier(item, "name"),
        language=_language(fields.identifier(item, "language")),
        status=word(item, "status") or _missing("status"),
        category=word(item, "category"),
        quality=word(quality, "score") or "UNKNOWN",
        parameter_format="named" if word(item, "parameter_format") == "NAMED" else "positional",
        components=tuple(_component(part) for part in fields.listed(item.get("components"), "components")),
        reason=_told(fields.text(item, "rejected_reason")),
    )


def _component(given: Json) -> dict[str, Any]:
    """A component with the contract's names; what is empty is left out."""
    part = fields.mapping(given, "components")
    offer = fields.optional_mapping(part.get("limited_time_offer"), "limited_time_offer")
    text = fields.text(part, "text") or fields.text(offer, "text") or ""
    minutes = part.get("code_expiration_minutes")
    made = {
        "type": word(part, "type"),
        "format": word(part, "format"),
        "text": text,
        "buttons": [_button(button) for button in fields.listed(part.get("buttons"), "buttons")],
        "places": places(text),
        "examples": _examples(part.get("example"), places(text)),
        "security_recommendation": part.get("add_security_recommendation") is True,
        "code_expiration_minutes": minutes if isinstance(minutes, int) and 0 <= minutes <= 90 else 0,
        "expires": offer.get("has_expiration") is True,
        "cards": [_card(card) for card in fields.listed(part.get("cards"), "cards")],
    }
    return {name: value for name, value in made.items() if value}


def _card(given: Json) -> dict[str, Any]:
    card = fields.mapping(given, "cards")
    return {"components": [_component(part) for part in fields.listed(card.get("components"), "components")]}


def _button(given: Json) -> dict[str, Any]:
    button = fields.mapping(given, "buttons")
    made = {"type": word(button, "type")}
    made |= {name: fields.text(button, name) or "" for name in ("text", "url", "phone_number")}
    flow, example = button.get("flow_id"), button.get("example")
    first = example[0] if isinstance(example, list) and example else example
    made |= {"flow_id": str(flow) if isinstance(flow, (str, int)) else "", "example": _line(first)}
    return {name: value for name, value in made.items() if value}


def _examples(given: Json, of: list[str]) -> list[str]:
    """What could stand in each place; none where one of them is not told. Of numbered places Meta has them by number."""
    example = given if isinstance(given, dict) else {}
    for key, listed in example.items():
        if not isinstance(listed, list) or not listed:
            continue
        if key.endswith("_named_params"):
            told = {each.get("param_name"): _line(each.get("example")) for each in listed if isinstance(each, dict)}
        else:
            values = listed[0] if isinstance(listed[0], list) else listed
            told = dict(zip(numbered(of), map(_line, values), strict=False))
        if of and all(told.get(place) for place in of):
            return [told[place] for place in of]
    return []


def numbered(given: list[str]) -> list[str]:
    """Places by their numbers."""
    return sorted(given, key=lambda place: (len(place), place))


def _line(given: Json) -> str:
    return clean_text(given)[:_REASON_MOST] if isinstance(given, str) else ""


def places(text: str) -> list[str]:
    """The places of a text by name or number, each once, in the order they first stand there."""
    return list(dict.fromkeys(_PLACE.findall(text)))


def read_change(change: Change) -> TemplateChange:
    """The one change that a webhook of the fields in READERS tells. Malformed."""
    value = fields.mapping(change.value, "value")
    if change.entry_id is None:
        raise Malformed("entry.id is missing")
    aspect, read = READERS[change.field]
    told = read(value)
    return TemplateChange(
        business_account_id=change.entry_id,
        provider_id=_id(value, "message_template_id"),
        name=fields.identifier(value, "message_template_name"),
        language=_language(fields.identifier(value, "message_template_language")),
        aspect=aspect,
        discriminator=f"{aspect}/{fingerprint(change.value)}",
        provider_time=change.time,
        **told,
    )


def _status(value: Mapping[str, Json]) -> dict[str, Any]:
    event = word(value, "event") or _missing("event")
    if event in _READ_AGAIN:
        return {"stale": True}
    return {"values": {"status": event, "reason": _reason(value)}}


def _reason(value: Mapping[str, Json]) -> str | None:
    """Why, in the most telling words there are: what Meta explains, then its word."""
    other = fields.optional_mapping(value.get("other_info"), "other_info")
    rejection = fields.optional_mapping(value.get("rejection_info"), "rejection_info")
    explained = [
        fields.text(info, name)
        for info, names in ((other, ("title", "description")), (rejection, ("reason",)))
        for name in names
    ]
    return _told(": ".join(part for part in explained if part)) or _told(fields.text(value, "reason"))


def _quality(value: Mapping[str, Json]) -> dict[str, Any]:
    return {"values": {"quality": word(value, "new_quality_score") or _missing("new_quality_score")}}


def _category(value: Mapping[str, Json]) -> dict[str, Any]:
    """Announced, the new category is still the present one, and the correct one is to come; done, there is a previous one."""
    present = word(value, "new_category") or _missing("new_category")
    coming = word(value, "correct_category")
    time = _optional_second(value, "category_update_timestamp")
    return {
        "values": {
            "category": present,
            "upcoming_category": coming or None,
            "upcoming_category_time": time if coming else None,
        }
    }


def _components(value: Mapping[str, Json]) -> dict[str, Any]:
    """Texts only: samples and formats are in the list, so that is to be read again."""
    parts = {"HEADER": "title", "BODY": "element", "FOOTER": "footer"}
    texts = {part: fields.text(value, f"message_template_{name}") for part, name in parts.items()}
    given = value.get("message_template_buttons")
    listed = fields.listed(given, "message_template_buttons")
    names = {"type": "button_type", "text": "button_text", "url": "button_url", "phone_number": "button_phone_number"}
    buttons = [
        {name: text for name, key in names.items() if (text := fields.text(button, f"message_template_{key}"))}
        for button in (fields.mapping(item, "message_template_buttons") for item in listed)
    ]
    return {
        "texts": {part: text for part, text in texts.items() if text is not None},
        "buttons": None
        if given is None
        else tuple(button | {"type": button.get("type", "").upper()} for button in buttons),
        "stale": True,
    }


READERS: Mapping[str, tuple[Aspect, Callable[[Mapping[str, Json]], dict[str, Any]]]] = {
    "message_template_status_update": ("status", _status),
    "message_template_quality_update": ("quality", _quality),
    "template_category_update": ("category", _category),
    "message_template_components_update": ("components", _components),
}


def word(given: Mapping[str, Json], name: str) -> str:
    """An enum in upper case, of any value; empty when it is missing."""
    return (fields.text(given, name) or "").upper()[:_WORD_MOST]


def _id(given: Mapping[str, Json], name: str) -> str:
    """Lists give ids as text, webhooks as numbers."""
    value = given.get(name)
    number = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**32
    return str(value) if number else fields.identifier(given, name)


def _language(given: str) -> str:
    return given.replace("-", "_")


def _told(reason: str | None) -> str | None:
    return clean_text(reason)[:_REASON_MOST] if reason and reason.upper() != "NONE" else None


def _optional_second(value: Mapping[str, Json], name: str) -> datetime | None:
    return None if value.get(name) is None else fields.second(value, name)


def _missing(name: str) -> str:
    raise Malformed(f"{name} is missing")
