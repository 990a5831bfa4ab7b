"""What each role of an agent may do."""

from __future__ import annotations

from server.rpc.permissions import ALL, named

SUPERVISOR = ALL - named(
    "API_KEYS_MANAGE",
    "TOKENS_ISSUE",
    "AGENTS_MANAGE",
    "CHANNELS_MANAGE",
    "SETTINGS_MANAGE",
    "AUDIT_READ",
    "OWNERS_MANAGE",
)
READ_ONLY = named("CONVERSATIONS_READ", "CONTACTS_READ", "CHANNELS_READ", "AGENTS_READ", "EVENTS_READ")
AGENT = READ_ONLY | named(
    "CONVERSATIONS_WRITE", "CONVERSATIONS_ASSIGN", "MESSAGES_SEND", "STATISTICS_READ", "CONTACTS_MANAGE"
)

PERMISSIONS: dict[str, frozenset[int]] = {
    "owner": ALL,
    "admin": ALL - named("OWNERS_MANAGE"),
    "supervisor": SUPERVISOR,
    "agent": AGENT,
    "read_only": READ_ONLY,
}

# These see every conversation of the tenant; the others those of their channels and teams, and their own.
SEES_ALL = frozenset({"owner", "admin", "supervisor"})
