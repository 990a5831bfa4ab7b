"""What the databases of this run start with: the seed, and its answer in the words of dev.json."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from server.embedded.devfile import Agent, Channel, Installation, MetaApp, Tenant
from server.embedded.errors import StartError
from server.embedded.home import write_private
from server.kit.errors import Refusal
from server.settings import Settings
from server.tenancy.seed import AGENTS, SeededTenant, SeedState, WhatsappAccount, seed

CONTROL_DATABASE = "switchboard_control"
NUMBERS = ("4930901820001", "4930901820002")
"""Reserved in Germany for films and examples: nobody has them."""


def install(settings: Settings, *, server_dsn: str, accounts: Mapping[str, WhatsappAccount]) -> Installation:
    """Make what is missing and find the rest: two tenants, their agents, keys and channels."""
    # A thread of its own, because the caller may have a loop already.
    with ThreadPoolExecutor(max_workers=1) as thread:
        started = thread.submit(asyncio.run, seed(settings, server_dsn=server_dsn, whatsapp=accounts))
        try:
            state = started.result()
        except Refusal as refusal:
            raise StartError(f"The tenants could not be made or found: {refusal}.") from refusal
    return _installation(state)


def load_accounts(file: Path) -> dict[str, WhatsappAccount]:
    """The WhatsApp number of each tenant, made on the first call. The file is private: it holds their tokens."""
    try:
        return {name: WhatsappAccount(**account) for name, account in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        made = {name: _account(number) for name, number in zip(AGENTS, NUMBERS, strict=True)}
        write_private(file, json.dumps({name: asdict(account) for name, account in made.items()}))
        return made
    except (ValueError, TypeError, AttributeError) as error:
        raise StartError(f"{file} is damaged: restore it, or remove the folder {file.parent}.") from error


def simulator_config(
    accounts: Mapping[str, WhatsappAccount],
    app: MetaApp,
    *,
    url: str,
    state: Path,
    receipts: Mapping[str, int | None] | None,
) -> dict[str, object]:
    """The simulator's configuration: it knows the same numbers, and calls the app's webhook at `url`, Envoy."""
    called = {"app_secret": app.app_secret, "webhook_url": url + app.webhook_path}
    known = [{**asdict(account), **called} for account in accounts.values()]
    return {"accounts": known, "receipts": receipts, "state_path": str(state)}


def _account(number: str) -> WhatsappAccount:
    return WhatsappAccount(
        phone_number_id=_digits(15),
        waba_id=_digits(15),
        display_phone_number=number,
        access_token=f"EAA{secrets.token_urlsafe(48)}",
    )


def _digits(length: int) -> str:
    return str(secrets.randbelow(9 * 10 ** (length - 1)) + 10 ** (length - 1))


def _installation(state: SeedState) -> Installation:
    app = state.meta_app
    return Installation(
        platform_key=state.platform_key,
        tenants=[_tenant(tenant) for tenant in state.tenants],
        channels=[
            Channel(str(channel.id), str(tenant.id), channel.provider, channel.phone_number_id, channel.waba_id)
            for tenant in state.tenants
            for channel in tenant.channels
        ],
        meta_app=MetaApp(app.id, app.app_secret, app.verify_token, app.webhook_path),
    )


def _tenant(tenant: SeededTenant) -> Tenant:
    agents = [Agent(str(agent.id), agent.name) for agent in tenant.agents]
    return Tenant(id=str(tenant.id), name=tenant.name, key=tenant.key, dsn=tenant.dsn, agents=agents)
