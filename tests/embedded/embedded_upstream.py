"""A grpc.aio server that answers every method and remembers the calls: what stands behind Envoy in these tests."""

import asyncio
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from switchboard.v1 import inbox_service_pb2

from server.embedded.envoy import Endpoint


@dataclass
class Upstream(grpc.GenericRpcHandler):
    """`refusal`: abort every call with it, and with `headers`. `seen`: (method, metadata) of each call."""

    seen: list[tuple[str, dict[str, str | bytes]]] = field(default_factory=list)
    refusal: status_pb2.Status | None = None
    headers: tuple[tuple[str, str], ...] = ()
    sizes: list[int] = field(default_factory=list)
    delay: float = 0

    async def start(self) -> Endpoint:
        options = [("grpc.max_receive_message_length", 5 << 20)]
        self._public, self._internal = grpc.aio.server(options=options), grpc.aio.server()
        self._public.add_generic_rpc_handlers((self,))
        self.health = health.aio.HealthServicer()
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._internal)
        servers = (self._public, self._internal)
        ports = [server.add_insecure_port("127.0.0.1:0") for server in servers]
        for server in servers:
            await server.start()
        return Endpoint(grpc=ports[0], internal=ports[1], media=ports[1])

    async def stop(self) -> None:
        for server in (self._public, self._internal):
            await server.stop(None)

    def service(self, details):
        self.seen.append((details.method, dict(details.invocation_metadata)))
        if details.method.endswith("/WatchInbox"):
            return grpc.unary_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.sizes.append(len(request))
        await asyncio.sleep(self.delay)
        if self.refusal:
            details = (("grpc-status-details-bin", self.refusal.SerializeToString()), *self.headers)
            code = next(code for code in grpc.StatusCode if code.value[0] == self.refusal.code)
            await context.abort(code, self.refusal.message, details)
        return b""

    async def _stream(self, _request: bytes, _context: grpc.aio.ServicerContext):
        for seq in (1, 2):
            event = inbox_service_pb2.WatchInboxResponse()
            event.events.add(seq=seq)
            yield event.SerializeToString()


def status(code: int, message: str, reason: str) -> status_pb2.Status:
    """A google.rpc.Status with one ErrorInfo."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="switchboard"))
    return status_pb2.Status(code=code, message=message, details=[info])
