"""T10, T15, T12: one webhook for several tenants behind one app, of which one is suspended and one's database is away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from journal_inlet import Inlet
from prometheus_client import generate_latest

from server.intake.service import Intake
from server.kit.ids import new_id
from server.simulator import payloads
from server.simulator.payloads import InboundText, Number
from server.tenancy.meta_apps import MetaApps
from server.tenancy.quarantine import Quarantine
from server.tenancy.routes import WHATSAPP, Routes
from tests.desk import Desk, close_desk, kill_backends, open_desk, phone
from tests.golden import golden, normal
from tests.installation import Installed, connection_to

GOLDEN = Path(__file__).parent / "golden" / "shared.json"
SECRET, AT = "a secret of the shared app", 1_790_000_000
JOURNAL = "SELECT id, body, split, secret_index, state FROM journal ORDER BY receive_time, id"
ITEMS = "SELECT kind, state, result FROM journal_items ORDER BY kind, state, result"
SAID = "SELECT m.text, c.account_id FROM messages m JOIN channels c ON c.id = m.channel_id ORDER BY m.text"
CHANNELS = "SELECT account_id, state, state_reason FROM channels WHERE account_id = ANY($1::text[])"


def digits() -> str:
    return f"1{new_id().int % 10**14:014}"


class Place:
    """A tenant with numbers of some business accounts."""

    def __init__(self, name: str, inlet: Inlet) -> None:
        self.name, self.inlet, self.desk = name, inlet, inlet.desk
        self.numbers: list[Number] = []

    @property
    def id(self) -> str:
        return str(self.desk.tenant.id)

    async def number(self, routes: Routes, waba: str) -> Number:
        """One more number, of this business account."""
        channel = await self.desk.new_channel()
        number = Number(waba, self.desk.numbers[channel.id].phone_number_id, "15550783881")
        told = "UPDATE channels SET details = details || jsonb_build_object('waba_id', $2::text) WHERE id = $1"
        await self.desk.execute(told, channel.id, waba)
        owner = {"tenant_id": self.desk.tenant.id, "channel_id": channel.id}
        await routes.claim(WHATSAPP, number.phone_number_id, **owner, shared_id=waba)
        self.numbers.append(number)
        return number

    async def connections(self, *, allowed: bool) -> None:
        """Whether the tenant's database takes connections."""
        name, server = self.desk.dsn.rpartition("/")[2], self.inlet.installed.server_dsn
        async with connection_to(server) as admin:
            await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}')
        if not allowed:
            await kill_backends(self.desk.dsn, server)


