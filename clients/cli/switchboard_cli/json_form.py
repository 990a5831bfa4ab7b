"""Messages as JSON."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message


def to_json(message: Message) -> dict[str, Any]:
    """Proto3 JSON as REST answers it: every field without presence is there, absent optionals are absent.

    Made by google.protobuf: betterproto2's own JSON prints absent messages and optionals as null.
    """
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
