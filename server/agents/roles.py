"""What each built-in role of an agent may do, and what a role decides besides."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from switchboard.v1 import agent_pb2, options_pb2

from server.rpc.permissions import ALL, named

SUPERVISOR = ALL - named(
    "API_KEYS_MANAGE",
    "TOKENS_ISSUE",
    "AGENTS_MANAGE",
    "CHANNELS_MANAGE",
    "SETTINGS_MANAGE",
    "AUDIT_READ",
    "ROLES_MANAGE",
    "OWNERS_MANAGE",
    "CHANNELS_RECEIVE",
    "CONTACTS_ERASE",
)
READ_ONLY = named("CONVERSATIONS_READ", "CONTACTS_READ", "CHANNELS_READ", "AGENTS_READ", "EVENTS_READ")
AGENT = READ_ONLY | named(
    "CONVERSATIONS_WRITE", "CONVERSATIONS_ASSIGN", "MESSAGES_SEND", "STATISTICS_READ", "CONTACTS_MANAGE"
)
# A program answers, files and gives away in every conversation, and manages nothing.
SERVICE = AGENT | named("CONVERSATIONS_SEE_ALL")

PERMISSIONS: dict[str, frozenset[int]] = {
    "owner": ALL,
    "admin": ALL - named("OWNERS_MANAGE"),
    "supervisor": SUPERVISOR,
    "agent": AGENT,
    "service": SERVICE,
    "read_only": READ_ONLY,
}

CUSTOM = "custom"
BUILT_IN_IDS = {
    uuid.UUID(int=(0x7000 << 64) | (0x8000 << 48) | agent_pb2.AgentRole.Value(f"AGENT_ROLE_{word.upper()}")): word
    for word in PERMISSIONS
}
# These see every conversation of the tenant; the others those of their channels and teams, and their own.
SEES_ALL = frozenset(word for word, held in PERMISSIONS.items() if options_pb2.PERMISSION_CONVERSATIONS_SEE_ALL in held)
# Whether an agent `a` of a role `r` of the tenant's own, or of a built-in one, can take a conversation.
MAY_REPLY = f"CASE a.role WHEN '{CUSTOM}' THEN {options_pb2.PERMISSION_MESSAGES_SEND} = ANY(r.permissions) ELSE a.role <> 'read_only' END"


def permissions_of(role: str, own: Iterable[int] | None) -> frozenset[int]:
    """What a role may do. own: the permissions of a role of the tenant's own."""
    return frozenset(own or ()) if role == CUSTOM else PERMISSIONS[role]


def id_of(role: str, own: uuid.UUID | None) -> uuid.UUID:
    """The id of a role. own: that of a role of the tenant's own."""
    return own or next(role_id for role_id, word in BUILT_IN_IDS.items() if word == role)


@dataclass(frozen=True, slots=True)
class Role:
    """A role. word: which of the built-in ones, or custom; create_time: None for a built-in one."""

    id: uuid.UUID
    word: str
    name: str
    permissions: frozenset[int]
    create_time: datetime | None = None


BUILT_IN = [Role(role_id, word, word, PERMISSIONS[word]) for role_id, word in sorted(BUILT_IN_IDS.items())]