class World:
    """Three tenants behind one app. The first and the last have numbers in one business account."""

    def __init__(self, installed: Installed, places: list[Place], app_id: str) -> None:
        control = installed.control
        self.installed, self.places, self.app_id = installed, places, app_id
        self.ours, self.off, self.away = places
        self.routes, self.quarantine = Routes(control.database), Quarantine(control.database)
        self.apps = MetaApps(control)
        self.intake = Intake(
            tenants=installed.tenants,
            routes=self.routes,
            meta_apps=self.apps,
            quarantine=self.quarantine,
            objects=self.ours.desk.providers["whatsapp"].webhook_objects,
        )
        self.labels: dict[str, str] = {}

    def waba(self, label: str) -> str:
        self.labels[found := digits()] = label
        return found

    async def build(self) -> None:
        await self.apps.ensure(app_id=self.app_id, name="shared", app_secret=SECRET, verify_token="-")
        shared = self.waba("account of two tenants")
        for place in self.places:
            self.labels[(await place.number(self.routes, self.waba(f"account of {place.name}"))).phone_number_id] = (
                f"number of {place.name}"
            )
        for place in (self.ours, self.away):
            second = await place.number(self.routes, shared)
            self.labels[second.phone_number_id] = f"number of {place.name} in the shared account"

    def body(self, sender: str) -> Any:
        """A message to each number, all by one customer; news of the account that two share; and what nobody has."""
        (shared,) = {self.ours.numbers[1].waba_id, self.away.numbers[1].waba_id}
        bodies = [self.message(place.numbers[0], f"to {place.name}", sender) for place in self.places]
        both = [self.message(place.numbers[1], f"shared to {place.name}", sender) for place in (self.ours, self.away)]
        changes = [change for body in both for change in body["entry"][0]["changes"]]
        banned = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}
        changes.append({"field": "account_update", "value": banned})
        nobody = Number(self.waba("account of nobody"), digits(), "15550783881")
        self.labels[nobody.phone_number_id] = "number of nobody"
        one = {"object": "whatsapp_business_account", "entry": [{"id": shared, "time": AT, "changes": changes}]}
        return payloads.merge(*bodies, one, self.message(nobody, "to nobody", sender))

    def message(self, number: Number, text: str, sender: str, *, at: int = AT) -> Any:
        return payloads.inbound_body(number, [InboundText(text=text, timestamp=at, phone=sender)])

    async def receive(self, body: Any) -> list[str]:
        """A signed webhook, stored and applied; whose tenants took a part of it."""
        raw = payloads.encode(body)
        stored = await self.intake.receive(self.app_id, raw, payloads.sign(raw, SECRET))
        for each in stored:
            self.ours.inlet.applier.soon(each.tenant_id, each.payload_id, each.receive_time)
        await self.ours.inlet.applier.drain()
        return [place.name for place in self.places if place.desk.tenant.id in {each.tenant_id for each in stored}]

    def named(self, value: Any) -> Any:
        """With what accounts and numbers are called here."""
        text = json.dumps(value, ensure_ascii=False)
        for found, label in self.labels.items():
            text = text.replace(found, label)
        return json.loads(text)

    def parts(self, body: bytes) -> Any:
        """What a part of a webhook tells, by account, field and number."""
        entries = json.loads(body)["entry"]
        return [
            [entry["id"], change["field"], change["value"].get("metadata", {}).get("phone_number_id", "")]
            for entry in entries
            for change in entry["changes"]
        ]

    async def rows(self, place: Place) -> Any:
        """What a tenant has."""
        desk = place.desk
        journal = [
            {"tells": self.parts(row["body"]), **{name: row[name] for name in ("split", "secret_index", "state")}}
            for row in await desk.rows(JOURNAL)
        ]
        found = {
            "journal": journal,
            "items": [list(row) for row in await desk.rows(ITEMS)],
            "messages": sorted([list(row) for row in await desk.rows(SAID)]),
            "channels": [
                list(row) for row in await desk.rows(CHANNELS, [number.phone_number_id for number in place.numbers])
            ],
        }
        named = normal(self.named(found))
        # Another order in each run: numbers are made up.
        return named | {"channels": sorted(named["channels"], key=lambda row: row[0])}

    async def waiting(self) -> Any:
        """What is in the quarantine of this app."""
        async with self.installed.control.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, external_id, reason, split, body, expire_time - receive_time AS kept FROM quarantine"
                " WHERE app_id = $1 ORDER BY reason",
                self.app_id,
            )
        names = {place.id: place.name for place in self.places}
        return self.named(
            [
                {
                    "tenant": names.get(str(row["tenant_id"])),
                    "number": row["external_id"],
                    "reason": row["reason"],
                    "split": row["split"],
                    "tells": self.parts(row["body"]),
                    "days": round(row["kept"].total_seconds() / 86400),
                }
                for row in rows
            ]
        )

    async def redriven(self) -> None:
        """What a worker does with the quarantine, as if two had taken the same."""
        async with self.installed.control.database.connection() as connection:
            await connection.execute("UPDATE quarantine SET next_time = clock_now() WHERE app_id = $1", self.app_id)
        due = [part for part in await self.quarantine.due(limit=1000) if part.app_id == self.app_id]
        for part in [*due, *due]:
            stored = await self.intake.redrive(part)
            assert stored is not None
            self.ours.inlet.applier.soon(stored.tenant_id, stored.payload_id, stored.receive_time)
        await self.ours.inlet.applier.drain()
        await self.quarantine.done([part.id for part in due])

    async def enabled(self, place: Place) -> None:
        """The tenant is served again, and a worker finds what waited."""
        await self.installed.tenants.set_state(place.desk.tenant.id, "active")
        await place.desk.execute("UPDATE journal SET due_time = receive_time WHERE state = 'received'")
        tenant = await self.installed.tenants.get(place.desk.tenant.id)
        await place.inlet.applier.apply_left(tenant)
        await place.inlet.applier.drain()


@pytest.fixture
async def world(desks: Installed) -> AsyncIterator[World]:
    made: list[Desk] = [await open_desk(desks) for _ in range(3)]
    providers = made[0].providers
    places = []
    for name, desk in zip(("ours", "suspended", "away"), made, strict=True):
        applier = Inlet.applier_of(desks, providers)
        places.append(Place(name, Inlet(desks, desk, await desk.new_channel(), applier)))
    built = World(desks, places, f"app-{new_id().hex[-12:]}")
    await built.build()
    yield built
    for desk in made:
        await close_desk(desk)


async def test_t10_each_tenant_has_its_own_of_a_post_for_all_whatever_became_of_the_others(world: World) -> None:
    sender, body = phone(), None
    await world.installed.tenants.set_state(world.off.desk.tenant.id, "disabled")
    await world.away.connections(allowed=False)
    with structlog.testing.capture_logs() as logs:
        try:
            took = await world.receive(body := world.body(sender))
            at_once = {place.name: await world.rows(place) for place in (world.ours, world.off)}
            apart = await world.waiting()
        finally:
            await world.away.connections(allowed=True)
        await world.redriven()
        await world.enabled(world.off)
    later = {place.name: await world.rows(place) for place in world.places}
    found = {"took": took, "at once": at_once, "apart": apart, "later": later, "still apart": await world.waiting()}
    assert found == golden(GOLDEN, found)
    # Meta repeats the whole of it, since it may not have heard our answer: nothing is there twice.
    assert await world.receive(body) == ["ours", "suspended", "away"]
    again = {place.name: (await world.rows(place))["messages"] for place in world.places}
    assert again == {name: rows["messages"] for name, rows in later.items()}
    ids = {place.id for place in world.places}
    for entry in logs:
        told = json.dumps(entry, default=str)
        assert sum(each in told for each in ids) <= 1, "a line is about one tenant"
        assert sender not in told
        assert "shared to" not in told
        assert not any(number in told for number in world.labels)
    metrics = generate_latest().decode()
    assert not any(word in metrics for word in (sender, *ids, *world.labels))


