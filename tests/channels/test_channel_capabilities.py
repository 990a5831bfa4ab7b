"""What a channel says it can send is what it takes: each limit that is told is kept to, and nothing beyond it is taken."""

from __future__ import annotations

import uuid
from typing import Any, cast

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from switchboard.v1 import channel_service_pb2 as channels
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1.channel_capabilities_pb2 import ChannelCapabilities
from switchboard.v1.channel_pb2 import PROVIDER_API, Channel
from switchboard.v1.channel_service_pb2_grpc import ChannelServiceStub
from switchboard.v1.contact_pb2 import ALIAS_KIND_USER_REF
from switchboard.v1.contact_service_pb2 import AddContactIdentityRequest
from switchboard.v1.contact_service_pb2_grpc import ContactServiceStub
from switchboard.v1.conversation_pb2 import Conversation
from switchboard.v1.conversation_service_pb2_grpc import ConversationServiceStub
from switchboard.v1.message_service_pb2 import SendMessageRequest
from switchboard.v1.message_service_pb2_grpc import MessageServiceStub

from server.channels.capabilities import FILE_KIND, capabilities
from server.kit.ids import new_id
from server.messages import attached, files
from server.messages import content as contents
from server.messages.limits import check, fitted
from server.messages.row import AttachmentRow
from server.providers.content import Content, File
from server.providers.whatsapp.contents import rendered
from server.providers.whatsapp.provider import WhatsApp
from server.rpc.validate import check as validate
from server.simulator.contents import problem
from tests.channels.composer import BODIES, Try, plain, tries
from tests.desk import phone

TOLD = capabilities(WhatsApp.capabilities, per_second=None)
WITHIN = [each for content in TOLD.contents for each in tries(content) if not each.field]
EVERYTHING = {field.name for field in SendMessageRequest.DESCRIPTOR.oneofs_by_name["content"].fields}


class Client:
    """Calls with the tenant's key."""

    def __init__(self, channel: grpc.Channel, dev: dict[str, Any]) -> None:
        self._channel = channel
        self._with = (("authorization", f"Bearer {dev['tenant_key']}"),)
        self.number = dev["channels"][0]["id"]

    def told(self, channel_id: str) -> ChannelCapabilities:
        """What a channel can send."""
        request = channels.GetChannelRequest(channel_id=channel_id)
        found = ChannelServiceStub(self._channel).GetChannel(request, metadata=self._with).channel.capabilities
        return cast(ChannelCapabilities, found)

    def listed(self) -> list[Channel]:
        """All channels."""
        found = ChannelServiceStub(self._channel).ListChannels(channels.ListChannelsRequest(), metadata=self._with)
        return list(found.channels)

    def begun(self, **to: str) -> Conversation:
        """A conversation with somebody."""
        request = conversations.CreateConversationRequest(**to)
        made = ConversationServiceStub(self._channel).CreateConversation(request, metadata=self._with)
        return cast(Conversation, made.conversation)

    def own(self) -> str:
        """A channel of one's own."""
        setting = channels.ChannelSetting(name="callback_url", value="http://127.0.0.1:9/")
        request = channels.ConnectChannelRequest(name="Own", provider=PROVIDER_API, settings=[setting])
        return str(ChannelServiceStub(self._channel).ConnectChannel(request, metadata=self._with).channel.id)

    def begun_there(self, channel_id: str) -> str:
        """A conversation on a channel of one's own."""
        contact_id = self.begun(channel_id=self.number, phone_number=f"+{phone()}").contact.id
        about = {"contact_id": contact_id, "channel_id": channel_id, "kind": ALIAS_KIND_USER_REF}
        request = AddContactIdentityRequest(**about, value=uuid.uuid4().hex)
        contact = ContactServiceStub(self._channel).AddContactIdentity(request, metadata=self._with).contact
        (identity,) = [each for each in contact.identities if each.channel_id == channel_id]
        return self.begun(channel_id=channel_id, identity_id=identity.id).id

    def refused(self, request: SendMessageRequest) -> tuple[str, list[str], str]:
        """Reason, fields, and the limit of the first."""
        with pytest.raises(grpc.RpcError) as caught:
            MessageServiceStub(self._channel).SendMessage(request, metadata=self._with)
        info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in rpc_status.from_call(caught.value).details:
            detail.Unpack(info)
            detail.Unpack(fields)
        return info.reason, [plain(each.field) for each in fields.field_violations], info.metadata["limit"]


