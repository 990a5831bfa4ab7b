"""Which events a stream shows, and as what: a client that does what it is told holds what a fresh list would hold."""

import random
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import event_pb2
from switchboard.v1 import inbox_service_pb2 as inbox

from server.inbox.index import By
from server.inbox.match import HIDDEN, FilterNotStreamable, Matcher, Seen, Selection
from server.inbox.ring import Gap, Place
from server.inbox.subscriber import Subscriber
from server.inbox.wire import Encoder, Outgoing
from server.kit.errors import InvalidFields, Refusal
from server.log.cursor import Cursors
from server.log.read import LogEvent
from server.rpc.call import Scope
from tests.inbox.inbox_bench import KEYS

CHANNELS = [uuid.UUID(int=100 + number) for number in range(3)]
TEAMS = [None, *(uuid.UUID(int=200 + number) for number in range(2))]
AGENTS = [None, *(uuid.UUID(int=300 + number) for number in range(2))]
ME = AGENTS[1]
PROVIDERS = {CHANNELS[0]: 1, CHANNELS[1]: 1, CHANNELS[2]: 2}
ENCODER = Encoder(Cursors(KEYS), uuid.UUID(int=1), uuid.UUID(int=2))
ALL = Scope(all=True)
SCOPES = [
    ALL,
    Scope(all=True, agent_id=ME),
    Scope(all=False, agent_id=ME),
    Scope(all=False, agent_id=ME, channel_ids=frozenset(CHANNELS[:1])),
    Scope(all=False, agent_id=ME, team_ids=frozenset({TEAMS[1]})),  # type: ignore[arg-type]
    Scope(all=False, agent_id=ME, channel_ids=frozenset(CHANNELS[1:2]), team_ids=frozenset({TEAMS[2]})),  # type: ignore[arg-type]
]
FILTERS: list[dict[str, Any]] = [
    {},
    {"channelId": [str(CHANNELS[0])]},
    {"provider": ["PROVIDER_WHATSAPP"]},
    {"assigneeId": [str(ME)]},
    {"assigneeId": ["nobody"]},
    {"teamId": [str(TEAMS[1]), "none"]},
    {"assigneeId": ["nobody"], "teamId": [str(TEAMS[2])]},
    {"or": [{"assigneeId": [str(ME)]}, {"channelId": [str(CHANNELS[1])]}]},
    {"not": {"assigneeId": [str(ME)]}},
    {"and": [{"provider": ["PROVIDER_WHATSAPP"]}, {"not": {"teamId": ["none"]}}]},
]


def select(wanted: dict[str, Any], *kinds: int, agent_id: uuid.UUID | None = ME) -> Selection:
    request = json_format.ParseDict(wanted, filters.ConversationFilter())
    return Selection(request, kinds, agent_id=agent_id, providers=PROVIDERS)


def event(seq: int, conversation: Seen | None, before: Seen | None = None, **fields: Any) -> LogEvent:
    before = before or conversation
    defaults: dict[str, Any] = {
        "seq": seq,
        "tx_last": seq,
        "id": uuid.UUID(int=seq),
        "kind": event_pb2.EVENT_TYPE_CONVERSATION_UPDATED,
        "create_time": datetime.now(UTC),
        "actor_kind": 1,
        "actor_id": uuid.UUID(int=9),
        "cause_kind": 1,
        "cause_id": "request",
        "conversation_id": uuid.UUID(int=7) if conversation else None,
        "conversation_version": 3,
        "channel_id": conversation.channel_id if conversation else None,
        "team_before": before.team_id if before else None,
        "team_after": conversation.team_id if conversation else None,
        "assignee_before": before.assignee_id if before else None,
        "assignee_after": conversation.assignee_id if conversation else None,
        "payload": event_pb2.InboxEvent(
            conversation_updated=event_pb2.ConversationUpdated(changed_fields=["secret"])
        ).SerializeToString(),
    }
    return LogEvent(**{**defaults, **fields})


def shown(subscriber: Subscriber, *events: LogEvent) -> list[event_pb2.InboxEvent]:
    passed = subscriber.take([Outgoing(each, ENCODER) for each in events])
    assert passed == len(events)
    return list(inbox.WatchInboxResponse.FromString(subscriber.batch()).events)


def subscriber(selection: Selection, scope: Scope) -> Subscriber:
    return Subscriber(Place(0, None), Matcher(selection, scope), principal_id=ME)


def visible(state: Seen, scope: Scope, selection: Selection) -> bool:
    assert state.channel_id is not None
    sees = scope.sees(channel_id=state.channel_id, team_id=state.team_id, assignee_id=state.assignee_id)
    return sees and selection.wants(state)


