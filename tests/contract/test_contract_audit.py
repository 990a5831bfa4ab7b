"""The audit trail: each change of the contract has its entry, and so has what was tried without the right."""

import ipaddress
import json
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest
from contract_outcome import Refused, methods, request_class
from contract_table import CASES, token
from contract_transports import Grpc
from contract_world import World, eventually, nonce
from google.protobuf import descriptor_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from switchboard.v1 import actor_pb2, audit_pb2, options_pb2
from switchboard.v1.audit_service_pb2 import ListAuditEntriesRequest, UpdateAuditSettingsRequest
from switchboard.v1.auth_service_pb2 import CreateApiKeyRequest
from switchboard.v1.conversation_service_pb2 import AddConversationNoteRequest, GetConversationRequest

from server.kit.clock import utc_now
from server.rpc.metrics import STREAMS
from server.rpc.rules import rule_of

NO_TENANT = "the platform's: it belongs to no tenant, so no tenant's trail has it"
# Changes that leave no entry, and why.
UNRECORDED: Mapping[str, str] = {
    "AvailabilityService.Heartbeat": "says twice a minute that somebody is still there, and changes nothing that was decided",
    "WebhookService.ReceiveMetaWebhook": "the provider's, which is nobody; the journal keeps it whole",
    "ChannelService.CreateMetaApp": NO_TENANT,
    "ChannelService.UpdateMetaApp": NO_TENANT,
    "ChannelService.DeleteMetaApp": NO_TENANT,
    "TenantService.CreateTenant": NO_TENANT,
    "TenantService.DisableTenant": NO_TENANT,
    "TenantService.EnableTenant": NO_TENANT,
}
READS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
CHANGES = [
    name
    for name, method in methods().items()
    if method.GetOptions().idempotency_level != READS and f"/switchboard.v1.{name.replace('.', '/')}" not in STREAMS
]
# Of the platform and of webhooks: they belong to no tenant's caller.
READING = [
    name
    for name in methods()
    if name not in CHANGES
    and (rule := rule_of(f"/switchboard.v1.{name.replace('.', '/')}"))
    and rule.kind not in ("platform", "public")
]
RULES = {name: rule_of(f"/switchboard.v1.{name.replace('.', '/')}") for name in CHANGES}
RECORDED = [name for name in CHANGES if name not in UNRECORDED]
DONE, REFUSED = audit_pb2.AUDIT_OUTCOME_DONE, audit_pb2.AUDIT_OUTCOME_REFUSED


def entries(world: World, start: Timestamp, **wanted: Any) -> list[audit_pb2.AuditEntry]:
    """All entries since, newest first."""
    request = ListAuditEntriesRequest(start_time=start, page_size=200, **wanted)
    found: list[audit_pb2.AuditEntry] = []
    while True:
        page = world.call(request)
        found += page.entries
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def now() -> Timestamp:
    found = Timestamp()
    found.FromDatetime(utc_now())
    return found


def full(name: str) -> str:
    return f"switchboard.v1.{name}"


def test_what_leaves_no_entry_says_why() -> None:
    assert set(UNRECORDED) <= set(CHANGES)
    for name, why in UNRECORDED.items():
        rule = rule_of(f"/switchboard.v1.{name.replace('.', '/')}")
        assert rule is not None
        assert (rule.kind == "platform") == (why is NO_TENANT)


