"""What stands in a webhook where a test does not care: a plausible object for each type of message, a value for each field.

Source: Meta's webhooks reference for `whatsapp_business_account`, as of November 2026.
"""

import secrets
from collections.abc import Callable, Mapping

from server.simulator.errors import Json
from server.simulator.media import digest
from server.simulator.payloads import Number

SILENT = frozenset({"reaction", "edit", "revoke", "system", "request_welcome"})
"""Types that are no message: they open no window and cannot be marked read."""

THROUGHPUT_UPGRADED = 1000
"""Messages a second of a number whose quality Meta has seen."""


def _media(mime_type: str, **more: object) -> Callable[[], Json]:
    def make() -> Json:
        media_id = str(secrets.randbelow(9 * 10**14) + 10**14)
        return {"mime_type": mime_type, "sha256": digest(media_id, mime_type), "id": media_id, **more}

    return make


_CONTENTS: Mapping[str, Callable[[], object]] = {
    "image": _media("image/jpeg"),
    "video": _media("video/mp4"),
    "audio": _media("audio/ogg; codecs=opus", voice=True),
    "document": _media("application/pdf", filename="invoice.pdf"),
    "sticker": _media("image/webp", animated=False),
    "location": lambda: {"latitude": 52.516266, "longitude": 13.377775},
    "contacts": lambda: [
        {
            "name": {"formatted_name": "Ada Lovelace", "first_name": "Ada", "last_name": "Lovelace"},
            "phones": [{"phone": "+44 20 7946 0958", "type": "WORK"}],
        }
    ],
    "order": lambda: {
        "catalog_id": "194836987003835",
        "text": "",
        "product_items": [{"product_retailer_id": "di9ozbzfi4", "quantity": 2, "item_price": 30.5, "currency": "EUR"}],
    },
    "button": lambda: {"payload": "yes", "text": "Yes"},
    "request_welcome": lambda: None,
}

_NO_CONTENT: Mapping[str, Json] = {
    # Meta tells why there is nothing in the place of what was sent.
    "unsupported": {
        "errors": [
            {
                "code": 131051,
                "title": "Message type unknown",
                "message": "Message type unknown",
                "error_data": {"details": "Message type is currently not supported."},
            }
        ]
    },
}


def content(word: str) -> tuple[object, Json] | None:
    """The object of a type, and what stands beside it; None for a type that says something only its sender can know."""
    if word in _NO_CONTENT:
        return None, dict(_NO_CONTENT[word])
    made = _CONTENTS.get(word)
    return None if made is None else (made(), {})


def value(field: str, number: Number) -> Json:
    """The value of a field about this number or its account; empty for a field that nobody knows."""
    shown = number.display_phone_number
    known: Mapping[str, Json] = {
        "account_alerts": {
            "entity_type": "PHONE_NUMBER",
            "entity_id": number.phone_number_id,
            "alert_info": {"alert_severity": "WARNING", "alert_status": "ACTIVE", "alert_type": "OBA_REJECTED"},
        },
        "account_review_update": {"decision": "APPROVED"},
        "account_update": {
            "event": "ACCOUNT_RESTRICTION",
            "restriction_info": [
                {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": 2_000_000_000}
            ],
        },
        "business_capability_update": {"max_daily_conversation_per_phone": 2000, "max_phone_numbers_per_business": 25},
        "business_username_updates": {"display_phone_number": shown, "username": "lakeside", "status": "approved"},
        "phone_number_name_update": {
            "display_phone_number": shown,
            "decision": "APPROVED",
            "requested_verified_name": "Lakeside Bikes",
            "rejection_reason": None,
        },
        "phone_number_quality_update": {
            "display_phone_number": shown,
            "event": "THROUGHPUT_UPGRADE",
            "max_daily_conversations_per_business": "TIER_100K",
        },
        "security": {"display_phone_number": shown, "event": "PIN_CHANGED", "requester": "1234567890"},
    }
    return dict(known.get(field, {}))


NUMBERED = frozenset(
    {"calls", "history", "messages", "messaging_handovers", "smb_app_state_sync", "smb_message_echoes"}
) | {
    "standby",
    "user_id_update",
    "user_preferences",
}
"""Fields whose value names the number; the others name its business account alone."""
