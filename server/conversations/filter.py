"""ConversationFilter as SQL: one filter for lists, counts and statistics. Identifiers are ours, values are parameters."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_pb2

from server.conversations.convert import CLOSING, PROVIDER, STATUS
from server.kit import pb
from server.kit.clock import utc_now
from server.kit.errors import FieldViolation, InvalidFields
from server.rpc.call import Scope

MAX_DEPTH, MAX_LEAVES, MAX_IDS = 3, 20, 200
JOINED = frozenset({"and", "or", "not"})
# As the indexes of the orders have them: what does not wait, and what has no window, stands last.
WAITING = "coalesce(c.waiting_since, 'infinity'::timestamptz)"
WINDOW = "coalesce(c.reply_window_expire_time, 'infinity'::timestamptz)"
TIMES = {
    "create_time": "c.create_time",
    "last_message_time": "c.last_message_time",
    "waiting_since": WAITING,
}
_WINDOWS = {
    conversation_pb2.REPLY_WINDOW_STATE_OPEN: f"({WINDOW} > {{closing}} AND {WINDOW} < 'infinity')",
    conversation_pb2.REPLY_WINDOW_STATE_CLOSING: f"({WINDOW} > {{now}} AND {WINDOW} <= {{closing}})",
    conversation_pb2.REPLY_WINDOW_STATE_CLOSED: f"{WINDOW} <= {{now}}",
    conversation_pb2.REPLY_WINDOW_STATE_NONE: f"{WINDOW} = 'infinity'",
}


class Where:
    """A condition on conversations c, with its parameters."""

    def __init__(self, first: int = 1) -> None:
        self._first = first
        self.values: list[Any] = []
        self._now = utc_now()

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
        parts = list(self.fields(wanted, scope).values())
        parts += [self._filter(item, scope) for item in getattr(wanted, "and")]
        either = [self._filter(item, scope) for item in getattr(wanted, "or")]
        if either:
            parts.append("(" + " OR ".join(either) + ")")
        if wanted.HasField("not"):
            parts.append(f"NOT coalesce({self._filter(getattr(wanted, 'not'), scope)}, FALSE)")
        return "(" + " AND ".join(parts) + ")" if parts else "TRUE"

    def fields(
        self, wanted: filters.ConversationFilter, scope: Scope, names: Iterable[str] | None = None
    ) -> dict[str, str]:
        """The condition of each field that is set, by name; of these names alone when some are given."""
        return {
            field.name: self._field(field.name, value, scope)
            for field, value in wanted.ListFields()
            if field.name not in JOINED and (names is None or field.name in names)
        }

    def _field(self, name: str, value: Any, scope: Scope) -> str:
        if name in TIMES:
            return self._range(name, value)
        if name in ("tags", "tags_all", "tags_none"):
            return self._tags(name, value)
        if name == "status":
            return f"c.status = ANY({self.value([STATUS.word(item) for item in value], 'text[]')})"
        if name == "provider":
            return f"c.provider = ANY({self.value([PROVIDER.word(item) for item in value], 'text[]')})"
        if name == "priority":
            return f"c.priority = ANY({self.value(list(value), 'smallint[]')})"
        if name == "unread":
            return self._unread(value, scope)
        if name == "reply_window":
            return self.window(list(value))
        if name == "attributes":
            return " AND ".join(self._attribute(item) for item in value)
        return self._ids(name, list(value), scope)

    def _ids(self, name: str, values: list[str], scope: Scope) -> str:
        ids, absent = read_ids(name, values, scope)
        condition = f"c.{name} = ANY({self.value(ids, 'uuid[]')})"
        return f"({condition} OR c.{name} IS NULL)" if absent else condition

    def _unread(self, value: int, scope: Scope) -> str:
        if value == filters.UNREAD_TEAM:
            return "c.inbound_count > c.team_read_count"
        mine = f"rp.agent_id = {self.value(own_id(scope), 'uuid')}"
        position = f"SELECT rp.inbound_count FROM read_positions rp WHERE rp.conversation_id = c.id AND {mine}"
        return f"c.inbound_count > coalesce(({position}), c.team_read_count)"

    def window(self, values: list[Any]) -> str:
        """That the reply window is in one of these states."""
        places = {
            "now": self.value(self._now, "timestamptz"),
            "closing": self.value(self._now + CLOSING, "timestamptz"),
        }
        # Both parameters are named, whichever states are asked for, so that the statement's parameters stay the same.
        anchors = f"({places['now']} IS NOT NULL AND {places['closing']} IS NOT NULL)"
        return f"({anchors} AND (" + " OR ".join(_WINDOWS[item].format(**places) for item in values) + "))"

    def _range(self, name: str, value: filters.TimeRange) -> str:
        column, parts = TIMES[name], []
        if name == "waiting_since":
            parts.append(f"{column} < 'infinity'")
        for end, sign in (("start_time", ">="), ("end_time", "<")):
            if value.HasField(end):  # type: ignore[arg-type]  # both are fields of it
                moment = pb.utc(getattr(value, end), field=f"filter.{name}.{end}")
                parts.append(f"{column} {sign} {self.value(moment, 'timestamptz')}")
        return "(" + " AND ".join(parts) + ")"

    def _tags(self, name: str, values: Iterable[str]) -> str:
        if name == "tags_all":
            return "(" + " AND ".join(f"c.tags && {self._spelled([value])}" for value in values) + ")"
        return ("NOT " if name == "tags_none" else "") + f"c.tags && {self._spelled(values)}"

    def _spelled(self, names: Iterable[str]) -> str:
        """The names as the vocabulary spells them."""
        return f"ARRAY(SELECT t.name FROM tags t WHERE {self.tag_named(names)})"

    def tag_named(self, names: Iterable[str]) -> str:
        """That a tag t has one of these names."""
        lowered = f"ARRAY(SELECT lower(n) FROM unnest({self.value(list(names), 'text[]')}) n)"
        return f"t.delete_time IS NULL AND lower(t.name) = ANY({lowered})"

    def _attribute(self, condition: filters.AttributeCondition) -> str:
        name, value = self.attribute(condition)
        return f"c.attributes -> {name} = {value}"

    def attribute(self, condition: filters.AttributeCondition) -> tuple[str, str]:
        """The places of an attribute's name and of its value as JSON, which keeps the type."""
        value = getattr(condition, condition.WhichOneof("value") or "")
        return self.value(condition.name, "text"), self.value(json.dumps(value), "jsonb")


