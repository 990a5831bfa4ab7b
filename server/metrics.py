"""Gauges that are asked when the page is: of what a process is made of, at the moment of the question."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from server.models import migration
from server.tenancy.control import Control
from server.tenancy.tenants import Tenants

BUILD = Gauge(
    "switchboard_build_info",
    "Always 1; the labels say what runs.",
    ["version", "python", "grpcio", "schema", "process"],
)
CONNECTIONS = Gauge(
    "switchboard_pool_connections",
    "Connections to Postgres: of the control database's pool, and of all tenants' together.",
    ["pool", "state"],
)
POOLS = Gauge("switchboard_pool_tenants", "Tenants whose pools are open.")
HINTS_HEALTHY = Gauge("switchboard_hints_healthy", "1 while what is published through Valkey comes back, else 0.")
HINTS_LAG = Gauge("switchboard_hints_lag_seconds", "How long the newest canary took through Valkey and back.")
BATCH_WAITING = Gauge("switchboard_batch_waiting", "Sends and inbound messages that wait for a batch, of all tenants.")
COMMITS = Counter("switchboard_log_appends_total", "Transactions that appended to a log.")
EVENTS = Counter("switchboard_log_events_total", "Events appended to logs.")


def build_info(process: str) -> None:
    """Says what runs: "serve" or "work"."""
    versions = [importlib.metadata.version(name) for name in ("switchboard", "grpcio")]
    BUILD.labels(versions[0], platform.python_version(), versions[1], migration.newest("tenant"), process).set(1)


def watch_pools(control: Control, tenants: Tenants) -> None:
    """The connections of a process."""
    one = control.database
    CONNECTIONS.labels("control", "open").set_function(lambda: one.open_connections)
    CONNECTIONS.labels("control", "busy").set_function(lambda: one.busy_connections)
    CONNECTIONS.labels("tenants", "open").set_function(lambda: tenants.open_connections)
    CONNECTIONS.labels("tenants", "busy").set_function(lambda: tenants.busy_connections)
    POOLS.set_function(lambda: tenants.open_pools)


def watch_hints(healthy: Callable[[], bool], lag_seconds: Callable[[], float]) -> None:
    """The hints of a process."""
    HINTS_HEALTHY.set_function(lambda: float(healthy()))
    HINTS_LAG.set_function(lag_seconds)
