"""Every list and every look-up of a tenant's things takes as many statements for much as for little: none for each row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from switchboard.v1 import (
    agent_service_pb2,
    assignment_policy_service_pb2,
    assignment_service_pb2,
    attribute_definition_service_pb2,
    audit_service_pb2,
    availability_service_pb2,
    channel_service_pb2,
    contact_service_pb2,
    conversation_service_pb2,
    delivery_service_pb2,
    invite_service_pb2,
    message_service_pb2,
    settings_service_pb2,
    statistics_service_pb2,
    tag_service_pb2,
)

from server.agents.presence import Presence
from server.assignments.availability_servicer import AvailabilityServicer
from server.assignments.policy_servicer import AssignmentPolicyServicer
from server.assignments.servicer import AssignmentServicer
from server.attributes.servicer import AttributeDefinitionServicer
from server.audit.servicer import AuditServicer
from server.channels.servicer import ChannelServicer
from server.contacts.servicer import ContactServicer
from server.conversations.servicer import ConversationServicer
from server.conversations.statistics.servicer import StatisticsServicer
from server.conversations.tag_servicer import TagServicer
from server.kit.db import Database
from server.log.cursor import Cursors
from server.messages.servicer import MessageServicer
from server.people.invite_servicer import InviteServicer
from server.people.servicer import AgentServicer
from server.redelivery.servicer import DeliveryServicer
from server.rpc.paging import PageTokens
from server.tenant_settings.servicer import SettingsServicer
from tests.desk import Desk
from tests.installation import Installed
from tests.rpc.office import Office, fill

MOST = 8
FILES = (
    *(attribute_definition_service_pb2, audit_service_pb2, settings_service_pb2, statistics_service_pb2),
    *(agent_service_pb2, assignment_policy_service_pb2, assignment_service_pb2, availability_service_pb2),
    *(channel_service_pb2, contact_service_pb2, conversation_service_pb2, delivery_service_pb2, message_service_pb2),
    *(invite_service_pb2, tag_service_pb2),
)
CONTROL = "the installation's, in the control database"
LOG = "pages of the log, each one statement however many events it has; it needs the tails of a whole process"
# Reads that are not counted here, and why.
LEFT_OUT = {
    "ChannelService.ListMetaApps": CONTROL,
    "TenantService.GetTenant": CONTROL,
    "TenantService.ListTenants": CONTROL,
    "AuthService.GetCaller": "says what the credential is, which is known before the call",
    "AuthService.ListApiKeys": CONTROL,
    "WebhookService.VerifyMetaWebhook": CONTROL,
    "InboxService.ListInboxEvents": LOG,
    "InboxService.WatchInbox": LOG,
}
READS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.GetOptions().idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    and f"{service.name}.{method.name}" not in LEFT_OUT
}


@pytest.fixture(scope="module")
async def office(desk: Desk, desks: Installed) -> AsyncIterator[Office]:
    tokens, cursors = PageTokens(desks.control.mac), Cursors(desks.control.mac)
    both: dict[str, Any] = {"tokens": tokens, "cursors": cursors}
    unused: Any = None
    presence = Presence(None)
    database = Database(desk.dsn, pool_size=1)
    servicers = {
        "AgentService": AgentServicer(**both),
        "AssignmentPolicyService": AssignmentPolicyServicer(**both),
        "AssignmentService": AssignmentServicer(**both, presence=presence),
        "AttributeDefinitionService": AttributeDefinitionServicer(**both),
        "AuditService": AuditServicer(**both),
        "SettingsService": SettingsServicer(cursors=cursors),
        "StatisticsService": StatisticsServicer(cursors=cursors),
        "AvailabilityService": AvailabilityServicer(**both, presence=presence),
        "ChannelService": ChannelServicer(
            **both,
            **dict.fromkeys(("tenants", "routes", "quarantine", "meta_apps"), unused),
            providers=desk.providers,
            graph_version="v26.0",
        ),
        "ContactService": ContactServicer(**both),
        "ConversationService": ConversationServicer(**both, providers=desk.providers),
        "DeliveryService": DeliveryServicer(**both),
        "InviteService": InviteServicer(**both, **dict.fromkeys(("tenants", "agent_tokens", "limits"), unused)),
        "MessageService": MessageServicer(**both, writers=unused),
        "TagService": TagServicer(**both),
    }
    made = Office(servicers, database, desk.tenant.id)

    def connected(adapted: Any, _record: Any) -> None:
        adapted.driver_connection.add_query_logger(lambda told: made.statements.append(told.query))

    sqlalchemy.event.listen(database._engine.sync_engine, "connect", connected)
    await fill(desk, made)
    yield made
    await database.close()


def test_every_read_of_the_contract_is_counted_or_says_why_not(checkout: Path) -> None:
    found = descriptor_pb2.FileDescriptorSet.FromString((checkout / "generated/descriptor.binpb").read_bytes())
    reads = {
        f"{service.name}.{method.name}"
        for file in found.file
        for service in file.service
        for method in service.method
        if method.options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    }
    assert reads == {*READS, *LEFT_OUT}


@pytest.mark.parametrize("name", READS)
async def test_much_takes_as_many_statements_as_little(office: Office, name: str) -> None:
    method = READS[name]
    for _ in range(2):
        # The first time a connection learns types, and what is there is looked up.
        little, few = await office.ask(method, office.little, size=1)
        much, many = await office.ask(method, office.much, size=200)
    assert many == few
    assert 0 < len(many) <= MOST
    if "page_size" in method.input_type.fields_by_name:
        assert much.ByteSize() > little.ByteSize(), "there was no more to be read"
