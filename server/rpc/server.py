"""Makes the two servers of a process: the public one with the three interceptors, and the internal one on loopback."""

from __future__ import annotations

from typing import Any

from grpc import aio

from server.rpc.auth import AuthInterceptor, Verifier
from server.rpc.call import Trail
from server.rpc.errors import ErrorInterceptor
from server.rpc.rates import RateLimits
from server.rpc.validate import ValidationInterceptor

# Sources: gRPC core's channel_arg_names.h and doc/keepalive.md. The ping key without "recv" is the one that exists.
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_receive_message_length", (4 << 20) + (64 << 10)),
    ("grpc.max_send_message_length", 4 << 20),
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 16384),
    ("grpc.max_concurrent_streams", 2000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.http2.bdp_probe", 0),
)


def public_server(verifier: Verifier, limits: RateLimits, trail: Trail) -> aio.Server:
    """The server behind the edge. Interceptors: errors outermost, then credentials and rates, then validation and the audit trail."""
    return aio.server(
        interceptors=(ErrorInterceptor(), AuthInterceptor(verifier, limits, trail), ValidationInterceptor(trail)),
        options=OPTIONS,
        maximum_concurrent_rpcs=6000,
    )


def internal_server() -> aio.Server:
    """Health, reflection and channelz, for loopback only."""
    return aio.server(options=(("grpc.so_reuseport", 0), ("grpc.enable_channelz", 1)))
