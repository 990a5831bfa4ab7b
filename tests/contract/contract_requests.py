"""Requests that the tables share, and the fresh things that they are about."""

import contextlib
import hashlib
import hmac
import json
import time
from typing import Any

from contract_outcome import Refused
from contract_world import World, digits, eventually, nonce, unknown
from google.api import httpbody_pb2
from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.message import Message
from switchboard.v1 import agent_service_pb2 as agents
from switchboard.v1 import (
    assignment_pb2,
    assignment_policy_pb2,
    attribute_definition_pb2,
    channel_pb2,
    conversation_pb2,
    message_pb2,
    options_pb2,
    template_pb2,
    template_service_pb2,
)
from switchboard.v1 import assignment_policy_service_pb2 as policies
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import attribute_definition_service_pb2 as attributes
from switchboard.v1 import audit_service_pb2 as audit
from switchboard.v1 import availability_service_pb2 as availability
from switchboard.v1 import channel_service_pb2 as channels
from switchboard.v1 import contact_merge_service_pb2 as merges
from switchboard.v1 import contact_service_pb2 as contacts
from switchboard.v1 import conversation_filter_pb2 as filters
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import intake_service_pb2 as intake
from switchboard.v1 import invite_service_pb2 as invites
from switchboard.v1 import statistics_service_pb2 as statistics
from switchboard.v1 import webhook_service_pb2 as webhooks
from switchboard.v1.availability_pb2 import AVAILABILITY_ONLINE
from switchboard.v1.contact_pb2 import ALIAS_KIND_WA_ID

from tests.known_number import know


def nested(depth: int) -> filters.ConversationFilter:
    """A filter of so many levels."""
    found = filters.ConversationFilter(tags=["vip"])
    for _ in range(depth - 1):
        outer = filters.ConversationFilter()
        getattr(outer, "and").append(found)
        found = outer
    return found


def of_sample(world: World) -> filters.ConversationFilter:
    return filters.ConversationFilter(contact_id=[world.sample.contact.id])


def in_future(seconds: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=int(time.time()) + seconds)


def of_yesterday(**more: Any) -> statistics.GetStatisticsRequest:
    """Of yesterday: the numbers of today are on their way while the calls are compared."""
    end = int(time.time()) // 900 * 900 - 96 * 900
    start_time, end_time = timestamp_pb2.Timestamp(seconds=end - 96 * 900), timestamp_pb2.Timestamp(seconds=end)
    return statistics.GetStatisticsRequest(start_time=start_time, end_time=end_time, **more)


def of_now(**more: Any) -> statistics.GetStatisticsRequest:
    """Of the quarter of an hour that it is, with those around it, so that its end changes nothing."""
    start = int(time.time()) // 900 * 900 - 900
    start_time, end_time = timestamp_pb2.Timestamp(seconds=start), timestamp_pb2.Timestamp(seconds=start + 2700)
    return statistics.GetStatisticsRequest(start_time=start_time, end_time=end_time, **more)


def of_trail(world: World) -> audit.ListAuditEntriesRequest:
    """What was done to the archived conversation, once the trail has it."""
    method = "switchboard.v1.ConversationService.UpdateConversationStatus"
    request = audit.ListAuditEntriesRequest(resource_id=world.archived.id, method=method)
    eventually(lambda: len(world.call(request).entries) >= 2)
    return request


def connect(world: World, phone_number_id: str = "") -> channels.ConnectWhatsappChannelRequest:
    """A number that the simulator knows: a new one, unless it is named."""
    number, waba_id = phone_number_id or digits(15), digits(7)
    if not phone_number_id:
        know(world.dev, number, waba_id, "EAAtoken")
    waba_id = world.waba_id if phone_number_id else waba_id
    token = world.access_token if phone_number_id else "EAAtoken"
    return channels.ConnectWhatsappChannelRequest(
        name="Second number", phone_number_id=number, waba_id=waba_id, access_token=token
    )


def api_channel(callback_url: str = "https://desk.example/switchboard") -> channels.ConnectChannelRequest:
    setting = channels.ChannelSetting(name="callback_url", value=callback_url)
    return channels.ConnectChannelRequest(name=f"App {nonce()}", provider=channel_pb2.PROVIDER_API, settings=[setting])


def filled(*texts: str) -> template_pb2.TemplateFilling:
    """The places of a template's body, in their order."""
    return template_pb2.TemplateFilling(body=[template_pb2.TemplateParameter(text=text) for text in texts])


def drafted(channel_id: str, **fields: Any) -> template_service_pb2.CreateTemplateRequest:
    """A template to create."""
    values = {"name": f"order_{nonce()}".lower(), "language": "en", "category": template_pb2.TEMPLATE_CATEGORY_UTILITY}
    return template_service_pb2.CreateTemplateRequest(
        channel_id=channel_id, components=template_parts(), request_id=nonce(), **{**values, **fields}
    )


