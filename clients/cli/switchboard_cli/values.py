"""What people type, turned into proto3 JSON values: words of enums, times, durations, JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZES = ("B", "KB", "MB", "GB")
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


def parse_span(text: str) -> timedelta:
    """`90s`, `1m30s`, `2h`, `0.5s`, `3d`. Raises ValueError."""
    if not _SPAN.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 90s, 1m30s, 2h or 3d")
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    except OverflowError:
        raise ValueError(f"{text!r} is too long") from None


def size_words(number: int) -> str:
    """A number of bytes for people: 17 B, 1.4 KB, 23 MB."""
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_SIZES[unit]}" if unit and value < 10 else f"{int(value)} {_SIZES[unit]}"


def span_words(span: timedelta) -> str:
    """What `parse_span` reads, to the millisecond: `3d`, `1h30m`, `0.5s`."""
    left = round(span / timedelta(milliseconds=1))
    words = []
    for unit in ("d", "h", "m"):
        count, left = divmod(left, int(_UNITS[unit]) * 1000)
        words.append(f"{count}{unit}" if count else "")
    return "".join([*words, f"{left / 1000:g}s" if left else ""]) or "0s"


def parse_time(text: str, *, now: datetime) -> datetime:
    """RFC 3339, or relative to `now`: `now`, `+2h`, `-30m`. A time without zone is local. Raises ValueError."""
    if text == "now":
        return now
    if text[:1] in ("+", "-"):
        return _shifted(now, text)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time such as 2026-11-22T18:00:00Z, now, +2h or -30m") from None


def _shifted(now: datetime, text: str) -> datetime:
    span = parse_span(text[1:])
    try:
        return now + span if text[0] == "+" else now - span
    except OverflowError:
        raise ValueError(f"{text!r} leads out of the calendar") from None


def short_words(enum: EnumDescriptor) -> dict[str, str]:
    """The enum's words without their prefix, lower case with dashes, to their full names: open -> CONVERSATION_STATUS_OPEN."""
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return {name.removeprefix(prefix).lower().replace("_", "-"): name for name in enum.values_by_name}


class EnumType(click.ParamType[str]):
    """A word of an enum, short or in full."""

    name = "word"

    def __init__(self, enum: EnumDescriptor) -> None:
        self._words = short_words(enum)
        self._full = set(enum.values_by_name)
        self._zero = enum.values_by_number[0].name

    @property
    def _choices(self) -> list[str]:
        return [word for word, name in self._words.items() if name != self._zero]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """The short words, to choose from."""
        return f"[{'|'.join(self._choices)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the full name."""
        word = str(value)
        if word.upper() in self._full:
            return word.upper()
        name = self._words.get(word.lower().replace("_", "-"))
        if name is None:
            self.fail(f"{word!r} is not one of {', '.join(self._choices)}", param, ctx)
        return name


class TimeType(click.ParamType[str]):
    """A google.protobuf.Timestamp."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns RFC 3339, UTC."""
        try:
            moment = parse_time(str(value), now=datetime.now(UTC))
        except ValueError as problem:
            self.fail(str(problem), param, ctx)
        return moment.isoformat().replace("+00:00", "Z")


class SpanType(click.ParamType[str]):
    """A google.protobuf.Duration."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns proto3 JSON, such as 90.000000s."""
        try:
            return f"{parse_span(str(value)).total_seconds():f}s"
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class JsonType(click.ParamType[Any]):
    """JSON as text, `@FILE`, or `-` for standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns what the JSON says."""
        try:
            return json.loads(_text_of(str(value)))
        except OSError as problem:
            self.fail(f"{problem.filename}: {problem.strerror}", param, ctx)
        except ValueError as problem:
            self.fail(f"not JSON: {problem}", param, ctx)


def _text_of(value: str) -> str:
    if value == "-":
        return sys.stdin.read()
    if value.startswith("@"):
        return Path(value[1:]).read_text(encoding="utf-8")
    return value


_WELL_KNOWN: Mapping[str, click.ParamType[Any]] = {
    "google.protobuf.Timestamp": TimeType(),
    "google.protobuf.Duration": SpanType(),
}
_NUMBERS: Mapping[int, click.ParamType[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: click.INT,
    FieldDescriptor.CPPTYPE_INT64: click.INT,
    FieldDescriptor.CPPTYPE_UINT32: click.INT,
    FieldDescriptor.CPPTYPE_UINT64: click.INT,
    FieldDescriptor.CPPTYPE_FLOAT: click.FLOAT,
    FieldDescriptor.CPPTYPE_DOUBLE: click.FLOAT,
    FieldDescriptor.CPPTYPE_BOOL: click.BOOL,
}


def is_map(field: FieldDescriptor) -> bool:
    """Whether it is a map, which protobuf calls a repeated message and JSON an object."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def is_list(field: FieldDescriptor) -> bool:
    """Whether JSON has a list for it."""
    return field.is_repeated and not is_map(field)


def type_of(field: FieldDescriptor) -> click.ParamType[Any]:
    """How a field is typed: bytes as base64, messages other than times and durations as JSON."""
    if field.enum_type is not None:
        return EnumType(field.enum_type)
    if field.message_type is not None:
        return _WELL_KNOWN.get(field.message_type.full_name, JsonType())
    return _NUMBERS.get(field.cpp_type, click.STRING)
