"""Cursors: opaque positions in a tenant's log.

48 bytes at most, 64 characters of base64url: version (1) | tenant tag (8) | epoch (8) | seq (varint) | fingerprint (8) |
key id (1) | MAC (12). The MAC grants nothing, rights are evaluated anew; it stops tampering and probing across tenants. The
fingerprint names the event at seq: after a failover that lost commits, the same number may stand for another event.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from server.kit.errors import FieldViolation, Refusal
from server.kit.mac import MacKeys
from server.rpc.paging import decoded, unpadded

VERSION = 1
TAG_BYTES = 8
MAX_SEQ = (1 << 63) - 1
HEAD_COLUMNS = "epoch, head, floor, head_event_id"
NO_EVENT = uuid.UUID(int=0)


class CursorInvalid(Refusal):
    """Damaged, or not sealed by us."""

    status = "INVALID_ARGUMENT"
    reason = "CURSOR_INVALID"

    def __init__(self) -> None:
        super().__init__("the cursor is damaged")
        self.violations = (FieldViolation("cursor", "is damaged"),)


class CursorForeign(Refusal):
    """Ours, but another tenant's."""

    status = "INVALID_ARGUMENT"
    reason = "CURSOR_FOREIGN"

    def __init__(self) -> None:
        super().__init__("the cursor belongs to another tenant")
        self.violations = (FieldViolation("cursor", "belongs to another tenant"),)


class CursorDiverged(Refusal):
    """The log is not the one that the cursor came from."""

    status = "OUT_OF_RANGE"
    reason = "CURSOR_DIVERGED"

    def __init__(self) -> None:
        super().__init__("the log is not the one the cursor came from; list anew")


class CursorExpired(Refusal):
    """The events after the cursor are gone."""

    status = "OUT_OF_RANGE"
    reason = "CURSOR_EXPIRED"

    def __init__(self) -> None:
        super().__init__("the events after the cursor are no longer kept; list anew")


@dataclass(frozen=True, slots=True)
class HeadRow:
    """The one row of stream_head. head: newest seq, 0 for none. floor: oldest seq kept. head_event_id: None when head is 0."""

    epoch: uuid.UUID
    head: int
    floor: int
    head_event_id: uuid.UUID | None

    @classmethod
    def of(cls, row: Any) -> Self:
        """Of a database row that has HEAD_COLUMNS."""
        return cls(epoch=row["epoch"], head=row["head"], floor=row["floor"], head_event_id=row["head_event_id"])


@dataclass(frozen=True, slots=True)
class Position:
    """What a cursor of this tenant says. Whether it still holds is for `check` to say."""

    epoch_tag: bytes
    seq: int
    fingerprint: bytes

    def check(self, head: HeadRow, event_id: uuid.UUID | None) -> None:
        """Raises CursorDiverged or CursorExpired unless the log can continue after this position without a hole.

        event_id: of the event at seq, None when it is not there. At floor - 1 it may be gone; what follows it is not.
        """
        if self.epoch_tag != epoch_tag(head.epoch) or self.seq > head.head:
            raise CursorDiverged()
        if self.seq < head.floor - 1:
            raise CursorExpired()
        if event_id is None and self.seq > 0:
            return
        if self.fingerprint != fingerprint(head.epoch, self.seq, event_id):
            raise CursorDiverged()


class Cursors:
    """Writes and reads cursors."""

    def __init__(self, keys: MacKeys) -> None:
        self._keys = keys

    def encode(self, tenant_id: uuid.UUID, epoch: uuid.UUID, seq: int, event_id: uuid.UUID | None) -> str:
        """The cursor after the event with this seq and id; seq 0 and None stand before the first event."""
        data = bytes([VERSION]) + tenant_tag(tenant_id) + epoch_tag(epoch) + varint(seq)
        return unpadded(self._keys.seal(data + fingerprint(epoch, seq, event_id)))

    def at(self, tenant_id: uuid.UUID, head: HeadRow) -> str:
        """The cursor at the head: what list answers carry as as_of. The row must be of the same statement or snapshot."""
        return self.encode(tenant_id, head.epoch, head.head, head.head_event_id)

    def decode(self, tenant_id: uuid.UUID, text: str) -> Position:
        """Reads a cursor. CursorInvalid unless we sealed it, CursorForeign unless for this tenant."""
        sealed = decoded(text)
        data = self._keys.open(sealed) if sealed is not None else None
        if data is None or data[0] != VERSION:
            raise CursorInvalid()
        tenant, epoch = data[1 : 1 + TAG_BYTES], data[1 + TAG_BYTES : 1 + 2 * TAG_BYTES]
        if tenant != tenant_tag(tenant_id):
            raise CursorForeign()
        number, mark = data[1 + 2 * TAG_BYTES : -TAG_BYTES], data[-TAG_BYTES:]
        return Position(epoch_tag=epoch, seq=_number(number), fingerprint=mark)


def fingerprint(epoch: uuid.UUID, seq: int, event_id: uuid.UUID | None) -> bytes:
    """Names the event at seq; before the first event, the epoch."""
    data = epoch.bytes + seq.to_bytes(8, "big") + (event_id or NO_EVENT).bytes
    return hashlib.sha256(data).digest()[:TAG_BYTES]


@lru_cache(maxsize=4096)
def tenant_tag(tenant_id: uuid.UUID) -> bytes:
    """Eight bytes that stand for a tenant."""
    return hashlib.sha256(b"tenant\0" + tenant_id.bytes).digest()[:TAG_BYTES]


@lru_cache(maxsize=4096)
def epoch_tag(epoch: uuid.UUID) -> bytes:
    """Eight bytes that stand for an epoch."""
    return hashlib.sha256(b"epoch\0" + epoch.bytes).digest()[:TAG_BYTES]


def varint(value: int) -> bytes:
    """Protobuf's base-128 varint of a number that is not negative."""
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _number(data: bytes) -> int:
    value = sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(data))
    if not data or varint(value) != data or value > MAX_SEQ:
        raise CursorInvalid()
    return value
