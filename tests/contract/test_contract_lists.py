"""What the list of conversations has beside rows: the deleted ones, counts, and conditions that only a body can carry."""

from contract_agree import refused_alike
from contract_outcome import methods
from contract_transports import Transport
from contract_world import World, nonce
from google.protobuf import json_format
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as conversations

LIST = methods()["ConversationService.ListConversations"]
LIVE = [1, 2, 3, 4]


def test_deleted_conversations_are_for_those_who_may_delete(edges: list[Transport], world: World) -> None:
    gone = world.conversation().id
    world.call(conversations.DeleteConversationRequest(conversation_id=gone))
    asked = conversations.ListConversationsRequest(deleted=True, page_size=200)
    listed = world.call(asked).conversations
    assert gone in [row.id for row in listed]
    assert all(row.HasField("delete_time") for row in listed)
    refused = refused_alike(edges, LIST, asked, world.tokens["agent"])
    assert (refused.reason, refused.info.metadata["permission"]) == (
        "PERMISSION_MISSING",
        "PERMISSION_CONVERSATIONS_DELETE",
    )
    asked.order = conversations.CONVERSATION_ORDER_PRIORITY
    assert refused_alike(edges, LIST, asked, world.key).fields == ["order"]


def test_counts_of_what_is_live_come_with_the_list(world: World) -> None:
    token = world.tokens["owner"]
    some = assignments.AssignConversationRequest(
        conversation_id=world.conversation().id, agent_id=world.agents["owner"]
    )
    world.call(some)
    asked = conversations.ListConversationsRequest(with_counts=True, page_size=1)
    told = world.call(asked, token=token).counts

    def counted(**fields: list[str]) -> conversations.CountConversationsResponse:
        wanted = filters.ConversationFilter(status=LIVE, **fields)  # type: ignore[arg-type]  # numbers of the enum
        found: conversations.CountConversationsResponse = world.call(
            conversations.CountConversationsRequest(filter=wanted), token=token
        )
        return found

    for mine, whole in (
        (told.mine, counted(assignee_id=["me"])),
        (told.unassigned, counted(assignee_id=["nobody"])),
        (told.all, counted()),
    ):
        assert (mine.count, mine.more) == (whole.count, whole.more)
    assert told.mine.count >= 1
    assert not world.call(conversations.ListConversationsRequest(page_size=1)).HasField("counts")


def test_attributes_are_compared_with_their_type(world: World) -> None:
    text, number = world.conversation().id, world.conversation().id
    name = nonce()
    for conversation_id, value in ((text, "1"), (number, 1)):
        change = conversations.UpdateConversationRequest(conversation_id=conversation_id)
        json_format.ParseDict({name: value, "deep": {name: 1}}, change.attributes)
        world.call(change)
    found = {}
    for field, value in (("string_value", "1"), ("number_value", 1.0), ("bool_value", True)):
        condition = filters.AttributeCondition(name=name, **{field: value})  # type: ignore[arg-type]  # one of its values
        asked = conversations.ListConversationsRequest(filter=filters.ConversationFilter(attributes=[condition]))
        found[field] = [row.id for row in world.call(asked).conversations]
    assert found == {"string_value": [text], "number_value": [number], "bool_value": []}
