"""One success and one refusal of every RPC; the rows are in the files of the services' families, `contract_cases_*.py`. A success
is asked for anew on every transport: what changes something is done to something fresh."""

from collections.abc import Mapping

from contract_case import Case
from contract_cases_conversations import CONVERSATIONS, DELIVERIES, INBOX, MEDIA, MESSAGES, STATISTICS, TAGS
from contract_cases_tenant import (
    ATTRIBUTES,
    AUDIT,
    AUTH,
    CHANNELS,
    CONTACT_MERGES,
    CONTACTS,
    ERASURES,
    INTAKE,
    SETTINGS,
    TEMPLATES,
    TENANTS,
    WEBHOOKS,
)
from contract_cases_work import AGENTS, ASSIGNMENTS, AVAILABILITY, INVITES, POLICIES
from contract_world import World

HTTP_BODY = "google.api.HttpBody: raw bytes in or out, which only a provider sends, over HTTP"
STREAM = "a stream: the walk of streams compares its first items and its end"

# What is left out of the walk of unary calls, and why. Everything else goes over every transport.
EXCLUDED: Mapping[tuple[str, str], str] = {
    ("WebhookService.VerifyMetaWebhook", "cli"): HTTP_BODY,
    ("WebhookService.VerifyMetaWebhook", "python"): HTTP_BODY,
    ("WebhookService.ReceiveMetaWebhook", "cli"): HTTP_BODY,
    ("WebhookService.ReceiveMetaWebhook", "python"): HTTP_BODY,
    ("InboxService.WatchInbox", "*"): STREAM,
}

# What these answer follows the log: between two calls more of it may have been counted.
COUNTED_LATER = ("ConversationService.GetConversationStatistics", "StatisticsService.GetStatistics")


def token(world: World, caller: str) -> str:
    """The credential of a caller."""
    known = {"key": world.key, "platform": world.platform_key, "nobody": "", "broken": "sb_broken"}
    return known[caller] if caller in known else world.tokens[caller]


CASES: Mapping[str, Case] = {
    f"{service}.{name}": case
    for service, cases in {
        "ConversationService": CONVERSATIONS,
        "MessageService": MESSAGES,
        "TagService": TAGS,
        "DeliveryService": DELIVERIES,
        "AssignmentService": ASSIGNMENTS,
        "AssignmentPolicyService": POLICIES,
        "AvailabilityService": AVAILABILITY,
        "InboxService": INBOX,
        "ContactService": CONTACTS,
        "ContactMergeService": CONTACT_MERGES,
        "ErasureService": ERASURES,
        "MediaService": MEDIA,
        "ChannelService": CHANNELS,
        "IntakeService": INTAKE,
        "AttributeDefinitionService": ATTRIBUTES,
        "SettingsService": SETTINGS,
        "AgentService": AGENTS,
        "InviteService": INVITES,
        "AuthService": AUTH,
        "AuditService": AUDIT,
        "StatisticsService": STATISTICS,
        "TemplateService": TEMPLATES,
        "TenantService": TENANTS,
        "WebhookService": WEBHOOKS,
    }.items()
    for name, case in cases.items()
}
