"""What a fresh installation starts with: the two tenants of the embedded run, or the one channel of a single-tenant start.

All of it can be run again and finds what is there. Keys are derived from the installation's data key, so nothing but their hashes
is stored and the next start can show them again.
"""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from server.kit.clock import utc_now
from server.kit.errors import AlreadyExists
from server.kit.ids import new_id
from server.rpc.permissions import ALL
from server.settings import Settings
from server.tenancy.api_keys import ApiKeys
from server.tenancy.control import Control
from server.tenancy.installation import set_up_on
from server.tenancy.meta_apps import MetaApps
from server.tenancy.provisioning import Provisioning
from server.tenancy.routes import WHATSAPP, Routes
from server.tenancy.tenants import Tenant, Tenants
from server.tenancy.work import WorkDirectory

# One who sees all, one who sees the tenant's channel, one who sees only what is assigned to her.
ROLES = ("owner", "agent", "agent")
AGENTS = {"acme": ("Ana", "Ben", "Carla"), "globex": ("Dana", "Emil", "Farah")}


@dataclass(frozen=True, slots=True)
class WhatsappAccount:
    """A number at Meta, or at the simulator, and the token that sends from it."""

    phone_number_id: str
    waba_id: str
    display_phone_number: str
    access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SeededAgent:
    """An agent."""

    id: uuid.UUID
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class SeededChannel:
    """A WhatsApp channel."""

    id: uuid.UUID
    provider: str
    phone_number_id: str
    waba_id: str


@dataclass(frozen=True, slots=True)
class SeededTenant:
    """A tenant. key: an API key with every permission. dsn: the tenant's own role in its own database."""

    id: uuid.UUID
    name: str
    key: str = field(repr=False)
    dsn: str = field(repr=False)
    agents: Sequence[SeededAgent]
    channels: Sequence[SeededChannel]


@dataclass(frozen=True, slots=True)
class SeededApp:
    """The app at Meta that signs the webhooks of every channel."""

    id: str
    app_secret: str = field(repr=False)
    verify_token: str = field(repr=False)
    webhook_path: str


@dataclass(frozen=True, slots=True)
class SeedState:
    """What the installation holds."""

    platform_key: str = field(repr=False)
    tenants: Sequence[SeededTenant]
    meta_app: SeededApp


async def seed(settings: Settings, *, server_dsn: str, whatsapp: Mapping[str, WhatsappAccount]) -> SeedState:
    """Sets everything up on one Postgres server, or finds it.

    server_dsn: a user who may make databases and roles. settings.control_dsn names the control database there. whatsapp: the
    account of each tenant by name; those of AGENTS get their agents too.
    """
    # A server imports this module for its first tenant alone, and migrates nothing.
    from server.tenancy.migrate import bring_up_to_date

    control = await set_up_on(settings, server_dsn=server_dsn)
    tenants = Tenants(control, WorkDirectory(control.database), pool_size=2)
    try:
        await bring_up_to_date(control)
        app = await _ensure_app(control, settings)
        made = [await _ensure_tenant(control, tenants, settings, name, whatsapp[name]) for name in whatsapp]
        await connect_first_tenant(control, tenants, settings)
        return SeedState(platform_key=await platform_key(control), tenants=made, meta_app=app)
    finally:
        await tenants.close()
        await control.close()


async def connect_first_tenant(control: Control, tenants: Tenants, settings: Settings) -> None:
    """The single-tenant start: the app and the channel that the settings describe, for the installation's first tenant."""
    if settings.meta_app_secret is not None:
        await _ensure_app(control, settings)
    account = account_of(settings)
    if account is None:
        return
    async with control.database.connection() as connection:
        first = await connection.fetchval("SELECT id FROM tenants WHERE state <> 'provisioning' ORDER BY id LIMIT 1")
    if first is not None:
        await ensure_channel(control, await tenants.get(first, disabled_too=True), settings, account)


def account_of(settings: Settings) -> WhatsappAccount | None:
    """The WhatsApp number that the settings describe, if they do."""
    token, phone, waba = settings.whatsapp_token, settings.whatsapp_phone_number_id, settings.whatsapp_waba_id
    if token is None or phone is None or waba is None:
        return None
    return WhatsappAccount(phone, waba, "", token.get_secret_value())


async def platform_key(control: Control) -> str:
    """The operator's key of this installation."""
    return await _derived_key(control, None, "platform", frozenset())