def template_parts() -> list[template_pb2.TemplateComponent]:
    """What a template is made of."""
    text = "Hello {{1}}, your order is ready."
    return [template_pb2.TemplateComponent(type="BODY", text=text, examples=["Mia"])]


def sampled(channel_id: str) -> template_service_pb2.UploadTemplateSampleRequest:
    """A sample to upload."""
    return template_service_pb2.UploadTemplateSampleRequest(
        channel_id=channel_id, content=b"picture", mime_type="image/jpeg", file_name="shop.jpg"
    )


def handed_in(channel_id: str) -> intake.ReceiveItemsRequest:
    """A message of somebody new, and the receipt of a message that nobody knows."""
    message = intake.ReceivedMessage(
        id=nonce(), user_ref=f"user-{nonce()}", text="Good morning", create_time=in_future(-60), profile_name="Cara"
    )
    receipt = intake.ReceivedReceipt(
        id=unknown(), status=message_pb2.MESSAGE_STATUS_DELIVERED, create_time=in_future(-30)
    )
    return intake.ReceiveItemsRequest(channel_id=channel_id, messages=[message], receipts=[receipt])


def meta_app(app_id: str) -> channels.CreateMetaAppRequest:
    return channels.CreateMetaAppRequest(id=app_id, name="App", app_secret="app secret", verify_token="verify token")


def handshake(world: World, verify_token: str) -> webhooks.VerifyMetaWebhookRequest:
    hub = webhooks.MetaHandshake(mode="subscribe", verify_token=verify_token, challenge="123")
    return webhooks.VerifyMetaWebhookRequest(app_id=world.meta_app["id"], hub=hub)


def notification(world: World, object_name: str) -> webhooks.ReceiveMetaWebhookRequest:
    data = json.dumps({"object": object_name, "entry": []}).encode()
    body = httpbody_pb2.HttpBody(content_type="application/json", data=data)
    return webhooks.ReceiveMetaWebhookRequest(app_id=world.meta_app["id"], body=body)


def signature(request: Message, secret: str) -> str:
    assert isinstance(request, webhooks.ReceiveMetaWebhookRequest)
    return "sha256=" + hmac.new(secret.encode(), request.body.data, hashlib.sha256).hexdigest()


def snooze(world: World) -> Message:
    return conversations.UpdateConversationStatusRequest(
        conversation_id=world.conversation().id,
        status=conversation_pb2.CONVERSATION_STATUS_SNOOZED,
        snooze_until_time=in_future(3600),
        reason="later",
    )


def sample_update(world: World) -> Message:
    request = conversations.UpdateConversationRequest(
        conversation_id=world.conversation().id,
        priority=conversation_pb2.CONVERSATION_PRIORITY_HIGH,
        subject="A subject",
    )
    request.attributes.update({"order": 17, "paid": True, "tags": ["a", None], "nested": {"ä": "ö"}})
    return request


def blocked(world: World) -> str:
    contact_id = world.conversation().contact.id
    world.call(contacts.BlockContactRequest(contact_id=contact_id))
    return contact_id


def conflict_page(world: World) -> contacts.ListIdentityConflictsRequest:
    """The conflicts of a contact that was to get the number of another one."""
    contact, other = world.conversation().contact, world.conversation().contact
    number = "+" + other.name.removeprefix("Cara ")
    taken = contacts.AddContactIdentityRequest(
        contact_id=contact.id, channel_id=world.channel_id, kind=ALIAS_KIND_WA_ID, value=number
    )
    with contextlib.suppress(Refused):
        world.call(taken)
    return contacts.ListIdentityConflictsRequest(contact_id=contact.id)


def identity_to_remove(world: World) -> contacts.RemoveContactIdentityRequest:
    """One that was added and has no conversation."""
    conversation = world.conversation()
    contact = world.call(
        contacts.AddContactIdentityRequest(
            contact_id=conversation.contact.id,
            channel_id=world.channel_id,
            kind=ALIAS_KIND_WA_ID,
            value=f"+49151{digits(8)}",
        )
    ).contact
    (added,) = {identity.id for identity in contact.identities} - {conversation.identity_id}
    return contacts.RemoveContactIdentityRequest(contact_id=contact.id, identity_id=added)


def two_contacts(world: World) -> merges.MergeContactsRequest:
    into, merged = (world.conversation().contact.id for _ in range(2))
    return merges.MergeContactsRequest(contact_id=into, merged_contact_id=merged, reason="One person, two phones.")


def merged(world: World) -> str:
    request = two_contacts(world)
    world.call(request)
    return request.merged_contact_id


def deleted(world: World) -> str:
    conversation_id = world.conversation().id
    world.call(conversations.DeleteConversationRequest(conversation_id=conversation_id))
    return conversation_id


