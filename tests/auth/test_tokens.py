import asyncio
import base64
import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.auth import tokens as tokens_module
from server.auth.tokens import AgentTokens
from server.kit.clock import utc_now
from server.kit.ids import new_id
from server.rpc.auth import CredentialExpired, CredentialInvalid
from tests.auth.signed_in import Process
from tests.installation import Installed

TENANT, AGENT = new_id(), new_id()


class At(float):
    """Seconds from the moment of signing."""


CLAIMS: dict[str, Any] = {
    "iss": "switchboard",
    "aud": "switchboard",
    "sub": str(AGENT),
    "tid": str(TENANT),
    "iat": At(0),
    "nbf": At(0),
    "exp": At(600),
}


def at_now(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims with times in the place of offsets."""
    now = int(utc_now().timestamp())
    times = {name: now + value for name, value in claims.items() if isinstance(value, At)}
    return {**claims, **{name: int(time) if time == int(time) else time for name, time in times.items()}}


Sign = Callable[..., str]


@pytest.fixture
async def sign(installed: Installed, process: Process) -> Sign:
    """Signs claims with the installation's own key."""
    await process.tokens.issue(tenant_id=TENANT, agent_id=AGENT)
    async with installed.control.database.connection() as connection:
        row = await connection.fetchrow("SELECT id, private_key FROM signing_keys WHERE retire_time IS NULL")
    raw = installed.control.box.open(row["private_key"], table="signing_keys", column="private_key", row=row["id"])
    key = Ed25519PrivateKey.from_private_bytes(raw)

    def signed(claims: dict[str, Any], *, headers: dict[str, Any] | None = None, drop: str = "") -> str:
        kept = {name: value for name, value in {**CLAIMS, **claims}.items() if name != drop}
        return jwt.encode(
            at_now(kept), key, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": row["id"], **(headers or {})}
        )

    return signed


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_an_issued_token_says_who_and_until_when(process: Process) -> None:
    token, expire_time = await process.tokens.issue(tenant_id=TENANT, agent_id=AGENT, lifetime=timedelta(minutes=3))
    claims = await process.tokens.verify(token)
    assert (claims.tenant_id, claims.agent_id, claims.expire_time) == (TENANT, AGENT, expire_time)
    assert timedelta(minutes=2, seconds=58) < expire_time - utc_now() <= timedelta(minutes=3)


async def test_a_token_lives_fifteen_minutes_at_most(process: Process) -> None:
    _, expire_time = await process.tokens.issue(tenant_id=TENANT, agent_id=AGENT, lifetime=timedelta(days=1))
    assert expire_time - utc_now() <= timedelta(minutes=15)


async def test_another_process_knows_the_key(installed: Installed, process: Process) -> None:
    token, _ = await process.tokens.issue(tenant_id=TENANT, agent_id=AGENT)
    assert (await AgentTokens(installed.control).verify(token)).agent_id == AGENT


async def test_a_token_signed_by_our_key_is_good(process: Process, sign: Sign) -> None:
    assert (await process.tokens.verify(sign({}))).agent_id == AGENT


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "somebody"},
        {"aud": "another"},
        {"sub": "ana"},
        {"sub": 7},
        {"tid": "acme"},
        {"nbf": At(120)},
        {"iat": At(120), "exp": At(700)},
        {"exp": At(7200)},
        {"exp": "soon"},
        {"exp": At(600.5)},
        {"iat": "now"},
    ],
    ids=str,
)
async def test_wrong_claims_are_refused(process: Process, sign: Sign, claims: dict[str, Any]) -> None:
    with pytest.raises(CredentialInvalid):
        await process.tokens.verify(sign(claims))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "tid", "iat", "nbf", "exp"])
async def test_missing_claims_are_refused(process: Process, sign: Sign, name: str) -> None:
    with pytest.raises(CredentialInvalid):
        await process.tokens.verify(sign({}, drop=name))


@pytest.mark.parametrize("headers", [{"typ": "JWT"}, {"typ": "id+jwt"}, {"kid": "unknown"}, {"kid": "../1"}], ids=str)
async def test_wrong_headers_are_refused(process: Process, sign: Sign, headers: dict[str, Any]) -> None:
    with pytest.raises(CredentialInvalid):
        await process.tokens.verify(sign({}, headers=headers))