async def ensure_channel(
    control: Control, tenant: Tenant, settings: Settings, account: WhatsappAccount
) -> SeededChannel:
    """The tenant's channel of a number, with the account's present token. ALREADY_EXISTS when another tenant has it."""
    channel_id = await _claimed(Routes(control.database), tenant.id, account)
    sealed = tenant.secrets.seal(account.access_token.encode(), table="channels", column="access_token", row=channel_id)
    async with tenant.database.connection() as connection:
        # Any of its keys may be the one that another process has just taken: a channel has the same id and account everywhere.
        await connection.execute(
            "INSERT INTO channels (id, provider, name, state, account_id, details, access_token, create_time, check_due_time)"
            " VALUES ($1, 'whatsapp', $2, 'active', $3, jsonb_strip_nulls(jsonb_build_object('phone_number_id', $3::text,"
            " 'waba_id', $4::text, 'display_phone_number', $5::text, 'graph_version', $6::text)), $7, $8, $9)"
            " ON CONFLICT DO NOTHING",
            channel_id,
            f"WhatsApp {account.display_phone_number or account.phone_number_id}",
            account.phone_number_id,
            account.waba_id,
            account.display_phone_number or None,
            settings.meta_graph_version,
            sealed,
            utc_now(),
            utc_now() + timedelta(hours=random.uniform(1, 24)),
        )
        await connection.execute(
            "UPDATE channels SET access_token = $2, details = details || jsonb_build_object('waba_id', $3::text) WHERE id = $1",
            channel_id,
            sealed,
            account.waba_id,
        )
    return SeededChannel(channel_id, WHATSAPP, account.phone_number_id, account.waba_id)


async def _claimed(routes: Routes, tenant_id: uuid.UUID, account: WhatsappAccount) -> uuid.UUID:
    """The channel that has the number; a new one when none has. Of several processes that start at once, one makes it."""
    number = account.phone_number_id
    held = (await routes.find(WHATSAPP, [number])).get(number)
    with contextlib.suppress(AlreadyExists):
        channel_id = new_id() if held is None else held.channel_id
        await routes.claim(WHATSAPP, number, tenant_id=tenant_id, channel_id=channel_id, shared_id=account.waba_id)
    held = (await routes.find(WHATSAPP, [number]))[number]
    if held.tenant_id != tenant_id:
        raise AlreadyExists("channel", "this account is already connected to a channel of this installation")
    return held.channel_id


async def _ensure_app(control: Control, settings: Settings) -> SeededApp:
    derived = control.box.derive
    secret, token = settings.meta_app_secret, settings.meta_verify_token
    app = SeededApp(
        id=settings.meta_app_id,
        app_secret=secret.get_secret_value() if secret else derived("app secret of the embedded run").hex()[:32],
        verify_token=token.get_secret_value() if token else derived("verify token of the embedded run").hex()[:32],
        webhook_path=f"/v1/webhooks/meta/{settings.meta_app_id}",
    )
    await MetaApps(control).ensure(app_id=app.id, name="Meta", app_secret=app.app_secret, verify_token=app.verify_token)
    return app


async def _ensure_tenant(
    control: Control, tenants: Tenants, settings: Settings, name: str, account: WhatsappAccount
) -> SeededTenant:
    row = await tenants.by_name(name)
    if row is None or row.state == "provisioning":
        await Provisioning(control).create(name)
        row = await tenants.by_name(name)
    if row is None:
        raise LookupError(f"tenant {name} is gone")
    tenant = await tenants.get(row.id, disabled_too=True)
    channel = await ensure_channel(control, tenant, settings, account)
    return SeededTenant(
        id=row.id,
        name=name,
        key=await _derived_key(control, row.id, f"tenant {name}", ALL),
        dsn=tenants.dsn(row),
        agents=await _ensure_agents(tenant, channel),
        channels=[channel],
    )


async def _ensure_agents(tenant: Tenant, channel: SeededChannel) -> list[SeededAgent]:
    wanted = {
        f"{name.lower()}@{tenant.name}.example": (name, role)
        for name, role in zip(AGENTS[tenant.name], ROLES, strict=True)
    }
    async with tenant.database.connection() as connection:
        for email, (name, role) in wanted.items():
            await connection.execute(
                "INSERT INTO agents (id, name, email, kind, role, state, create_time)"
                " VALUES ($1, $2, $3, 'human', $4, 'active', $5) ON CONFLICT (email) DO NOTHING",
                *(new_id(), name, email, role, utc_now()),
            )
        rows = await connection.fetch(
            "SELECT id, name, role FROM agents WHERE email = ANY($1) ORDER BY array_position($1, email)", list(wanted)
        )
        agents = [SeededAgent(**row) for row in rows]
        await connection.execute(
            "INSERT INTO channel_members (channel_id, agent_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            channel.id,
            agents[1].id,
        )
    return agents


async def _derived_key(control: Control, tenant_id: uuid.UUID | None, purpose: str, permissions: frozenset[int]) -> str:
    """A key that the next start finds again. One that was revoked gives way to the next of its line."""
    keys = ApiKeys(control.database)
    for number in range(1000):
        entropy = b"".join(control.box.derive(f"key {number} {half} of {purpose}") for half in "ab")
        key, secret = await keys.create(
            tenant_id=tenant_id, name="embedded run", permissions=permissions, entropy=entropy
        )
        if key.revoke_time is None:
            return secret
    raise AlreadyExists("api_key", "a thousand keys were revoked")
