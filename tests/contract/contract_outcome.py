"""What comes of a call, on whatever way it went: a message, or a refusal; and both without what differs from call to call."""

import functools
import re
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from switchboard.v1 import (
    agent_service_pb2,
    assignment_policy_service_pb2,
    assignment_service_pb2,
    attribute_definition_service_pb2,
    audit_service_pb2,
    auth_service_pb2,
    availability_service_pb2,
    channel_service_pb2,
    contact_merge_service_pb2,
    contact_service_pb2,
    conversation_service_pb2,
    delivery_service_pb2,
    erasure_service_pb2,
    inbox_service_pb2,
    intake_service_pb2,
    invite_service_pb2,
    media_service_pb2,
    message_service_pb2,
    settings_service_pb2,
    statistics_service_pb2,
    tag_service_pb2,
    template_service_pb2,
    tenant_service_pb2,
    webhook_service_pb2,
)

FILES = (
    conversation_service_pb2,
    audit_service_pb2,
    media_service_pb2,
    message_service_pb2,
    statistics_service_pb2,
    assignment_service_pb2,
    assignment_policy_service_pb2,
    availability_service_pb2,
    delivery_service_pb2,
    erasure_service_pb2,
    inbox_service_pb2,
    intake_service_pb2,
    invite_service_pb2,
    contact_merge_service_pb2,
    contact_service_pb2,
    channel_service_pb2,
    attribute_definition_service_pb2,
    settings_service_pb2,
    agent_service_pb2,
    webhook_service_pb2,
    auth_service_pb2,
    tag_service_pb2,
    template_service_pb2,
    tenant_service_pb2,
)


class Refused(Exception):
    """A google.rpc.Status that a call ended with; http_status over REST."""

    def __init__(self, status: status_pb2.Status, *, http_status: int = 0) -> None:
        super().__init__(status)
        self.status = status
        self.request_id = _taken_out(status)
        self.http_status = http_status

    @property
    def code(self) -> int:
        return self.status.code

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        """The one ErrorInfo."""
        (info,) = self._details(error_details_pb2.ErrorInfo)
        return info

    @property
    def reason(self) -> str:
        return self.info.reason

    @property
    def fields(self) -> list[str]:
        """The fields at fault."""
        return [each.field for bad in self._details(error_details_pb2.BadRequest) for each in bad.field_violations]

    def _details(self, kind: type[Message]) -> list[Any]:
        found = []
        for detail in self.status.details:
            message = kind()
            if detail.Unpack(message):
                found.append(message)
        return found


def _taken_out(status: status_pb2.Status) -> str:
    """Takes out the id of the call, which differs from call to call; the edge's own refusals have none."""
    request = error_details_pb2.RequestInfo()
    for position, detail in enumerate(status.details):
        if detail.Unpack(request):
            del status.details[position]
            break
    return request.request_id


def services() -> list[ServiceDescriptor]:
    """Every service of the contract."""
    return [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]


def methods() -> dict[str, MethodDescriptor]:
    """Every RPC of the contract, as "ConversationService.ListConversations"."""
    return {f"{service.name}.{method.name}": method for service in services() for method in service.methods}


@functools.cache
def method_of_request(name: str) -> MethodDescriptor:
    """The RPC that takes a request; no two share one."""
    (found,) = [method for method in methods().values() if method.input_type.full_name == name]
    return found


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def answer_class(method: MethodDescriptor) -> type[Message]:
    return message_factory.GetMessageClass(method.output_type)


def request_class(method: MethodDescriptor) -> type[Message]:
    return message_factory.GetMessageClass(method.input_type)


def find_message(name: str) -> type[Message]:
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "<time>"),
    (re.compile(r"wamid\.[\w=+/-]+"), "<wamid>"),
    (re.compile(r"n[0-9a-f]{10}n"), "<nonce>"),
    (re.compile(r"\b\d{7,}\b"), "<digits>"),
)
# Tokens and cursors, secrets, and what is a matter of the clock (receipts move the head). Whether each is there is still compared.
_OPAQUE = frozenset(
    {
        "download_url",
        "upload_url",
        "cursor",
        "as_of",
        "next_cursor",
        "next_page_token",
        "token",
        "invite_token",
        "secret",
        "key_id",
        "request_id",
        "sequence",
        "head",
    }
)
_LEFT_OUT = frozenset({"last_use_time"})


def normal(message: Message) -> Any:
    """A message as plain data without what differs from call to call.

    Ids become id1, id2, … in the order they appear, so that what is the same stays the same.
    """
    names: dict[str, str] = {}

    def text(value: str) -> str:
        value = _UUID.sub(lambda found: names.setdefault(found[0], f"id{len(names) + 1}"), value)
        for pattern, word in _VARYING:
            value = pattern.sub(word, value)
        return value

    def plain(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner, name) for name, inner in value.items() if name not in _LEFT_OUT}
        if isinstance(value, list):
            return [plain(inner, key) for inner in value]
        if key in _OPAQUE and value:
            return "<opaque>"
        return text(value) if isinstance(value, str) else value

    return plain(
        json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True),
        "",
    )
