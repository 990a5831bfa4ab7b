"""Keys are changed while processes run: nothing becomes unreadable, nothing stays under the old key, a stop is harmless."""

import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.auth.tokens import KEPT, AgentTokens, rotate_signing_key
from server.channels import service as channels
from server.kit.db import Write
from server.kit.ids import new_id
from server.kit.secrets import new_master_key, sealed_with
from server.log.append import append
from server.providers.contract import Account
from server.rpc.auth import CredentialInvalid
from server.settings import SettingsInvalid, load
from server.tenancy import keys, rotation
from server.tenancy.control import Control, open_control
from server.tenancy.key_following import learn_keys
from server.tenancy.meta_apps import MetaApps
from server.tenancy.tenants import Tenant, TenantRow, Tenants
from server.tenancy.work import WorkDirectory
from tests.desk import nobody
from tests.installation import Installed, connection_to, installed_on
from tests.typed import environment_of, switchboard

TOKEN = "EAAJtoken"


@asynccontextmanager
async def process(installed: Installed, **settings: Any) -> AsyncIterator[tuple[Control, Tenants]]:
    """Another process of the installation, as it starts now."""
    given = {"control_dsn": installed.settings.needed_control_dsn(), "master_key": installed.settings.master_key}
    control = await open_control(load({**given, **settings}))
    tenants = Tenants(control, WorkDirectory(control.database), pool_size=2)
    try:
        yield control, tenants
    finally:
        await tenants.close()
        await control.close()


@pytest.fixture
async def own(desks: Installed) -> AsyncIterator[Installed]:
    """An installation of the test's own, with a tenant that has a channel."""
    async with installed_on(desks.server_dsn, f"control_{uuid.uuid4().hex[-8:]}") as made:
        await MetaApps(made.control).create(app_id="app", name="App", app_secret="app secret", verify_token="verify")
        await with_channel(made)
        yield made


async def with_channel(made: Installed) -> None:
    """A tenant that has a channel."""
    row = await made.tenants.by_name(await made.new_tenant())
    assert row is not None
    await connect(await made.tenants.get(row.id))


async def connect(tenant: Tenant) -> None:
    number = f"{uuid.uuid4().int % 10**15:015}"
    account = Account(account_id=number, token=TOKEN, details={"phone_number_id": number})
    wanted = channels.Connect(id=new_id(), provider="whatsapp", name="WhatsApp", account=account)

    async def unit(write: Write) -> None:
        _, events = await channels.connect(write, tenant.secrets, wanted, origin=nobody())
        await append(write, events)

    await tenant.database.write(unit)


async def tokens_of(tenant: Tenant) -> list[str]:
    """As a worker opens them before it sends."""
    async with tenant.database.connection() as connection:
        rows = await connection.fetch("SELECT id, access_token FROM channels ORDER BY id")
    return [channels.token_of(tenant.secrets, row["id"], row["access_token"]) for row in rows]


async def rows_of(installed: Installed) -> list[TenantRow]:
    return await installed.tenants.page(after=None, size=10)


async def names_of_keys(dsn: str) -> set[str]:
    """The names of the keys of everything in a database that looks sealed, whatever column it stands in."""
    async with connection_to(dsn) as connection:
        columns = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND data_type = 'bytea' AND column_name NOT LIKE '%wrapped_key'"
            " AND table_name NOT LIKE 'stream_event%' AND table_name NOT LIKE 'journal%'"
        )
        values = [
            row["value"]
            for column in columns
            for row in await connection.fetch(
                f"SELECT {column['column_name']} AS value FROM {column['table_name']} WHERE octet_length({column['column_name']}) > 36"
            )
            if row["value"][0] == 1
        ]
    return {sealed_with(value) for value in values}


async def no_waiting() -> None:
    return None


class Stopped(Exception):
    """The command was killed while it waited."""


def stopping_after(rounds: int) -> Any:
    left = [rounds]

    async def settle() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    return settle


