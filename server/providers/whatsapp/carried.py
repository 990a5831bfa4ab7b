"""What a customer's message carries, in the words of the contract's Message: the values of InboundMessage.details.

Main things of the wrong type make the message unreadable; what only stands beside them is left out. Nothing here is looked up, fetched
or checked against anything: links expire, prices are what a phone said.

Source: Meta's Cloud API webhooks reference, field `messages`, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from server.providers.contract import Json
from server.providers.meta.text import clean_text
from server.providers.whatsapp import fields
from server.providers.whatsapp.fields import Malformed

_WORD_MOST = 4096
_INT64_MOST = 2**63 - 1
# Meta's codes of what it cannot hand over.
_ON_THE_PHONE, NOT_HANDED_OVER = "131060", "131000"
_REASONS: Mapping[str, str] = {
    _ON_THE_PHONE: "Not available here: open the WhatsApp app of this number on its phone to see it.",
    "131051": "A type of message that WhatsApp does not hand over.",
    NOT_HANDED_OVER: "WhatsApp could not hand over what the customer chose.",
}
_UNKNOWN = "A type of message that this version does not know; its raw form is kept in the journal."

_REFERRAL = {
    **{name: name for name in ("source_type", "source_id", "source_url", "headline", "body", "media_type")},
    **{name: name for name in ("image_url", "video_url", "thumbnail_url", "ref")},
    "ctwa_clid": "click_id",
}
_NAMES = ("formatted_name", "first_name", "last_name", "middle_name", "prefix", "suffix")


def words(source: Mapping[str, Json], names: Mapping[str, str] | Sequence[str]) -> dict[str, Json]:
    """The strings under these names, by what they are called here; without those that are missing, empty or no strings."""
    called = names if isinstance(names, Mapping) else dict.fromkeys(names)
    found = {given or name: word(source.get(name)) for name, given in called.items()}
    return {name: value for name, value in found.items() if value}


def word(value: Json) -> str | None:
    """A string, cleaned and cut; a whole number as one; None of anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _INT64_MOST:
        return str(value)
    return clean_text(value[:_WORD_MOST]) if isinstance(value, str) else None


def each(value: Json) -> list[Mapping[str, Json]]:
    """The objects of an array; nothing of what is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def inner(value: Json) -> Mapping[str, Json]:
    """An object; an empty one of what is none."""
    return value if isinstance(value, dict) else {}


def location(place: Mapping[str, Json]) -> dict[str, Json]:
    """LocationContent. Malformed without two numbers that are degrees."""
    found: dict[str, Json] = {}
    for name, most in (("latitude", 90), ("longitude", 180)):
        degrees = place.get(name)
        if not isinstance(degrees, int | float) or isinstance(degrees, bool) or not -most <= degrees <= most:
            raise Malformed(f"location.{name} is no number of degrees")
        found[name] = float(degrees)
    return found | words(place, ("name", "address", "url"))


def contacts(cards: Sequence[Json]) -> dict[str, Json]:
    """ContactsContent. A card of nobody is called by its number, or by nothing."""
    found = [_card(card) for card in each(list(cards))]
    asked = any(card.get("origin") == "contact_request" for card in each(list(cards)))
    return {"contacts": found, **({"requested": True} if asked else {})}


def _card(card: Mapping[str, Json]) -> dict[str, Json]:
    phones = [words(item, ("phone", "wa_id", "type")) for item in each(card.get("phones"))]
    name = words(inner(card.get("name")), _NAMES)
    numbers = [number for item in phones if (number := item.get("phone") or item.get("wa_id"))]
    name.setdefault("formatted_name", " ".join(map(str, name.values())) or next(iter(numbers), ""))
    made: dict[str, Json] = {
        "name": name,
        "phones": phones,
        "emails": [words(item, ("email", "type")) for item in each(card.get("emails"))],
        "addresses": [
            words(item, ("street", "city", "state", "zip", "country", "type")) for item in each(card.get("addresses"))
        ],
        "urls": [words(item, ("url", "type")) for item in each(card.get("urls"))],
        "organization": words(inner(card.get("org")), ("company", "department", "title")),
        **words(card, ("birthday",)),
    }
    return {name: value for name, value in made.items() if value}


def order(cart: Mapping[str, Json]) -> dict[str, Json]:
    """OrderContent."""
    return {**words(cart, ("catalog_id",)), "items": [_line(item) for item in each(cart.get("product_items"))]}


def _line(item: Mapping[str, Json]) -> dict[str, Json]:
    found = words(item, ("product_retailer_id", "currency"))
    quantity, price = item.get("quantity"), item.get("item_price")
    if isinstance(quantity, str) and quantity.isascii() and quantity.isdigit() and len(quantity) < 19:
        quantity = int(quantity)
    if isinstance(quantity, int) and not isinstance(quantity, bool) and abs(quantity) <= _INT64_MOST:
        found["quantity"] = quantity
    # An integer may be too large to be compared as a float.
    if isinstance(price, int | float) and not isinstance(price, bool) and abs(price) <= _INT64_MOST:
        found["unit_price"] = format(Decimal(str(price)), "f")
    elif isinstance(price, str):
        found |= words(item, {"item_price": "unit_price"})
    return found


def reply(interactive: Mapping[str, Json]) -> tuple[str | None, dict[str, Json]]:
    """The text of an answer to something interactive, and InteractiveContent; the kind is the last part of its enum's word."""
    for name in ("button_reply", "list_reply"):
        if name in interactive:
            chosen = fields.mapping(interactive[name], name)
            found = {"kind": name, **words(chosen, {"id": "reply_id", "description": "reply_description"})}
            return fields.text(chosen, "title"), found
    if "nfm_reply" in interactive:
        form = fields.mapping(interactive["nfm_reply"], "nfm_reply")
        return fields.text(form, "body"), {"kind": "form_reply", **_form(form)}
    if "call_permission_reply" in interactive:
        asked = fields.mapping(interactive["call_permission_reply"], "call_permission_reply")
        return None, {"kind": "call_permission_reply", "call_permission": _permission(asked)}
    return None, {"kind": "other_reply"}


