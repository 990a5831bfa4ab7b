"""Every string of every request, given what nobody should send: a NUL, a malformed id, an id of somebody else."""

import pytest
from contract_agree import refused_alike
from contract_fields import Place, places, put
from contract_outcome import Refused, methods, normal
from contract_table import CASES, token
from contract_transports import Grpc, Transport
from contract_world import Tenant, World, unknown
from google.protobuf.message import Message

ALL = [place for place in places() if not methods()[place.rpc].server_streaming]
IDS = [place for place in ALL if place.is_id]
# Ids of tenants belong to the platform, to which no tenant is foreign.
OF_TENANTS = [place for place in ALL if place.names_one and place.path[-1] != "tenant_id"]
MALFORMED = ("x", "01a00000-0000-7000-8000-00000000000", "01a00000000070008000000000000000", "' OR 1=1 --")


def asked(world: World, place: Place, value: str) -> Message:
    return put(CASES[place.rpc].ask(world), place.path, value)


def outcome(direct: Grpc, place: Place, request: Message, credential: str) -> Message | Refused:
    try:
        return direct.call(methods()[place.rpc], request, token=credential)
    except Refused as refused:
        return refused


@pytest.mark.parametrize("place", ALL, ids=str)
def test_a_nul_never_breaks_anything(direct: Grpc, world: World, place: Place) -> None:
    found = outcome(direct, place, asked(world, place, "a\0b"), token(world, CASES[place.rpc].caller))
    if isinstance(found, Refused):
        assert found.reason != "INTERNAL"


@pytest.mark.parametrize("place", IDS, ids=str)
def test_a_malformed_id_is_refused_by_the_name_of_its_field(edges: list[Transport], world: World, place: Place) -> None:
    for value in MALFORMED:
        request, credential = asked(world, place, value), token(world, CASES[place.rpc].caller)
        refused = refused_alike(edges, methods()[place.rpc], request, credential)
        assert (refused.reason, refused.fields) == ("INVALID_FIELDS", [place.violation]), value


def of_kind(tenant: Tenant, world: World, name: str) -> str:
    """An id of the other tenant that a field of this name would take if it were its own."""
    sample = world.foreign_sample
    known = {
        "conversation_id": sample.id,
        "message_id": sample.last_message_id,
        "last_seen_message_id": sample.last_message_id,
        "delivery_id": world.foreign_delivery,
        "contact_id": sample.contact.id,
        "identity_id": sample.identity_id,
        "note_id": world.foreign_note,
        "agent_id": tenant.agents["agent"],
        "assignee_id": tenant.agents["agent"],
        "team_id": tenant.team_id,
        "team_ids": tenant.team_id,
        "channel_id": tenant.channel_id,
        "channel_ids": tenant.channel_id,
        "api_key_id": tenant.key_row.id,
        "policy_id": world.foreign_policy,
    }
    return known[name]


def without(found: Message | Refused, value: str) -> bytes:
    """The bytes of an outcome, with the id that was asked for replaced."""
    if isinstance(found, Refused):
        return found.status.SerializeToString().replace(value.encode(), b"asked")
    return str(normal(found)).replace(value, "asked").encode()


@pytest.mark.parametrize("place", OF_TENANTS, ids=str)
def test_an_id_of_another_tenant_is_answered_like_an_unknown_one(direct: Grpc, world: World, place: Place) -> None:
    credential = token(world, CASES[place.rpc].caller)
    strange, foreign = unknown(), of_kind(world.foreign, world, place.path[-1])
    base = CASES[place.rpc].ask(world)
    found = {}
    for value in (strange, foreign):
        request = type(base)()
        request.CopyFrom(base)
        found[value] = outcome(direct, place, put(request, place.path, value), credential)
    assert without(found[foreign], foreign) == without(found[strange], strange)


@pytest.mark.parametrize("place", [place for place in OF_TENANTS if place.path == ("conversation_id",)], ids=str)
def test_a_conversation_beyond_an_agents_rights_is_answered_like_an_unknown_one(
    direct: Grpc, world: World, place: Place
) -> None:
    hidden, strange = world.conversation().id, unknown()
    base = CASES[place.rpc].ask(world)
    found = {}
    for value in (hidden, strange):
        request = type(base)()
        request.CopyFrom(base)
        found[value] = outcome(direct, place, put(request, place.path, value), world.tokens["agent"])
        assert isinstance(found[value], Refused)
    assert without(found[hidden], hidden) == without(found[strange], strange)


@pytest.mark.parametrize(
    ("rpc", "name"),
    [
        ("MessageService.GetMessage", "message_id"),
        ("MessageService.ListMessageStatusUpdates", "message_id"),
        ("ContactService.GetContact", "contact_id"),
        ("ChannelService.GetChannel", "channel_id"),
        ("ConversationService.CreateConversation", "channel_id"),
    ],
)
def test_what_belongs_to_a_hidden_conversation_is_hidden_too(direct: Grpc, world: World, rpc: str, name: str) -> None:
    hidden, strange = world.conversation(), unknown()
    value = {
        "message_id": hidden.last_message_id,
        "contact_id": hidden.contact.id,
        "channel_id": world.channel_id,
    }[name]
    (place,) = [each for each in ALL if each.rpc == rpc and each.path == (name,)]
    found = [outcome(direct, place, asked(world, place, each), world.tokens["agent"]) for each in (value, strange)]
    assert all(isinstance(each, Refused) and each.reason == "RESOURCE_NOT_FOUND" for each in found)
    assert without(found[0], value) == without(found[1], strange)
