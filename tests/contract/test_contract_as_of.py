"""Every read of a tenant says where in the log it stands: a watcher that goes on from there misses nothing."""

import pytest
from contract_outcome import answer_class, methods
from contract_table import CASES, token
from contract_transports import Grpc
from contract_world import World
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from switchboard.v1.conversation_service_pb2 import (
    AddConversationNoteRequest,
    GetConversationRequest,
    ListConversationsRequest,
)
from switchboard.v1.inbox_service_pb2 import ListInboxEventsRequest, ListInboxEventsResponse

from server.rpc.rules import rule_of

# What is not read from the tenant's database.
OF_THE_INSTALLATION = {"AuthService.ListApiKeys"}
# The log itself: its answers carry cursors of their own.
OF_THE_LOG = {"InboxService.ListInboxEvents", "InboxService.WatchInbox"}


def is_read(name: str, method: MethodDescriptor) -> bool:
    rule = rule_of(f"/switchboard.v1.{name.replace('.', '/')}")
    no_effects = method.GetOptions().idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    return no_effects and rule is not None and rule.kind == "permission"


READS = sorted(
    name for name, method in methods().items() if is_read(name, method) and name not in OF_THE_INSTALLATION | OF_THE_LOG
)


def read(direct: Grpc, world: World, name: str) -> Message:
    case = CASES[name]
    return direct.call(methods()[name], case.ask(world), token=token(world, case.caller))


def after(world: World, cursor: str) -> ListInboxEventsResponse:
    answer: ListInboxEventsResponse = world.call(ListInboxEventsRequest(cursor=cursor))
    return answer


@pytest.mark.parametrize("name", READS)
def test_every_answer_has_a_field_for_it(name: str) -> None:
    assert "as_of" in answer_class(methods()[name]).DESCRIPTOR.fields_by_name


@pytest.mark.parametrize("name", READS)
def test_a_read_stands_between_the_heads_before_and_after_it(direct: Grpc, world: World, name: str) -> None:
    before: ListInboxEventsResponse = world.call(ListInboxEventsRequest())
    answer = read(direct, world, name)
    found = after(world, answer.as_of)  # type: ignore[attr-defined]
    # Statistics are counted by a follower of the log, which may be 2 s behind.
    if name not in ("ConversationService.GetConversationStatistics", "StatisticsService.GetStatistics"):
        behind = {event.seq for event in after(world, before.next_cursor).events}
        assert {event.seq for event in found.events} <= behind


def test_what_is_written_after_a_read_follows_it_in_the_log(world: World) -> None:
    conversation = world.conversation()
    listed = world.call(ListConversationsRequest(page_size=1))
    one = world.call(GetConversationRequest(conversation_id=conversation.id))
    note = world.call(AddConversationNoteRequest(conversation_id=conversation.id, text="a note")).note
    for cursor in (listed.as_of, one.as_of):
        events = [event for event in after(world, cursor).events if event.HasField("note_added")]
        assert [event.note_added.note.id for event in events] == [note.id]
        assert events[0].conversation_version > one.conversation.version
