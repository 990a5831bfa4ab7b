"""What callers see of conversations that begin and sleep, on the whole stack."""

from contract_world import World, digits, eventually
from switchboard.v1 import conversation_pb2
from switchboard.v1 import conversation_service_pb2 as conversations


def test_starting_a_conversation_with_somebody_who_has_one_answers_that(world: World) -> None:
    number = f"+49151{digits(8)}"
    first = world.call(conversations.CreateConversationRequest(channel_id=world.channel_id, phone_number=number))
    assert first.created
    assert first.conversation.status == conversation_pb2.CONVERSATION_STATUS_OPEN
    again = conversations.CreateConversationRequest(
        channel_id=world.channel_id, phone_number=number, subject="Another one"
    )
    second = world.call(again)
    assert not second.created
    assert second.conversation == first.conversation, "it is not changed either"
    world.move(first.conversation.id, "RESOLVED")
    third = world.call(again)
    assert third.created
    assert third.conversation.id != first.conversation.id
    assert third.conversation.subject == "Another one"


def test_a_snooze_until_a_reply_says_so_and_ends_with_one(world: World) -> None:
    row = world.conversation()
    request = conversations.UpdateConversationStatusRequest(
        conversation_id=row.id, status=conversation_pb2.CONVERSATION_STATUS_SNOOZED, snooze_until_reply=True
    )
    snoozed = world.call(request).conversation
    assert snoozed.status == conversation_pb2.CONVERSATION_STATUS_SNOOZED
    assert snoozed.snooze == conversation_pb2.Snooze(until_reply=True)
    world.customer_writes(row, "I am back")
    opened = eventually(lambda: _open(world, row.id))
    assert not opened.HasField("snooze")


def _open(world: World, conversation_id: str) -> conversation_pb2.Conversation | None:
    request = conversations.GetConversationRequest(conversation_id=conversation_id)
    row: conversation_pb2.Conversation = world.call(request).conversation
    return row if row.status == conversation_pb2.CONVERSATION_STATUS_OPEN else None
