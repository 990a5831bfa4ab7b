"""Every string of every request, given what nobody should send: a NUL, a malformed id."""

import pytest
from contract_agree import refused_alike
from contract_fields import Place, places, put
from contract_outcome import Refused, methods
from contract_table import CASES, token
from contract_transports import Grpc, Transport
from contract_world import World
from google.protobuf.message import Message

ALL = [place for place in places() if not methods()[place.rpc].server_streaming]
IDS = [place for place in ALL if place.is_id]
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
