"""Tables of a tenant's database. Importing this module registers all of them."""

from server.models.tenant.agent import Agent, ChannelMember, Role, Team, TeamMember
from server.models.tenant.assignment import (
    AgentLoad,
    AssignmentPolicy,
    AssignmentQueue,
    AssignmentTurn,
    ConversationAssignment,
)
from server.models.tenant.audit import AuditEntry, AuditHead, AuditPending
from server.models.tenant.channel import Channel
from server.models.tenant.contact import (
    Contact,
    ContactKey,
    ContactMerge,
    Identity,
    IdentityAlias,
    IdentityConflict,
    MarketingConsent,
)
from server.models.tenant.conversation import (
    Conversation,
    ConversationAttributeKey,
    ConversationParticipant,
    ReadPosition,
)
from server.models.tenant.delivery import Delivery, Mark, RecipientBucket, SentReaction
from server.models.tenant.erasure import ErasedKey, Erasure
from server.models.tenant.idempotency import IdempotentRequest
from server.models.tenant.invite import Invite
from server.models.tenant.journal import Journal, JournalItem
from server.models.tenant.message import (
    Media,
    MediaFetch,
    MediaLeaving,
    Message,
    MessageAttachment,
    MessagePart,
    ProviderMedia,
)
from server.models.tenant.note import ConversationNote
from server.models.tenant.receipt import MessageStatusUpdate, ParkedReceipt
from server.models.tenant.setting import AttributeDefinition, TenantSetting
from server.models.tenant.statistics import ConversationCount, CountedConversation, StatisticsBucket, StatisticsStart
from server.models.tenant.stream import Consumer, StreamEvent, StreamHead
from server.models.tenant.tag import ConversationTag, Tag
from server.models.tenant.template import Template
from server.models.tenant.text import ConversationWord, UnreadText
from server.models.tenant.timer import Timer
from server.models.tenant.trace import Trace

__all__ = [
    "Agent",
    "AgentLoad",
    "AssignmentPolicy",
    "AssignmentQueue",
    "AssignmentTurn",
    "AttributeDefinition",
    "AuditEntry",
    "AuditHead",
    "AuditPending",
    "Channel",
    "ChannelMember",
    "Consumer",
    "Contact",
    "ContactKey",
    "ContactMerge",
    "Conversation",
    "ConversationAssignment",
    "ConversationAttributeKey",
    "ConversationCount",
    "ConversationNote",
    "ConversationParticipant",
    "ConversationTag",
    "ConversationWord",
    "CountedConversation",
    "Delivery",
    "ErasedKey",
    "Erasure",
    "IdempotentRequest",
    "Identity",
    "IdentityAlias",
    "IdentityConflict",
    "Invite",
    "Journal",
    "JournalItem",
    "Mark",
    "MarketingConsent",
    "Media",
    "MediaFetch",
    "MediaLeaving",
    "Message",
    "MessageAttachment",
    "MessagePart",
    "MessageStatusUpdate",
    "ParkedReceipt",
    "ProviderMedia",
    "ReadPosition",
    "RecipientBucket",
    "Role",
    "SentReaction",
    "StatisticsBucket",
    "StatisticsStart",
    "StreamEvent",
    "StreamHead",
    "Tag",
    "Team",
    "TeamMember",
    "Template",
    "TenantSetting",
    "Timer",
    "Trace",
    "UnreadText",
]