@pytest.mark.parametrize("scope", SCOPES, ids=range(len(SCOPES)))
@pytest.mark.parametrize("wanted", FILTERS, ids=range(len(FILTERS)))
def test_a_client_that_obeys_transitions_holds_what_a_list_would_hold(wanted: dict[str, Any], scope: Scope) -> None:
    chance = random.Random(f"{wanted}{scope}")
    selection = select(wanted)
    reader = subscriber(selection, scope)
    truth: dict[uuid.UUID, Seen] = {}
    held: set[uuid.UUID] = set()
    for seq in range(1, 1500):
        conversation = uuid.UUID(int=1000 + chance.randrange(12))
        new = conversation not in truth
        before = truth.get(conversation, Seen(chance.choice(CHANNELS), None, None))
        after = Seen(before.channel_id, chance.choice(TEAMS), chance.choice(AGENTS))
        if chance.random() < 0.3 and not new:
            after = before
        truth[conversation] = after
        kind = event_pb2.EVENT_TYPE_CONVERSATION_CREATED if new else event_pb2.EVENT_TYPE_CONVERSATION_UPDATED
        for item in shown(reader, event(seq, after, before, conversation_id=conversation, kind=kind)):
            if item.transition == event_pb2.TRANSITION_ENTERED:
                assert conversation not in held
                held.add(conversation)
            else:
                assert conversation in held
            if item.transition == event_pb2.TRANSITION_LEFT:
                held.remove(conversation)
        assert held == {key for key, state in truth.items() if visible(state, scope, selection)}


def test_the_assignee_gets_the_assignment_of_what_he_could_not_see() -> None:
    reader = subscriber(select({}), Scope(all=False, agent_id=ME))
    unassigned, mine = Seen(CHANNELS[0], None, None), Seen(CHANNELS[0], None, ME)
    kind = event_pb2.EVENT_TYPE_CONVERSATION_ASSIGNED
    payload = event_pb2.InboxEvent(conversation_assigned=event_pb2.ConversationAssigned()).SerializeToString()
    (item,) = shown(reader, event(1, mine, unassigned, kind=kind, payload=payload))
    assert item.transition == event_pb2.TRANSITION_ENTERED
    assert item.WhichOneof("body") == "conversation_assigned"


def test_who_loses_sight_learns_that_and_nothing_else() -> None:
    reader = subscriber(select({}), Scope(all=False, agent_id=ME))
    mine, theirs = Seen(CHANNELS[0], None, ME), Seen(CHANNELS[0], TEAMS[1], AGENTS[2])
    (item,) = shown(reader, event(1, theirs, mine))
    assert item.transition == event_pb2.TRANSITION_LEFT
    assert item.conversation_left.conversation_id == item.conversation_id == str(uuid.UUID(int=7))
    assert (item.seq, item.last_of_transaction, item.conversation_version) == (1, True, 3)
    assert item.cursor
    assert not item.HasField("actor")
    assert not item.HasField("cause")
    assert b"secret" not in item.SerializeToString()


@pytest.mark.parametrize(
    ("wanted", "scope", "channel", "passes"),
    [
        ({}, ALL, None, True),
        ({}, ALL, CHANNELS[0], True),
        ({}, SCOPES[3], None, False),
        ({}, SCOPES[3], CHANNELS[0], True),
        ({}, SCOPES[3], CHANNELS[1], False),
        ({"channelId": [str(CHANNELS[0])]}, ALL, CHANNELS[0], True),
        ({"channelId": [str(CHANNELS[0])]}, ALL, CHANNELS[1], False),
        ({"channelId": [str(CHANNELS[0])]}, ALL, None, False),
        ({"assigneeId": ["nobody"]}, ALL, CHANNELS[0], False),
        ({"not": {"assigneeId": ["me"]}}, ALL, CHANNELS[0], False),
        ({"not": {"provider": ["PROVIDER_WHATSAPP"]}}, ALL, CHANNELS[2], True),
    ],
)
def test_events_without_a_conversation_go_by_their_channel(
    wanted: dict[str, Any], scope: Scope, channel: uuid.UUID | None, passes: bool
) -> None:
    matcher = Matcher(select(wanted), scope)
    contact = event(1, None, kind=event_pb2.EVENT_TYPE_CONTACT_CREATED, channel_id=channel)
    assert (matcher.transition(contact) != HIDDEN) == passes