async def test_a_clock_half_a_minute_ahead_is_forgiven_at_the_beginning(process: Process, sign: Sign) -> None:
    await process.tokens.verify(sign({"iat": At(20), "nbf": At(20)}))


async def test_an_ended_token_is_refused_as_expired(process: Process, sign: Sign) -> None:
    with pytest.raises(CredentialExpired):
        await process.tokens.verify(sign({"iat": At(-700), "nbf": At(-700), "exp": At(-1)}))


async def test_a_remembered_token_ends_too(process: Process, sign: Sign) -> None:
    token = sign({"exp": At(2)})
    await process.tokens.verify(token)
    await asyncio.sleep(2.1)
    with pytest.raises(CredentialExpired):
        await process.tokens.verify(token)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
async def test_an_unsigned_token_is_refused(process: Process, alg: str) -> None:
    for signature in ("", "AAAA"):
        token = f"{part({'alg': alg, 'typ': 'at+jwt', 'kid': '1'})}.{part(at_now(CLAIMS))}.{signature}"
        with pytest.raises(CredentialInvalid):
            await process.tokens.verify(token)


async def test_our_public_key_is_no_shared_secret(installed: Installed, process: Process, sign: Sign) -> None:
    async with installed.control.database.connection() as connection:
        public = await connection.fetchval("SELECT public_key FROM signing_keys WHERE id = '1'")
    token = jwt.encode(at_now(CLAIMS), public, algorithm="HS256", headers={"typ": "at+jwt", "kid": "1"})
    with pytest.raises(CredentialInvalid):
        await process.tokens.verify(token)


async def test_a_key_that_comes_with_the_token_is_not_read(process: Process, sign: Sign) -> None:
    own = Ed25519PrivateKey.generate()
    x = base64.urlsafe_b64encode(
        own.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    ).decode()
    for extra in ({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": x.rstrip("=")}}, {"jku": "https://evil.example"}):
        token = jwt.encode(at_now(CLAIMS), own, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": "1", **extra})
        with pytest.raises(CredentialInvalid):
            await process.tokens.verify(token)


@pytest.mark.parametrize("position", [2, -2, -60])
async def test_a_changed_character_is_noticed(process: Process, sign: Sign, position: int) -> None:
    token = list(sign({}))
    token[position] = "A" if token[position] != "A" else "B"
    with pytest.raises(CredentialInvalid):
        await process.tokens.verify("".join(token))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "eyJhbGciOiJFZERTQSJ9..", "ä.ö.ü", "x" * 5000])
async def test_what_is_no_token_is_refused(process: Process, token: str) -> None:
    with pytest.raises(CredentialInvalid):
        await process.tokens.verify(token)


async def test_a_key_that_another_process_made_is_looked_up(installed: Installed, process: Process, sign: Sign) -> None:
    early = AgentTokens(installed.control)
    await early.verify(sign({}))
    place = {"table": "signing_keys", "column": "private_key"}
    async with installed.control.database.connection() as connection:
        row = await connection.fetchrow("SELECT public_key, private_key FROM signing_keys WHERE id = '1'")
    box = installed.control.box
    sealed = box.seal(box.open(row["private_key"], **place, row="1"), **place, row="new")
    await installed.execute("INSERT INTO signing_keys VALUES ('new', $1, $2, now())", row["public_key"], sealed)
    try:
        assert (await early.verify(sign({}, headers={"kid": "new"}))).agent_id == AGENT
    finally:
        await installed.execute("DELETE FROM signing_keys WHERE id = 'new'")


async def test_a_retired_key_verifies_nothing(
    installed: Installed, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = await process.tokens.issue(tenant_id=uuid.uuid4(), agent_id=AGENT)
    await process.tokens.verify(token)
    await installed.execute("UPDATE signing_keys SET retire_time = now()")
    monkeypatch.setattr(tokens_module, "KEYS_KEPT", timedelta(0))
    try:
        for tokens in (process.tokens, AgentTokens(installed.control)):
            with pytest.raises(CredentialInvalid):
                await tokens.verify(token)
    finally:
        await installed.execute("UPDATE signing_keys SET retire_time = NULL")
