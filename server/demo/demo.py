"""The demo from beginning to end: the stage, the cast, the agents, the terminal, the proof."""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.live import Live
from switchboard_client.switchboard.v1 import MessageStatus, WatchStart
from switchboard_sdk import Client, connect

from server.demo import mischief, view
from server.demo.cast import Cast, Phones
from server.demo.desk import Desk, agree_on_tags
from server.demo.episodes import Episodes
from server.demo.proof import Proof, prove
from server.demo.stage import Stage
from server.demo.view import Facts
from server.demo.world import SETTLED, World
from server.embedded.errors import StartError

REFRESH_EVERY = 0.25
FIGURES_EVERY = 5.0
SETTLES_WITHIN = 30.0
SETTLES_WITHIN_FAULTS = 120.0
RECEIPTS_WITHIN = 20.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """What a person may choose. seconds: None plays until Ctrl-C. picture: where the last screen is written as SVG."""

    seconds: float | None = None
    customers: int = 12
    speed: float = 1.0
    plain: bool = False
    faults: bool = False
    seed: int = 1
    picture: Path | None = None


def run(options: Options) -> int:
    """Plays; the exit code is 0 when nothing was lost, doubled or reordered."""
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    plain = options.plain or not console.is_terminal
    with tempfile.TemporaryDirectory(prefix="switchboard-demo-") as folder:
        notices: list[str] = []
        stage = Stage(
            Path(folder) / "home", tell=lambda name, seconds: _tell(console, name, seconds), say=notices.append
        )
        console.print("Starting Switchboard for the demo")
        try:
            stage.open()
            return asyncio.run(Demo(options, stage, console, notices, plain=plain).play())
        except StartError as refusal:
            print(f"switchboard: {refusal}", file=sys.stderr)  # noqa: T201  a sentence for a person
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            stage.close()


def _tell(console: Console, name: str, seconds: float) -> None:
    console.print(f"  [green]✓[/] {name:<12} {seconds:5.1f} s")


class Demo:
    """One play on a stage that stands."""

    def __init__(self, options: Options, stage: Stage, console: Console, notices: list[str], *, plain: bool) -> None:
        self._options = options
        self._stage = stage
        self._console = console
        self._notices = notices
        self._plain = plain
        self._asked = asyncio.Event()
        self._hurried = False
        self._world = World({agent.id: agent.name for agent in stage.agents()})
        self._facts = Facts(stage.url, options.seconds, faults=options.faults)

    async def play(self) -> int:
        """Everything, to the last line."""
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._ask)
        async with aiohttp.ClientSession() as session, connect(self._stage.url, token=self._stage.key) as client:
            phones = Phones(session, self._stage.simulator, self._stage.phone_number_id, self._world.ledger)
            with self._screen() as live:
                await self._acts(client, phones, live)
            self._facts.phase = "counting"
            proof = await prove(client, self._world)
            self._facts.fired = await mischief.fired(phones)
        self._tell_the_end(proof)
        return 0 if proof.holds else 1

    def _ask(self) -> None:
        """The first Ctrl-C ends the play, a second one the waiting for the rest."""
        self._hurried = self._asked.is_set()
        self._asked.set()

    async def _acts(self, client: Client, phones: Phones, live: Live | None) -> None:
        """The play: all work side by side, customers fall silent, the rest is answered."""
        world, options = self._world, self._options
        cast = Cast(phones, world.ledger, customers=options.customers, seed=options.seed, speed=options.speed)
        desks = [
            Desk(self._stage, place, world.ledger, seed=options.seed, speed=options.speed)
            for place in range(len(self._stage.agents()))
        ]
        await agree_on_tags(client)
        async with asyncio.TaskGroup() as group:
            staff = [
                group.create_task(work)
                for work in (
                    self._watch(client),
                    self._show(phones, live),
                    cast.look_at_phones(),
                    *(desk.work() for desk in desks),
                )
            ]
            if options.faults:
                await mischief.arm_late(phones, messages=options.customers)
            await cast.write_early()
            if options.faults:
                await mischief.arm(phones, seed=options.seed)
            world.began = time.monotonic()
            people = [group.create_task(cast.live())]
            episodes = Episodes(client, phones, world, cast.guests, speed=options.speed)
            # They look up what came of each thing; on the provider's worst day nobody can say.
            playing = None if options.faults else group.create_task(episodes.play())
            if options.faults:
                people.append(group.create_task(mischief.kill(self._stage, world.ledger, seed=options.seed)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(options.seconds):
                    await self._asked.wait()
            episodes.end()
            if playing is not None:
                await playing
            await self._fall_silent(people, phones, desks)
            for task in staff:
                task.cancel()

    async def _fall_silent(self, people: list[asyncio.Task[None]], phones: Phones, desks: list[Desk]) -> None:
        """Nobody begins anything new; what was begun is waited for, and for what is on its way."""
        if self._options.picture is not None:
            self._options.picture.write_text(view.picture(self._world, self._facts))
        for task in people:
            task.cancel()
        self._facts.phase = "waiting for the rest"
        await phones.finish()
        began, calm = time.monotonic(), 0
        within = SETTLES_WITHIN_FAULTS if self._options.faults else SETTLES_WITHIN
        while calm < 4 and not self._hurried and (waited := time.monotonic() - began) < within:
            await asyncio.sleep(REFRESH_EVERY)
            # A receipt settles a send whose outcome is unknown, or nothing does.
            settled = SETTLED if waited < RECEIPTS_WITHIN else (*SETTLED, MessageStatus.UNKNOWN)
            restless = self._world.missing() or self._world.unsettled(settled=settled)
            calm = 0 if restless or any(desk.busy for desk in desks) else calm + 1

    async def _watch(self, client: Client) -> None:
        watch = client.watch(start=WatchStart.EARLIEST, on_state=lambda state, _error: self._world.enter(state))
        async for event in watch:
            tick = self._world.take(event)
            if self._plain:
                self._say(view.line(tick))

    async def _show(self, phones: Phones, live: Live | None) -> None:
        told, figures_at = 0, time.monotonic()
        while True:
            self._facts.processes = self._stage.processes()
            for notice in self._notices[told:]:
                self._world.ledger.notices.append(notice)
                if self._plain:
                    self._say(f"          {notice}")
            told = len(self._notices)
            if self._options.faults:
                self._facts.fired = await mischief.fired(phones)
            if live is not None:
                size = self._console.size
                live.update(view.screen(self._world, self._facts, width=size.width, height=size.height), refresh=True)
            elif time.monotonic() - figures_at > FIGURES_EVERY:
                figures_at = time.monotonic()
                self._say(f"          {view.figures_line(self._world)}")
            await asyncio.sleep(REFRESH_EVERY)

    @contextmanager
    def _screen(self) -> Iterator[Live | None]:
        if self._plain:
            self._say(f"{self._stage.url}, until Ctrl-C" if self._options.seconds is None else self._stage.url)
            yield None
            return
        with Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            yield live

    def _tell_the_end(self, proof: Proof) -> None:
        seconds = time.monotonic() - self._world.began
        for line in view.summary(self._world, self._facts, proof, seconds=seconds):
            self._say(line)
        self._say("nothing was lost, doubled or reordered" if proof.holds else "NOT ALL IS WELL")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)
