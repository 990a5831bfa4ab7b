"""Repeating a call: the same request id has one effect, however often and however many at once; another body is refused.

And expected_version: what was decided on an old version is not done.
"""

import time
from typing import Any

import pytest
from contract_agree import refused_alike
from contract_outcome import methods, normal
from contract_requests import in_future
from contract_table import CASES, token
from contract_transports import Grpc, Transport
from contract_world import World, nonce
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import conversation_pb2, erasure_pb2, event_pb2, status_update_pb2
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import delivery_service_pb2 as deliveries
from switchboard.v1 import erasure_service_pb2 as erasures
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import message_service_pb2 as messages
from switchboard.v1.actor_pb2 import CAUSE_KIND_TIMER

REPEATABLE = [name for name, method in methods().items() if "request_id" in method.input_type.fields_by_name]
# Changes without a request id, and why a repeat does no harm.
IN_THE_CONTROL_DATABASE = (
    "no tenant's database; the name or id is unique, so a repeat is refused and makes no second one"
)
ALWAYS_THE_SAME = "doing it twice is doing it once"
WITHOUT_REQUEST_ID = {
    "AuditService.UpdateAuditSettings": ALWAYS_THE_SAME,
    "AuthService.CreateAgentToken": "stores nothing",
    "AuthService.CreateApiKey": "shows a secret, this once: a repeat could not show it again",
    "AuthService.RevokeApiKey": ALWAYS_THE_SAME,
    "AvailabilityService.Heartbeat": ALWAYS_THE_SAME,
    "ChannelService.CheckChannel": "asks again: what is the same already stays",
    "ChannelService.CreateMetaApp": IN_THE_CONTROL_DATABASE,
    "ChannelService.UpdateMetaApp": ALWAYS_THE_SAME,
    "ChannelService.DeleteMetaApp": "gone is gone: a repeat finds nothing",
    "IntakeService.ReceiveItems": "the sender's own ids tell items apart",
    "InviteService.AcceptInvite": "the token is good once",
    "InviteService.ResendInvite": "shows a secret, this once: a repeat makes another",
    "MessageService.ReactToMessage": ALWAYS_THE_SAME,
    "MessageService.SendTypingIndicator": "stores nothing that lasts",
    "TemplateService.SyncTemplates": "reads again: what is the same already stays",
    "TemplateService.UploadTemplateSample": "keeps nothing here; a sample that nothing names is forgotten",
    "TenantService.CreateTenant": IN_THE_CONTROL_DATABASE,
    "TenantService.DisableTenant": ALWAYS_THE_SAME,
    "TenantService.EnableTenant": ALWAYS_THE_SAME,
    "WebhookService.ReceiveMetaWebhook": "the provider's own ids tell items apart",
}
# A channel that was not paused is resumed without an event, and settings that are so already stay; nobody watches files come.
SILENT = frozenset(
    {
        *("ChannelService.ResumeChannel", "SettingsService.UpdateTenantSettings"),
        *("MediaService.UploadMedia", "MediaService.CreateMediaUpload"),
    }
)
VERSIONED = [name for name, method in methods().items() if "expected_version" in method.input_type.fields_by_name]


def test_every_change_can_be_repeated_or_says_why_not() -> None:
    reads = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    changes = {name for name, method in methods().items() if method.GetOptions().idempotency_level != reads}
    assert changes - {"InboxService.WatchInbox"} == set(REPEATABLE) | set(WITHOUT_REQUEST_ID)


def effects_of(name: str) -> int:
    """How many effects of one call are seen."""
    return 0 if name in SILENT else 1


def asked(world: World, name: str, request_id: str) -> Any:
    """A success of the RPC on something fresh, with this request id."""
    request: Any = CASES[name].ask(world)
    request.request_id = request_id
    return request


def one_answer(name: str, answer: Message) -> Message:
    """The answer without what says that a call was the first."""
    if name == "ConversationService.CreateConversation":
        answer.ClearField("created")
    if name == "InviteService.CreateInvite":
        answer.ClearField("invite_token")
    return answer


