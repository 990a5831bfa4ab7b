"""Keyset paging (AIP-158): opaque tokens, sealed, bound to tenant, method and query, good for 24 hours."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from server.kit.clock import utc_now
from server.kit.errors import FieldViolation, Refusal
from server.kit.mac import MacKeys
from server.rpc.call import Call

VERSION = 1
LIFETIME_SECONDS = 24 * 3600
DEFAULT_SIZE, MAX_SIZE, MAX_BYTES = 50, 200, 1 << 20
T = TypeVar("T")
M = TypeVar("M", bound=Message)


class PageTokenInvalid(Refusal):
    """Damaged, expired, or of another query."""

    status = "INVALID_ARGUMENT"
    reason = "PAGE_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__("the page token is damaged, expired or belongs to another query; start without one")
        self.violations = (FieldViolation("page_token", "is damaged, expired or belongs to another query"),)


def page_size(asked: int) -> int:
    """0 means 50, above 200 is read as 200."""
    return min(asked or DEFAULT_SIZE, MAX_SIZE)


def unpadded(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes | None:
    """The bytes of base64url without padding; None when it is none, or not the form we write."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if unpadded(data) == text else None


class PageTokens:
    """Writes and reads page tokens.

    A token carries the keyset values of the last row (JSON scalars); everything else it is bound to is in its binding hash.
    """

    def __init__(self, keys: MacKeys) -> None:
        self._keys = keys

    def write(self, call: Call, request: Message, values: Sequence[Any]) -> str:
        """The token of the page after the row with these keyset values."""
        until = int(utc_now().timestamp()) + LIFETIME_SECONDS
        body = json.dumps([until, *values], separators=(",", ":")).encode()
        return unpadded(self._keys.seal(bytes([VERSION]) + binding(call, request) + body))

    def read(self, call: Call, request: Message) -> list[Any] | None:
        """The keyset values to continue after; None for a first page. PageTokenInvalid."""
        token: str = request.page_token  # type: ignore[attr-defined]
        if not token:
            return None
        sealed = decoded(token)
        data = self._keys.open(sealed) if sealed is not None else None
        if data is None or data[0] != VERSION or data[1:17] != binding(call, request):
            raise PageTokenInvalid()
        until, *values = json.loads(data[17:])
        if until < utc_now().timestamp():
            raise PageTokenInvalid()
        return list(values)


def binding(call: Call, request: Message) -> bytes:
    """Hash of tenant, method and the request without its paging fields."""
    query = type(request)()
    query.CopyFrom(request)
    query.ClearField("page_token")
    query.ClearField("page_size")
    tenant = call.verified.tenant_id
    parts = (tenant.bytes if tenant else b"platform", call.method.encode(), query.SerializeToString(deterministic=True))
    return hashlib.sha256(b"\0".join(parts)).digest()[:16]


class Cut(NamedTuple, Generic[T, M]):
    """A page: its items, and the row after which the next one starts, None on the last page."""

    items: list[M]
    last: T | None


def cut(rows: Sequence[T], size: int, convert: Callable[[Any], M]) -> Cut[T, M]:
    """Converts rows to a page of at most size items or 1 MiB. rows holds up to size + 1 rows."""
    items: list[M] = []
    total = 0
    for index, row in enumerate(rows[:size]):
        item = convert(row)
        total += item.ByteSize()
        if items and total > MAX_BYTES:
            return Cut(items, rows[index - 1])
        items.append(item)
    return Cut(items, rows[len(items) - 1] if len(rows) > size else None)
