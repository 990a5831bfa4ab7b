"""What indexes know of a filter: for each condition that an index answers, a statement that finds at most so many ids by it.

Each is lazy: it stops at its limit, however many conversations meet the condition. All of a filter's results are among the ids of
each of its statements, so the first that ends below its limit has found them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from switchboard.v1 import conversation_filter_pb2 as filters

from server.conversations.convert import PROVIDER, STATUS
from server.conversations.filter import WAITING, WINDOW, Where, own_id, read_ids
from server.conversations.text.words import sought
from server.rpc.call import Scope

MOST = 4
_NEWEST = "c.last_message_time DESC, c.id DESC"
_LISTED = "SELECT c.id FROM conversations c WHERE c.delete_time IS NULL"
_UNREAD_BY_TEAM = f"{_LISTED} AND c.inbound_count > c.team_read_count ORDER BY {_NEWEST}"
# The order makes the planner walk the index instead of the table, which may hold what is looked for at its very end.
_ORDERED = {
    "waiting_since": f"ORDER BY {WAITING}, c.id",
    "create_time": "ORDER BY c.create_time DESC, c.id DESC",
    "last_message_time": f"ORDER BY {_NEWEST}",
}
# The most selective first, as it is in most inboxes.
_RANKED = (
    *("contact_id", "text", "attributes", "tags_all", "tags", "reply_window", "waiting_since", "create_time"),
    *("assignee_id", "last_message_time", "team_id", "priority", "unread", "status", "provider", "channel_id"),
)

Statement = Callable[[str], str]


class Narrow:
    """The statements of a filter, with their parameters in `where`; each is given the place of its limit."""

    def __init__(self, where: Where, scope: Scope) -> None:
        self._where = where
        self._scope = scope

    def statements(self, wanted: filters.ConversationFilter) -> list[Statement]:
        """At most MOST, the most selective ones first, the caller's rights last."""
        found = sorted(self._of(wanted), key=lambda ranked: ranked[0])[:MOST]
        if len(found) < MOST and not self._scope.all:
            found.append((len(_RANKED), _later(self._rights)))
        return [statement for _, statement in found]

    def _of(self, wanted: filters.ConversationFilter) -> list[tuple[int, Statement]]:
        found: list[tuple[int, Statement]] = []
        for field, value in wanted.ListFields():
            if field.name in _RANKED:
                found += [(_RANKED.index(field.name), each) for each in self._field(field.name, value, wanted)]
        for item in getattr(wanted, "and"):
            found += self._of(item)
        either = [sorted(self._of(item), key=lambda ranked: ranked[0])[:1] for item in getattr(wanted, "or")]
        if either and all(either):
            rank = max(best[0][0] for best in either)
            found.append((rank, _union([best[0][1] for best in either])))
        return found

    def _field(self, name: str, value: Any, wanted: filters.ConversationFilter) -> list[Statement]:
        if name == "text":
            return [_later(self._said, word) for word in sorted(sought(value), key=len, reverse=True)]
        if name == "attributes":
            return [_later(self._attribute, item) for item in value]
        if name == "tags_all":
            return [_later(self._tagged, [item]) for item in value]
        if name == "tags":
            return [_later(self._tagged, list(value))]
        if name == "unread":
            return [self._own_unread] if value == filters.UNREAD_MINE else [_limited(_UNREAD_BY_TEAM)]
        if name == "reply_window":
            return [_union([_later(self._window, state) for state in value])]
        if name in _ORDERED:
            return [_later(self._range, name, wanted)]
        return [_later(self._values, name, value)]

    def _own_unread(self, limit: str) -> str:
        """Where the agent stands behind, and for where it has no position what the team has not read."""
        agent = self._where.value(own_id(self._scope), "uuid")
        behind = f"SELECT rp.conversation_id AS id FROM read_positions rp WHERE rp.behind AND rp.agent_id = {agent} ORDER BY 1"
        # Most of what an agent is behind with the team has not read either: each counts once against the limit.
        parts = f"({behind} LIMIT {limit}) UNION ({_UNREAD_BY_TEAM} LIMIT {limit})"
        return f"SELECT u.id FROM ({parts}) u LIMIT {limit}"

    def _range(self, name: str, wanted: filters.ConversationFilter) -> Statement:
        (condition,) = self._where.fields(wanted, self._scope, (name,)).values()
        return _limited(f"{_LISTED} AND {condition} {_ORDERED[name]}")

    def _values(self, name: str, value: Any) -> Statement:
        if name == "contact_id":
            places = self._where.value(read_ids(name, value, self._scope)[0], "uuid[]")
            return _each(places, "SELECT c.id FROM conversations c WHERE c.contact_id = v")
        if name == "status":
            return self._each_of("status", [STATUS.word(item) for item in value], "text[]")
        if name == "priority":
            return self._each_of("priority", list(value), "smallint[]")
        if name == "provider":
            words = self._where.value([PROVIDER.word(item) for item in value], "text[]")
            places = f"ARRAY(SELECT h.id FROM channels h WHERE h.provider = ANY({words}))"
            return _each(places, f"{_LISTED} AND c.channel_id = v ORDER BY {_NEWEST}")
        ids, absent = read_ids(name, value, self._scope)
        statement = self._each_of(name, ids, "uuid[]")
        return (
            _union([statement, _limited(f"{_LISTED} AND c.{name} IS NULL ORDER BY c.{name}, {_NEWEST}")])
            if absent
            else statement
        )

    def _window(self, state: Any) -> Statement:
        condition = self._where.window([state])
        return _limited(f"{_LISTED} AND {condition} ORDER BY {WINDOW}, c.id")

    def _each_of(self, column: str, values: list[Any], cast: str) -> Statement:
        return _each(self._where.value(values, cast), f"{_LISTED} AND c.{column} = v ORDER BY {_NEWEST}")

    def _tagged(self, names: list[str]) -> Statement:
        places = f"ARRAY(SELECT t.id FROM tags t WHERE {self._where.tag_named(names)})"
        return _each(places, "SELECT ct.conversation_id AS id FROM conversation_tags ct WHERE ct.tag_id = v ORDER BY 1")

    def _attribute(self, condition: filters.AttributeCondition) -> Statement:
        name, value = self._where.attribute(condition)
        key = f"ARRAY[attribute_key({name}, {value})]"
        return _each(
            key, "SELECT k.conversation_id AS id FROM conversation_attribute_keys k WHERE k.key = v ORDER BY 1"
        )

    def _said(self, word: str) -> Statement:
        words = f"SELECT w.conversation_id AS id FROM conversation_words w WHERE {self._where.begins('w.word', word)}"
        return _limited(f"{words} ORDER BY w.word, w.conversation_id")

    def _rights(self) -> Statement:
        scope = self._scope
        parts = [
            self._each_of("channel_id", list(scope.channel_ids), "uuid[]"),
            self._each_of("team_id", list(scope.team_ids), "uuid[]"),
        ]
        if scope.agent_id is not None:
            parts.append(self._each_of("assignee_id", [scope.agent_id], "uuid[]"))
        return _union(parts)


def _later(make: Callable[..., Statement], *arguments: Any) -> Statement:
    """A statement whose parameters are added when it is asked for: not all are."""

    def made(limit: str) -> str:
        return make(*arguments)(limit)

    return made


def _limited(statement: str) -> Statement:
    return lambda limit: f"{statement} LIMIT {limit}"


def _each(values: str, statement: str) -> Statement:
    """The statement for each value v of an array, until the limit is reached."""
    return lambda limit: (
        f"SELECT x.id FROM unnest({values}) v CROSS JOIN LATERAL ({statement} LIMIT {limit}) x LIMIT {limit}"
    )


def _union(statements: list[Statement]) -> Statement:
    def united(limit: str) -> str:
        parts = " UNION ALL ".join(f"({statement(limit)})" for statement in statements)
        return f"SELECT u.id FROM ({parts}) u LIMIT {limit}"

    return united