def test_every_change_of_the_contract_has_an_entry_with_who_what_where_from_and_why(direct: Grpc, world: World) -> None:
    start = now()
    asked: dict[str, tuple[Timestamp, str]] = {}
    for name in RECORDED:
        request: Any = CASES[name].ask(world)
        cause = ""
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = cause = nonce()
        since = now()
        direct.call(methods()[name], request, token=token(world, CASES[name].caller))
        asked[name] = (since, cause)

    def missing() -> list[str]:
        found = entries(world, start)
        return [name for name in RECORDED if not any(_fits(entry, name, *asked[name]) for entry in found)]

    eventually(lambda: not missing())
    numbers = [entry.number for entry in entries(world, start)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == len(numbers)


def _fits(entry: audit_pb2.AuditEntry, name: str, since: Timestamp, cause: str) -> bool:
    return (
        entry.method == full(name)
        and entry.outcome == DONE
        and entry.create_time.ToNanoseconds() >= since.ToNanoseconds()
        and entry.HasField("client_address")
        and (not cause or entry.cause_id == cause)
        and bool(entry.actor.id)
    )


def test_every_change_that_is_refused_for_rights_has_an_entry(direct: Grpc, world: World) -> None:
    """By a key that may do one harmless thing; also the platform's methods, which no tenant may call."""
    permission = options_pb2.PERMISSION_CHANNELS_READ
    made = world.call(CreateApiKeyRequest(name="narrow", permissions=[permission]))
    tried = [name for name in CHANGES if (rule := RULES[name]) and rule.kind != "public"]
    start = now()
    for name in tried:
        with pytest.raises(Refused) as refused:
            direct.call(methods()[name], request_class(methods()[name])(), token=made.secret)
        assert refused.value.reason == "PERMISSION_MISSING"
    wanted = {full(name) for name in tried}

    def all_there() -> bool:
        found = entries(world, start, actor_id=made.api_key.id)
        return {entry.method for entry in found if entry.outcome == REFUSED} >= wanted

    eventually(all_there)


def test_an_entry_says_where_from_by_the_edge_and_not_by_the_client(world: World) -> None:
    start, conversation = now(), world.conversation()
    text = f"only for colleagues {nonce()}"
    asked = urllib.request.Request(
        f"{world.dev['url']}/v1/conversations/{conversation.id}/notes",
        data=json.dumps({"text": text, "requestId": nonce()}).encode(),
        headers={
            "authorization": f"Bearer {world.tokens['owner']}",
            "content-type": "application/json",
            "user-agent": "a page/1.0",
            "x-forwarded-for": "6.6.6.6",
        },
        method="POST",
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        assert answer.status == 200
    method = full("ConversationService.AddConversationNote")
    (entry,) = eventually(lambda: entries(world, start, resource_id=conversation.id, method=method))
    # The edge adds the address it sees; of a caller on its own machine, the machine's.
    assert ipaddress.ip_address(entry.client_address).is_private
    assert entry.user_agent == "a page/1.0"
    assert (entry.actor.kind, entry.actor.id) == (actor_pb2.ACTOR_KIND_AGENT, world.agents["owner"])
    assert [(item.field, item.resource_id) for item in entry.resources] == [("conversation_id", conversation.id)]
    assert list(entry.fields) == ["conversation_id", "text"]
    assert text not in str(entry)


def test_reads_are_recorded_where_the_tenant_wants_it(direct: Grpc, world: World) -> None:
    start, conversation = now(), world.conversation()
    looked = GetConversationRequest(conversation_id=conversation.id)
    wanted = {"resource_id": conversation.id, "method": full("ConversationService.GetConversation")}
    world.call(looked)
    world.call(UpdateAuditSettingsRequest(reads=True))
    try:

        def seen() -> list[audit_pb2.AuditEntry]:
            world.call(looked)
            return entries(world, start, **wanted)

        assert eventually(seen)[-1].outcome == DONE
    finally:
        world.call(UpdateAuditSettingsRequest(reads=False))
    before_it = entries(world, start, method=full("AuditService.UpdateAuditSettings"))[-1].number
    assert all(entry.number > before_it for entry in entries(world, start, **wanted))


def test_every_read_of_the_contract_is_recorded_where_the_tenant_wants_it(direct: Grpc, world: World) -> None:
    began, looked = now(), GetConversationRequest(conversation_id=world.conversation().id)
    wanted = full("ConversationService.GetConversation")
    world.call(UpdateAuditSettingsRequest(reads=True))
    try:
        # Each process asks for the setting every other second.
        eventually(lambda: world.call(looked) and entries(world, began, method=wanted))
        start = now()
        for name in READING:
            request, method = CASES[name].ask(world), methods()[name]
            caller = token(world, CASES[name].caller)
            if method.server_streaming:
                next(direct.items(method, request, token=caller))
            else:
                direct.call(method, request, token=caller)

        def missing() -> set[str]:
            found = {entry.method for entry in entries(world, start) if entry.HasField("client_address")}
            return {full(name) for name in READING} - found

        eventually(lambda: not missing())
    finally:
        world.call(UpdateAuditSettingsRequest(reads=False))


def test_a_call_that_a_rule_refuses_changed_nothing_and_leaves_no_entry(direct: Grpc, world: World) -> None:
    start = now()
    note = AddConversationNoteRequest(conversation_id=world.archived.id, text="no")
    with pytest.raises(Refused):
        world.call(note)
    world.call(AddConversationNoteRequest(conversation_id=world.conversation().id, text="yes"))
    method = full("ConversationService.AddConversationNote")
    found = eventually(lambda: entries(world, start, method=method))
    assert world.archived.id not in {item.resource_id for entry in found for item in entry.resources}
