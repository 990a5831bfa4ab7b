"""Credentials that are not good (OWASP API2:2023): one answer each, the same over gRPC and REST."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from contract_agree import refused_alike
from contract_outcome import Refused, methods
from contract_transports import Grpc, Transport
from contract_world import World
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import duration_pb2
from switchboard.v1 import agent_service_pb2 as agents
from switchboard.v1 import auth_service_pb2 as auth
from switchboard.v1 import channel_service_pb2 as channels
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1 import options_pb2

from server.agents.roles import PERMISSIONS
from server.embedded.stack import Stack
from server.settings import load
from server.tenancy.control import open_control

CALLER = methods()["AuthService.GetCaller"]
Sign = Callable[..., str]


@pytest.fixture(scope="module")
async def own_key(stack: Stack) -> Ed25519PrivateKey:
    """The installation's own signing key: what is wrong with a token is then the claim alone."""
    dsn = stack.dev()["postgres"]["control"]
    control = await open_control(load({"control_dsn": dsn, "master_key_file": str(stack.home.master_key)}))
    async with control.database.connection() as connection:
        row = await connection.fetchrow("SELECT id, private_key FROM signing_keys WHERE retire_time IS NULL")
    raw = control.box.open(row["private_key"], table="signing_keys", column="private_key", row=row["id"])
    await control.close()
    return Ed25519PrivateKey.from_private_bytes(raw)


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, claims, signature = token.split(".")
    return _read(header), _read(claims), signature


def _read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def written(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.fixture
def sign(world: World, own_key: Ed25519PrivateKey) -> Sign:
    """A good token of the owner with other claims or headers, signed by our key or another."""
    header, claims, _ = parts(world.tokens["owner"])

    def signed(key: Any = own_key, *, algorithm: str = "EdDSA", headers: Any = None, **changed: Any) -> str:
        kept = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        return jwt.encode(kept, key, algorithm=algorithm, headers={**header, "alg": algorithm, **(headers or {})})

    return signed


def test_a_token_signed_by_the_installations_key_is_good(direct: Grpc, world: World, sign: Sign) -> None:
    caller = direct.call(CALLER, auth.GetCallerRequest(), token=sign(jti="another"))
    assert isinstance(caller, auth.GetCallerResponse)
    assert (caller.tenant_id, caller.agent_id) == (world.id, world.agents["owner"])


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_an_unsigned_token_is_invalid(edges: list[Transport], world: World, algorithm: str, signature: str) -> None:
    header, claims, _ = parts(world.tokens["owner"])
    token = f"{written({**header, 'alg': algorithm})}.{written(claims)}.{signature}"
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), token).reason == "CREDENTIAL_INVALID"


def test_a_token_of_another_key_is_invalid(edges: list[Transport], sign: Sign) -> None:
    token = sign(Ed25519PrivateKey.generate())
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), token).reason == "CREDENTIAL_INVALID"


def test_a_token_signed_with_the_public_key_as_a_secret_is_invalid(
    edges: list[Transport], sign: Sign, own_key: Ed25519PrivateKey
) -> None:
    public = own_key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    token = sign(public, algorithm="HS256")
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), token).reason == "CREDENTIAL_INVALID"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": "another"},
        {"sub": "ana"},
        {"sub": None},
        {"tid": None},
        {"tid": "01a00000-0000-7000-8000-000000000000"},
        {"exp": int(time.time()) + 86400},
        {"exp": None},
        {"nbf": int(time.time()) + 3600},
        {"headers": {"typ": "JWT"}},
        {"headers": {"kid": "another"}},
    ],
    # Without the values: a time would be another in each process that collects the tests.
    ids=",".join,
)
def test_a_token_with_a_wrong_claim_is_invalid(edges: list[Transport], sign: Sign, changed: dict[str, Any]) -> None:
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), sign(**changed)).reason == "CREDENTIAL_INVALID"


def test_a_token_with_another_tenant_and_the_old_signature_is_invalid(edges: list[Transport], world: World) -> None:
    header, claims, signature = parts(world.tokens["owner"])
    token = f"{written(header)}.{written({**claims, 'tid': world.foreign.id})}.{signature}"
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), token).reason == "CREDENTIAL_INVALID"


@pytest.mark.parametrize("token", ["x", "a.b.c", "sb_", "sb_aaaaaaaaaaaaaaaa_" + "0" * 64, "e30.e30.", "x" * 3000])
def test_what_is_no_credential_is_invalid(edges: list[Transport], token: str) -> None:
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), token).reason == "CREDENTIAL_INVALID"


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "bearer ", "Token x"])
def test_a_header_of_another_form_is_invalid(direct: Grpc, header: str) -> None:
    with pytest.raises(Refused) as raised:
        direct.call(CALLER, auth.GetCallerRequest(), token="", headers={"authorization": header})
    assert raised.value.reason == "CREDENTIAL_INVALID"


