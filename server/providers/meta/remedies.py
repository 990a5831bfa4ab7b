"""What to do about those of Meta's errors that end all sending: sentences for whoever runs the business account.

Source: Meta's pages "Error codes" and "Access tokens" as of September 2026; docs/whatsapp.md tells the same at length.
"""

from __future__ import annotations

from collections.abc import Mapping

_AUTHORIZE = (
    "Make a new token for the system user in Meta's business settings, with both WhatsApp permissions, and give it here:"
    " switchboard channels reauthorize."
)
_PERMISSION = (
    "Give the system user the permissions whatsapp_business_management and whatsapp_business_messaging and full control"
    " of the WhatsApp account, make a new token, and give it here: switchboard channels reauthorize."
)
_REGISTER = "Register the number with its PIN: POST /{phone_number_id}/register, or WhatsApp Manager > Phone numbers."
_PIN = (
    "Use the number's own PIN; whoever has lost it sets another in WhatsApp Manager > Phone numbers > Two-step"
    " verification."
)

REMEDIES: Mapping[str, str] = {
    "0": _AUTHORIZE,
    "190": _AUTHORIZE,
    "malformed_token": _AUTHORIZE,
    "3": _PERMISSION,
    "10": _PERMISSION,
    "131005": _PERMISSION,
    "33": "Check the ids of number and account in WhatsApp Manager, and that the token's user may manage them.",
    "100": "Check the ids of number and account in WhatsApp Manager, and that the token's user may manage them.",
    "2500": "The version of the Graph API has ended: connect the number with a later one.",
    "368": "Wait until the block ends, or ask for a review: Meta Business Support > Account quality.",
    "131031": "Ask for a review: Meta Business Support > Account quality.",
    "131037": "Have the display name approved: WhatsApp Manager > Phone numbers > Edit name.",
    "131042": "Mend the payment method: Meta Business settings > WhatsApp accounts > Payment settings.",
    "131045": _REGISTER,
    "133005": _PIN,
    "133006": "Verify the number by SMS or call in WhatsApp Manager, then register it.",
    "133008": "Too many wrong PINs: wait for as long as Meta's answer says.",
    "133009": "PINs were tried too fast: wait a few minutes.",
    "133010": _REGISTER,
}


def remedy(code: str) -> str:
    """What to do about an error; empty where nothing is known but what Meta itself says."""
    if code.isdigit() and 200 <= int(code) < 300:
        return _PERMISSION
    return REMEDIES.get(code, "")
