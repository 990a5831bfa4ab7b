"""What the calls are about: two tenants of this suite's own, their agents, and a stock of conversations to use up."""

import json
import secrets
import time
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from contract_outcome import method_of_request
from contract_transports import Grpc
from google.protobuf.message import Message
from switchboard.v1 import agent_pb2, conversation_pb2, delivery_pb2, message_pb2, options_pb2
from switchboard.v1.agent_service_pb2 import CreateAgentRequest, CreateRoleRequest, CreateTeamRequest
from switchboard.v1.assignment_pb2 import ASSIGNMENT_TYPE_MANUAL
from switchboard.v1.assignment_policy_pb2 import AssignmentSettings
from switchboard.v1.assignment_policy_service_pb2 import CreateAssignmentPolicyRequest
from switchboard.v1.assignment_service_pb2 import AssignConversationRequest
from switchboard.v1.attribute_definition_pb2 import ATTRIBUTE_TARGET_CONTACT, ATTRIBUTE_TYPE_DATE
from switchboard.v1.attribute_definition_service_pb2 import CreateAttributeDefinitionRequest
from switchboard.v1.auth_service_pb2 import CreateAgentTokenRequest, CreateApiKeyRequest
from switchboard.v1.channel_service_pb2 import ConnectWhatsappChannelRequest, GetChannelRequest
from switchboard.v1.conversation_service_pb2 import (
    AddConversationNoteRequest,
    AddConversationTagsRequest,
    ListConversationsRequest,
    UpdateConversationRequest,
    UpdateConversationStatusRequest,
)
from switchboard.v1.delivery_service_pb2 import ListDeliveriesRequest
from switchboard.v1.erasure_pb2 import ERASURE_STATE_DONE
from switchboard.v1.erasure_service_pb2 import EraseContactRequest, GetErasureRequest
from switchboard.v1.invite_service_pb2 import CreateInviteRequest
from switchboard.v1.media_service_pb2 import UploadMediaRequest
from switchboard.v1.message_pb2 import ATTACHMENT_STATE_FAILED
from switchboard.v1.message_service_pb2 import GetMessageRequest, ListMessagesRequest, SendMessageRequest, SendText
from switchboard.v1.tag_service_pb2 import CreateTagRequest
from switchboard.v1.template_service_pb2 import ListTemplatesRequest, SyncTemplatesRequest
from switchboard.v1.tenant_service_pb2 import CreateTenantRequest

from server.models.tenant.agent import ROLES

STOCK = 100
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(20)
T = TypeVar("T")
Roles = agent_pb2.AgentRole


def nonce() -> str:
    """A word that nobody used before; comparisons know its form."""
    return f"n{secrets.token_hex(5)}n"


def digits(length: int) -> str:
    return str(secrets.randbelow(9 * 10 ** (length - 1)) + 10 ** (length - 1))


def unknown() -> str:
    """An id that nothing has."""
    return str(uuid.uuid4())


