"""Who calls, for which tenant, and what it may see. Every servicer method gets a Call in place of grpc's context."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import unquote

from grpc import aio

from server.kit.db import Database
from server.rpc.rates import Rates

ADDRESS_CHARACTERS, AGENT_CHARACTERS = 128, 200


class CallerKind(enum.Enum):
    """What kind of credential was shown."""

    AGENT = "agent"
    API_KEY = "api_key"
    PLATFORM = "platform"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal of a call.

    id: the agent's or key's id, None for anonymous callers. permissions: numbers of the contract's Permission. expire_time: when
    the credential stops working, None for never.
    """

    kind: CallerKind
    id: uuid.UUID | None = None
    permissions: frozenset[int] = frozenset()
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Object rights: which conversations the caller may see. Computed once per call, first argument of every query.

    all: everything of the tenant. Else the conversations of channel_ids, of team_ids, and those assigned to agent_id. agent_id
    is set for every agent, also for one that sees all.
    """

    all: bool
    channel_ids: frozenset[uuid.UUID] = frozenset()
    team_ids: frozenset[uuid.UUID] = frozenset()
    agent_id: uuid.UUID | None = None

    def sees(self, *, channel_id: uuid.UUID, team_id: uuid.UUID | None, assignee_id: uuid.UUID | None) -> bool:
        """Whether a conversation with these attributes is visible."""
        if self.all or channel_id in self.channel_ids:
            return True
        if self.agent_id is not None and assignee_id == self.agent_id:
            return True
        return team_id is not None and team_id in self.team_ids


@dataclass(frozen=True, slots=True)
class Verified:
    """What a credential turned out to be. tenant_id and database are None for platform and anonymous callers, rates where there
    are no limits."""

    caller: Caller
    scope: Scope = Scope(all=False)
    tenant_id: uuid.UUID | None = None
    database: Database | None = None
    rates: Rates | None = None


@dataclass(slots=True)
class Call:
    """One RPC: the verified caller, its tenant, and grpc's context for metadata and streams.

    method: full name such as "/switchboard.v1.MessageService/SendMessage". id: its request id, for logs, and the cause of what
    the call writes. recorded: the tenant's database where each unit of work begins with the record of the call.
    """

    verified: Verified
    context: aio.ServicerContext[Any, Any]
    method: str
    id: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    recorded: Database | None = None

    @property
    def caller(self) -> Caller:
        """The principal."""
        return self.verified.caller

    @property
    def scope(self) -> Scope:
        """What the principal may see."""
        return self.verified.scope

    @property
    def tenant_id(self) -> uuid.UUID:
        """The tenant of the credential; only methods of tenants may ask."""
        if self.verified.tenant_id is None:
            raise LookupError(f"{self.method} has no tenant")
        return self.verified.tenant_id

    @property
    def database(self) -> Database:
        """The tenant's database; only methods of tenants may ask."""
        if self.verified.database is None:
            raise LookupError(f"{self.method} has no tenant")
        return self.recorded or self.verified.database

    @property
    def client_address(self) -> str | None:
        """Where the call comes from; None where nobody can tell."""
        return client_address(self.metadata, self.context.peer())

    @property
    def user_agent(self) -> str | None:
        """What the caller says that it is, cut; without what Postgres has no place for."""
        return self.metadata.get("user-agent", "")[:AGENT_CHARACTERS].replace("\0", "\ufffd") or None


def client_address(metadata: Mapping[str, str], peer: str) -> str | None:
    """The address that the edge saw: what it added to x-forwarded-for itself, which is the last. Without an edge, the peer's."""
    seen = metadata.get("x-forwarded-for", "").rpartition(",")[2].strip()
    if seen:
        return seen[:ADDRESS_CHARACTERS]
    kind, _, address = peer.partition(":")
    return unquote(address.rpartition(":")[0]).strip("[]")[:ADDRESS_CHARACTERS] if kind in ("ipv4", "ipv6") else None


class Trail(Protocol):
    """Records who does what."""

    async def refused(self, call: Call, data: bytes) -> None:
        """The caller lacks the permission. data: the request, which nobody has looked at."""

    async def through(self, call: Call, request: Any, inner: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        """Lets a call that is admitted do what it does."""
