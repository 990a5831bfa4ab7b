"""What the ids of requests are ids of, and who has which: callers, their team, another team of the tenant, another tenant."""

from collections.abc import Mapping
from functools import cached_property

from contract_requests import attribute, connect, invited, some_role
from contract_world import World, digits, nonce
from google.protobuf.message import Message
from switchboard.v1 import agent_pb2, conversation_pb2
from switchboard.v1 import agent_service_pb2 as agents
from switchboard.v1 import assignment_policy_pb2 as policy
from switchboard.v1 import assignment_policy_service_pb2 as policies
from switchboard.v1 import assignment_service_pb2 as assignments
from switchboard.v1 import conversation_service_pb2 as conversations
from switchboard.v1 import delivery_service_pb2 as deliveries
from switchboard.v1.assignment_pb2 import ASSIGNMENT_TYPE_MANUAL

from server.agents.roles import PERMISSIONS, SEES_ALL
from server.rpc.permissions import named

# The kind of resource that a field of this name takes the id of.
KINDS: Mapping[str, str] = {
    "conversation_id": "conversation",
    "message_id": "message",
    "last_seen_message_id": "message",
    "reply_to_message_id": "message",
    "note_id": "note",
    "delivery_id": "delivery",
    "contact_id": "contact",
    "merged_contact_id": "contact",
    "identity_id": "identity",
    "channel_id": "channel",
    "channel_ids": "channel",
    "team_id": "team",
    "team_ids": "team",
    "agent_id": "agent",
    "agent_ids": "agent",
    "assignee_id": "agent",
    "actor_id": "agent",
    "policy_id": "policy",
    "role_id": "role",
    "invite_id": "invite",
    "tag_id": "tag",
    "template_id": "template",
    "erasure_id": "erasure",
    "media_id": "media",
    "attribute_definition_id": "attribute",
    "api_key_id": "api_key",
    "tenant_id": "tenant",
}

# Strings that are called ids and name no resource of a tenant.
NO_IDS: Mapping[str, str] = {
    "request_id": "made up by the caller, and looked for among the caller's own",
    "phone_number_id": "Meta's",
    "waba_id": "Meta's",
    "resource_id": "whatever a call of the tenant named, in the tenant's own trail",
    "app_id": "Meta's, of an app of the installation",
    "meta_app_id": "Meta's, of an app of the installation",
    "id": "Meta's, of an app of the installation; or of an item, unknown ones of which are kept until they are known",
    "reply_to_id": "the sender's own, of a message",
    "media_id": "of a header, which is looked up when it is sent; that of a file is a resource",
    "wa_id": "a number at WhatsApp, on a card",
    "flow_id": "the provider's",
    "catalog_id": "the provider's",
    "product_retailer_id": "of a catalog at the provider",
    "product_retailer_ids": "of a catalog at the provider",
}

# Of these no team has its own: whoever may call sees those of the whole tenant.
TENANT_WIDE: Mapping[str, str] = {
    "agent": "colleagues are whom one assigns to",
    "team": "teams are what one assigns to",
    "role": "roles are of the whole tenant",
    "invite": "who may manage agents may manage all",
    "policy": "of a team or a channel, and managed for the whole tenant",
    "attribute": "of the whole tenant",
    "tag": "the vocabulary is everybody's",
    "template": "of the account that channels share",
    "erasure": "whoever may erase contacts may see all that were",
    "media": "whoever may send may send what was brought, and knows it by its id alone",
    "api_key": "of the tenant; who may manage them may manage all",
    "tenant": "the platform's, which no tenant may ask about",
}

# Here an agent is the caller itself, for whoever does not manage assignment.
ONESELF = frozenset({"AvailabilityService.SetAvailability:agent_id", "AvailabilityService.Heartbeat:agent_id"})

SERVICE = named("CONVERSATIONS_READ", "CONVERSATIONS_WRITE", "MESSAGES_SEND", "CHANNELS_READ")
CALLERS: Mapping[str, frozenset[int]] = {**PERMISSIONS, "service": SERVICE}
SEEING_ALL = SEES_ALL | {"service"}


