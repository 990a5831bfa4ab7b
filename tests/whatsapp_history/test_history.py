"""Any valid history ends in the same tables, however its webhooks are cut, doubled and shuffled, and by whomever applied."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from aiohttp import web
from history_lived import Life
from history_made import FIELDS, Entry, History, made

from server.providers.registry import ProviderSettings, create_providers
from tests.desk import Desk, close_desk, open_desk
from tests.installation import Installed

FEW = (139, 309, 1, 2, 3, 4)


@dataclass
class World:
    """Two tenants, and how often the provider was called."""

    installed: Installed
    desk: Desk
    empty: Desk
    calls: list[str]


@pytest.fixture
async def world(desks: Installed) -> AsyncIterator[World]:
    calls: list[str] = []

    async def called(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", called)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    opened = [await open_desk(desks) for _ in range(2)]
    for desk in opened:
        desk.providers = create_providers(ProviderSettings(meta_graph_url=url))
    yield World(desks, *opened, calls)
    for desk in opened:
        await close_desk(desk)
    await runner.cleanup()


def deliveries(chance: Random, history: History) -> list[list[tuple[list[int], list[bool], tuple[int, ...]]]]:
    """Waves of POSTs that come at the same time: each with the entries it has, where it is cut, and who applies it."""
    items = list(range(len(history.entries)))
    chance.shuffle(items)
    items += [chance.choice(items) for _ in range(chance.randint(0, 6))]
    posts = []
    while items:
        size = chance.randint(1, 6)
        taken, items = items[:size], items[size:]
        cuts = [chance.random() < 0.5 for _ in taken]
        posts.append((taken, cuts, chance.choice([(0,), (1,), (0, 1)])))
    waves = []
    while posts:
        size = chance.randint(1, 4)
        waves.append(posts[:size])
        posts = posts[size:]
    return waves


async def in_order(life: Life) -> None:
    """Every item in a POST of its own, one after the other."""
    await life.begins()
    for send in range(len(life.history.sends)):
        await life.accepted(send)
    for index in range(life.history.opening if life.history.answered else 0, len(life.history.entries)):
        await life.post([index], [True])
    await life.settles()


async def disordered(life: Life, waves: Any, accepted: list[int]) -> None:
    """As it comes. accepted: before which wave the answer to each send is stored."""
    await life.begins()
    for turn, wave in enumerate(waves):
        works = [life.post(entries, cuts, by=by) for entries, cuts, by in wave]
        works += [life.accepted(send) for send, when in enumerate(accepted) if min(when, len(waves) - 1) == turn]
        await asyncio.gather(*works)
    await life.settles()


async def compared(world: World, history: History, waves: Any, accepted: list[int]) -> None:
    began = int(time.time()) - 10_000
    plain, mixed = [await Life.of(world.installed, world.desk, history, began=began) for _ in range(2)]
    await in_order(plain)
    await disordered(mixed, waves, accepted)
    wanted = await plain.dump()
    same(await mixed.dump(), wanted)
    again = await Life.of(world.installed, world.empty, history, began=began, like=mixed)
    await again.replays(mixed)
    await again.settles()
    same(await again.dump(), wanted)
    assert world.calls == []


def same(found: dict[str, list[str]], wanted: dict[str, list[str]]) -> None:
    """Every table has the same rows."""
    for name, lines in wanted.items():
        more, less = Counter(found[name]) - Counter(lines), Counter(lines) - Counter(found[name])
        assert not more + less, "\n".join([name, *(f"+ {line}" for line in more), *(f"- {line}" for line in less)])


async def run(world: World, seeds: Iterable[int]) -> None:
    """The histories of these seeds, one after the other; what fails says which it was."""
    for seed in seeds:
        chance = Random(seed)
        history = made(chance)
        waves = deliveries(chance, history)
        accepted = [chance.randint(0, 3) for _ in history.sends]
        try:
            await compared(world, history, waves, accepted)
        except BaseException as error:
            error.add_note(f"history of seed {seed}: {history}\nwaves: {waves}\naccepted: {accepted}")
            raise
    await world.desk.check()
    await world.empty.check()


def test_the_few_histories_hold_everything_that_happens() -> None:
    found = {word for seed in FEW for entry in made(Random(seed)).entries for word in (entry.array, kind(entry))}
    wanted = {"text", "reaction", "edit", "revoke", "messages", "statuses", "user_id_update", "user_preferences"}
    assert wanted | {"smb_message_echoes", "history", *FIELDS} <= found


def kind(entry: Entry) -> str:
    return str(entry.value.get("type", entry.value.get("status")))


async def test_any_history_ends_in_the_same_tables(world: World) -> None:
    await run(world, FEW)


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_many_histories_end_in_the_same_tables(world: World) -> None:
    first = int(os.environ.get("SWITCHBOARD_HISTORY_SEED", "1000"))
    await run(world, range(first, first + int(os.environ.get("SWITCHBOARD_HISTORIES", "300"))))
