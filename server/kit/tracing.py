"""Traces by OpenTelemetry: off, and of no cost, unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

A trace context travels as a W3C traceparent: in the metadata of a call, and beside the rows of what is done later, perhaps by another
process. It is never sent to a provider. Attributes are ids, counts and codes; nothing of a customer, no text of an exception.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from server.kit.errors import Refusal

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
HEADER = "traceparent"
# https://www.w3.org/TR/trace-context-2/#traceparent-header
TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class TracingMissing(Refusal):
    """Traces are asked for, and the packages for them are not installed."""

    status = "FAILED_PRECONDITION"
    reason = "INTERNAL"


class Span(AbstractContextManager["Span"]):
    """What happens while it is entered; this one is of no trace."""

    def set(self, **attributes: str | int) -> None:
        """More about it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


NOTHING = Span()


class _Live(Span):
    def __init__(self, entering: Any) -> None:
        self._entering = entering
        self._span: Any = None

    def set(self, **attributes: str | int) -> None:
        self._span.set_attributes(attributes)

    def __enter__(self) -> Span:
        self._span = self._entering.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._span.set_attribute("error.type", kind.__name__)
        self._entering.__exit__(kind, error, trace)


class _Tracing:
    """The process's tracer, once there is one."""

    def __init__(self) -> None:
        self.tracer: Any = None


_TRACING = _Tracing()


def configure(process: str) -> None:
    """Turns traces on where the environment asks for them; process: "serve" or "work". TracingMissing.

    Sampling, headers, and delays are OpenTelemetry's own settings, OTEL_….
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise TracingMissing(f"{ENDPOINTS[0]} is set; install what sends traces: 'switchboard[tracing]'.") from None
    resource = Resource.create({"service.name": f"switchboard-{process}", "process.pid": os.getpid()})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _TRACING.tracer = provider.get_tracer("switchboard")


def on() -> bool:
    """Whether anything is traced; what costs a query is asked for only then."""
    return _TRACING.tracer is not None


def span(
    name: str,
    *,
    parent: str | None = None,
    links: Iterable[str] = (),
    kind: str = "internal",
    **attributes: str | int,
) -> Span:
    """A span around a with statement. parent: a traceparent, None for the present span; kind: internal, server, client, consumer."""
    if _TRACING.tracer is None:
        return NOTHING
    from opentelemetry.trace import SpanKind

    return _Live(
        _TRACING.tracer.start_as_current_span(
            name,
            context=_context(parent),
            kind=SpanKind[kind.upper()],
            attributes=attributes,
            links=_links(links),
            record_exception=False,
            set_status_on_exception=False,
        )
    )


def record(name: str, *, parent: str, began: int, links: Iterable[str] = (), **attributes: str | int) -> None:
    """A span that ends now; began: nanoseconds since 1970."""
    if _TRACING.tracer is not None:
        made = _TRACING.tracer.start_span(
            name, context=_context(parent), attributes=attributes, links=_links(links), start_time=began
        )
        made.end(end_time=time.time_ns())


def current() -> str | None:
    """The present span as a traceparent; None when there is none."""
    if _TRACING.tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    found = get_current_span().get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}" if found.is_valid else None


def _span_context(traceparent: str | None) -> Any:
    match = TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=TraceFlags(int(match[3], 16)))


def _context(traceparent: str | None) -> Any:
    """A context with that parent; None, which is the present one, for what is no traceparent."""
    found = _span_context(traceparent)
    if found is None:
        return None
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return set_span_in_context(NonRecordingSpan(found))


def _links(traceparents: Iterable[str]) -> Any:
    from opentelemetry.trace import Link

    return [Link(found) for found in map(_span_context, traceparents) if found is not None]
