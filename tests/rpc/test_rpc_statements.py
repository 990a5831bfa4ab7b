"""Every list and every look-up of a tenant's things takes as many statements for much as for little: none for each row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
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
    erasure_service_pb2,
    invite_service_pb2,
    media_service_pb2,
    message_service_pb2,
    settings_service_pb2,
    statistics_service_pb2,
    tag_service_pb2,
    template_service_pb2,
)

from tests.desk import Desk
from tests.installation import Installed
from tests.rpc.office import Office, fill, opened

MOST = 8
FILES = (
    *(attribute_definition_service_pb2, audit_service_pb2, settings_service_pb2, statistics_service_pb2),
    *(agent_service_pb2, assignment_policy_service_pb2, assignment_service_pb2, availability_service_pb2),
    *(channel_service_pb2, contact_service_pb2, conversation_service_pb2, delivery_service_pb2, message_service_pb2),
    *(erasure_service_pb2, invite_service_pb2, media_service_pb2, tag_service_pb2, template_service_pb2),
)
CONTROL = "the installation's, in the control database"
LOG = "pages of the log, each one statement however many events it has; it needs the tails of a whole process"
# Reads that are not counted here, and why.
LEFT_OUT = {
    "ChannelService.GetMetaApp": CONTROL,
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
    async with opened(desk, desks) as made:
        await fill(desk, made)
        yield made


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
    assert len(many) == len(few), many
    assert 0 < len(many) <= MOST
    if "page_size" in method.input_type.fields_by_name:
        assert much.ByteSize() > little.ByteSize(), "there was no more to be read"
