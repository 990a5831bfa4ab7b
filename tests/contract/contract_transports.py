"""Six ways to call the same RPC: gRPC to a server and through Envoy, grpc-web, REST, the command line, the Python client."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Protocol

import grpc
import switchboard_sdk
from click.testing import CliRunner
from contract_edge import GrpcWeb, Headers, Rest, rest_request
from contract_outcome import Refused, answer_class, path_of
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_status import rpc_status
from switchboard_cli.contract import shipped
from switchboard_cli.root import root
from switchboard_client.message_pool import default_message_pool
from switchboard_sdk.contract import methods_by_request


class Transport(Protocol):
    """One way to call."""

    name: str

    def call(
        self, method: MethodDescriptor, request: Message, *, token: str, headers: Headers | None = None
    ) -> Message:
        """The answer; Refused."""

    def close(self) -> None:
        """Ends connections."""


class Grpc:
    """gRPC over HTTP/2."""

    def __init__(self, name: str, channel: grpc.Channel) -> None:
        self.name = name
        self._channel = channel

    def close(self) -> None:
        """The channel belongs to whoever made it."""

    def call(
        self, method: MethodDescriptor, request: Message, *, token: str, headers: Headers | None = None
    ) -> Message:
        return self.begin(method, request, token=token, headers=headers)()

    def begin(self, method: MethodDescriptor, request: Message, *, token: str, headers: Headers | None = None) -> Any:
        """Starts a call; calling the answer waits for it."""
        rpc: Any = self._channel.unary_unary(
            path_of(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer_class(method).FromString,
        )
        future = rpc.future(request, metadata=_metadata(token, headers), timeout=30)

        def finish() -> Message:
            try:
                answer: Message = future.result()
            except grpc.RpcError as error:
                raise _refused(error) from None
            return answer

        return finish

    def items(self, method: MethodDescriptor, request: Message, *, token: str) -> Iterator[Message]:
        rpc: Any = self._channel.unary_stream(
            path_of(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer_class(method).FromString,
        )
        call = rpc(request, metadata=_metadata(token, None), timeout=30)
        try:
            yield from call
        except grpc.RpcError as error:
            raise _refused(error) from None
        finally:
            call.cancel()


def _metadata(token: str, headers: Headers | None) -> list[tuple[str, str]]:
    credential = [("authorization", f"Bearer {token}")] if token else []
    return [*credential, *(headers or {}).items()]


def _refused(error: Any) -> Refused:
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()} {error.details()}: no google.rpc.Status"
    return Refused(status)


class Cli:
    """The command line, with `-o json`, in this process."""

    name = "cli"

    def __init__(self, url: str) -> None:
        self._environment = {"SWITCHBOARD_URL": url, "SWITCHBOARD_HOME": "/nonexistent"}
        self._commands = {rpc.path: (group, rpc) for group in shipped().groups.values() for rpc in group.rpcs.values()}

    def close(self) -> None:
        """Nothing stays open."""

    def call(
        self, method: MethodDescriptor, request: Message, *, token: str, headers: Headers | None = None
    ) -> Message:
        assert not headers
        (answer,) = self.run(method, request, token=token)
        return json_format.ParseDict(answer, answer_class(method)())

    def run(self, method: MethodDescriptor, request: Message, *, token: str, more: tuple[str, ...] = ()) -> list[Any]:
        """The JSON documents that a command prints."""
        group, rpc = self._commands[path_of(method)]
        fields = json_format.MessageToDict(request, preserving_proto_field_name=True)
        arguments = [fields.pop(name) for name in rpc.arguments]
        line = [group.name, rpc.name, "-o", "json", "--json", json.dumps(fields), *more, "--", *arguments]
        result = CliRunner().invoke(root, line, env={**self._environment, "SWITCHBOARD_TOKEN": token})
        if result.exit_code == 1 and isinstance(result.exception, SystemExit):
            raise Refused(json_format.Parse(result.stderr.splitlines()[-1], status_pb2.Status()))
        assert result.exit_code == 0, result.output + repr(result.exception)
        return list(_documents(result.stdout))


def _documents(text: str) -> Iterator[Any]:
    decoder, place = json.JSONDecoder(), 0
    while place < len(text.rstrip()):
        document, place = decoder.raw_decode(text, place)
        place += len(text[place:]) - len(text[place:].lstrip())
        yield document


class Sdk:
    """The Python client, with its own message classes."""

    name = "python"

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()

    def call(
        self, method: MethodDescriptor, request: Message, *, token: str, headers: Headers | None = None
    ) -> Message:
        assert not headers
        return self._runner.run(self._call(method, request, token))

    def items(self, method: MethodDescriptor, request: Message, *, token: str) -> Iterator[Message]:
        yield from self._runner.run(self._items(method, request, token))

    async def _call(self, method: MethodDescriptor, request: Message, token: str) -> Message:
        async with switchboard_sdk.connect(self._url, token=token) as client:
            try:
                answer = await self._rpc(client, method)(self._own(method, request))
            except switchboard_sdk.SwitchboardError as error:
                raise Refused(error.status) from None
        return answer_class(method).FromString(bytes(answer))

    async def _items(self, method: MethodDescriptor, request: Message, token: str) -> list[Message]:
        async with switchboard_sdk.connect(self._url, token=token) as client:
            try:
                kind = answer_class(method)
                return [
                    kind.FromString(bytes(item)) async for item in self._rpc(client, method)(self._own(method, request))
                ]
            except switchboard_sdk.SwitchboardError as error:
                raise Refused(error.status) from None

    @staticmethod
    def _rpc(client: switchboard_sdk.Client, method: MethodDescriptor) -> Any:
        known = methods_by_request()[method.input_type.full_name]
        return getattr(getattr(client, known.group), known.name)

    @staticmethod
    def _own(method: MethodDescriptor, request: Message) -> Any:
        kind = default_message_pool.url_to_type[f"type.googleapis.com/{method.input_type.full_name}"]
        return kind.parse(request.SerializeToString())


__all__ = ["Cli", "Grpc", "GrpcWeb", "Rest", "Sdk", "Transport", "rest_request"]
