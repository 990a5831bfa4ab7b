"""The rules that the contract states on its methods: who may call, and what the service is called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from switchboard.v1 import options_pb2


@dataclass(frozen=True, slots=True)
class Rule:
    """The access rule of a method. permission is set for kind "permission" only."""

    kind: str
    permission: int = 0


def method_descriptor(method: str) -> MethodDescriptor | None:
    """Finds "/package.Service/Method" among the linked descriptors."""
    service, _, name = method.removeprefix("/").partition("/")
    try:
        return descriptor_pool.Default().FindServiceByName(service).methods_by_name.get(name)
    except KeyError:
        return None


@cache
def reads(method: str) -> bool:
    """Whether the contract says that the method changes nothing."""
    found = method_descriptor(method)
    return found is not None and found.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS


@cache
def rule_of(method: str) -> Rule | None:
    """The method's rule; None when there is none, and then nobody may call it."""
    found = method_descriptor(method)
    return None if found is None else stated(found.GetOptions())


def stated(options: MethodOptions) -> Rule | None:
    """The rule among a method's options; None for one that is missing, empty, false, or of no permission."""
    if not options.HasExtension(options_pb2.access):
        return None
    access = options.Extensions[options_pb2.access]
    kind = access.WhichOneof("rule")
    if kind is None or not getattr(access, kind):
        return None
    return Rule(kind=kind, permission=access.permission if kind == "permission" else 0)
