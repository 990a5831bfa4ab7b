"""Where to call and as whom: URL to channel, token to metadata."""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from urllib.parse import urlsplit

import grpc

# A token, or a function that returns one: asked before every call and every opening of a stream, so it should cache.
Token = str | Callable[[], str | Awaitable[str]]

_FIRST_PAUSE = timedelta(milliseconds=250)
_LONGEST_PAUSE = timedelta(seconds=30)

# Pings faster than the edge allows are answered with GOAWAY: 20 seconds is well above its limit of 10.
# The channel's own retries are off: a call is repeated by us, a stream by its cursor.
_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.client_idle_timeout_ms", 3_600_000),
    ("grpc.max_receive_message_length", 8_388_608),
    ("grpc.enable_retries", 0),
)


def open_channel(url: str, *, root_certificates: bytes | None = None) -> grpc.aio.Channel:
    """Opens a channel: `http://host:port` without encryption, `https://host:port` with; nothing is sent yet.

    `root_certificates` are PEM bytes that replace the system's; only for https. Raises ValueError for any other URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{url!r} is not of the form http://host:port or https://host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if parts.scheme == "http":
        return grpc.aio.insecure_channel(f"{host}:{parts.port or 80}", options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(root_certificates=root_certificates)
    return grpc.aio.secure_channel(f"{host}:{parts.port or 443}", credentials, options=_OPTIONS)


async def metadata_of(token: Token) -> tuple[tuple[str, str], ...]:
    """What a call sends along; nothing for an empty token (some methods are public)."""
    value = token if isinstance(token, str) else token()
    if inspect.isawaitable(value):
        value = await value
    return (("authorization", f"Bearer {value}"),) if value else ()


def pause_before(attempt: int) -> timedelta:
    """How long to wait before repeating for the time number `attempt`, from 0.

    Anything up to 0.25 s, doubled each time, at most 30 s. Full jitter: thousands of clients that lost the same
    server come back spread out. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    longest: timedelta = min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << min(attempt, 10)))
    return longest * random.random()