@pytest.mark.parametrize("scope", SCOPES, ids=range(len(SCOPES)))
def test_the_vocabulary_is_everybodys(scope: Scope) -> None:
    reader = subscriber(select({}), scope)
    kinds = (event_pb2.EVENT_TYPE_TAG_CREATED, event_pb2.EVENT_TYPE_TAG_UPDATED, event_pb2.EVENT_TYPE_TAG_DELETED)
    events = [event(seq, None, kind=kind) for seq, kind in enumerate(kinds, start=1)]
    assert [item.seq for item in shown(reader, *events)] == [1, 2, 3]
    keys = Matcher(select({}), scope).keys
    assert keys is None or {(By.KIND, kind) for kind in kinds} <= keys


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"status": ["CONVERSATION_STATUS_OPEN"]}, "filter.status"),
        ({"tags": ["vip"]}, "filter.tags"),
        ({"unread": "UNREAD_TEAM"}, "filter.unread"),
        ({"priority": ["CONVERSATION_PRIORITY_HIGH"]}, "filter.priority"),
        ({"contactId": [str(ME)]}, "filter.contact_id"),
        ({"replyWindow": ["REPLY_WINDOW_STATE_OPEN"]}, "filter.reply_window"),
        ({"or": [{"teamId": ["none"]}, {"not": {"tags": ["vip"]}}]}, "filter.or[1].not.tags"),
        ({"tagsAll": ["vip"]}, "filter.tags_all"),
        ({"tagsNone": ["vip"]}, "filter.tags_none"),
        ({"createTime": {"startTime": "2026-01-01T00:00:00Z"}}, "filter.create_time"),
        ({"lastMessageTime": {"startTime": "2026-01-01T00:00:00Z"}}, "filter.last_message_time"),
        ({"waitingSince": {"endTime": "2026-01-01T00:00:00Z"}}, "filter.waiting_since"),
        ({"attributes": [{"name": "plan", "stringValue": "gold"}]}, "filter.attributes"),
        ({"text": "late"}, "filter.text"),
    ],
)
def test_what_the_log_cannot_answer_is_refused_by_name(wanted: dict[str, Any], field: str) -> None:
    with pytest.raises(FilterNotStreamable) as caught:
        select(wanted)
    assert caught.value.metadata == {"field": field}


@pytest.mark.parametrize(
    "wanted",
    [
        {"not": {"not": {"not": {"teamId": ["none"]}}}},
        {"or": [{"teamId": ["none"]}] * 21},
        {"or": [{"channelId": [str(uuid.uuid4()) for _ in range(101)]}] * 2},
    ],
    ids=["deep", "wide", "many ids"],
)
def test_filters_are_bounded(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidFields):
        select(wanted)


def test_me_is_an_agent() -> None:
    with pytest.raises(Refusal):
        select({"assigneeId": ["me"]}, agent_id=None)
    assert select({"assigneeId": ["me"]}).wants(Seen(CHANNELS[0], None, ME))


@pytest.mark.parametrize("seq", [1, 3, 4])
def test_a_stream_never_goes_on_over_a_hole(seq: int) -> None:
    reader = subscriber(select({}), ALL)
    shown(reader, event(1, Seen(CHANNELS[0], None, None)))
    with pytest.raises(Gap):
        shown(reader, event(seq, Seen(CHANNELS[0], None, None)))


def test_kinds_select_transitions_too() -> None:
    reader = subscriber(select({}, event_pb2.EVENT_TYPE_MESSAGE_RECEIVED), Scope(all=False, agent_id=ME))
    mine, theirs = Seen(CHANNELS[0], None, ME), Seen(CHANNELS[0], None, AGENTS[2])
    assert shown(reader, event(1, theirs, mine)) == []
    assert len(shown(reader, event(2, mine, kind=event_pb2.EVENT_TYPE_MESSAGE_RECEIVED))) == 1


@pytest.mark.parametrize("size", range(1, 9))
def test_batches_of_any_size_hold_everything_in_order_and_split_only_what_does_not_fit(size: int) -> None:
    chance = random.Random(size)
    events: list[LogEvent] = []
    while len(events) < 300:
        first, count = len(events) + 1, chance.choice((1, 1, 2, 3, 7, 12))
        for seq in range(first, first + count):
            channel = chance.choice(CHANNELS)
            events.append(event(seq, Seen(channel, None, None), tx_last=first + count - 1))
    selection = select({"channelId": [str(CHANNELS[0])]})
    reader = Subscriber(Place(0, None), Matcher(selection, ALL), principal_id=None, most_events=size)
    outgoing = [Outgoing(each, ENCODER) for each in events]
    batches: list[list[event_pb2.InboxEvent]] = []
    while reader.position.seq < len(events):
        # Whatever pieces the events come in.
        start = reader.position.seq
        reader.take(outgoing[start : start + chance.randrange(1, 40)])
        if reader.at_boundary or chance.random() < 0.5:
            batches.append(list(inbox.WatchInboxResponse.FromString(reader.batch()).events))
    seen = [item for batch in batches for item in batch]
    wanted = [each for each in events if each.channel_id == CHANNELS[0]]
    assert [item.seq for item in seen] == [each.seq for each in wanted]
    last_of = {each.tx_last: each.seq for each in wanted}
    assert [item.seq for item in seen if item.last_of_transaction] == list(last_of.values())
    assert max(map(len, batches)) <= size
    assert reader.safe.seq == len(events)