class Holdings:
    """One thing of each kind that belongs to a team, made when it is first asked for. Whoever changes something takes new ones."""

    def __init__(self, world: World, side: "Side") -> None:
        self._world = world
        self._side = side

    def of(self, kind: str) -> str:
        """The id of the thing of this kind."""
        return str(getattr(self, f"_{kind}"))

    @cached_property
    def _channel(self) -> str:
        return self._side.channel_id

    @property
    def _tenant(self) -> str:
        return self._world.id

    @cached_property
    def _row(self) -> conversation_pb2.Conversation:
        """A conversation given to the team and its member."""
        row = self._world.conversation()
        self._world.call(
            assignments.AssignConversationRequest(
                conversation_id=row.id, team_id=self._side.team_id, agent_id=self._side.member_id
            )
        )
        return row

    @property
    def _conversation(self) -> str:
        return self._row.id

    @property
    def _message(self) -> str:
        return self._row.last_message_id

    @property
    def _contact(self) -> str:
        return self._row.contact.id

    @cached_property
    def _identity(self) -> str:
        """Of the team's channel."""
        started = conversations.CreateConversationRequest(
            channel_id=self._side.channel_id, phone_number=f"+49151{digits(8)}"
        )
        return str(self._world.call(started).conversation.identity_id)

    @cached_property
    def _note(self) -> str:
        added = conversations.AddConversationNoteRequest(conversation_id=self._row.id, text="A note")
        return str(self._world.call(added).note.id)

    @cached_property
    def _delivery(self) -> str:
        self._world.send(self._row.id)
        return str(self._world.call(deliveries.ListDeliveriesRequest(conversation_id=self._row.id)).deliveries[0].id)

    @cached_property
    def _team(self) -> str:
        return str(self._world.call(agents.CreateTeamRequest(name=f"Team {nonce()}")).team.id)

    @cached_property
    def _agent(self) -> str:
        return self._side.new_agent("agent")

    @cached_property
    def _policy(self) -> str:
        """Of a team of its own; it gives nobody anything."""
        manual = policy.AssignmentSettings(strategy=ASSIGNMENT_TYPE_MANUAL)
        made = policies.CreateAssignmentPolicyRequest(team_id=self._team, settings=manual)
        return str(self._world.call(made).policy.id)

    @cached_property
    def _role(self) -> str:
        return some_role(self._world)

    @cached_property
    def _invite(self) -> str:
        return invited(self._world).invite.id

    @cached_property
    def _tag(self) -> str:
        return self._world.tag()

    @cached_property
    def _template(self) -> str:
        return self._world.template(self._side.channel_id)

    @cached_property
    def _erasure(self) -> str:
        return self._world.erased()

    @cached_property
    def _media(self) -> str:
        return self._world.media()

    @cached_property
    def _attribute(self) -> str:
        return attribute(self._world)

    @cached_property
    def _api_key(self) -> str:
        return self._world.api_key_id()


class Side:
    """A team with a member and a channel of its own, on which somebody has written."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.team_id: str = world.call(agents.CreateTeamRequest(name=f"Team {nonce()}")).team.id
        self.channel_id: str = world.call(connect(world)).channel.id
        self.member_id = self.new_agent("agent")
        # What is only read is the team, the member, and this.
        self.standing = self.fresh()
        vars(self.standing).update(_team=self.team_id, _agent=self.member_id)
        self.standing.of("identity")

    def fresh(self) -> Holdings:
        return Holdings(self._world, self)

    def new_agent(self, role: str) -> str:
        """One more in the team and the channel."""
        number = agent_pb2.AgentRole.Value(f"AGENT_ROLE_{role.upper()}")
        request = agents.CreateAgentRequest(
            name=nonce(), role=number, team_ids=[self.team_id], channel_ids=[self.channel_id]
        )
        return str(self._world.call(request).agent.id)


def foreign(world: World, kind: str) -> str:
    """The other tenant's thing of this kind."""
    sample, tenant = world.foreign_sample, world.foreign
    known = {
        "conversation": sample.id,
        "message": sample.last_message_id,
        "contact": sample.contact.id,
        "identity": sample.identity_id,
        "delivery": world.foreign_delivery,
        "note": world.foreign_note,
        "policy": world.foreign_policy,
        "attribute": world.foreign_attribute,
        "tag": world.foreign_tag,
        "template": world.foreign_template,
        "media": world.foreign_media,
        "erasure": world.foreign_erasure,
        "role": world.foreign_role,
        "invite": world.foreign_invite,
        "agent": tenant.agents["agent"],
        "team": tenant.team_id,
        "channel": tenant.channel_id,
        "api_key": tenant.key_row.id,
        "tenant": tenant.id,
    }
    return known[kind]


class Cast:
    """The callers of the matrix: who sees all, two agents of our team, and a service with a few permissions."""

    def __init__(self, world: World) -> None:
        self.ours, self.theirs = Side(world), Side(world)
        self.agents = {role: self.ours.new_agent(role) for role in PERMISSIONS if role not in SEES_ALL}
        self.tokens = {role: world.tokens[role] for role in SEES_ALL}
        self.tokens |= {role: world.token_of(agent_id) for role, agent_id in self.agents.items()}
        self.tokens["service"] = world.key_with(*SERVICE)
        self.asked: dict[str, Message] = {}