async def test_a_tenants_new_key_seals_everything_and_a_running_process_notices_nothing(own: Installed) -> None:
    rows = await rows_of(own)
    before = {row.name: own.tenants.box(row).key_id for row in rows}
    async with process(own) as (_, running):
        held = [await running.get(row.id) for row in rows]

        async def settle() -> None:
            """Half a minute passes: the running process reads the rows anew."""
            for row in rows:
                running._rows.forget(row.id)
            for index, row in enumerate(rows):
                held[index] = await running.get(row.id)
                assert await tokens_of(held[index]) == [TOKEN] * (await count(held[index]))
                # What is connected in the midst of it is sealed with whatever key this process seals with now.
                await connect(held[index])

        report = await rotation.rotate_tenants(own.control, own.tenants, rows, settle=settle)
        assert (report.done, report.failed) == (1, {})
        for tenant in held:
            assert set(await tokens_of(tenant)) == {TOKEN}
    for row in await rows_of(own):
        box = own.tenants.box(row)
        assert box.key_id != before[row.name]
        assert await names_of_keys(own.tenants.dsn(row)) == {box.key_id}
        assert (row.next_wrapped_key, row.previous_wrapped_key) == (None, None)


async def count(tenant: Tenant) -> int:
    async with tenant.database.connection() as connection:
        found: int = await connection.fetchval("SELECT count(*) FROM channels")
    return found


@pytest.mark.parametrize("wait", [1, 2])
async def test_both_sorts_of_keys_are_changed_at_the_same_time(own: Installed, wait: int) -> None:
    """While one command waits, the other begins and ends."""
    rows, waits = await rows_of(own), 0

    async def settle() -> None:
        nonlocal waits
        waits += 1
        if waits == wait:
            async with process(own) as (control, _):
                await rotation.rotate_installation(control, settle=no_waiting)

    async with process(own) as (control, tenants):
        report = await rotation.rotate_tenants(control, tenants, rows, settle=settle)
        assert (report.done, report.failed) == (len(rows), {})
        assert await tokens_of(await tenants.get(rows[0].id)) == [TOKEN]


@pytest.mark.parametrize("rounds", [0, 1])
async def test_a_change_that_was_stopped_is_finished_by_the_next_run(own: Installed, rounds: int) -> None:
    rows = await rows_of(own)
    with pytest.raises(Stopped):
        await rotation.rotate_tenants(own.control, own.tenants, rows, settle=stopping_after(rounds))
    between = await rows_of(own)
    for row in between:
        async with process(own) as (_, started):
            assert await tokens_of(await started.get(row.id)) == [TOKEN]
    published = {row.next_wrapped_key or row.wrapped_key for row in between}
    await rotation.rotate_tenants(own.control, own.tenants, await rows_of(own), settle=no_waiting)
    after = await rows_of(own)
    assert {row.wrapped_key for row in after} == published, "no third key"
    assert all((row.next_wrapped_key, row.previous_wrapped_key) == (None, None) for row in after)
    assert await rotation.fresh(own.control) == {row.id for row in after}


async def test_two_changes_of_a_tenants_key_at_once_are_one(own: Installed) -> None:
    rows, published = await rows_of(own), []

    async def begin_another() -> None:
        """By somebody who has read the rows before the first one began."""
        with pytest.raises(Stopped):
            await rotation.rotate_tenants(own.control, own.tenants, rows, settle=stopping_after(0))
        published.append([row.next_wrapped_key is not None for row in await rows_of(own)])

    await rotation.rotate_tenants(own.control, own.tenants, rows, settle=begin_another)
    assert published == [[True], [False]], "nothing new begins before the old key is forgotten"
    for row in await rows_of(own):
        assert await names_of_keys(own.tenants.dsn(row)) == {own.tenants.box(row).key_id}


async def test_a_change_of_the_installations_key_leaves_the_old_key_of_another_one(own: Installed) -> None:
    """Which began while the first one waited."""
    rounds = []

    async def another() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 2:
            await rotation.rotate_installation(own.control, settle=no_waiting)
            with pytest.raises(Stopped):
                await rotation.rotate_installation(own.control, settle=stopping_after(1))

    await rotation.rotate_installation(own.control, settle=another)
    async with own.control.database.connection() as connection:
        assert await connection.fetchval("SELECT previous_wrapped_key IS NOT NULL FROM installation")
    await rotation.rotate_installation(own.control, settle=no_waiting)
    assert await names_of_keys(own.settings.needed_control_dsn()) == {own.control.box.key_id}


