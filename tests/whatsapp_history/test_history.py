"""Any valid history ends in the same tables, however its webhooks are cut, doubled and shuffled, and by whomever applied."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from aiohttp import web
from history_lived import Life
from history_made import History, histories
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from server.providers.registry import ProviderSettings, create_providers
from tests.desk import Desk, close_desk, open_desk
from tests.installation import Installed

T = TypeVar("T")


@dataclass
class World:
    """Two tenants, and how often the provider was called."""

    installed: Installed
    desk: Desk
    empty: Desk
    loop: asyncio.AbstractEventLoop
    calls: list[str]

    def wait(self, work: Awaitable[T]) -> T:
        async def whole() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(whole(), self.loop).result(120)


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
    yield World(desks, *opened, asyncio.get_running_loop(), calls)
    for desk in opened:
        await close_desk(desk)
    await runner.cleanup()


@st.composite
def deliveries(draw: Any, history: History) -> list[list[tuple[list[int], list[bool], tuple[int, ...]]]]:
    """Waves of POSTs that come at the same time: each with the entries it has, where it is cut, and who applies it."""
    items = draw(st.permutations(range(len(history.entries))))
    items += draw(st.lists(st.sampled_from(items), max_size=6))
    posts = []
    while items:
        size = draw(st.integers(1, 6))
        taken, items = items[:size], items[size:]
        cuts = draw(st.lists(st.booleans(), min_size=len(taken), max_size=len(taken)))
        posts.append((taken, cuts, draw(st.sampled_from([(0,), (1,), (0, 1)]))))
    waves = []
    while posts:
        size = draw(st.integers(1, 4))
        waves.append(posts[:size])
        posts = posts[size:]
    return waves


async def in_order(life: Life) -> None:
    """Every item in a POST of its own, one after the other."""
    await life.begins()
    for send in range(len(life.history.sends)):
        await life.accepted(send)
    for index in range(life.history.opening if life.history.sends else 0, len(life.history.entries)):
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


def lived_the_same(world: World, data: st.DataObject) -> None:
    history = data.draw(histories())
    waves = data.draw(deliveries(history))
    accepted = [data.draw(st.integers(0, 3)) for _ in history.sends]
    world.wait(compared(world, history, waves, accepted))


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


def profile(examples: int, *, shrink: bool = False) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        print_blob=True,
    )


async def run(world: World, chosen: settings) -> None:
    @chosen
    @given(data=st.data())
    def test(data: st.DataObject) -> None:
        lived_the_same(world, data)

    await asyncio.to_thread(test)
    await world.desk.check()
    await world.empty.check()


async def test_any_history_ends_in_the_same_tables(world: World) -> None:
    await run(world, profile(6))


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_many_histories_end_in_the_same_tables(world: World) -> None:
    await run(world, profile(int(os.environ.get("SWITCHBOARD_HISTORIES", "300")), shrink=True))
