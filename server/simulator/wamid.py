"""WhatsApp message ids. They look opaque and are not: the other side's number stands in them in clear."""

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import Literal

Direction = Literal["outbound", "inbound"]

# The layout was read off published ids: a length-prefixed peer, a marker that tells the direction, a length-prefixed
# hexadecimal token, a zero. Tokens of messages from the API have 18 characters, those of phones 20 or 32.
_HEAD = b"\x1c\x18"
_MARKERS: dict[Direction, bytes] = {"outbound": b"\x15\x02\x00\x11\x18", "inbound": b"\x15\x02\x00\x12\x18"}


@dataclass(frozen=True, slots=True)
class Wamid:
    """What an id says: the other side's phone number (or user id), who wrote, and a token of hexadecimal digits."""

    peer: str
    direction: Direction
    token: str

    def __str__(self) -> str:
        peer, token = self.peer.encode(), self.token.encode()
        packed = _HEAD + bytes([len(peer)]) + peer + _MARKERS[self.direction] + bytes([len(token)]) + token + b"\x00"
        return "wamid." + base64.b64encode(packed).decode()


def new_wamid(*, peer: str, direction: Direction) -> str:
    """A fresh id for a message to (`outbound`) or from (`inbound`) `peer`."""
    token = secrets.token_hex(9) if direction == "outbound" else "3A" + secrets.token_hex(9)
    return str(Wamid(peer=peer, direction=direction, token=token.upper()))


def read_wamid(wamid: str) -> Wamid | None:
    """The parts of an id in the layout above, or None."""
    try:
        packed = base64.b64decode(wamid.removeprefix("wamid."), validate=True)
    except (binascii.Error, ValueError):
        return None
    for direction, marker in _MARKERS.items():
        peer_end = 3 + packed[2] if len(packed) > 2 else 0
        token_start = peer_end + len(marker) + 1
        if packed[:2] == _HEAD and packed[peer_end : token_start - 1] == marker and packed[-1:] == b"\x00":
            peer, token = (part.decode("ascii", "replace") for part in (packed[3:peer_end], packed[token_start:-1]))
            return Wamid(peer=peer, direction=direction, token=token)
    return None
