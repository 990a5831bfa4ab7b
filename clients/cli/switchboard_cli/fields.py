"""Fields of a request as options and arguments, and what was typed as the request."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from switchboard_cli.contract import Contract, Rpc
from switchboard_cli.values import is_list, type_of

# Messages within the request become options of their own (--filter-status) this deep; what is deeper, or contains itself,
# is one option that takes JSON.
_DEEPEST = 2
BODY = "request_body"


@dataclass(frozen=True)
class Leaf:
    """A field that one option or argument sets, by its path from the request."""

    path: tuple[str, ...]
    field: FieldDescriptor

    @property
    def key(self) -> str:
        """Name among click's parameters; cannot meet that of an option that is no field."""
        return "field_" + "__".join(self.path)

    @property
    def flag(self) -> str:
        """Name on the command line, without dashes in front."""
        return "-".join(self.path).replace("_", "-")


def leaves(message: Descriptor, *, above: tuple[str, ...] = (), within: tuple[Descriptor, ...] = ()) -> Iterator[Leaf]:
    """The fields of a request that can be typed, in the order of the contract."""
    within = (*within, message)
    for field in message.fields:
        path, inner = (*above, field.name), field.message_type
        if inner is None or field.is_repeated or not _is_flattened(inner, within=within):
            yield Leaf(path, field)
        else:
            yield from leaves(inner, above=path, within=within)


def _is_flattened(inner: Descriptor, *, within: tuple[Descriptor, ...]) -> bool:
    is_well_known = inner.full_name.startswith("google.protobuf.")
    return not is_well_known and inner not in within and len(within) <= _DEEPEST


def parameters(contract: Contract, rpc: Rpc, *, reserved: frozenset[str]) -> list[click.Parameter]:
    """Arguments for the fields in the RPC's path, then options for the others; `reserved` flags get "field-" in front."""
    found = {leaf.path: leaf for leaf in leaves(rpc.method.input_type)}
    named = [found.pop((name,)) for name in rpc.arguments]
    arguments: list[click.Parameter] = [
        click.Argument([leaf.key], type=type_of(leaf.field), metavar=leaf.flag.replace("-", "_").upper())
        for leaf in named
    ]
    return arguments + [_option(contract, leaf, reserved=reserved) for leaf in found.values()]


def _option(contract: Contract, leaf: Leaf, *, reserved: frozenset[str]) -> click.Option:
    flag = f"field-{leaf.flag}" if leaf.flag in reserved else leaf.flag
    help_text = contract.comment(leaf.field).replace("\n", " ")
    if is_list(leaf.field):
        return click.Option([f"--{flag}", leaf.key], type=type_of(leaf.field), multiple=True, help=help_text)
    if leaf.field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return click.Option([f"--{flag}/--no-{flag}", leaf.key], default=None, help=help_text)
    return click.Option([f"--{flag}", leaf.key], type=type_of(leaf.field), help=help_text)


def build_request(contract: Contract, rpc: Rpc, typed: Mapping[str, Any]) -> Message:
    """The request: `--json` first, options over it, and a request id where the method takes one and none was typed.

    Raises click.UsageError when the JSON is not such a request.
    """
    body = {} if typed.get(BODY) is None else typed[BODY]
    if not isinstance(body, dict):
        raise click.UsageError("--json must be a JSON object")
    for leaf in leaves(rpc.method.input_type):
        value = typed.get(leaf.key)
        if value is not None and value != ():
            _put(body, leaf.path, list(value) if is_list(leaf.field) else value)
    request = contract.message_class(rpc.method.input_type)()
    try:
        json_format.ParseDict(body, request)
    except json_format.ParseError as problem:
        raise click.UsageError(str(problem)) from None
    if "request_id" in rpc.method.input_type.fields_by_name and not request.request_id:  # type: ignore[attr-defined]
        request.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
    return request


def _put(body: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Sets a value deep inside; the JSON may name a message in camel case, ours are the contract's names."""
    for name in path[:-1]:
        key = _camel_case(name) if _camel_case(name) in body else name
        inner = body[key] = {} if body.get(key) is None else body[key]
        if not isinstance(inner, dict):
            raise click.UsageError(f"--json: {name} must be an object")
        body = inner
    body.pop(_camel_case(path[-1]), None)
    body[path[-1]] = value


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