@pytest.fixture
def client(grpc_channel: grpc.Channel, dev: dict[str, Any]) -> Client:
    return Client(grpc_channel, dev)


def parts(request: SendMessageRequest) -> list[Content]:
    """What the provider is handed; nothing of plain text. ProviderLimit."""
    asked = attached.of_request(request)
    rows = [
        AttachmentRow(new_id(), place, each.kind, "", each.file_name, 1, caption=each.caption, media_id=new_id())
        for place, each in enumerate(asked)
    ]
    named = [File(media_id="1", type=cast(Any, row.kind), caption=row.caption, provider_id="2") for row in rows]
    if request.WhichOneof("content") == "media":
        check(WhatsApp.capabilities, None, attached.media_of(rows))
        return [cast(Content, files.carried(None, each)) for each in named]
    content = contents.asked(request)
    text = request.text.body if content is None else contents.text_of(content)
    made = fitted(WhatsApp.capabilities, text, content)
    made = files.carried(made, named[0]) if named else made
    return [] if made is None else [made]


def test_every_content_of_the_contract_is_among_those_of_whatsapp() -> None:
    assert {each.content for each in TOLD.contents} == EVERYTHING == set(BODIES)


@pytest.mark.parametrize("within", WITHIN, ids=lambda each: each.name)
def test_a_message_at_a_limit_is_taken_here_and_by_meta(within: Try) -> None:
    request = within.request()
    validate(request)
    assert {problem(rendered(part)) for part in parts(request)} <= {None}


def test_a_message_beyond_any_limit_that_a_channel_tells_is_refused_by_its_field(client: Client) -> None:
    told = client.told(client.number)
    conversation_id = client.begun(channel_id=client.number, phone_number=f"+{phone()}").id
    numbers = {limit.field: limit for content in told.contents for limit in content.limits}
    tried = [each for content in told.contents for each in tries(content) if each.field]
    assert [field for field in numbers if not any(each.field.startswith(field) for each in tried)] == []
    for beyond in tried:
        reason, fields, most = client.refused(beyond.request(conversation_id))
        assert (beyond.name, reason, fields[0]) == (beyond.name, "PROVIDER_LIMIT", beyond.field)
        if "+1" in beyond.name:
            limit = numbers[beyond.field]
            assert most == str(limit.max_items if "-items+" in beyond.name else limit.max_characters)


def test_what_a_channel_does_not_tell_of_is_refused(client: Client) -> None:
    own = client.own()
    told = client.told(own)
    assert json_format.MessageToDict(told) == {
        "contents": [{"content": "text", "limits": [{"field": "text.body", "maxCharacters": 65536}]}],
        "recipients": ["user_ref"],
        "messagesPerSecond": 100,
        "recipientInterval": "0.100s",
        "recipientBurst": 21,
    }
    conversation_id = client.begun_there(own)
    for content in sorted(EVERYTHING - {"text", "template"}):
        body = {name: value for name, value in BODIES[content].items() if name != "header_media"}
        reason, fields, _ = client.refused(Try(content, {content: body}, "").request(conversation_id))
        assert (reason, fields[0].partition(".")[0]) == ("PROVIDER_LIMIT", content)


def test_files_are_told_as_they_are_compared() -> None:
    assert [FILE_KIND.word(each.kind) for each in TOLD.files] == list(WhatsApp.capabilities.files)
    for told, takes in zip(TOLD.files, WhatsApp.capabilities.files.values(), strict=True):
        assert {each.mime_type: takes.most(each.mime_type) for each in told.types} == dict(takes.types)
        for each in told.types:
            moving = told.animated_max_bytes if told.HasField("animated_max_bytes") else each.max_bytes
            assert takes.most(each.mime_type, animated=True) == moving
        assert takes.most("x/y") == (told.other_max_bytes if told.HasField("other_max_bytes") else None)
        assert (tuple(told.voice_types), told.captioned) == (takes.voice, takes.captioned)


def test_only_the_channel_itself_tells_what_it_can_send(client: Client) -> None:
    assert client.told(client.number).messages_per_second == 80
    assert not any(each.HasField("capabilities") for each in client.listed())
