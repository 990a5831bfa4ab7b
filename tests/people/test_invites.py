"""Invites: what a token is good for, until when, and that it is good once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from server.agents.roles import PERMISSIONS, id_of
from server.auth.repository import load_rights
from server.kit.db import Write
from server.kit.errors import AlreadyExists, InvalidFields
from server.kit.ids import new_id
from server.log.event import Origin
from server.people import invites, lifecycle
from server.people.invite_row import Invite
from server.people.invites import Accepted, Changed, InviteClosed, InviteInvalid, Token, Wanted
from server.rpc.auth import PermissionMissing
from server.rpc.call import Caller, CallerKind
from tests.desk import Desk, agent, nobody

OWNER = Caller(kind=CallerKind.API_KEY, permissions=PERMISSIONS["owner"])
ADMIN = Caller(kind=CallerKind.AGENT, permissions=PERMISSIONS["admin"])


def wanted(role: str = "agent", **fields: Any) -> Wanted:
    """Somebody whom nobody has invited yet."""
    return Wanted(**{"email": f"{new_id()}@example.org", "name": "Ben", "role_id": id_of(role, None), **fields})


async def invite(
    desk: Desk, whom: Wanted, *, caller: Caller = OWNER, origin: Origin | None = None
) -> tuple[Invite, Token]:
    token = invites.new_token(desk.tenant.id, new_id())

    async def work(write: Write) -> Changed:
        return await invites.create(write, token, whom, caller=caller, origin=origin or nobody())

    return (await desk.do(work)).invite, token


async def accept(desk: Desk, token: Token, *, name: str | None = None) -> Accepted:
    agent_id = new_id()
    return await desk.do(
        lambda write: invites.accept(write, token, agent_id=agent_id, name=name, origin=agent(agent_id))
    )


async def revoke(desk: Desk, invite_id: uuid.UUID, *, caller: Caller = OWNER) -> Changed:
    return await desk.do(lambda write: invites.revoke(write, invite_id, caller=caller, origin=nobody()))


async def resend(desk: Desk, invite_id: uuid.UUID, *, caller: Caller = OWNER) -> Token:
    token = invites.new_token(desk.tenant.id, invite_id)
    await desk.do(lambda write: invites.resend(write, token, caller=caller, origin=nobody()))
    return token


async def expire(desk: Desk, invite_id: uuid.UUID) -> None:
    await desk.execute("UPDATE invites SET expire_time = clock_now() WHERE id = $1", invite_id)


async def state(desk: Desk, invite_id: uuid.UUID) -> str:
    async with desk.database.connection() as connection:
        return (await invites.get(connection, invite_id)).state


async def team_of(desk: Desk, *, deleted: bool = False) -> uuid.UUID:
    team_id: uuid.UUID = await desk.value(
        "INSERT INTO teams (id, name, create_time, delete_time)"
        " VALUES ($1, $1::uuid::text, now(), CASE WHEN $2 THEN now() END) RETURNING id",
        *(new_id(), deleted),
    )
    return team_id


async def test_who_accepts_is_an_agent_with_the_role_teams_and_channels(desk: Desk) -> None:
    team_id, channel = await team_of(desk), await desk.new_channel()
    head = await desk.value("SELECT head FROM stream_head")
    made, token = await invite(desk, wanted("supervisor", team_ids=[team_id], channel_ids=[channel.id]))
    assert made.state == "pending"
    assert made.expire_time - made.create_time == timedelta(days=7)
    member = (await accept(desk, token)).member
    assert (member.agent.name, member.agent.email, member.agent.role) == ("Ben", made.email, "supervisor")
    assert (member.team_ids, member.channel_ids) == ([team_id], [channel.id])
    rights = await load_rights(desk.database, member.agent.id)
    assert rights is not None
    assert rights.permissions == PERMISSIONS["supervisor"]
    assert await desk.kinds(after=head) == ["agent_invited", "agent_created", "invite_closed"]
    assert await state(desk, made.id) == "accepted"


async def test_who_accepts_may_choose_a_name(desk: Desk) -> None:
    _, token = await invite(desk, wanted())
    assert (await accept(desk, token, name="Benjamin")).member.agent.name == "Benjamin"


async def test_a_token_is_stored_nowhere(desk: Desk) -> None:
    made, token = await invite(desk, wanted())
    stored = await desk.value("SELECT invites::text FROM invites WHERE id = $1", made.id)
    events = await desk.value("SELECT string_agg(encode(payload, 'escape'), '') FROM stream_event")
    assert made.email in stored
    assert made.email in events
    assert token.secret not in stored + events


async def test_of_two_who_accept_at_once_one_becomes_an_agent(desk: Desk) -> None:
    for _ in range(5):
        made, token = await invite(desk, wanted())
        results = await asyncio.gather(accept(desk, token), accept(desk, token), return_exceptions=True)
        assert {type(result) for result in results} == {Accepted, InviteInvalid}
        assert await desk.value("SELECT count(*) FROM agents WHERE email = $1", made.email) == 1


async def unknown(desk: Desk) -> Token:
    return invites.new_token(desk.tenant.id, new_id())


async def guessed(desk: Desk) -> Token:
    made, _ = await invite(desk, wanted())
    return invites.new_token(desk.tenant.id, made.id)


async def used(desk: Desk) -> Token:
    _, token = await invite(desk, wanted())
    await accept(desk, token)
    return token


async def revoked(desk: Desk) -> Token:
    made, token = await invite(desk, wanted())
    await revoke(desk, made.id)
    return token


async def expired(desk: Desk) -> Token:
    made, token = await invite(desk, wanted())
    await expire(desk, made.id)
    return token


async def replaced(desk: Desk) -> Token:
    made, token = await invite(desk, wanted())
    await resend(desk, made.id)
    return token


async def of_somebody_disabled(desk: Desk) -> Token:
    agent_id = await desk.new_agent("admin")
    _, token = await invite(desk, wanted(), caller=ADMIN, origin=agent(agent_id))
    await desk.do(lambda write: lifecycle.disable(write, agent_id, caller=OWNER, origin=nobody()))
    return token


async def of_somebody_who_may_less_now(desk: Desk) -> Token:
    agent_id = await desk.new_agent("admin")
    _, token = await invite(desk, wanted("admin"), caller=ADMIN, origin=agent(agent_id))
    await desk.execute("UPDATE agents SET role = 'supervisor' WHERE id = $1", agent_id)
    return token


BAD = [unknown, guessed, used, revoked, expired, replaced, of_somebody_disabled, of_somebody_who_may_less_now]


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
async def test_every_token_that_is_not_good_is_answered_alike(desk: Desk, make: Callable[..., Any]) -> None:
    token = await make(desk)
    agents = await desk.value("SELECT count(*) FROM agents")
    with pytest.raises(InviteInvalid) as refused:
        await accept(desk, token)
    assert (refused.value.message, refused.value.metadata) == (InviteInvalid().message, {})
    assert await desk.value("SELECT count(*) FROM agents") == agents


@pytest.mark.parametrize("text", ["", "inv_", "sb_key", f"inv_{'0' * 32}_{'0' * 32}_{'g' * 64}", f"inv_{'0' * 200}"])
def test_what_is_no_token_is_answered_like_one_that_is_not_good(text: str) -> None:
    with pytest.raises(InviteInvalid):
        invites.parse(text)


def test_a_token_is_read_as_it_was_written() -> None:
    token = invites.new_token(new_id(), new_id())
    assert invites.parse(str(token)) == token


async def test_a_token_that_was_sent_again_is_good_as_long_again(desk: Desk) -> None:
    made, _ = await invite(desk, wanted(lifetime=timedelta(hours=1)))
    await expire(desk, made.id)
    token = await resend(desk, made.id)
    assert await state(desk, made.id) == "pending"
    assert await desk.value("SELECT expire_time > clock_now() + '59 min' FROM invites WHERE id = $1", made.id)
    assert (await accept(desk, token)).member.agent.email == made.email


async def test_what_is_closed_stays_so(desk: Desk) -> None:
    made, token = await invite(desk, wanted())
    first = await revoke(desk, made.id)
    assert (first.invite.state, [event.body.WhichOneof("body") for event in first.events]) == (
        "revoked",
        ["invite_closed"],
    )
    assert (await revoke(desk, made.id)).events == []
    with pytest.raises(InviteClosed) as refused:
        await resend(desk, made.id)
    assert refused.value.metadata == {"state": "REVOKED"}
    made, token = await invite(desk, wanted())
    await accept(desk, token)
    for change in (revoke, resend):
        with pytest.raises(InviteClosed) as refused:
            await change(desk, made.id)
        assert refused.value.metadata == {"state": "ACCEPTED"}


async def test_nobody_invites_or_resends_to_a_role_that_may_more_than_himself(desk: Desk) -> None:
    with pytest.raises(PermissionMissing) as refused:
        await invite(desk, wanted("owner"), caller=ADMIN)
    assert refused.value.metadata == {"permission": "PERMISSION_OWNERS_MANAGE"}
    made, _ = await invite(desk, wanted("owner"))
    for change in (revoke, resend):
        with pytest.raises(PermissionMissing):
            await change(desk, made.id, caller=ADMIN)
    assert (await invite(desk, wanted("admin"), caller=ADMIN))[0].state == "pending"


async def test_an_address_belongs_to_one_agent_or_one_pending_invite(desk: Desk) -> None:
    made, token = await invite(desk, wanted())
    for email in (made.email, made.email.upper()):
        with pytest.raises(AlreadyExists) as refused:
            await invite(desk, wanted(email=email))
        assert refused.value.metadata == {"resource": "invite"}
    await accept(desk, token)
    for email in (made.email, made.email.upper()):
        with pytest.raises(AlreadyExists) as refused:
            await invite(desk, wanted(email=email))
        assert refused.value.metadata == {"resource": "agent"}


async def test_an_address_that_an_agent_got_meanwhile_is_refused_and_the_invite_stays(desk: Desk) -> None:
    made, token = await invite(desk, wanted())
    agent_id = await desk.new_agent()
    await desk.execute("UPDATE agents SET email = upper($2) WHERE id = $1", agent_id, made.email)
    with pytest.raises(AlreadyExists) as refused:
        await accept(desk, token)
    assert refused.value.metadata == {"resource": "agent"}
    assert await state(desk, made.id) == "pending"


async def test_an_expired_invite_gives_its_address_to_another(desk: Desk) -> None:
    made, _ = await invite(desk, wanted())
    await expire(desk, made.id)
    again, token = await invite(desk, wanted(email=made.email))
    assert [await state(desk, each.id) for each in (made, again)] == ["expired", "pending"]
    assert (await accept(desk, token)).member.agent.email == made.email
    with pytest.raises(InviteClosed):
        await resend(desk, made.id)


async def test_teams_are_known_when_one_invites_and_left_out_when_they_are_gone(desk: Desk) -> None:
    with pytest.raises(InvalidFields):
        await invite(desk, wanted(team_ids=[await team_of(desk, deleted=True)]))
    kept, gone = await team_of(desk), await team_of(desk)
    _, token = await invite(desk, wanted(team_ids=[kept, gone]))
    await desk.execute("UPDATE teams SET delete_time = now() WHERE id = $1", gone)
    assert (await accept(desk, token)).member.team_ids == [kept]
