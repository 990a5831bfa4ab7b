"""Which events a stream shows: the caller's filter and the caller's rights, both on the routing columns alone.

The transitions are those of Kubernetes' watch cache: what matched neither before nor after is not shown, what matched both is
shown as it is, what matches only now has ENTERED, what matched only before has LEFT, without anything of what happened.

An event that concerns no conversation (a contact, a channel) is visible where its channel is, without a channel to those who
see everything; it passes a filter that speaks of channels and providers only, since no assignee or team can be said of it.
Event types select by the kind of the stored event, for LEFT too: who does not ask for a kind keeps no list that needs it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import event_pb2

from server.conversations.filter import check, check_size, nested
from server.inbox.index import By, Key, Keys, either, narrower
from server.kit.errors import Refusal
from server.log.read import LogEvent
from server.rpc.call import Scope

HIDDEN = -1
# A conversation cannot have been seen before it was there.
_APPEARING = frozenset({event_pb2.EVENT_TYPE_CONVERSATION_CREATED, event_pb2.EVENT_TYPE_CONVERSATION_RESTORED})
_STREAMABLE = frozenset({"channel_id", "provider", "assignee_id", "team_id", "and", "or", "not"})

# The vocabulary is everybody's.
_OF_TENANT = frozenset(
    {event_pb2.EVENT_TYPE_TAG_CREATED, event_pb2.EVENT_TYPE_TAG_UPDATED, event_pb2.EVENT_TYPE_TAG_DELETED}
)

Providers = Mapping[uuid.UUID, int]
Condition = Callable[["Seen"], bool]


class FilterNotStreamable(Refusal):
    """The log cannot answer the field."""

    status = "FAILED_PRECONDITION"
    reason = "FILTER_NOT_STREAMABLE"

    def __init__(self, field: str) -> None:
        super().__init__(f"streams cannot filter by {field}; filter the list instead", metadata={"field": field})


@dataclass(frozen=True, slots=True)
class Seen:
    """Who could see a conversation at one moment, and the provider of its channel."""

    channel_id: uuid.UUID | None
    team_id: uuid.UUID | None
    assignee_id: uuid.UUID | None


class Selection:
    """A compiled filter: what the caller wants, not what the caller may see.

    agent_id: who "me" is. providers: provider number by channel, kept up to date by the tail.
    """

    def __init__(
        self,
        wanted: filters.ConversationFilter,
        event_types: Collection[int],
        *,
        agent_id: uuid.UUID | None,
        providers: Providers,
    ) -> None:
        check_size(wanted)
        self._agent_id = agent_id
        self._providers = providers
        self._of_conversations = False
        self.kinds = frozenset(event_types)
        _check_streamable(wanted)
        check(wanted, agent_id=agent_id)
        self._condition = self._compile(wanted)
        kinds = frozenset((By.KIND, kind) for kind in self.kinds)
        self.keys = narrower(self._keys(wanted), kinds or None)

    def wants(self, seen: Seen) -> bool:
        """Whether the filter holds for a conversation."""
        return self._condition(seen)

    def wants_channel(self, channel_id: uuid.UUID | None) -> bool:
        """Whether the filter holds for an event that concerns no conversation."""
        return not self._of_conversations and self._condition(Seen(channel_id, None, None))

    def _compile(self, wanted: filters.ConversationFilter) -> Condition:
        conditions = self._leaves(wanted)
        conditions += [self._compile(item) for item in getattr(wanted, "and")]
        either = [self._compile(item) for item in getattr(wanted, "or")]
        if either:
            conditions.append(lambda seen: any(condition(seen) for condition in either))
        if wanted.HasField("not"):
            refused = self._compile(getattr(wanted, "not"))
            conditions.append(lambda seen: not refused(seen))
        return _all(conditions)

    def _leaves(self, wanted: filters.ConversationFilter) -> list[Condition]:
        conditions: list[Condition] = []
        if wanted.channel_id:
            channels = {uuid.UUID(item) for item in wanted.channel_id}
            conditions.append(lambda seen: seen.channel_id in channels)
        if wanted.provider:
            numbers, providers = frozenset(wanted.provider), self._providers
            conditions.append(lambda seen: seen.channel_id is not None and providers.get(seen.channel_id) in numbers)
        if wanted.assignee_id:
            assignees = {self._agent(item) for item in wanted.assignee_id}
            conditions.append(lambda seen: seen.assignee_id in assignees)
        if wanted.team_id:
            teams = {_team(item) for item in wanted.team_id}
            conditions.append(lambda seen: seen.team_id in teams)
        self._of_conversations |= bool(wanted.assignee_id or wanted.team_id)
        return conditions

    def _keys(self, wanted: filters.ConversationFilter) -> Keys:
        """The keys one of which every event has that the filter holds for."""
        found = narrower(
            _named(By.CHANNEL, [uuid.UUID(item) for item in wanted.channel_id]),
            _named(By.ASSIGNEE, [self._agent(item) for item in wanted.assignee_id]),
        )
        found = narrower(found, _named(By.TEAM, [_team(item) for item in wanted.team_id]))
        for item in getattr(wanted, "and"):
            found = narrower(found, self._keys(item))
        alternatives = [self._keys(item) for item in getattr(wanted, "or")]
        return narrower(found, either(alternatives)) if alternatives else found

    def _agent(self, text: str) -> uuid.UUID | None:
        if text == "nobody":
            return None
        return self._agent_id if text == "me" else uuid.UUID(text)


def _check_streamable(wanted: filters.ConversationFilter) -> None:
    for path, item in nested(wanted, "filter"):
        for field, _ in item.ListFields():
            if field.name not in _STREAMABLE:
                raise FilterNotStreamable(f"{path}.{field.name}")


def _team(text: str) -> uuid.UUID | None:
    return None if text == "none" else uuid.UUID(text)


def _named(by: By, values: Collection[uuid.UUID | None]) -> Keys:
    return frozenset((by, value) for value in values) or None


def uses_providers(wanted: filters.ConversationFilter) -> bool:
    """Whether the filter, or one within it, speaks of providers."""
    return any(item.provider for _, item in nested(wanted, "filter"))


def _all(conditions: list[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    return lambda seen: all(condition(seen) for condition in conditions)


class Matcher:
    """A selection under the rights of one moment. Rights that change make another matcher."""

    def __init__(self, selection: Selection, scope: Scope) -> None:
        self._selection = selection
        self._scope = scope

    @property
    def keys(self) -> Keys:
        """The keys one of which every event has that is shown."""
        return narrower(self._selection.keys, None if self._scope.all else self._of_scope())

    def _of_scope(self) -> frozenset[Key]:
        scope = self._scope
        keys: set[Key] = {(By.CHANNEL, channel_id) for channel_id in scope.channel_ids}
        keys |= {(By.TEAM, team_id) for team_id in scope.team_ids}
        keys |= {(By.KIND, kind) for kind in self._of_tenant()}
        return frozenset(keys if scope.agent_id is None else keys | {(By.ASSIGNEE, scope.agent_id)})

    def _of_tenant(self) -> frozenset[int]:
        """What everybody sees, as far as it is asked for; a filter that has keys lets nothing pass that is of no conversation."""
        selection = self._selection
        if selection.kinds:
            return _OF_TENANT & selection.kinds
        return _OF_TENANT if selection.keys is None else frozenset()

    def transition(self, event: LogEvent) -> int:
        """The Transition with which the event is shown, or HIDDEN."""
        if self._selection.kinds and event.kind not in self._selection.kinds:
            return HIDDEN
        if event.kind == event_pb2.EVENT_TYPE_AGENT_MENTIONED:
            return event_pb2.TRANSITION_UNSPECIFIED if self._shows_mention(event) else HIDDEN
        if event.conversation_id is None:
            return event_pb2.TRANSITION_UNSPECIFIED if self._shows_channel(event) else HIDDEN
        after = self._shows(event, event.team_after, event.assignee_after)
        if event.kind in _APPEARING:
            return event_pb2.TRANSITION_ENTERED if after else HIDDEN
        before = self._shows(event, event.team_before, event.assignee_before)
        if before:
            return event_pb2.TRANSITION_UNSPECIFIED if after else event_pb2.TRANSITION_LEFT
        return event_pb2.TRANSITION_ENTERED if after else HIDDEN

    def _shows(self, event: LogEvent, team_id: uuid.UUID | None, assignee_id: uuid.UUID | None) -> bool:
        channel_id = event.channel_id
        if channel_id is None:
            return False
        if not self._scope.sees(channel_id=channel_id, team_id=team_id, assignee_id=assignee_id):
            return False
        return self._selection.wants(Seen(channel_id, team_id, assignee_id))

    def _shows_mention(self, event: LogEvent) -> bool:
        """To whom it is for, who is its assignee after, and to services; a mention gives no right to see the conversation."""
        scope = self._scope
        told = scope.all if scope.agent_id is None else scope.agent_id == event.assignee_after
        return told and self._shows(event, event.team_before, event.assignee_before)

    def _shows_channel(self, event: LogEvent) -> bool:
        channel_id = event.channel_id
        visible = self._scope.all or event.kind in _OF_TENANT or channel_id in self._scope.channel_ids
        return visible and self._selection.wants_channel(channel_id)
