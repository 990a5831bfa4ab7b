"""A collector of traces: OTLP over HTTP, as small as it goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span. service: serve or work; links: (trace, span) ids."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What came; raw holds every body as it came."""

    port: int = 0
    raw: list[bytes] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            )
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                links = tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links)
                attributes = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                self.spans.append(Seen(service.removeprefix("switchboard-"), span.name, *ids, links, attributes))

    def of(self, trace: str) -> list[Seen]:
        return [span for span in self.spans if span.trace == trace]

    def until(self, found: Callable[[], Any], *, within: float = 30) -> Any:
        """Waits until it finds something."""
        deadline = time.monotonic() + within
        while not (result := found()):
            assert time.monotonic() < deadline, sorted((span.service, span.name) for span in self.spans)
            time.sleep(0.05)
        return result


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs one on a port of the kernel."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
