"""JSON logs on stderr, without the texts and phone numbers that pass through here."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor


def configure_logging() -> None:
    """For the process: our own events, and those of the libraries from WARNING up."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _name_exceptions,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _name_exceptions(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The kind of an exception only: texts and tracebacks quote request bytes, and those are somebody's messages."""
    kind = event.pop("exc_info", None)
    if isinstance(kind, tuple) and kind[0] is not None:
        event["exception"] = kind[0].__name__
    return event
