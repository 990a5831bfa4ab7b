"""Customers with another number or another user id, as WhatsApp tells of them: by a message of the system, and by a field.

Both may tell of one change, in any order, before and after the first message from the new address.
Source: Meta's Cloud API documentation, "System messages" and "Business-scoped user IDs", as of November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping

from server.providers.contract import Address, IdentityChange, Json
from server.providers.meta.text import fingerprint
from server.providers.whatsapp import fields
from server.providers.whatsapp.message import addresses

_MOVED = frozenset({"user_changed_number", "user_changed_user_id", "customer_changed_number"})


def of_system(item: Mapping[str, Json], account_id: str) -> IdentityChange | None:
    """A message of the system; None of one that tells of no new address. Malformed without id or time."""
    system = fields.optional_mapping(item.get("system"), "system")
    word = system.get("type")
    if not isinstance(word, str) or word not in _MOVED:
        return None
    current = addresses(system, wa_id="wa_id", bsuid="user_id", parent_bsuid="parent_user_id")
    before = (
        *addresses(item, wa_id="from", bsuid="from_user_id", parent_bsuid="from_parent_user_id"),
        *addresses(system, bsuid="previous_user_id", parent_bsuid="previous_parent_user_id"),
    )
    return _change(
        previous=before,
        current=current,
        provider_id=fields.identifier(item, "id"),
        provider_time=fields.second(item, "timestamp"),
        account_id=account_id,
    )


def of_update(item: Mapping[str, Json], account_id: str) -> IdentityChange:
    """An item of the field user_id_update. Malformed without both ids or time."""
    made = fields.mapping(item.get("user_id"), "user_id")
    parent = fields.optional_mapping(item.get("parent_user_id"), "parent_user_id")
    fields.identifier(made, "previous")
    fields.identifier(made, "current")
    before = (*addresses(made, bsuid="previous"), *addresses(parent, parent_bsuid="previous"))
    current = (
        *addresses(item, wa_id="wa_id"),
        *addresses(made, bsuid="current"),
        *addresses(parent, parent_bsuid="current"),
    )
    return _change(
        previous=before,
        current=current,
        provider_id=fingerprint(dict(item)),
        provider_time=fields.second(item, "timestamp"),
        account_id=account_id,
    )


def _change(*, previous: tuple[Address, ...], current: tuple[Address, ...], **of: object) -> IdentityChange:
    """An address ends when another one of its kind takes its place; one that is told again goes on."""
    kinds = {address.kind for address in current}
    ended = tuple(dict.fromkeys(each for each in previous if each.kind in kinds and each not in current))
    kept = tuple(each for each in previous if each.kind not in kinds)
    return IdentityChange(
        previous=ended,
        current=tuple(dict.fromkeys((*current, *kept))),
        discriminator="",
        **of,  # type: ignore[arg-type]
    )
