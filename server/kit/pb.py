"""Between Python values and protobuf: enums as words, times, JSON objects."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2, timestamp_pb2

from server.kit.errors import FieldViolation, InvalidFields

# Of an object that a form is given, as JSON.
DATA_BYTES = 16 << 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Words:
    """An enum of the contract and the lower-case words that stand for it in tables: CONVERSATION_STATUS_OPEN and "open"."""

    def __init__(self, enum: Any, prefix: str) -> None:
        self._words: dict[int, str] = {number: name.removeprefix(prefix).lower() for name, number in enum.items()}
        self._numbers: dict[str, int] = {word: number for number, word in self._words.items()}

    def word(self, number: int) -> str:
        """The word of a number."""
        return self._words[number]

    def number(self, word: str) -> Any:
        """The number of a word. Any: generated setters want the enum's own type."""
        return self._numbers[word]


def timestamp(value: datetime | None) -> timestamp_pb2.Timestamp | None:
    """A Timestamp; None stays None, which leaves a field absent."""
    fields = time_fields(value)
    return None if fields is None else timestamp_pb2.Timestamp(**fields)


def time_fields(value: datetime | None) -> dict[str, int] | None:
    """The fields of a Timestamp, for a message that is made of fields as a whole; None stays None."""
    if value is None:
        return None
    # FromDatetime takes three times as long, and a send has eight of them.
    since = value - EPOCH
    return {"seconds": since.days * 86_400 + since.seconds, "nanos": since.microseconds * 1_000}


def duration(value: timedelta | None) -> duration_pb2.Duration | None:
    """A Duration; None stays None."""
    if value is None:
        return None
    made = duration_pb2.Duration()
    made.FromTimedelta(value)
    return made


def utc(value: timestamp_pb2.Timestamp, *, field: str) -> datetime:
    """A timezone-aware datetime in UTC, to the microsecond. INVALID_FIELDS outside the years 1 to 9999."""
    try:
        return value.ToDatetime(tzinfo=UTC)
    except ValueError:
        raise InvalidFields(FieldViolation(field, "must be a time from the year 1 to 9999")) from None


def struct(value: dict[str, Any] | None) -> struct_pb2.Struct | None:
    """A Struct of a JSON object; None stays None."""
    return None if value is None else json_format.ParseDict(value, struct_pb2.Struct())


def json_object(value: struct_pb2.Struct, *, field: str) -> dict[str, Any]:
    """The JSON object of a Struct. INVALID_FIELDS for what JSON, or a jsonb column, has no place for: NaN, infinities, NUL."""
    try:
        result: dict[str, Any] = json_format.MessageToDict(value)
    except ValueError:
        raise InvalidFields(FieldViolation(field, "must not have NaN or infinities")) from None
    if _has_nul(result):
        raise InvalidFields(FieldViolation(field, "must not contain U+0000"))
    return result


def data_object(value: struct_pb2.Struct, *, field: str) -> dict[str, Any]:
    """The JSON object that a form is given: whole numbers are whole, which a Struct does not know. INVALID_FIELDS for an empty one, above
    16 KiB as JSON, and as of json_object."""
    result = {name: _whole_numbers(member) for name, member in json_object(value, field=field).items()}
    if not result:
        raise InvalidFields(FieldViolation(field, "needs at least one member; leave it out for none"))
    if len(json.dumps(result).encode()) > DATA_BYTES:
        raise InvalidFields(FieldViolation(field, f"has more than {DATA_BYTES} bytes as JSON"))
    return result


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value
