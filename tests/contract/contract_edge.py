"""REST and grpc-web as the edge speaks them: a method and a message in, an HTTP request out, and back."""

import base64
import http.client
import json
import re
import struct
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from contract_outcome import Refused, answer_class, path_of
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

HTTP_BODY = "google.api.HttpBody"
# What a google.rpc.Status over REST may carry must be known to the JSON parser.
DETAILS = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest)
Headers = Mapping[str, str]


def bindings(method: MethodDescriptor) -> list[tuple[str, str, str]]:
    """(verb, path, body) of every HTTP binding of a method, the main one first."""
    rule: http_pb2.HttpRule = method.GetOptions().Extensions[annotations_pb2.http]
    return [_binding(each) for each in (rule, *rule.additional_bindings)]


def _binding(rule: http_pb2.HttpRule) -> tuple[str, str, str]:
    verb = rule.WhichOneof("pattern")
    assert verb is not None
    return verb.upper(), getattr(rule, verb), rule.body


def rest_request(
    method: MethodDescriptor, request: Message, binding: int = 0
) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Verb, path with query, body and headers: the one way that google.api.http says."""
    verb, path, body = bindings(method)[binding]
    fields = json_format.MessageToDict(request)
    raw: Any = getattr(request, body, None) if body not in ("", "*") else None
    if raw is not None:
        fields.pop(body, None)
    for name in re.findall(r"{(\w+)}", path):
        value = fields.pop(request.DESCRIPTOR.fields_by_name[name].json_name, "")
        path = path.replace(f"{{{name}}}", urllib.parse.quote(value, safe=""))
    if isinstance(raw, httpbody_pb2.HttpBody):
        return verb, path, raw.data, {"content-type": raw.content_type}
    if body == "*":
        return verb, path, json.dumps(fields).encode(), {"content-type": "application/json"}
    query = urllib.parse.urlencode(list(_flat(fields, "")))
    return verb, f"{path}?{query}" if query else path, None, {}


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(inner, name)
    else:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


class Edge:
    """One HTTP/1.1 connection to Envoy."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)

    def close(self) -> None:
        self._connection.close()

    def send(
        self, verb: str, path: str, body: bytes | None = None, headers: Headers | None = None
    ) -> http.client.HTTPResponse:
        """The answer's head; the caller reads the body to its end."""
        self._connection.request(verb, path, body, dict(headers or {}))
        return self._connection.getresponse()

    def get(self, verb: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """Status and JSON of a call with a JSON body."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.send(verb, path, data, bearer(token) | {"content-type": "application/json"})
        text = answer.read()
        return answer.status, json.loads(text)


class Rest(Edge):
    """Calls by google.api.http, with proto3 JSON."""

    name = "rest"

    def call(
        self, method: MethodDescriptor, request: Message, *, token: str, headers: Headers | None = None
    ) -> Message:
        return self.call_binding(method, request, 0, token=token, headers=headers)

    def call_binding(
        self, method: MethodDescriptor, request: Message, binding: int, *, token: str, headers: Headers | None = None
    ) -> Message:
        verb, path, body, more = rest_request(method, request, binding)
        answer = self.send(verb, path, body, bearer(token) | more | dict(headers or {}))
        data = answer.read()
        if answer.status != 200:
            raise refused_by_rest(answer.status, data)
        if method.output_type.full_name == HTTP_BODY:
            return httpbody_pb2.HttpBody(content_type=answer.getheader("content-type"), data=data)
        return parsed(method, data)

    def items(self, method: MethodDescriptor, request: Message, *, token: str) -> Iterator[Message]:
        """A stream: one line of JSON each."""
        verb, path, body, more = rest_request(method, request)
        answer = self.send(verb, path, body, bearer(token) | more)
        if answer.status != 200:
            raise refused_by_rest(answer.status, answer.read())
        while line := answer.readline():
            yield parsed(method, line)


def refused_by_rest(http_status: int, data: bytes) -> Refused:
    status = status_pb2.Status()
    json_format.Parse(data, status)
    return Refused(status, http_status=http_status)


def parsed(method: MethodDescriptor, data: bytes) -> Message:
    """The message of a JSON answer, which must have every field without presence and no other unset one."""
    told = json.loads(data)
    message = json_format.ParseDict(told, answer_class(method)())
    assert told == json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return message


class GrpcWeb(Edge):
    """Binary grpc-web: frames of one flag byte and four of length; the last one, flag 0x80, holds the trailers.

    https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
    """

    name = "grpc-web"

    def call(
        self, method: MethodDescriptor, request: Message, *, token: str, headers: Headers | None = None
    ) -> Message:
        items = list(self.items(method, request, token=token, headers=headers))
        assert len(items) == 1
        return items[0]

    def items(
        self, method: MethodDescriptor, request: Message, *, token: str, headers: Headers | None = None
    ) -> Iterator[Message]:
        data = request.SerializeToString()
        web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        body = b"\0" + struct.pack(">I", len(data)) + data
        answer = self.send("POST", path_of(method), body, bearer(token) | web | dict(headers or {}))
        assert answer.status == 200
        if answer.getheader("grpc-status"):
            trailers = {name.lower(): value for name, value in answer.getheaders()}
            answer.read()
            _check(trailers)
        kind = answer_class(method)
        while head := answer.read(5):
            flag, size = struct.unpack(">BI", head)
            frame = answer.read(size)
            if flag == 0:
                yield kind.FromString(frame)
            else:
                lines = frame.decode().strip().split("\r\n")
                _check({name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)})


def _check(trailers: Headers) -> None:
    if trailers["grpc-status"] == "0":
        return
    text = trailers.get("grpc-status-details-bin", "")
    raise Refused(status_pb2.Status.FromString(base64.b64decode(text + "=" * (-len(text) % 4))))
