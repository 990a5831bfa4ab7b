"""Every RPC of the descriptors on every transport: one success and one refusal, compared field by field."""

import time
from typing import Any

import pytest
from contract_outcome import Refused, methods, normal
from contract_table import CASES, COUNTED_LATER, EXCLUDED, token
from contract_transports import Transport
from contract_world import World
from google.protobuf.descriptor import MethodDescriptor

UNARY = [name for name in methods() if (name, "*") not in EXCLUDED]


def test_the_table_has_every_rpc_of_the_descriptors_and_no_other() -> None:
    assert set(CASES) == set(methods())


def test_every_exclusion_names_an_rpc_and_a_reason() -> None:
    assert {name for name, _ in EXCLUDED} <= set(methods())
    assert all(EXCLUDED.values())


def takes(transport: Transport, name: str) -> bool:
    return (name, transport.name) not in EXCLUDED


@pytest.mark.parametrize("name", UNARY)
def test_a_success_is_the_same_on_every_transport(transports: list[Transport], world: World, name: str) -> None:
    answers = answers_of(transports, world, name)
    until = time.monotonic() + 30
    while name in COUNTED_LATER and time.monotonic() < until and differ(answers):
        answers = answers_of(transports, world, name)
    for transport_name, answer in answers.items():
        assert answer == answers["grpc"], transport_name


def differ(answers: dict[str, Any]) -> bool:
    return any(answer != answers["grpc"] for answer in answers.values())


def answers_of(transports: list[Transport], world: World, name: str) -> dict[str, Any]:
    method, case = methods()[name], CASES[name]
    answers = {}
    for transport in transports:
        if takes(transport, name):
            request = case.ask(world)
            headers = case.headers(world, request)
            answer = transport.call(method, request, token=token(world, case.caller), headers=headers)
            answers[transport.name] = normal(answer)
    return answers


@pytest.mark.parametrize("name", UNARY)
def test_a_refusal_is_the_same_on_every_transport(transports: list[Transport], world: World, name: str) -> None:
    method, case = methods()[name], CASES[name]
    refusals = {
        transport.name: refusal_of(transport, method, world) for transport in transports if takes(transport, name)
    }
    expected = refusals["grpc"]
    assert (expected.reason, expected.info.domain) == (case.reason, "switchboard")
    for transport_name, refusal in refusals.items():
        assert refusal.fields == expected.fields, transport_name
        # Code, message and every detail.
        assert normal(refusal.status) == normal(expected.status), transport_name


def refusal_of(transport: Transport, method: MethodDescriptor, world: World) -> Refused:
    case = CASES[f"{method.containing_service.name}.{method.name}"]
    credential = token(world, case.refused_caller)
    with pytest.raises(Refused) as raised:
        transport.call(method, case.refuse(world), token=credential, headers=case.refused_headers)
    return raised.value
