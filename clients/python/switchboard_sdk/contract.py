"""The methods of the contract, read from its descriptors: what a call needs to know without code per RPC."""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto, MethodOptions
from switchboard.v1 import options_pb2


@dataclass(frozen=True, kw_only=True)
class Method:
    """One RPC.

    `path` is what goes over the wire (`/package.Service/Rpc`), `group` the service's `command_group`, `name` the RPC
    in snake case, `request` and `response` the full names of its messages.
    """

    path: str
    group: str
    name: str
    request: str
    response: str
    streams_requests: bool = False
    streams_responses: bool = False
    has_side_effects: bool = True


def snake_case(name: str) -> str:
    """ListApiKeys -> list_api_keys."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def read_methods(descriptors: FileDescriptorSet) -> Iterator[Method]:
    """Every RPC of every service that has a `command_group`, in the order of the files."""
    for file in descriptors.file:
        for service in file.service:
            group = service.options.Extensions[options_pb2.command_group]
            if group:
                for rpc in service.method:
                    yield _read_method(f"/{file.package}.{service.name}/{rpc.name}", group, rpc)


def _read_method(path: str, group: str, rpc: MethodDescriptorProto) -> Method:
    return Method(
        path=path,
        group=group,
        name=snake_case(rpc.name),
        request=rpc.input_type.removeprefix("."),
        response=rpc.output_type.removeprefix("."),
        streams_requests=rpc.client_streaming,
        streams_responses=rpc.server_streaming,
        has_side_effects=rpc.options.idempotency_level != MethodOptions.NO_SIDE_EFFECTS,
    )


@functools.cache
def methods_by_request() -> Mapping[str, Method]:
    """The shipped contract's methods by the full name of their request: no two methods share one."""
    data = (importlib.resources.files("switchboard") / "descriptor.binpb").read_bytes()
    return {method.request: method for method in read_methods(FileDescriptorSet.FromString(data))}


@functools.cache
def methods_by_group() -> Mapping[str, Mapping[str, Method]]:
    """The same by group and name: `methods_by_group()["conversations"]["list_conversations"]`."""
    groups: dict[str, dict[str, Method]] = {}
    for method in methods_by_request().values():
        groups.setdefault(method.group, {})[method.name] = method
    return groups
