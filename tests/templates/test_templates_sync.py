"""A list of the provider and the webhooks about it, in the table: each change once, and nothing gone by half a pass."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from server.kit.clock import utc_now
from server.log.event import NewEvent
from server.providers.contract import Provider
from server.providers.registry import ProviderSettings, create_providers
from server.providers.template import ListedTemplate, TemplateAccount, TemplateChange
from server.simulator.app import create_app
from server.simulator.config import SimulatorConfig
from server.templates import service, sync
from server.templates.row import TemplateRow
from server.templates.sync import ProviderRefused, ProviderUnavailable
from tests.desk import Desk, nobody

TOKEN, WABA = "EAAJtoken", "102290129340398"
BODY = {"type": "BODY", "text": "Hello"}


class Meta:
    """A simulator with one number, its control API, and the provider that asks it."""

    def __init__(self, url: str, session: aiohttp.ClientSession, provider: Provider) -> None:
        self.url, self.session, self.provider = url, session, provider

    async def control(self, method: str, path: str, body: object = None) -> Any:
        async with self.session.request(method, f"{self.url}/_control/{path}", json=body) as response:
            assert response.status in (200, 201), await response.text()
            return await response.json()

    async def put(self, *names: str, **more: Any) -> list[str]:
        given = [{"name": name, "components": [BODY], **more} for name in names]
        ids: list[str] = (await self.control("POST", "templates", {"wabaId": WABA, "templates": given}))["ids"]
        return ids

    async def list(self, token: str = TOKEN) -> tuple[list[ListedTemplate], bool]:
        settings = {"graph_version": "v26.0"}
        account = TemplateAccount(business_account_id=WABA, token=token, settings=settings)
        found, complete = await sync.whole_list(self.provider, account)
        return list(found), complete


@pytest.fixture
async def meta() -> AsyncIterator[Meta]:
    number = {
        "phone_number_id": "106540352242922",
        "waba_id": WABA,
        "display_phone_number": "15550783881",
        "access_token": TOKEN,
        "app_secret": "secret",
        "webhook_url": "http://127.0.0.1:9/",
    }
    config = SimulatorConfig.model_validate({"accounts": [number]})
    async with TestServer(create_app(config)) as server, aiohttp.ClientSession() as session:
        url = str(server.make_url("")).rstrip("/")
        provider = create_providers(ProviderSettings(meta_graph_url=url))["whatsapp"]
        yield Meta(url, session, provider)
        await provider.close()


class Shelf:
    """The templates of an account of its own at a desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.of = service.Owner(provider="whatsapp", business_account_id=uuid.uuid4().hex)

    async def do(self, work: Any) -> list[NewEvent]:
        class Result(list[NewEvent]):
            @property
            def events(self) -> list[NewEvent]:
                return self

        async def unit(write: Any) -> Result:
            return Result(await work(write))

        return await self.desk.do(unit)

    async def store(self, *found: ListedTemplate) -> list[NewEvent]:
        return await self.do(
            lambda write: service.store_listed(write, of=self.of, found=found, at=utc_now(), origin=nobody())
        )

    async def gone(self, *kept: str) -> list[NewEvent]:
        return await self.do(
            lambda write: service.mark_gone(write, of=self.of, kept=kept, at=utc_now(), origin=nobody())
        )

    async def told(self, **more: Any) -> list[NewEvent]:
        fields = {"name": "order", "language": "en", "aspect": "status", "discriminator": "", "provider_id": "7"}
        account = self.of.business_account_id
        change = TemplateChange(**{**fields, "business_account_id": account, "provider_time": utc_now(), **more})
        return await self.do(
            lambda write: service.apply(write, change, provider="whatsapp", received=utc_now(), origin=nobody())
        )

    async def rows(self) -> list[TemplateRow]:
        async with self.desk.database.connection() as connection:
            return await service.page(connection, of=self.of, sendable=False, after=None, limit=100)


@pytest.fixture
def shelf(desk: Desk) -> Shelf:
    return Shelf(desk)


def template(provider_id: str = "7", **more: Any) -> ListedTemplate:
    fields = {"name": f"order_{provider_id}", "language": "en", "status": "APPROVED", "components": (BODY,)}
    return ListedTemplate(**{"provider_id": provider_id, **fields, **more})


def shown(events: list[NewEvent]) -> list[tuple[str, list[str]]]:
    bodies = [event.body.template_changed for event in events]
    return [(body.template.external_id, list(body.changed_fields)) for body in bodies]


async def test_a_list_of_many_pages_is_read_to_its_end(meta: Meta) -> None:
    ids = await meta.put(*(f"order_{number}" for number in range(203)))
    found, complete = await meta.list()
    assert ([item.provider_id for item in found], complete) == (ids, True)


async def test_what_the_provider_refuses_is_said_with_its_code(meta: Meta) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await meta.list(token="EAAother")
    assert refused.value.metadata == {"code": "190", "class": "stop_channel"}


async def test_a_provider_that_is_away_is_said_to_be(meta: Meta) -> None:
    providers = create_providers(ProviderSettings(meta_graph_url="http://127.0.0.1:9"))
    away = Meta(meta.url, meta.session, providers["whatsapp"])
    with pytest.raises(ProviderUnavailable):
        await away.list()
    await away.provider.close()


async def test_each_change_is_an_event_and_a_repeat_is_none(shelf: Shelf) -> None:
    assert shown(await shelf.store(template("7"), template("8"))) == [("7", []), ("8", [])]
    assert shown(await shelf.store(template("7"), template("8"))) == []
    assert shown(await shelf.store(template("7", status="PAUSED"), template("8"))) == [("7", ["status"])]


async def test_what_a_complete_pass_does_not_find_is_gone_until_it_is_found_again(shelf: Shelf) -> None:
    await shelf.store(template("7"), template("8"))
    assert shown(await shelf.gone("8")) == [("7", ["gone_time"])]
    assert shown(await shelf.gone("8")) == []
    assert [(row.provider_template_id, row.sendable) for row in await shelf.rows()] == [("7", False), ("8", True)]
    assert shown(await shelf.store(template("7"), template("8"))) == [("7", ["gone_time"])]


async def test_a_template_that_only_a_webhook_named_is_there_and_waits_to_be_read(shelf: Shelf) -> None:
    assert shown(await shelf.told(values={"status": "APPROVED", "reason": None})) == [("7", [])]
    (row,) = await shelf.rows()
    assert (row.name, row.status, row.stale, row.components) == ("order", "APPROVED", True, [])
    await shelf.store(template("7"))
    (row,) = await shelf.rows()
    assert (row.name, row.stale, row.components) == ("order_7", False, [BODY])


async def test_an_old_webhook_changes_nothing(shelf: Shelf) -> None:
    await shelf.told(values={"status": "PAUSED", "reason": None})
    old = utc_now() - timedelta(days=6)
    assert shown(await shelf.told(values={"status": "APPROVED", "reason": None}, provider_time=old)) == []
