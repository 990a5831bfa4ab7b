"""Answers for people: rows for lists, names and values for the rest. Knows descriptors, no message of the contract."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, cast

import click
from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from switchboard_cli.inert import inert
from switchboard_cli.names import is_reference
from switchboard_cli.values import is_map, short_words, size_words, span_words

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

# Where nobody looks at a terminal there is no edge to cut rows at.
_WIDTH_OF_FILES = 240
_WIDEST_CELL = 48
_INTEGERS_OF_MACHINES = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
# The field that stands for a message within a row, if it has one of these.
_TITLES = ("name", "state", "body", "kind")
# Or one of these, which say nothing without their own name.
_NAMED_TITLES = ("median", "strategy")
_LIMITED_COUNT = {"count", "more"}
_PACKAGE = re.compile(r"^[a-z]+\.v\d+\.(?=[A-Z])")
_NO_NAMES: Mapping[str, str] = {}


def print_answer(answer: Message, names: Mapping[str, str]) -> None:
    """Prints a response: a single message as pairs with its lists below, a list as a table with the rest below.

    names: by id, shown where the answer refers to what has them.
    """
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES, highlight=False)
    sheet = Sheet(names)
    fields = _fields(answer)
    single = [each for each in fields if _parts_of(each) and not each.is_repeated]
    is_list = bool(fields) and bool(_parts_of(fields[0])) and fields[0].is_repeated
    for each in fields:
        if len(single) == 1 and each is single[0] and not is_list:
            sheet.read(getattr(answer, each.name))
        else:
            sheet.read_field(answer, each)
    if not is_list:
        _print_pairs(console, sheet.pairs)
    has_titles = not is_list or len(sheet.lists) > 1
    for title, rows in sheet.lists:
        _print_rows(console, title if has_titles else "", rows, names)
    if is_list:
        _print_pairs(console, sheet.pairs)


@dataclass
class Sheet:
    """A message taken apart: names with values, and titled lists of messages."""

    names: Mapping[str, str]
    pairs: list[tuple[str, str]] = field(default_factory=list)
    lists: list[tuple[str, Sequence[Message]]] = field(default_factory=list)

    def read(self, message: Message, above: str = "") -> None:
        """Takes every field of a message apart; `above` goes in front of their names."""
        for each in _fields(message):
            self.read_field(message, each, above)

    def read_field(self, message: Message, each: FieldDescriptor, above: str = "") -> None:
        """Takes one field apart."""
        name = f"{above}{each.name.removesuffix('_bytes').replace('_', ' ')}"
        if not _parts_of(each):
            if text := cell(message, each):
                known = self.names.get(text) if is_reference(each.name) else None
                self.pairs.append((name, f"{text}  {known}" if known else text))
        elif each.is_repeated:
            rows = list(getattr(message, each.name))
            # An empty list is an answer when it was asked for, and noise within something else.
            if rows or (not above and message.DESCRIPTOR.full_name.endswith("Response")):
                self.lists.append((name, rows))
        elif message.HasField(each.name):
            inner = getattr(message, each.name)
            if {part.name for part in _parts_of(each)} == _LIMITED_COUNT:
                self.pairs.append((name, f"{inner.count}{' and more' if inner.more else ''}"))
            else:
                self.read(inner, f"{name}, ")


def _fields(message: Message) -> Sequence[FieldDescriptor]:
    return cast("Sequence[FieldDescriptor]", message.DESCRIPTOR.fields)


def _parts_of(each: FieldDescriptor) -> Sequence[FieldDescriptor]:
    """The fields within a field: none for values, and for the well-known messages that read as one."""
    inner = each.message_type
    is_value = inner is None or is_map(each) or inner.full_name.startswith("google.protobuf.")
    return () if is_value or inner is None else list(inner.fields)


def _print_pairs(console: Console, pairs: Sequence[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        console.print(Text.assemble((f"{name:<{width}}", "cyan"), "  ", inert(text)), soft_wrap=True)


def _print_rows(console: Console, title: str, rows: Sequence[Message], names: Mapping[str, str]) -> None:
    if title:
        console.print(Text(f"\n{title}", style="bold"))
    if not rows:
        console.print(Text("none", style="dim"))
        return
    columns = list(_fitting(list(_columns(rows, names)), width=console.width))
    table = Table(box=None, pad_edge=False, header_style="cyan")
    for name, _ in columns:
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for index in range(len(rows)):
        table.add_row(*(Text(cells[index]) for _, cells in columns))
    with console.capture() as printed:
        console.print(table)
    # rich fills every row with spaces to the end of the table.
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _columns(rows: Sequence[Message], names: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Columns with something in them, what people read first: ids of other things and machines' numbers come last.

    A column of counts that are all 0 has nothing in it.
    """
    columns = []
    for each in _fields(rows[0]):
        if _parts_of(each) and each.is_repeated:
            continue
        cells = [cell(row, each, names) for row in rows]
        is_named = is_reference(each.name) and cells != [cell(row, each) for row in rows]
        if any(text and not (text == "0" and each.name.endswith("_count")) for text in cells):
            columns.append((_rank(each, is_named=is_named), _heading(each, is_named=is_named), cells))
    for _, name, cells in sorted(columns, key=lambda column: column[0]):
        yield name, [_shortened(text) for text in cells]


