"""JSON logs on stderr: ids, sizes and codes, never texts, numbers, tokens or keys of anybody."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from server.kit import tracing

REDACTED = "[redacted]"
SECRET_NAMES = re.compile(
    r"(^|_)(authorization|bearer|body|credential|cursor|dsn|email|password|payload|phone|phone_number|preview|secret|text|token|url)$"
)
# Values that give themselves away, wherever they stand: our keys, JWTs, passwords in addresses, phone numbers, e-mail.
SECRET_VALUES = re.compile(
    r"sb_[a-z0-9]+_[A-Za-z0-9_-]+|eyJ[\w-]+\.[\w-]+\.[\w-]*|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|(?<![-\w])\+?\d{9,15}(?![-\w])|[\w.+-]+@[\w-]+\.[\w.]+"
)
PLAIN_NAMES = frozenset({"event", "level", "timestamp", "logger"})


def configure(*, level: int = logging.INFO) -> None:
    """For the process: our events from level up, those of the libraries from WARNING up."""
    shared, ending = _processors()
    _configure_ours(level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def configure_command() -> None:
    """For an operator's command: our warnings and errors, in the same form."""
    _configure_ours(logging.WARNING)


def _configure_ours(level: int) -> None:
    shared, ending = _processors()
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_names: structlog.PrintLogger(sys.stderr),
    )


def _processors() -> tuple[list[Processor], list[Processor]]:
    """What every event goes through at its beginning, and at its end."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        with_trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return shared, [where_it_failed, redact, structlog.processors.JSONRenderer()]


def with_trace(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The trace that the line belongs to, where traces are on."""
    present = tracing.current()
    if present is not None:
        event["trace"] = present.split("-")[1]
    return event


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The one place that keeps secrets and customers' data out of the log: by the name of a field, and by its looks."""
    return {name: _clean(name, value) for name, value in event.items()}


def where_it_failed(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Kinds of exceptions and lines of ours, never their texts: those quote rows and requests."""
    found = event.pop("exc_info", None)
    error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["exception"] = " <- ".join(_chain(error))
        event["where"] = _lines(error)
    return event


def _chain(error: BaseException) -> list[str]:
    kinds: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(kinds) < 6:
        kinds.append(type(seen).__qualname__)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return kinds


def _lines(error: BaseException) -> list[str]:
    lines: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"{'/'.join(code.co_filename.split('/')[-3:])}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return lines[-12:]


def _clean(name: str, value: Any) -> Any:
    if name in PLAIN_NAMES and name != "event":
        return value
    if name != "event" and SECRET_NAMES.search(name):
        return REDACTED
    if isinstance(value, str):
        return SECRET_VALUES.sub(REDACTED, value)
    if isinstance(value, Mapping):
        return {key: _clean(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", item) for item in value]
    return value if isinstance(value, int | float | bool | None) else SECRET_VALUES.sub(REDACTED, str(value))
