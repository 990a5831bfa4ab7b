"""ConversationFilter as SQL: one filter for lists, counts and statistics. Identifiers are ours, values are parameters."""

from __future__ import annotations

import uuid
from typing import Any

from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_pb2

from server.conversations.convert import CLOSING, PROVIDER, STATUS
from server.kit.clock import utc_now
from server.kit.errors import FieldViolation, InvalidFields
from server.rpc.call import Scope

MAX_DEPTH, MAX_LEAVES, MAX_IDS = 3, 20, 200
_FIELDS = (
    "status",
    "provider",
    "channel_id",
    "assignee_id",
    "team_id",
    "tags",
    "unread",
    "priority",
    "contact_id",
    "reply_window",
)
_WINDOWS = {
    conversation_pb2.REPLY_WINDOW_STATE_OPEN: "c.reply_window_expire_time > {closing}",
    conversation_pb2.REPLY_WINDOW_STATE_CLOSING: "(c.reply_window_expire_time > {now} AND c.reply_window_expire_time <= {closing})",
    conversation_pb2.REPLY_WINDOW_STATE_CLOSED: "c.reply_window_expire_time <= {now}",
    conversation_pb2.REPLY_WINDOW_STATE_NONE: "c.reply_window_expire_time IS NULL",
}


class Where:
    """A condition on conversations c (and the caller's read position rp) with its parameters."""

    def __init__(self, first: int = 1) -> None:
        self._first = first
        self.values: list[Any] = []

    def value(self, value: Any, cast: str) -> str:
        """Adds a parameter and returns its place, cast."""
        self.values.append(value)
        return f"${self._first + len(self.values) - 1}::{cast}"

    def scope(self, scope: Scope) -> str:
        """What the caller may see: the one predicate of every query."""
        if scope.all:
            return "TRUE"
        parts = [
            f"c.channel_id = ANY({self.value(list(scope.channel_ids), 'uuid[]')})",
            f"c.team_id = ANY({self.value(list(scope.team_ids), 'uuid[]')})",
        ]
        if scope.agent_id is not None:
            parts.append(f"c.assignee_id = {self.value(scope.agent_id, 'uuid')}")
        return "(" + " OR ".join(parts) + ")"

    def filter(self, wanted: filters.ConversationFilter, scope: Scope) -> str:
        """The filter's condition. INVALID_FIELDS when it is too deep, too wide, or asks for "me" without being an agent."""
        check_size(wanted)
        return self._filter(wanted, scope)

    def _filter(self, wanted: filters.ConversationFilter, scope: Scope) -> str:
        parts = [part for name in _FIELDS if (part := self._field(wanted, name, scope))]
        parts += [self._filter(item, scope) for item in getattr(wanted, "and")]
        either = [self._filter(item, scope) for item in getattr(wanted, "or")]
        if either:
            parts.append("(" + " OR ".join(either) + ")")
        if wanted.HasField("not"):
            parts.append(f"NOT coalesce({self._filter(getattr(wanted, 'not'), scope)}, FALSE)")
        return "(" + " AND ".join(parts) + ")" if parts else "TRUE"

    def _field(self, wanted: filters.ConversationFilter, name: str, scope: Scope) -> str:
        values: Any = getattr(wanted, name)
        if not values:
            return ""
        if name == "status":
            return f"c.status = ANY({self.value([STATUS.word(item) for item in values], 'text[]')})"
        if name == "provider":
            return f"c.provider = ANY({self.value([PROVIDER.word(item) for item in values], 'text[]')})"
        if name == "tags":
            return f"c.tags && {self.value(list(values), 'text[]')}"
        if name == "priority":
            return f"c.priority = ANY({self.value(list(values), 'smallint[]')})"
        if name == "unread":
            return self._unread(values, scope)
        if name == "reply_window":
            return self._windows(list(values))
        return self._ids(name, list(values), scope)

    def _ids(self, name: str, values: list[str], scope: Scope) -> str:
        absent = {"assignee_id": "nobody", "team_id": "none"}.get(name)
        ids = [_own_id(scope) if item == "me" else uuid.UUID(item) for item in values if item != absent]
        condition = f"c.{name} = ANY({self.value(ids, 'uuid[]')})"
        return f"({condition} OR c.{name} IS NULL)" if absent in values else condition

    def _unread(self, value: int, scope: Scope) -> str:
        if value == filters.UNREAD_TEAM:
            return "c.inbound_count > c.team_read_count"
        _own_id(scope)
        return "c.inbound_count > coalesce(rp.inbound_count, c.team_read_count)"

    def _windows(self, values: list[Any]) -> str:
        now = utc_now()
        places = {"now": self.value(now, "timestamptz"), "closing": self.value(now + CLOSING, "timestamptz")}
        # Both parameters are named, whichever states are asked for, so that the statement's parameters stay the same.
        anchors = f"({places['now']} IS NOT NULL AND {places['closing']} IS NOT NULL)"
        return f"({anchors} AND (" + " OR ".join(_WINDOWS[item].format(**places) for item in values) + "))"


def _own_id(scope: Scope) -> uuid.UUID:
    if scope.agent_id is None:
        raise InvalidFields(FieldViolation("filter", '"me" and UNREAD_MINE are for agents; this caller is a service'))
    return scope.agent_id


def check_size(wanted: filters.ConversationFilter) -> None:
    """Refuses a filter above 3 levels, 20 leaves or 200 ids."""
    leaves, ids = _measure(wanted, 1)
    if leaves > MAX_LEAVES:
        raise InvalidFields(FieldViolation("filter", f"has {leaves} conditions, at most {MAX_LEAVES} are taken"))
    if ids > MAX_IDS:
        raise InvalidFields(FieldViolation("filter", f"has {ids} ids, at most {MAX_IDS} are taken"))


def _measure(wanted: filters.ConversationFilter, depth: int) -> tuple[int, int]:
    if depth > MAX_DEPTH:
        raise InvalidFields(FieldViolation("filter", f"is nested deeper than {MAX_DEPTH} levels"))
    leaves = sum(1 for name in _FIELDS if getattr(wanted, name))
    ids = sum(len(getattr(wanted, name)) for name in ("channel_id", "assignee_id", "team_id", "contact_id"))
    nested = [*getattr(wanted, "and"), *getattr(wanted, "or")]
    if wanted.HasField("not"):
        nested.append(getattr(wanted, "not"))
    for item in nested:
        more_leaves, more_ids = _measure(item, depth + 1)
        leaves, ids = leaves + more_leaves, ids + more_ids
    return leaves, ids