def _form(form: Mapping[str, Json]) -> dict[str, Json]:
    """What was filled in is JSON in a string, and kept whole also when it is not valid."""
    response = form.get("response_json")
    kept = {"form_response": clean_text(response)} if isinstance(response, str) else {}
    return words(form, {"name": "form_name"}) | kept


def _permission(asked: Mapping[str, Json]) -> dict[str, Json]:
    ends = word(asked.get("expiration_timestamp")) or ""
    found: dict[str, Json] = {
        "accepted": asked.get("response") == "accept",
        "permanent": asked.get("is_permanent") is True,
    }
    if ends.isascii() and ends.isdigit() and len(ends) <= 11:
        found["expire_time"] = datetime.fromtimestamp(int(ends), UTC).isoformat()
    return found


def pressed(button: Mapping[str, Json]) -> dict[str, Json]:
    """InteractiveContent of a tap on a button of a template."""
    return {"kind": "template_reply", **words(button, {"payload": "reply_id"})}


def unsupported(item: Mapping[str, Json], *, code: str | None = None) -> dict[str, Json]:
    """UnsupportedContent: of what Meta does not hand over, and of types that it has yet to invent. code: where no error tells one."""
    error = next(iter(each(item.get("errors"))), {})
    code = word(error.get("code")) or code
    given = word(inner(item.get("unsupported")).get("type"))
    told = given or word(item.get("type"))
    kind = None if told in ("unsupported", "unknown") else told
    made = {"type": kind, "code": code, "reason": _REASONS.get(code or "", _UNKNOWN)}
    return {name: value for name, value in made.items() if value}


def beside(item: Mapping[str, Json], context: Mapping[str, Json]) -> dict[str, Json]:
    """What may stand beside any content: forwarding, referral, referred_product."""
    found: dict[str, Json] = {}
    if context.get("frequently_forwarded") is True:
        found["forwarding"] = "often"
    elif context.get("forwarded") is True:
        found["forwarding"] = "once"
    product = words(inner(context.get("referred_product")), ("catalog_id", "product_retailer_id"))
    if product:
        found["referred_product"] = product
    led = inner(item.get("referral"))
    referral = words(led, _REFERRAL) | words(inner(led.get("welcome_message")), {"text": "welcome_text"})
    if referral:
        found["referral"] = referral
    return found
