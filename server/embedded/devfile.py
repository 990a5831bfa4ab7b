"""dev.json: everything a person or a tool on this machine needs to use the running stack."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.embedded.home import write_private


@dataclass(frozen=True)
class Agent:
    """An agent."""

    id: str
    name: str


@dataclass(frozen=True)
class Tenant:
    """A tenant, its service key, its database, its agents."""

    id: str
    name: str
    key: str
    dsn: str
    agents: Sequence[Agent]


@dataclass(frozen=True)
class Channel:
    """A connected account. `kind` is the provider's lower-case word."""

    id: str
    tenant: str
    kind: str
    phone_number_id: str
    waba_id: str


@dataclass(frozen=True)
class MetaApp:
    """The app at Meta whose webhooks come here."""

    id: str
    app_secret: str
    verify_token: str
    webhook_path: str


@dataclass(frozen=True)
class Installation:
    """What the databases hold."""

    platform_key: str
    tenants: Sequence[Tenant]
    channels: Sequence[Channel]
    meta_app: MetaApp


@dataclass(frozen=True)
class Addresses:
    """Where the processes are. All on loopback; the DSN and the Valkey URL carry passwords."""

    url: str
    tls_url: str
    tls_certificate: Path
    simulator: str
    control_dsn: str
    valkey: str
    envoy_admin: str


@dataclass(frozen=True)
class Process:
    """A running process; `grpc` is a serve process's own public address, the others are for health and for Prometheus."""

    name: str
    pid: int
    grpc: str | None = None
    internal: str | None = None
    metrics: str | None = None


def contents(
    installation: Installation, tokens: Mapping[str, str], addresses: Addresses, processes: Sequence[Process]
) -> dict[str, Any]:
    """The file as plain data; `tokens` by agent id. `tenant`, `tenant_key` and `agents` show the first tenant."""
    tenants = [_tenant(tenant, tokens) for tenant in installation.tenants]
    first = installation.tenants[0]
    return {
        "url": addresses.url,
        "tls_url": addresses.tls_url,
        "tls_certificate": str(addresses.tls_certificate),
        "tenant": first.id,
        "platform_key": installation.platform_key,
        "tenant_key": first.key,
        "agents": tenants[0]["agents"],
        "tenants": tenants,
        "meta_app": vars(installation.meta_app),
        "channels": [vars(channel) for channel in installation.channels],
        "simulator": {"url": addresses.simulator},
        "postgres": {"control": addresses.control_dsn, "tenant": first.dsn},
        "valkey": {"url": addresses.valkey},
        "envoy": {"admin": addresses.envoy_admin},
        "serve": [{"grpc": process.grpc, "pid": process.pid} for process in processes if process.grpc],
        "processes": [_process(process) for process in processes],
    }


def write(path: Path, data: dict[str, Any]) -> None:
    """Replace the file, readable by its owner alone."""
    write_private(path, json.dumps(data, indent=2) + "\n")


def _process(process: Process) -> dict[str, Any]:
    """What is known of it. Of `grpc` the list of serve processes tells."""
    known = {"internal": process.internal, "metrics": process.metrics and f"http://{process.metrics}/metrics"}
    return {"name": process.name, "pid": process.pid, **{name: value for name, value in known.items() if value}}


def _tenant(tenant: Tenant, tokens: Mapping[str, str]) -> dict[str, Any]:
    agents = [{"id": agent.id, "name": agent.name, "token": tokens[agent.id]} for agent in tenant.agents]
    return {"id": tenant.id, "name": tenant.name, "key": tenant.key, "postgres": tenant.dsn, "agents": agents}