class Effects:
    """What happened in the tenant since: transactions in its log."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._decides = name.startswith("DeliveryService.")
        self._start = self._cursor()

    def _cursor(self) -> str:
        cursor: str = self._world.call(inbox.ListInboxEventsRequest()).next_cursor
        return cursor

    def count(self) -> int:
        """New transactions. What timers do meanwhile does not count: agents of tests before fall silent. Nor do receipts of
        messages sent before, but where a status is decided about."""
        page = self._world.call(inbox.ListInboxEventsRequest(cursor=self._start, page_size=200))
        ends = [event for event in page.events if event.last_of_transaction and event.cause.kind != CAUSE_KIND_TIMER]
        if self._decides:
            return len([event for event in ends if _source(event) == status_update_pb2.STATUS_UPDATE_SOURCE_SYSTEM])
        return len([event for event in ends if event.WhichOneof("body") != "message_status_updated"])


def _source(event: event_pb2.InboxEvent) -> int | None:
    """Where a status update came from."""
    updated = event.message_status_updated
    return updated.status_update.source if event.WhichOneof("body") == "message_status_updated" else None


@pytest.mark.parametrize("name", REPEATABLE)
def test_a_repeat_has_the_first_answer_and_no_effect(direct: Grpc, world: World, name: str) -> None:
    method, credential = methods()[name], token(world, CASES[name].caller)
    request = asked(world, name, nonce())
    effects = Effects(world, name)
    first = direct.call(method, request, token=credential)
    assert effects.count() == effects_of(name)
    again = [direct.call(method, request, token=credential) for _ in range(2)]
    assert effects.count() == effects_of(name)
    for each in again:
        assert settled(one_answer(name, each)) == settled(one_answer(name, first))


def settled(answer: Message) -> str:
    """A message sent meanwhile is on its way: its status, its id at the provider move on by themselves."""
    if isinstance(answer, messages.SendMessageResponse):
        answer.message.ClearField("status")
        answer.message.ClearField("external_id")
    if isinstance(answer, deliveries.RetryDeliveryResponse):
        for field in ("state", "attempt", "due_time"):
            answer.delivery.ClearField(field)
    if isinstance(answer, erasures.EraseContactResponse):
        answer.erasure.CopyFrom(erasure_pb2.Erasure(id=answer.erasure.id, contact_id=answer.erasure.contact_id))
    return str(answer)


@pytest.mark.parametrize("name", REPEATABLE)
def test_another_request_with_the_same_id_is_refused(edges: list[Transport], world: World, name: str) -> None:
    method, credential, request_id = methods()[name], token(world, CASES[name].caller), nonce()
    edges[0].call(method, asked(world, name, request_id), token=credential)
    other = asked(world, name, request_id)
    if name in ("ChannelService.ResumeChannel", "ChannelService.ReauthorizeChannel"):
        other.access_token = "EAAother"
    if name == "SettingsService.UpdateTenantSettings":
        other.conversation_retention.seconds += 1
    effects = Effects(world, name)
    refused = refused_alike(edges, method, other, credential)
    assert (refused.code, refused.reason) == (6, "REQUEST_ID_REUSED")
    assert effects.count() == 0


@pytest.mark.parametrize("name", REPEATABLE)
def test_several_at_once_have_one_effect(direct: Grpc, h2c: Grpc, world: World, name: str) -> None:
    """Two to one process, two to whichever the edge chooses."""
    method, credential = methods()[name], token(world, CASES[name].caller)
    request = asked(world, name, nonce())
    effects = Effects(world, name)
    running = [each.begin(method, request, token=credential) for each in (direct, h2c, direct, h2c)]
    answers = [settled(one_answer(name, finish())) for finish in running]
    assert effects.count() == effects_of(name)
    assert answers == [answers[0]] * 4


@pytest.mark.parametrize("name", REPEATABLE)
def test_the_same_id_of_another_caller_is_another_request(direct: Grpc, world: World, name: str) -> None:
    method, request_id = methods()[name], nonce()
    requests = [asked(world, name, request_id) for _ in range(2)]
    effects = Effects(world, name)
    for credential, request in zip((world.key, world.tokens["owner"]), requests, strict=True):
        direct.call(method, request, token=credential)
    assert effects.count() == 2 * effects_of(name)


def test_a_refused_call_does_not_use_up_its_id(direct: Grpc, world: World) -> None:
    conversation_id, request_id = world.conversation().id, nonce()
    world.move(conversation_id, "RESOLVED")
    request = conversations.UpdateConversationStatusRequest(
        conversation_id=conversation_id, status=conversation_pb2.CONVERSATION_STATUS_PENDING, request_id=request_id
    )
    refused = refused_alike([direct], methods()["ConversationService.UpdateConversationStatus"], request, world.key)
    assert refused.reason == "ILLEGAL_STATUS_MOVE"
    world.move(conversation_id, "OPEN")
    assert world.call(request).conversation.status == conversation_pb2.CONVERSATION_STATUS_PENDING


def test_a_repeat_shows_the_thing_as_it_is_now(world: World) -> None:
    request = conversations.UpdateConversationRequest(
        conversation_id=world.conversation().id, subject="First", request_id=nonce()
    )
    world.call(request)
    changed = conversations.UpdateConversationRequest(conversation_id=request.conversation_id, subject="Second")
    world.call(changed)
    assert world.call(request).conversation.subject == "Second"


def test_a_snooze_that_has_ended_is_repeated_all_the_same(world: World) -> None:
    request = conversations.UpdateConversationStatusRequest(
        conversation_id=world.conversation().id,
        status=conversation_pb2.CONVERSATION_STATUS_SNOOZED,
        snooze_until_time=in_future(2),
        request_id=nonce(),
    )
    world.call(request)
    time.sleep(2)
    assert world.call(request).conversation.id == request.conversation_id


def versioned(world: World, name: str, conversation_id: str, version: int) -> Message:
    kinds: dict[str, Any] = {
        "ConversationService.UpdateConversation": conversations.UpdateConversationRequest(subject="A subject"),
        "ConversationService.UpdateConversationStatus": conversations.UpdateConversationStatusRequest(
            status=conversation_pb2.CONVERSATION_STATUS_PENDING
        ),
        "AssignmentService.AssignConversation": assignments.AssignConversationRequest(team_id=world.team_id),
        "AssignmentService.UnassignConversation": assignments.UnassignConversationRequest(),
    }
    request = kinds[name]
    request.conversation_id, request.expected_version = conversation_id, version
    return request  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", VERSIONED)
def test_what_was_decided_on_an_old_version_is_not_done(edges: list[Transport], world: World, name: str) -> None:
    conversation = world.conversation()
    present = world.call(
        assignments.AssignConversationRequest(conversation_id=conversation.id, agent_id=world.agents["owner"])
    ).conversation
    assert present.version == conversation.version + 1
    for stale in (0, conversation.version, present.version + 1):
        request = versioned(world, name, conversation.id, stale)
        refused = refused_alike(edges, methods()[name], request, world.key)
        assert (refused.code, refused.reason) == (10, "VERSION_MISMATCH")
        assert refused.info.metadata["version"] == str(present.version)
    now = world.call(conversations.GetConversationRequest(conversation_id=conversation.id)).conversation
    assert now.version == present.version
    done: Any = world.call(versioned(world, name, conversation.id, present.version))
    assert done.conversation.version == present.version + 1


def test_a_reply_to_what_somebody_else_has_answered_is_outdated(edges: list[Transport], world: World) -> None:
    conversation = world.conversation()
    sent = world.send(conversation.id)
    request = messages.SendMessageRequest(
        conversation_id=conversation.id,
        text=messages.SendText(body="Too late"),
        last_seen_message_id=conversation.last_message_id,
        request_id=nonce(),
    )
    refused = refused_alike(edges, methods()["MessageService.SendMessage"], request, world.tokens["owner"])
    assert (refused.code, refused.reason, refused.info.metadata["message_id"]) == (10, "REPLY_OUTDATED", sent.id)
    request.last_seen_message_id = sent.id
    assert normal(world.call(request, token=world.tokens["owner"]))["message"]["text"]["body"] == "Too late"
