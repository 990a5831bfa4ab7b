"""What stands behind the interceptors in their own tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import structlog
from switchboard.v1 import contact_service_pb2 as rpc
from switchboard.v1.contact_service_pb2_grpc import ContactServiceServicer

from server.kit.ids import new_id
from server.rpc.auth import Verifier
from server.rpc.call import Call, Caller, CallerKind, Scope, Verified
from server.rpc.permissions import ALL

TENANT = new_id()


@dataclass
class Contacts(ContactServiceServicer):
    """Remembers each call with what its log lines would carry."""

    calls: list[tuple[Call, dict[str, Any]]] = field(default_factory=list)

    async def ListContacts(self, request: rpc.ListContactsRequest, call: Call) -> rpc.ListContactsResponse:
        self.calls.append((call, structlog.contextvars.get_contextvars()))
        return rpc.ListContactsResponse()


@dataclass
class Anybody(Verifier):
    """Every credential is that of a key of one tenant; its text names the key."""

    keys: dict[str, Caller] = field(default_factory=dict)

    async def verify(self, credential: str) -> Verified:
        made = Caller(kind=CallerKind.API_KEY, id=new_id(), permissions=ALL)
        caller = self.keys.setdefault(credential, made)
        return Verified(caller=caller, scope=Scope(all=True), tenant_id=TENANT)
