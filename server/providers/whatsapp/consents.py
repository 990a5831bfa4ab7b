"""What customers want to be sent, as they told WhatsApp: the field user_preferences.

Source: Meta's webhooks reference, field `user_preferences`, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping

from server.providers.contract import ConsentChange, ConsentState, Ignored, Json
from server.providers.meta.text import fingerprint
from server.providers.whatsapp import fields
from server.providers.whatsapp.fields import Malformed
from server.providers.whatsapp.message import addresses

_STATES: Mapping[str, ConsentState] = {"stop": "stopped", "resume": "resumed", "signup": "signed_up"}


def read(item: Mapping[str, Json], account_id: str) -> ConsentChange | Ignored:
    """An item of the field. Ignored with a category or a word that Meta has yet to invent; Malformed without person or time."""
    who = addresses(item, wa_id="wa_id", bsuid="user_id", parent_bsuid="parent_user_id")
    if not who:
        raise Malformed("wa_id and user_id are missing")
    time = fields.second(item, "timestamp")
    state = _STATES.get((fields.text(item, "value") or "").lower())
    if state is None or fields.text(item, "category") != "marketing_messages":
        return Ignored(
            kind="preference",
            provider_id=fingerprint(dict(item)),
            provider_time=time,
            account_id=account_id,
            reason="unknown_preference",
        )
    return ConsentChange(
        provider_id=fingerprint(dict(item)), provider_time=time, account_id=account_id, addresses=who, state=state
    )