def _heading(each: FieldDescriptor, *, is_named: bool) -> str:
    name = each.name.removesuffix("_count").removesuffix("_bytes")
    if is_named:
        name = f"{name.removesuffix('_ids')}s" if name.endswith("_ids") else name.removesuffix("_id")
    titles = [part.name for part in _parts_of(each) if part.name in _NAMED_TITLES]
    return ", ".join([name, *titles]).replace("_", " ")


def _rank(each: FieldDescriptor, *, is_named: bool) -> int:
    # Most tenants have few channels, and their names are long: nobody reads them first.
    if is_reference(each.name) and (not is_named or each.name.startswith("channel_")):
        return 2
    return 1 if each.cpp_type in _INTEGERS_OF_MACHINES else 0


def _fitting(columns: Sequence[tuple[str, list[str]]], *, width: int) -> Iterator[tuple[str, list[str]]]:
    left = width
    for position, (name, cells) in enumerate(columns):
        left -= max(len(name), *map(len, cells)) + 2
        if left < 0 and position > 0:
            return
        yield name, cells


def _shortened(text: str) -> str:
    text = inert(_PACKAGE.sub("", " ".join(text.split())))
    return text if len(text) <= _WIDEST_CELL else f"{text[: _WIDEST_CELL - 1]}…"


def cell(message: Message, each: FieldDescriptor, names: Mapping[str, str] = _NO_NAMES) -> str:
    """The value of a field in words; "" when it is not set or says nothing. Ids of what has a name are its name."""
    value = getattr(message, each.name)
    if is_map(each):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if each.is_repeated:
        return ", ".join(_word(each, item, names) for item in value)
    if each.has_presence and not message.HasField(each.name):
        return ""
    return _word(each, value, names)


def _word(each: FieldDescriptor, value: Any, names: Mapping[str, str]) -> str:
    if each.enum_type is not None:
        return _enum_word(each.enum_type, value)
    if isinstance(value, Message):
        return _message_word(value, names)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and each.name.endswith("_bytes"):
        return size_words(value)
    return names.get(value, value) if isinstance(value, str) and is_reference(each.name) else str(value)


def _enum_word(enum: EnumDescriptor, value: int) -> str:
    """Short and lower case; "" for the zero value, which says that nothing was said."""
    words = {name: word for word, name in short_words(enum).items()}
    known = enum.values_by_number.get(value)
    if value == 0:
        return ""
    return words[known.name].replace("-", " ") if known else str(value)


def _message_word(value: Message, names: Mapping[str, str]) -> str:
    if value.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        moment = cast("Timestamp", value).ToDatetime(tzinfo=UTC)
        return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
    if value.DESCRIPTOR.full_name == "google.protobuf.Duration":
        return span_words(cast("Duration", value).ToTimedelta())
    if value.DESCRIPTOR.full_name == "google.protobuf.Struct":
        found = json_format.MessageToDict(value)
        return ", ".join(f"{key}={_plain(item)}" for key, item in found.items())
    if value.DESCRIPTOR.full_name.startswith("google.protobuf."):
        return json.dumps(json_format.MessageToDict(value), ensure_ascii=False)
    named = {each.name: each for each in _fields(value)}
    # Of whoever did something people want the name, where there is one, and else the kind.
    if "name" not in named and "id" in named and (name := names.get(cell(value, named["id"]))):
        return name
    return next((cell(value, named[title]) for title in (*_TITLES, *_NAMED_TITLES) if title in named), "")


def _plain(value: Any) -> str:
    """A value of a Struct, whose numbers are all floating."""
    if isinstance(value, float):
        return f"{value:.15g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