def eventually(attempt: Callable[[], T | None], *, seconds: float = 40) -> T:
    """The first answer that is something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = attempt()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds} s")


def post(url: str, body: Any, *, method: str = "POST") -> Any:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


class Tenant:
    """A tenant with a WhatsApp number that the simulator knows, and one agent of each role in no channel and no team."""

    def __init__(self, grpc: Grpc, dev: dict[str, Any], name: str) -> None:
        self.grpc = grpc
        self.dev = dev
        self.key = dev["platform_key"]
        made = self.call(CreateTenantRequest(name=f"{name}-{nonce()}"))
        self.id: str = made.tenant.id
        self.name: str = made.tenant.name
        self.key: str = made.secret
        self.key_row = made.api_key
        self.phone_number_id = digits(15)
        self.channel_id: str = self._connect()
        self.team_id: str = self.call(CreateTeamRequest(name="Team")).team.id
        self.agents = {role: self._agent(role) for role in ROLES}
        self.tokens = {role: self.token_of(agent_id) for role, agent_id in self.agents.items()}

    def call(self, request: Message, *, token: str = "") -> Any:
        """Calls the RPC that the request belongs to, with the tenant's key."""
        return self.grpc.call(method_of_request(request.DESCRIPTOR.full_name), request, token=token or self.key)

    def _connect(self) -> str:
        waba, number, token = digits(15), digits(12), nonce()
        self.waba_id, self.access_token = waba, token
        account = {
            "phone_number_id": self.phone_number_id,
            "waba_id": waba,
            "display_phone_number": number,
            "access_token": token,
            "app_secret": self.dev["meta_app"]["app_secret"],
            "webhook_url": self.dev["url"] + self.dev["meta_app"]["webhook_path"],
            # The walks write to one customer more often than Meta allows.
            "limits": {"pair_seconds": None, "throughput_per_second": None},
        }
        post(self.dev["simulator"]["url"] + "/_control/accounts", account)
        # Templates that are written stay as they were answered.
        post(self.dev["simulator"]["url"] + "/_control/reviews", {"wabaId": waba, "status": None})
        request = ConnectWhatsappChannelRequest(
            name="WhatsApp",
            phone_number_id=self.phone_number_id,
            waba_id=waba,
            access_token=token,
            display_phone_number=number,
        )
        return str(self.call(request).channel.id)

    def _agent(self, role: str) -> str:
        number = Roles.Value(f"AGENT_ROLE_{role.upper()}")
        return str(self.call(CreateAgentRequest(name=role, email=f"{role}@example.com", role=number)).agent.id)

    def token_of(self, agent_id: str) -> str:
        return str(self.call(CreateAgentTokenRequest(agent_id=agent_id)).token)

    def template(self, channel_id: str = "", status: str = "APPROVED") -> str:
        """A new template that the simulator has of a channel's account."""
        simulator, name, channel_id = self.dev["simulator"]["url"], nonce(), channel_id or self.channel_id
        account = self.call(GetChannelRequest(channel_id=channel_id)).channel.whatsapp
        if channel_id != self.channel_id:
            known = {"phone_number_id": account.phone_number_id, "waba_id": account.waba_id, "access_token": "EAAtoken"}
            more = {"display_phone_number": "15550001111", "app_secret": "secret", "webhook_url": "http://127.0.0.1:9/"}
            post(f"{simulator}/_control/accounts", known | more)
        body = {"type": "BODY", "text": "Hello {{1}}, your order is ready.", "example": {"body_text": [["Mia"]]}}
        made = {"wabaId": account.waba_id, "templates": [{"name": name, "status": status, "components": [body]}]}
        (external_id,) = post(f"{simulator}/_control/templates", made)["ids"]
        self.call(SyncTemplatesRequest(channel_id=channel_id))
        listed = self.call(ListTemplatesRequest(channel_id=channel_id, page_size=200)).templates
        return str(next(item.id for item in listed if item.external_id == external_id))

    def media(self) -> str:
        """A picture that was brought."""
        return str(self.call(UploadMediaRequest(content=PNG)).media.id)

    def lost_file(self) -> str:
        """A message with a file that did not come, and that from now on does not come at once."""
        (conversation,) = self.customers_write(1)
        control, media_id = self.dev["simulator"]["url"] + "/_control", digits(15)
        about = {"phoneNumberId": self.phone_number_id}
        post(f"{control}/media/{media_id}", {**about, "gone": True}, method="PUT")
        content = {"id": media_id, "mime_type": "image/jpeg", "sha256": "x"}
        phone = conversation.contact.name.removeprefix("Cara ")
        post(f"{control}/inbound", {**about, "from": phone, "type": "image", "content": content})
        request = ListMessagesRequest(conversation_id=conversation.id)

        def failed() -> list[str]:
            return [
                each.id
                for each in self.call(request).messages
                if each.attachments and each.attachments[0].state == ATTACHMENT_STATE_FAILED
            ]

        (message_id,) = eventually(failed)
        post(f"{control}/media/{media_id}", {**about, "missing": 1000}, method="PUT")
        return str(message_id)

    def erased(self) -> str:
        """An erasure that is done."""
        (conversation,) = self.customers_write(1)
        made: str = self.call(EraseContactRequest(contact_id=conversation.contact.id)).erasure.id
        eventually(lambda: self.call(GetErasureRequest(erasure_id=made)).erasure.state == ERASURE_STATE_DONE)
        return made

    def key_with(self, *permissions: int) -> str:
        """A new API key with these permissions only."""
        request = CreateApiKeyRequest(name="narrow", permissions=permissions)  # type: ignore[arg-type]
        return str(self.call(request).secret)

    def customers_write(self, count: int) -> list[conversation_pb2.Conversation]:
        """So many customers write one message each, in one webhook; their conversations."""
        phones = [f"49151{digits(8)}" for _ in range(count)]
        messages = [{"from": phone, "text": "Hello", "name": f"Cara {phone}"} for phone in phones]
        found = post(
            self.dev["simulator"]["url"] + "/_control/inbound",
            {"phoneNumberId": self.phone_number_id, "messages": messages},
        )
        assert found["webhookStatus"] == 200
        wanted = {f"Cara {phone}" for phone in phones}
        return eventually(lambda: self._written_by(wanted))

    def customer_writes(self, conversation: conversation_pb2.Conversation, text: str) -> None:
        """The customer of a conversation writes again."""
        phone = conversation.contact.name.removeprefix("Cara ")
        body = {"phoneNumberId": self.phone_number_id, "from": phone, "text": text}
        assert post(self.dev["simulator"]["url"] + "/_control/inbound", body)["webhookStatus"] == 200

    def _written_by(self, names: set[str]) -> list[conversation_pb2.Conversation]:
        listed = self.call(ListConversationsRequest(page_size=200)).conversations
        found = [each for each in listed if each.contact.name in names]
        return found if len(found) == len(names) else []


