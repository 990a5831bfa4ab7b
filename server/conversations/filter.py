"""ConversationFilter as SQL: one filter for lists, counts and statistics. Identifiers are ours, values are parameters."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_pb2

from server.conversations.convert import CLOSING, PROVIDER, STATUS
from server.conversations.text.words import sought
from server.kit import pb
from server.kit.clock import utc_now
from server.kit.errors import FieldViolation, InvalidFields
from server.rpc.call import Scope

MAX_DEPTH, MAX_LEAVES, MAX_IDS = 3, 20, 200
# No word has it, and none comes after it.
LAST = "\U0010ffff"
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
        """The condition of a filter that was checked."""
        parts = list(self.fields(wanted, scope).values())
        parts += [self.filter(item, scope) for item in getattr(wanted, "and")]
        either = [self.filter(item, scope) for item in getattr(wanted, "or")]
        if either:
            parts.append("(" + " OR ".join(either) + ")")
        if wanted.HasField("not"):
            parts.append(f"NOT coalesce({self.filter(getattr(wanted, 'not'), scope)}, FALSE)")
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
        if name == "text":
            return "(" + " AND ".join(self._said(word) for word in sought(value)) + ")"
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

    def _said(self, word: str) -> str:
        # The offset keeps it a look-up for each conversation: the planner would rather read all there is of a common word first.
        condition = f"w.conversation_id = c.id AND {self.begins('w.word', word)}"
        return f"EXISTS (SELECT FROM conversation_words w WHERE {condition} OFFSET 0)"

    def begins(self, column: str, word: str) -> str:
        """That a column, compared by code points, begins with a word."""
        return f"({column} >= {self.value(word, 'text')} AND {column} < {self.value(word + LAST, 'text')})"

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
                moment = pb.utc(getattr(value, end), field=f"{name}.{end}")
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


def says(wanted: filters.ConversationFilter, name: str) -> bool:
    """Whether the filter, or one within it, has a field."""
    return any(getattr(item, name) for _, item in nested(wanted, ""))


def lookups(wanted: filters.ConversationFilter) -> int:
    """Rows of other tables that the filter reads for a conversation, at most: a word each, and who asks for its own unread ones."""
    return sum(len(sought(item.text)) + (item.unread == filters.UNREAD_MINE) for _, item in nested(wanted, ""))


def own_id(scope: Scope) -> uuid.UUID:
    """Who "me" is, in a filter that was checked."""
    assert scope.agent_id is not None, "the filter was not checked"
    return scope.agent_id


def check(wanted: filters.ConversationFilter, *, agent_id: uuid.UUID | None) -> None:
    """INVALID_FIELDS, by the path of the field, for what is too deep or too wide, "me" of no agent, and times out of range."""
    check_size(wanted)
    for path, item in nested(wanted, "filter"):
        if agent_id is None:
            _check_own(path, item)
        for field, value in item.ListFields():
            if field.name in TIMES:
                for end, moment in value.ListFields():
                    pb.utc(moment, field=f"{path}.{field.name}.{end.name}")


def _check_own(path: str, wanted: filters.ConversationFilter) -> None:
    """Refuses what only an agent can mean."""
    if "me" in wanted.assignee_id:
        place = f"{path}.assignee_id[{list(wanted.assignee_id).index('me')}]"
        raise InvalidFields(
            FieldViolation(place, '"me" is for agents and this caller is a service: give an agent\'s id')
        )
    if wanted.unread == filters.UNREAD_MINE:
        text = "UNREAD_MINE is for agents and this caller is a service: ask for UNREAD_TEAM"
        raise InvalidFields(FieldViolation(f"{path}.unread", text))


def check_size(wanted: filters.ConversationFilter) -> None:
    """Refuses a filter above 3 levels, 20 conditions or 200 ids, by the path of the first field that is too much."""
    _check_depth(wanted, "filter", 1)
    leaves, ids = 0, 0
    for path, item in nested(wanted, "filter"):
        for field, value in item.ListFields():
            if field.name in JOINED:
                continue
            leaves += _conditions(f"{path}.{field.name}", field.name, value)
            ids += len(value) if field.name.endswith("_id") else 0
            _check_sum(f"{path}.{field.name}", "conditions", leaves, MAX_LEAVES)
            _check_sum(f"{path}.{field.name}", "ids", ids, MAX_IDS)


def _conditions(path: str, name: str, value: Any) -> int:
    """How many conditions a field is: each attribute is one, and so is each word."""
    if name == "text":
        words = len(sought(value))
        if not words:
            raise InvalidFields(
                FieldViolation(path, "has no letter and no digit to look for: leave it out, or name a word")
            )
        return words
    return len(value) if name == "attributes" else 1


def _check_sum(path: str, what: str, count: int, most: int) -> None:
    if count > most:
        text = f"with it the filter has {count} {what} and at most {most} are taken: leave some out, or ask in several calls"
        raise InvalidFields(FieldViolation(path, text))


def nested(wanted: filters.ConversationFilter, path: str) -> Iterator[tuple[str, filters.ConversationFilter]]:
    """The filter and all within it, with their paths."""
    yield path, wanted
    for inner, item in within(wanted, path):
        yield from nested(item, inner)


def within(wanted: filters.ConversationFilter, path: str) -> list[tuple[str, filters.ConversationFilter]]:
    """The filters directly within a filter, with their paths, such as "filter.and[1]"."""
    found = [
        (f"{path}.{name}[{index}]", item) for name in ("and", "or") for index, item in enumerate(getattr(wanted, name))
    ]
    return [*found, (f"{path}.not", getattr(wanted, "not"))] if wanted.HasField("not") else found


def _check_depth(wanted: filters.ConversationFilter, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        text = f"is level {depth} and a filter has at most {MAX_DEPTH}: fold it into the level above"
        raise InvalidFields(FieldViolation(path, text))
    for inner, item in within(wanted, path):
        _check_depth(item, inner, depth + 1)
