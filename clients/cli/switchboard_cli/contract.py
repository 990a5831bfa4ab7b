"""The contract as the command line sees it: groups of commands, their fields, and the comments that become help.

Everything is read from one FileDescriptorSet with source info, so a new RPC is a new command without a change here.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from switchboard.v1 import options_pb2

# RPCs that are not commands, and why. A test holds it against the contract: what cannot be a command is named here.
EXCLUDED: Mapping[str, str] = {
    "switchboard.v1.WebhookService.VerifyMetaWebhook": "answers a raw body (HttpBody): only Meta's handshake has a use for it",
    "switchboard.v1.WebhookService.ReceiveMetaWebhook": "takes a raw, signed body (HttpBody): only Meta can sign it",
}
_RAW_BODY = "google.api.HttpBody"


@dataclass(frozen=True, kw_only=True)
class Rpc:
    """One command: `name` within its group, `arguments` the fields in the path of its REST address, in their order."""

    name: str
    help: str
    method: MethodDescriptor
    arguments: tuple[str, ...]
    is_platform: bool
    has_side_effects: bool

    @property
    def path(self) -> str:
        """What goes over the wire: /package.Service/Rpc."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def is_paged(self) -> bool:
        """Whether the answer may have a next page."""
        return (
            "page_token" in self.method.input_type.fields_by_name
            and "next_page_token" in self.method.output_type.fields_by_name
        )


@dataclass(frozen=True, kw_only=True)
class Group:
    """The commands of one service."""

    name: str
    help: str
    rpcs: Mapping[str, Rpc]


class Contract:
    """A FileDescriptorSet, looked at as commands. Descriptors live in a pool of their own."""

    def __init__(self, data: bytes) -> None:
        self._files = {file.name: file for file in FileDescriptorSet.FromString(data).file}
        self._pool = DescriptorPool()
        for file in self._files.values():
            self._pool.Add(file)
        self._comments: dict[str, Mapping[str, str]] = {}

    @functools.cached_property
    def groups(self) -> Mapping[str, Group]:
        """All groups that have a command, by name."""
        services = [
            self._pool.FindServiceByName(f"{file.package}.{service.name}")
            for file in self._files.values()
            for service in file.service
            if service.options.Extensions[options_pb2.command_group]
        ]
        groups = [self._group(service) for service in services]
        return {group.name: group for group in groups if group.rpcs}

    def _group(self, service: ServiceDescriptor) -> Group:
        methods = [method for method in service.methods if not cannot_be_a_command(method)]
        names = command_names(service.name, [method.name for method in methods])
        rpcs = {names[method.name]: self._rpc(names[method.name], method) for method in methods}
        name = service.GetOptions().Extensions[options_pb2.command_group]
        return Group(name=name, help=self.comment(service), rpcs=rpcs)

    def _rpc(self, name: str, method: MethodDescriptor) -> Rpc:
        options = method.GetOptions()
        return Rpc(
            name=name,
            help=self.comment(method),
            method=method,
            arguments=_path_fields(options),
            is_platform=options.Extensions[options_pb2.access].platform,
            has_side_effects=options.idempotency_level != MethodOptions.NO_SIDE_EFFECTS,
        )

    def comment(self, element: Any) -> str:
        """The comment above a descriptor in its .proto file, one line per line there; "" when there is none."""
        file = element.file.name if hasattr(element, "file") else element.containing_service.file.name
        if file not in self._comments:
            self._comments[file] = dict(comments_of(self._files[file]))
        return self._comments[file].get(element.full_name, "")

    def message_class(self, descriptor: Descriptor) -> type[Message]:
        """The google.protobuf class of a message of this contract."""
        return message_factory.GetMessageClass(descriptor)

    def find_message_class(self, name: str) -> type[Message]:
        """The same by full name. KeyError when there is none."""
        return self.message_class(self._pool.FindMessageTypeByName(name))


@functools.cache
def shipped() -> Contract:
    """The contract that this installation was built with."""
    return Contract((importlib.resources.files("switchboard") / "descriptor.binpb").read_bytes())


def cannot_be_a_command(method: MethodDescriptor) -> bool:
    """Client streams need a conversation, raw bodies need a provider: neither fits on a command line."""
    ends = (method.input_type, method.output_type)
    parts = [field.message_type for field in method.input_type.fields if field.message_type]
    return method.client_streaming or any(each.full_name == _RAW_BODY for each in (*ends, *parts))


def command_names(service: str, rpcs: list[str]) -> Mapping[str, str]:
    """RPC names to command names: kebab case, without the service's noun where it directly follows the verb.

    In ConversationService, ListConversations is `list` and UpdateConversationStatus `update-status`; in AssignmentService,
    AssignConversation stays `assign-conversation`. Two RPCs that would share a short name both keep their long one.
    """
    noun = _words(service.removesuffix("Service"))
    short = {rpc: "-".join(_without_noun(_words(rpc), noun)) for rpc in rpcs}
    taken = list(short.values())
    return {rpc: name if taken.count(name) == 1 else "-".join(_words(rpc)) for rpc, name in short.items()}


def _without_noun(words: list[str], noun: list[str]) -> list[str]:
    found = words[1 : 1 + len(noun)]
    plural = [*noun[:-1], f"{noun[-1][:-1]}ies" if noun[-1].endswith("y") else f"{noun[-1]}s"]
    return [words[0], *words[1 + len(noun) :]] if found in (noun, plural) else words


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", name)]


def _path_fields(options: MethodOptions) -> tuple[str, ...]:
    rule = options.Extensions[annotations_pb2.http]
    pattern = getattr(rule, rule.WhichOneof("pattern") or "get")
    return tuple(re.findall(r"\{([a-z0-9_]+)[=}]", pattern))


def comments_of(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Full name and comment of every service, method, message, field, enum and enum value of a file that has one.

    A location's path is a list of field numbers and indices into FileDescriptorProto (descriptor.proto, SourceCodeInfo).
    """
    texts = {tuple(each.path): _clean(each.leading_comments) for each in file.source_code_info.location}
    for path, name in _elements(file):
        if text := texts.get(path):
            yield f"{file.package}.{name}", text


def _elements(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        for j, method in enumerate(service.method):
            yield (6, i, 2, j), f"{service.name}.{method.name}"
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        for j, value in enumerate(enum.value):
            # Values of an enum are siblings of the enum in name, as in C.
            yield (5, i, 2, j), value.name
    for i, message in enumerate(file.message_type):
        yield from _message_elements((4, i), message.name, message)


def _message_elements(
    path: tuple[int, ...], name: str, message: DescriptorProto
) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, name
    for i, field in enumerate(message.field):
        yield (*path, 2, i), f"{name}.{field.name}"
    for i, nested in enumerate(message.nested_type):
        yield from _message_elements((*path, 3, i), f"{name}.{nested.name}", nested)


def _clean(comment: str) -> str:
    return "\n".join(line.strip() for line in comment.strip().splitlines())