async def test_t15_what_came_for_a_suspended_tenant_is_there_in_order_once_it_is_enabled(world: World) -> None:
    place, number, sender = world.off, world.off.numbers[0], phone()
    await world.installed.tenants.set_state(place.desk.tenant.id, "disabled")
    for index in range(4):
        assert await world.receive(world.message(number, f"word {index}", sender, at=AT + index)) == ["suspended"]
    untouched = (
        "SELECT (SELECT count(*) FROM contacts) + (SELECT count(*) FROM messages) + (SELECT count(*) FROM timers)"
    )
    assert await place.desk.value(untouched) == 0, "nobody is met, so nothing is assigned, told or answered"
    assert [row["state"] for row in await place.desk.rows("SELECT state FROM journal")] == ["received"] * 4
    await world.enabled(place)
    rows = await place.desk.rows("SELECT text FROM messages ORDER BY arrival")
    assert [row["text"] for row in rows] == [f"word {index}" for index in range(4)]
    assert [row["text"] for row in await place.desk.rows("SELECT text FROM messages ORDER BY sequence")] == [
        f"word {index}" for index in range(4)
    ]
    assert await place.desk.value("SELECT count(*) FROM conversations") == 1


async def test_i11_the_customer_of_two_tenants_is_two_unrelated_contacts(world: World) -> None:
    sender = phone()
    await world.receive(world.body(sender))
    known = "SELECT i.contact_id FROM identity_aliases a JOIN identities i ON i.id = a.identity_id WHERE a.value = $1"
    contacts = [{row["contact_id"] for row in await place.desk.rows(known, sender)} for place in world.places]
    assert [len(each) for each in contacts] == [1, 1, 1]
    assert len(set.union(*contacts)) == 3


async def test_t12_what_comes_for_a_removed_channel_is_nobodys_until_its_number_is_connected_again(
    world: World,
) -> None:
    place, number = world.ours, world.ours.numbers[0]
    channel = await place.desk.value("SELECT id FROM channels WHERE account_id = $1", number.phone_number_id)
    await place.desk.execute("UPDATE channels SET state = 'disconnected' WHERE id = $1", channel)
    await world.routes.leave(WHATSAPP, number.phone_number_id, channel_id=channel)
    assert await world.receive(world.message(number, "anybody?", phone())) == []
    assert await world.waiting() == [
        {
            "tenant": None,
            "number": "number of ours",
            "reason": "unrouted",
            "split": True,
            "tells": [["account of ours", "messages", "number of ours"]],
            "days": 7,
        }
    ]
    news = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}
    assert await world.receive(payloads.field_body(number, "account_update", news, time=AT)) == []
    assert len(await world.waiting()) == 2
    for each in world.places:
        assert await each.desk.value("SELECT count(*) FROM journal") == 0
    await place.desk.execute("UPDATE channels SET state = 'active' WHERE id = $1", channel)
    await world.routes.claim(
        WHATSAPP, number.phone_number_id, tenant_id=place.desk.tenant.id, channel_id=channel, shared_id=number.waba_id
    )
    await world.redriven()
    assert [row["text"] for row in await place.desk.rows(SAID)] == ["anybody?"]
    # News of the account were true before: what is true now its provider is asked when a number is connected.
    assert await place.desk.value("SELECT count(*) FROM channels WHERE state = 'blocked'") == 0
    assert [part["tells"] for part in await world.waiting()] == [[["account of ours", "account_update", ""]]]


async def test_news_of_an_account_reach_every_tenant_with_a_number_of_it_once_and_nobody_who_left(world: World) -> None:
    shared = world.ours.numbers[1]
    news = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}
    body = payloads.field_body(shared, "account_update", news, time=AT)
    for _ in range(2):
        assert await world.receive(body) == ["ours", "away"]
    for place in (world.ours, world.away):
        assert await place.desk.value("SELECT count(*) FROM journal_items WHERE kind LIKE 'account%'") == 1
        blocked = await place.desk.rows("SELECT account_id FROM channels WHERE state = 'blocked'")
        assert [row["account_id"] for row in blocked] == [place.numbers[1].phone_number_id]
    channel = await world.away.desk.value(
        "SELECT id FROM channels WHERE account_id = $1", world.away.numbers[1].phone_number_id
    )
    await world.routes.leave(WHATSAPP, world.away.numbers[1].phone_number_id, channel_id=channel)
    back = payloads.field_body(shared, "account_update", {"event": "ACCOUNT_RECONNECTED"}, time=AT + 1)
    assert await world.receive(back) == ["ours"]