async def test_a_tenant_whose_database_is_away_fails_alone(own: Installed) -> None:
    await with_channel(own)
    lost, fine = await rows_of(own)
    await own.execute("UPDATE tenants SET database_name = database_name || '_gone' WHERE id = $1", lost.id)
    report = await rotation.rotate_tenants(own.control, own.tenants, [lost, fine], settle=no_waiting)
    assert (report.done, list(report.failed)) == (1, [lost.name])
    await own.execute("UPDATE tenants SET database_name = $2 WHERE id = $1", lost.id, lost.database_name)
    report = await rotation.rotate_tenants(own.control, own.tenants, [lost], settle=no_waiting)
    assert report.failed == {}


async def test_the_installations_new_key_seals_everything_and_running_processes_learn_it(own: Installed) -> None:
    before, derived = own.control.box.key_id, own.control.box.derive("a purpose")
    cursor = own.control.mac.seal(b"cursor")
    token, _ = await AgentTokens(own.control).issue(tenant_id=new_id(), agent_id=new_id())
    async with process(own) as (running, tenants):

        async def settle() -> None:
            await learn_keys(running)

        await rotation.rotate_installation(own.control, settle=settle)
        await learn_keys(running)
        assert running.box.key_id == own.control.box.key_id != before
        app = await MetaApps(running).get("app")
        assert app is not None
        assert (app.app_secrets, app.verify_token) == ((b"app secret",), b"verify")
        for row in await rows_of(own):
            assert await tokens_of(await tenants.get(row.id)) == [TOKEN]
        assert running.mac.open(cursor) == b"cursor"
        assert await AgentTokens(running).verify(token)
        assert running.box.derive("a purpose") == derived, "keys of the embedded run stay"
    assert await names_of_keys(own.settings.needed_control_dsn()) == {own.control.box.key_id}
    async with process(own) as (started, _):
        assert started.box.derive("a purpose") == derived


async def test_a_change_of_the_installations_key_that_was_stopped_is_finished(own: Installed) -> None:
    for rounds in (0, 1):
        with pytest.raises(Stopped):
            await rotation.rotate_installation(own.control, settle=stopping_after(rounds))
        async with process(own) as (started, _):
            app = await MetaApps(started).get("app")
            assert app is not None
            assert app.app_secrets == (b"app secret",)
    await rotation.rotate_installation(own.control, settle=no_waiting)
    assert await names_of_keys(own.settings.needed_control_dsn()) == {own.control.box.key_id}


async def test_the_master_key_is_changed_while_processes_run_with_both(own: Installed, tmp_path: Path) -> None:
    old, new = own.settings.master_key, new_master_key()
    assert old is not None
    both = {"master_key": new, "master_key_previous": old.get_secret_value()}
    environment = {
        **environment_of(own),
        "SWITCHBOARD_MASTER_KEY": new,
        "SWITCHBOARD_MASTER_KEY_PREVIOUS": old.get_secret_value(),
    }
    async with process(own, **both) as (_, running):
        rows = await rows_of(own)
        assert await tokens_of(await running.get(rows[0].id)) == [TOKEN]
        code, out, _ = await switchboard("secrets", "rotate-master", environment=environment, home=tmp_path)
        assert (code, out.startswith("2 data keys wrapped with")) == (0, True)
        code, out, _ = await switchboard("secrets", "rotate-master", environment=environment, home=tmp_path)
        assert out.startswith("0 data keys")
        for row in rows:
            running._rows.forget(row.id)
            assert await tokens_of(await running.get(row.id)) == [TOKEN]
    async with process(own, master_key=new) as (_, started):
        assert await tokens_of(await started.get(rows[0].id)) == [TOKEN]
    with pytest.raises(SettingsInvalid) as refused:
        async with process(own):
            pass
    assert "SWITCHBOARD_MASTER_KEY is key" in str(refused.value)
    assert len(str(refused.value).split(". ")) == 1


