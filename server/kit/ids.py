"""Ids: UUIDv7 (RFC 9562), made in the process before the write, so that every insert can be repeated."""

from __future__ import annotations

import uuid

from uuid_utils import compat

from server.kit.errors import FieldViolation, InvalidFields


def new_id() -> uuid.UUID:
    """A new UUIDv7: sorts by creation time to the millisecond."""
    return compat.uuid7()


def parse_id(text: str, *, field: str) -> uuid.UUID:
    """Reads an id of a request; INVALID_FIELDS naming the field when it is malformed."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InvalidFields(FieldViolation(field, "must be a UUID")) from None