class World(Tenant):
    """A tenant with samples of everything, and another tenant whose ids are foreign here."""

    def __init__(self, grpc: Grpc, dev: dict[str, Any]) -> None:
        super().__init__(grpc, dev, "walk")
        self.platform_key: str = dev["platform_key"]
        self.meta_app: dict[str, str] = dev["meta_app"]
        self._stock = self.customers_write(STOCK)
        self.foreign = Tenant(grpc, dev, "foreign")
        spare = CreateTenantRequest(name=f"spare-{nonce()}")
        self.spare: str = self.call(spare, token=self.platform_key).tenant.id
        (self.foreign_sample,) = self.foreign.customers_write(1)
        self.foreign.call(SendMessageRequest(conversation_id=self.foreign_sample.id, text=SendText(body="Good day")))
        foreign = ListDeliveriesRequest(conversation_id=self.foreign_sample.id)
        self.foreign_delivery: str = self.foreign.call(foreign).deliveries[0].id
        self.foreign_note: str = self._note(self.foreign, self.foreign_sample.id)
        self.foreign_policy: str = self._policy(self.foreign)
        self.foreign_attribute: str = self._attribute(self.foreign)
        read = [options_pb2.PERMISSION_CONVERSATIONS_READ]
        self.foreign_role: str = self.foreign.call(CreateRoleRequest(name="foreign", permissions=read)).role.id
        invite = CreateInviteRequest(email="foreign@example.com", name="foreign")
        self.foreign_invite: str = self.foreign.call(invite).invite.id
        self.foreign_template: str = self.foreign.template()
        self.foreign_erasure: str = self.foreign.erased()
        self.foreign_media: str = self.foreign.media()
        self.foreign_tag: str = self.foreign.call(CreateTagRequest(name="foreign")).tag.id
        self._make_sample()
        self._archive()

    def _make_sample(self) -> None:
        """One conversation with notes, tags, an assignment, and an answer that was read."""
        self.sample = self.conversation()
        self.sample_note = self._note(self, self.sample.id)
        self.call(AddConversationTagsRequest(conversation_id=self.sample.id, tags=["sample", "vip"]))
        changed = UpdateConversationRequest(conversation_id=self.sample.id, subject="A subject")
        changed.attributes.update({"order": 17, "paid": True, "words": ["a", None], "nested": {"ä": "ö"}})
        self.call(changed)
        self.call(AssignConversationRequest(conversation_id=self.sample.id, agent_id=self.agents["agent"]))
        self.sent: str = self.send(self.sample.id).id
        self.sample_delivery: str = self._delivery(self.sample.id).id
        read = message_pb2.MESSAGE_STATUS_READ
        eventually(lambda: self.call(GetMessageRequest(message_id=self.sent)).message.status == read)

    def _archive(self) -> None:
        self.archived = self.conversation()
        for status in ("RESOLVED", "ARCHIVED"):
            self.move(self.archived.id, status)

    def move(self, conversation_id: str, status: str) -> None:
        number = conversation_pb2.ConversationStatus.Value(f"CONVERSATION_STATUS_{status}")
        self.call(UpdateConversationStatusRequest(conversation_id=conversation_id, status=number))

    def send(self, conversation_id: str, text: str = "Good day") -> message_pb2.Message:
        request = SendMessageRequest(conversation_id=conversation_id, text=SendText(body=text), request_id=nonce())
        message: message_pb2.Message = self.call(request).message
        return message

    def _delivery(self, conversation_id: str) -> delivery_pb2.Delivery:
        """The newest delivery of a conversation."""
        listed = self.call(ListDeliveriesRequest(conversation_id=conversation_id)).deliveries
        newest: delivery_pb2.Delivery = listed[0]
        return newest

    def _refused(self, code: int, settled: Callable[[delivery_pb2.Delivery], bool]) -> str:
        """The delivery of an answer that the provider refuses once with this code, as soon as that is stored."""
        conversation = self.conversation()
        recipient = conversation.contact.name.removeprefix("Cara ")
        fault = {"kind": "error", "code": code, "count": 1, "filter": {"recipient": recipient}}
        post(self.dev["simulator"]["url"] + "/_control/faults", fault)
        self.send(conversation.id)
        eventually(lambda: settled(self._delivery(conversation.id)))
        return self._delivery(conversation.id).id

    def dead_letter(self) -> str:
        """A delivery that failed."""
        return self._refused(131026, lambda found: found.state == delivery_pb2.DELIVERY_STATE_FAILED)

    def stuck_delivery(self) -> str:
        """A delivery that is tried again tomorrow."""
        return self._refused(
            131049, lambda found: found.state == delivery_pb2.DELIVERY_STATE_QUEUED and found.HasField("error")
        )

    @staticmethod
    def _note(tenant: Tenant, conversation_id: str) -> str:
        added = tenant.call(AddConversationNoteRequest(conversation_id=conversation_id, text="A note"))
        return str(added.note.id)

    @staticmethod
    def _attribute(tenant: Tenant) -> str:
        request = CreateAttributeDefinitionRequest(
            target=ATTRIBUTE_TARGET_CONTACT, key="birthday", type=ATTRIBUTE_TYPE_DATE
        )
        return str(tenant.call(request).attribute_definition.id)

    @staticmethod
    def _policy(tenant: Tenant) -> str:
        """Of the tenant's team; it gives nobody anything."""
        manual = AssignmentSettings(strategy=ASSIGNMENT_TYPE_MANUAL)
        created = tenant.call(CreateAssignmentPolicyRequest(team_id=tenant.team_id, settings=manual))
        return str(created.policy.id)

    def note(self) -> tuple[str, str]:
        """A fresh conversation with a note: both ids."""
        conversation_id = self.conversation().id
        return conversation_id, self._note(self, conversation_id)

    def conversation(self) -> conversation_pb2.Conversation:
        """A conversation that nobody has touched: new, one message, unread."""
        if not self._stock:
            self._stock = self.customers_write(STOCK)
        return self._stock.pop()

    def tag(self) -> str:
        """A fresh word of the vocabulary."""
        return str(self.call(CreateTagRequest(name=f"Word {nonce()}")).tag.id)

    def api_key_id(self) -> str:
        """A fresh API key."""
        permission = options_pb2.PERMISSION_CONTACTS_READ
        return str(self.call(CreateApiKeyRequest(name="fresh", permissions=[permission])).api_key.id)
