"""Reading JSON that may be anything: each reader gives a value of one type, or says by path what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from server.providers.contract import Json
from server.providers.meta.text import clean_text

# Longer ones are no ids, and an index of Postgres could not hold them.
ID_MOST = 512

# WhatsApp did not exist before 2009; 4102444800 is the year 2100.
_FIRST_SECOND = 1_230_768_000
_LAST_SECOND = 4_102_444_800


class Malformed(Exception):
    """An item that cannot be read. The text names a path and what is wrong with it, never a value."""


def mapping(value: Json, path: str) -> Mapping[str, Json]:
    """The object; refuses everything else."""
    if not isinstance(value, dict):
        raise Malformed(f"{path} is not an object")
    return value


def optional_mapping(value: Json, path: str) -> Mapping[str, Json]:
    """The object; an empty one for null and for what is missing."""
    return {} if value is None else mapping(value, path)


def listed(value: Json, path: str) -> list[Json]:
    """The array; an empty one for null and for what is missing."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{path} is not an array")
    return value


def text(fields: Mapping[str, Json], name: str) -> str | None:
    """The string, cleaned; None when it is missing or null."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Malformed(f"{name} is not a string")
    return clean_text(value)


def opaque(fields: Mapping[str, Json]) -> str | None:
    """The callback data. Ours is never longer than an id; another application's is none of our business."""
    found = text(fields, "biz_opaque_callback_data")
    return found if found and len(found) <= ID_MOST else None


def required_text(fields: Mapping[str, Json], name: str) -> str:
    """The string, which may be empty."""
    value = text(fields, name)
    if value is None:
        raise Malformed(f"{name} is missing")
    return value


def identifier(fields: Mapping[str, Json], name: str) -> str:
    """A string of 1 to 512 characters."""
    value = required_text(fields, name)
    if not 0 < len(value) <= ID_MOST:
        raise Malformed(f"{name} is empty or too long")
    return value


def optional_identifier(fields: Mapping[str, Json], name: str) -> str | None:
    """A string of 1 to 512 characters; None when it is missing, null or empty."""
    return identifier(fields, name) if fields.get(name) not in (None, "") else None


def second(fields: Mapping[str, Json], name: str) -> datetime:
    """Unix seconds, which Meta writes as a string in messages and statuses; UTC."""
    value = fields.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(f"{name} is not a time in Unix seconds")
    if not _FIRST_SECOND <= value <= _LAST_SECOND:
        raise Malformed(f"{name} is out of range")
    return datetime.fromtimestamp(value, UTC)