def test_a_key_with_another_secret_is_invalid(edges: list[Transport], world: World) -> None:
    key = world.key[:-1] + ("0" if world.key[-1] != "0" else "1")
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), key).reason == "CREDENTIAL_INVALID"


def test_an_expired_token_says_so(edges: list[Transport], sign: Sign) -> None:
    past = int(time.time()) - 600
    token = sign(iat=past, nbf=past, exp=past + 60)
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), token).reason == "CREDENTIAL_EXPIRED"


def test_a_credential_ends_when_it_says_although_it_was_good_before(edges: list[Transport], world: World) -> None:
    second = duration_pb2.Duration(seconds=1)
    asked = auth.CreateAgentTokenRequest(agent_id=world.agents["agent"], lifetime=second)
    made = world.call(asked)
    remaining = made.expire_time.ToMicroseconds() / 1e6 - time.time()
    world.call(auth.GetCallerRequest(), token=made.token) if remaining > 0.3 else None
    time.sleep(max(remaining, 0) + 0.05)
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), made.token).reason == "CREDENTIAL_EXPIRED"


def test_a_revoked_key_is_refused_by_every_process(edges: list[Transport], world: World) -> None:
    permission = options_pb2.PERMISSION_CONTACTS_READ
    made = world.call(auth.CreateApiKeyRequest(name="ends", permissions=[permission]))
    for each in edges:
        each.call(CALLER, auth.GetCallerRequest(), token=made.secret)
    world.call(auth.RevokeApiKeyRequest(api_key_id=made.api_key.id))
    until = time.monotonic() + 30
    # The edge spreads calls over the processes: ten refusals in a row have met all of them.
    while time.monotonic() < until and any(_reason(edges[1], made.secret) == "" for _ in range(10)):
        time.sleep(0.05)
    assert refused_alike(edges, CALLER, auth.GetCallerRequest(), made.secret).reason == "CREDENTIAL_REVOKED"


def test_new_rights_of_an_agent_are_known_to_every_process(edges: list[Transport], world: World) -> None:
    agent_id = world.call(agents.CreateAgentRequest(name="Newcomer")).agent.id
    credential, listing = world.token_of(agent_id), methods()["ChannelService.ListChannels"]
    rest, request = edges[1], channels.ListChannelsRequest()

    def seen() -> int:
        return len(rest.call(listing, request, token=credential).channels)  # type: ignore[attr-defined]

    assert [seen() for _ in range(10)] == [0] * 10
    world.call(agents.SetAgentMembershipsRequest(agent_id=agent_id, channel_ids=[world.channel_id]))
    until = time.monotonic() + 30
    while time.monotonic() < until and any(seen() == 0 for _ in range(10)):
        time.sleep(0.05)
    assert [seen() for _ in range(10)] == [1] * 10


def _reason(transport: Transport, credential: str) -> str:
    try:
        transport.call(CALLER, auth.GetCallerRequest(), token=credential)
    except Refused as refused:
        return refused.reason
    return ""


def test_who_is_disabled_is_out_at_once(direct: Grpc, h2c: Grpc, world: World) -> None:
    """In the process that was asked, in the other one, and where a stream is open."""
    agent_id = world.call(agents.CreateAgentRequest(name="Leaving")).agent.id
    token = world.token_of(agent_id)
    stream = h2c.items(methods()["InboxService.WatchInbox"], inbox.WatchInboxRequest(), token=token)
    next(stream)
    world.call(agents.DisableAgentRequest(agent_id=agent_id))
    last: Any = list(stream)[-1]
    assert last.end.reason == inbox.END_REASON_CREDENTIAL_REVOKED
    with pytest.raises(Refused) as refused:
        direct.call(CALLER, auth.GetCallerRequest(), token=token)
    assert refused.value.reason == "CREDENTIAL_REVOKED"
    with pytest.raises(Refused) as unknown:
        world.token_of(agent_id)
    assert unknown.value.reason == "RESOURCE_NOT_FOUND"
    world.call(agents.EnableAgentRequest(agent_id=agent_id))
    assert direct.call(CALLER, auth.GetCallerRequest(), token=token)


def test_a_key_signs_in_nobody_who_may_more_than_itself(direct: Grpc, world: World) -> None:
    admins = world.key_with(*PERMISSIONS["admin"])
    for key, role in ((world.key_with(options_pb2.PERMISSION_TOKENS_ISSUE), "read_only"), (admins, "owner")):
        request = auth.CreateAgentTokenRequest(agent_id=world.agents[role])
        with pytest.raises(Refused) as refused:
            direct.call(methods()["AuthService.CreateAgentToken"], request, token=key)
        assert refused.value.reason == "PERMISSION_MISSING"
    assert world.call(auth.CreateAgentTokenRequest(agent_id=world.agents["admin"]), token=admins).token
