"""The fields of requests, found in the descriptors, so that a new one is tried without a new test."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from buf.validate import validate_pb2
from contract_outcome import methods
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message


class Place(NamedTuple):
    """A string field of an RPC's request, by its path."""

    rpc: str
    path: tuple[str, ...]
    field: FieldDescriptor

    def __str__(self) -> str:
        return f"{self.rpc}:{'.'.join(self.path)}"

    @property
    def violation(self) -> str:
        """What a refusal calls it."""
        return ".".join(self.path) + ("[0]" if self.field.is_repeated else "")

    @property
    def is_id(self) -> bool:
        rules = self.field.GetOptions().Extensions[validate_pb2.field]
        return bool(rules.string.uuid or rules.repeated.items.string.uuid)

    @property
    def names_one(self) -> bool:
        """Whether it takes an id, perhaps beside words such as "me"."""
        return self.is_id or self.path[-1] in ("assignee_id", "team_id")


def places() -> list[Place]:
    """Every string of every request, but for those of messages within themselves."""
    return [
        Place(name, path, field)
        for name, method in methods().items()
        for path, field in _strings(method.input_type, (), ())
    ]


def _strings(
    message: Descriptor, above: tuple[str, ...], outer: tuple[Descriptor, ...]
) -> Iterator[tuple[tuple[str, ...], FieldDescriptor]]:
    for field in message.fields:
        inner = field.message_type
        path = (*above, field.name + ("[0]" if inner is not None and field.is_repeated else ""))
        if field.type == FieldDescriptor.TYPE_STRING:
            yield path, field
        elif inner is not None and inner not in (*outer, message) and inner.full_name.startswith("switchboard."):
            yield from _strings(inner, path, (*outer, message))


def put(request: Message, path: tuple[str, ...], value: str) -> Message:
    """The request with another value in one place."""
    inner: Any = request
    for name in path[:-1]:
        inner = getattr(inner, name.removesuffix("[0]")).add() if name.endswith("[0]") else getattr(inner, name)
    if inner.DESCRIPTOR.fields_by_name[path[-1]].is_repeated:
        inner.ClearField(path[-1])
        getattr(inner, path[-1]).append(value)
    else:
        setattr(inner, path[-1], value)
    return request