def read_ids(name: str, values: Collection[str], scope: Scope) -> tuple[list[uuid.UUID], bool]:
    """The ids of a field, and whether it asks for nobody, or no team, as well."""
    absent = {"assignee_id": "nobody", "team_id": "none"}.get(name, "")
    return [own_id(scope) if item == "me" else uuid.UUID(item) for item in values if item != absent], absent in values


def own_id(scope: Scope) -> uuid.UUID:
    """Who "me" is. INVALID_FIELDS when the caller is no agent."""
    if scope.agent_id is None:
        raise InvalidFields(FieldViolation("filter", '"me" and UNREAD_MINE are for agents; this caller is a service'))
    return scope.agent_id


def uses(wanted: filters.ConversationFilter, name: str, value: int) -> bool:
    """Whether the filter, or one within it, sets a field to a value."""
    return any(getattr(item, name) == value for item in _nested(wanted))


def check_size(wanted: filters.ConversationFilter) -> None:
    """Refuses a filter above 3 levels, 20 leaves or 200 ids."""
    _check_depth(wanted, 1)
    leaves, ids = 0, 0
    for item in _nested(wanted):
        for field, value in item.ListFields():
            if field.name not in JOINED:
                leaves += len(value) if field.name == "attributes" else 1
                ids += len(value) if field.name.endswith("_id") else 0
    if leaves > MAX_LEAVES:
        raise InvalidFields(FieldViolation("filter", f"has {leaves} conditions, at most {MAX_LEAVES} are taken"))
    if ids > MAX_IDS:
        raise InvalidFields(FieldViolation("filter", f"has {ids} ids, at most {MAX_IDS} are taken"))


def _nested(wanted: filters.ConversationFilter) -> Iterator[filters.ConversationFilter]:
    """The filter and all within it."""
    yield wanted
    for item in within(wanted):
        yield from _nested(item)


def within(wanted: filters.ConversationFilter) -> list[filters.ConversationFilter]:
    """The filters directly within a filter."""
    return [
        *getattr(wanted, "and"),
        *getattr(wanted, "or"),
        *([getattr(wanted, "not")] if wanted.HasField("not") else []),
    ]


def _check_depth(wanted: filters.ConversationFilter, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidFields(FieldViolation("filter", f"is nested deeper than {MAX_DEPTH} levels"))
    for item in within(wanted):
        _check_depth(item, depth + 1)