async def test_half_of_the_data_keys_can_be_wrapped_with_each_master_key(own: Installed) -> None:
    old = own.settings.master_key
    assert old is not None
    both = {"master_key": new_master_key(), "master_key_previous": old.get_secret_value()}
    async with process(own, **both) as (control, tenants):
        waiting = await rotation.outdated(control)
        assert [kind for kind, _ in waiting] == ["installation", "tenants"]
        await rotation.rewrap(control, *waiting[1])
        for row in await rows_of(own):
            assert await tokens_of(await tenants.get(row.id)) == [TOKEN]
        assert await rotation.outdated(control) == waiting[:1]


async def test_a_new_key_of_cursors_signs_when_everybody_knows_it(own: Installed) -> None:
    async with process(own) as (running, _):
        old = running.mac.seal(b"old")
        assert await rotation.add_mac_key(own.control) == 2
        await learn_keys(running)
        assert running.mac.seal(b"x")[1] == 1, "not before the others can verify it"
        await own.execute("UPDATE mac_keys SET create_time = create_time - $1::interval", keys.KNOWN_AFTER)
        await learn_keys(running)
        sealed = running.mac.seal(b"x")
        assert sealed[1] == 2
        assert (running.mac.open(old), running.mac.open(sealed)) == (b"old", b"x")
        await own.execute("UPDATE mac_keys SET create_time = create_time - $1::interval", keys.MAC_KEPT)
        await learn_keys(running)
        assert (running.mac.open(old), running.mac.open(sealed)) == (None, b"x")
    assert await rotation.add_mac_key(own.control) == 3


async def test_a_new_signing_key_signs_when_everybody_knows_it_and_the_old_one_verifies_on(own: Installed) -> None:
    issue = {"tenant_id": new_id(), "agent_id": new_id()}
    old, _ = await AgentTokens(own.control).issue(**issue)
    assert await rotate_signing_key(own.control, at_once=False) == "2"
    assert header(await first(own, **issue)) == "1"
    await own.execute("UPDATE signing_keys SET create_time = create_time - interval '1 minute'")
    new = await first(own, **issue)
    assert header(new) == "2"
    fresh = AgentTokens(own.control)
    assert await fresh.verify(old)
    assert await fresh.verify(new)
    await own.execute("UPDATE signing_keys SET retire_time = retire_time - $1::interval", KEPT)
    with pytest.raises(CredentialInvalid):
        await AgentTokens(own.control).verify(old)
    assert await rotate_signing_key(own.control, at_once=True) == "3"
    with pytest.raises(CredentialInvalid):
        await AgentTokens(own.control).verify(new)
    assert header(await first(own, **issue)) == "3"


async def first(own: Installed, **issue: Any) -> str:
    """A token of a process that has just read the keys."""
    token, _ = await AgentTokens(own.control).issue(**issue)
    return token


def header(token: str) -> str:
    part = token.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["kid"])


async def test_the_status_names_keys_and_tells_none(own: Installed, tmp_path: Path) -> None:
    rows = await rows_of(own)
    with pytest.raises(Stopped):
        await rotation.rotate_tenants(own.control, own.tenants, rows[:1], settle=stopping_after(1))
    await rotation.add_mac_key(own.control)
    code, out, error = await switchboard("secrets", "status", environment=environment_of(own), home=tmp_path)
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"master key in use: {own.control.provider.key_id}"
    for row in await rows_of(own):
        (line,) = [line for line in lines if line.strip().startswith(row.name)]
        assert own.tenants.box(row).key_id in line
        assert ("the previous key still opens" in line) is (row.name == rows[0].name)
    assert any("signs soon" in line for line in lines)
    assert own.settings.master_key is not None
    assert own.settings.master_key.get_secret_value() not in out
    assert TOKEN not in out


async def test_names_that_are_wrong_are_said(own: Installed, tmp_path: Path) -> None:
    environment = environment_of(own)
    code, _, error = await switchboard("secrets", "rotate-tenant", "nobody", environment=environment, home=tmp_path)
    assert (code, error) == (1, "Error: no such tenant: nobody\n")
    code, _, error = await switchboard("secrets", "rotate-tenant", environment=environment, home=tmp_path)
    assert (code, "give names of tenants, or --all" in error) == (2, True)