def tagged(world: World) -> str:
    conversation_id = world.conversation().id
    world.call(conversations.AddConversationTagsRequest(conversation_id=conversation_id, tags=["vip", "stays"]))
    return conversation_id


def note_of(world: World) -> dict[str, str]:
    conversation_id, note_id = world.note()
    return {"conversation_id": conversation_id, "note_id": note_id}


def settings(strategy: str = "ROUND_ROBIN") -> assignment_policy_pb2.AssignmentSettings:
    return assignment_policy_pb2.AssignmentSettings(
        strategy=assignment_pb2.AssignmentType.Value(f"ASSIGNMENT_TYPE_{strategy}"),
        required_skills=["spanish", "Ü"],
        fairness=assignment_policy_pb2.FairnessWindow(most=3, window=duration_pb2.Duration(seconds=600)),
        sticky=True,
        reclaim_after=duration_pb2.Duration(seconds=900),
        queue_order=assignment_policy_pb2.QUEUE_ORDER_PRIORITY,
    )


def policy(world: World) -> assignment_policy_pb2.AssignmentPolicy:
    """The policy of a team of its own."""
    team = world.call(agents.CreateTeamRequest(name=f"Team {nonce()}")).team
    made = policies.CreateAssignmentPolicyRequest(team_id=team.id, settings=settings())
    found: assignment_policy_pb2.AssignmentPolicy = world.call(made).policy
    return found


def attribute_request() -> attributes.CreateAttributeDefinitionRequest:
    """A key that nobody has defined yet."""
    return attributes.CreateAttributeDefinitionRequest(
        target=attribute_definition_pb2.ATTRIBUTE_TARGET_CONVERSATION,
        key=f"key_{nonce()}",
        type=attribute_definition_pb2.ATTRIBUTE_TYPE_OPTION,
        options=["gold", "grün"],
        label="Customer's plan",
    )


def attribute(world: World) -> str:
    """The id of a fresh definition."""
    return str(world.call(attribute_request()).attribute_definition.id)


def attribute_page(world: World) -> attributes.ListAttributeDefinitionsRequest:
    """A page that is not empty, and the same for whoever asks next."""
    page = attributes.ListAttributeDefinitionsRequest(page_size=1)
    if not world.call(page).attribute_definitions:
        attribute(world)
    return page


def participant(world: World) -> conversations.RemoveConversationParticipantRequest:
    """An agent that takes part."""
    of = {"conversation_id": world.conversation().id, "agent_id": world.agents["agent"]}
    world.call(conversations.AddConversationParticipantRequest(**of))
    return conversations.RemoveConversationParticipantRequest(**of)


def some_agent(world: World) -> str:
    """An agent that nobody knows yet."""
    return str(world.call(agents.CreateAgentRequest(name="Fresh")).agent.id)


def some_role(world: World) -> str:
    """A role that nobody has."""
    read = [options_pb2.PERMISSION_CONVERSATIONS_READ, options_pb2.PERMISSION_AGENTS_READ]
    return str(world.call(agents.CreateRoleRequest(name=f"Role {nonce()}", permissions=read)).role.id)


def invited(world: World) -> invites.CreateInviteResponse:
    """Somebody who is invited and has not accepted."""
    made: invites.CreateInviteResponse = world.call(
        invites.CreateInviteRequest(email=f"{nonce()}@example.com", name="Fresh")
    )
    return made


def accepted(world: World) -> str:
    """An invite that was accepted."""
    made = invited(world)
    world.call(invites.AcceptInviteRequest(invite_token=made.invite_token))
    return made.invite.id


def some_team(world: World) -> str:
    """A team of nobody's."""
    return str(world.call(agents.CreateTeamRequest(name=f"Team {nonce()}")).team.id)


def of_a_team_with_policy(world: World, *, agent: bool = True) -> str:
    """A conversation given to a team that has a policy, and somebody at work."""
    team = world.call(agents.CreateTeamRequest(name=f"Team {nonce()}")).team
    manual = assignment_policy_pb2.AssignmentSettings(strategy=assignment_pb2.ASSIGNMENT_TYPE_LOAD_BASED)
    conversation_id = world.conversation().id
    world.call(assignments.AssignConversationRequest(conversation_id=conversation_id, team_id=team.id))
    if agent:
        member = world.call(agents.CreateAgentRequest(name="At work", team_ids=[team.id])).agent
        world.call(availability.SetAvailabilityRequest(agent_id=member.id, availability=AVAILABILITY_ONLINE))
    world.call(policies.CreateAssignmentPolicyRequest(team_id=team.id, settings=manual))
    return str(conversation_id)


def assigned(world: World) -> str:
    conversation_id = world.conversation().id
    world.call(assignments.AssignConversationRequest(conversation_id=conversation_id, team_id=world.team_id))
    return conversation_id
