"""The limits that the contract states by protovalidate's options, in words.

https://buf.build/bufbuild/protovalidate/docs/main:buf.validate says what each rule means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message


def limits_of_field(field: FieldDescriptor) -> list[str]:
    """What a field must meet, one phrase each. LookupError for a rule that has no words here yet."""
    oneof = field.containing_oneof
    alone = ["required"] if oneof is not None and _is_required(oneof) and len(oneof.fields) == 1 else []
    return [*alone, *_field_rules(field.GetOptions().Extensions[validate_pb2.field], field)]


def limits_of_message(message: Descriptor) -> list[str]:
    """What the fields of a message must meet together, one phrase each."""
    told = [rule.message for rule in message.GetOptions().Extensions[validate_pb2.message].cel]
    needed = [oneof for oneof in message.oneofs if _is_required(oneof) and len(oneof.fields) > 1]
    return told + ["exactly one of " + ", ".join(f"`{field.name}`" for field in oneof.fields) for oneof in needed]


def _is_required(oneof: OneofDescriptor) -> bool:
    return bool(oneof.GetOptions().Extensions[validate_pb2.oneof].required)


def _field_rules(rules: Message, field: FieldDescriptor) -> Iterator[str]:
    for descriptor, value in rules.ListFields():
        if descriptor.name == "cel":
            yield from (rule.message for rule in value)
        elif descriptor.name == "required":
            yield "required"
        else:
            yield from _typed_rules(value, field)


def _typed_rules(rules: Message, field: FieldDescriptor) -> Iterator[str]:
    stated = {descriptor.name: value for descriptor, value in rules.ListFields()}
    for (low, high), unit in _RANGES.items():
        if low in stated and high in stated:
            yield f"{_amount(stated.pop(low))} to {_amount(stated.pop(high))} {unit}".rstrip()
    for name, value in stated.items():
        if name in _PARTS:
            yield f"each {_PARTS[name]}: " + ", ".join(_field_rules(value, field))
        elif name == "not_in":
            yield "not " + " or ".join(_named(each, field) for each in value)
        elif name in _WORDS:
            yield _WORDS[name](value)
        else:
            raise LookupError(f"protos/validation.py has no words for the rule {rules.DESCRIPTOR.full_name}.{name}")


def _named(value: Any, field: FieldDescriptor) -> str:
    return f"`{field.enum_type.values_by_number[value].name}`" if field.enum_type else f"{value}"


def _amount(value: Any) -> str:
    if not isinstance(value, Duration):
        return f"{value}"
    days, rest = divmod(value.ToTimedelta(), timedelta(days=1))
    return f"{days} days" if days and not rest else f"{value.ToTimedelta().total_seconds():g} s"


_RANGES: Mapping[tuple[str, str], str] = {
    ("min_len", "max_len"): "characters",
    ("min_items", "max_items"): "values",
    ("gte", "lte"): "",
}
_PARTS: Mapping[str, str] = {"items": "value", "keys": "key", "values": "value"}
_WORDS: Mapping[str, Callable[[Any], str]] = {
    "min_len": lambda value: "not empty" if value == 1 else f"at least {value} characters",
    "max_len": lambda value: f"at most {value} characters",
    "max_bytes": lambda value: f"at most {value} bytes",
    "min_items": lambda value: "not empty" if value == 1 else f"at least {value} values",
    "max_items": lambda value: f"at most {value} values",
    "unique": lambda _: "no value twice",
    "uuid": lambda _: "a UUID",
    "email": lambda _: "an e-mail address",
    "uri": lambda _: "a URI",
    "pattern": lambda value: f"matches `{value}`",
    "not_contains": lambda value: "no NUL" if value == "\x00" else f"no `{value}`",
    "gte": lambda value: f"at least {_amount(value)}",
    "gt": lambda value: f"more than {_amount(value)}",
    "lte": lambda value: f"at most {_amount(value)}",
    "lt": lambda value: f"less than {_amount(value)}",
    "defined_only": lambda _: "a value of the enum",
    "finite": lambda _: "a finite number",
    "gt_now": lambda _: "in the future",
}
