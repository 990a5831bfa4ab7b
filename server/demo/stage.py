"""The stack of a demo: in a home of its own, on any free ports, looked after by one thread."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from server.embedded.stack import Options, Stack
from server.embedded.up import LOOK_EVERY

RECEIPTS = {"sent_ms": 20, "delivered_ms": None, "read_ms": None}
"""That a message has left is Meta's to tell; the rest comes from the customers' phones."""


@dataclass(frozen=True)
class Agent:
    """An agent of the first tenant."""

    id: str
    name: str


class Stage:
    """A running stack, to be opened and closed from any thread."""

    def __init__(self, home: Path, *, tell: Callable[[str, float], None], say: Callable[[str], None]) -> None:
        self._stack = Stack(Options(home=home, receipts=RECEIPTS), tell=tell, say=say)
        self._closing = threading.Event()
        # Children die with the thread that started them, so one thread does it all and lives as long as they do.
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="stage")

    def open(self) -> None:
        """Starts everything. Raises StartError, after which nothing runs."""
        self._keeper.submit(self._stack.start).result()
        self._keeper.submit(self._look_after)

    def close(self) -> None:
        """Stops everything and waits for that."""
        self._closing.set()
        self._keeper.submit(self._stack.stop).result()
        self._keeper.shutdown()

    @property
    def url(self) -> str:
        """The public address."""
        return self._stack.url

    @property
    def simulator(self) -> str:
        """The simulator's address."""
        return self._stack.addresses().simulator

    @property
    def key(self) -> str:
        """The first tenant's API key."""
        return str(self._stack.dev()["tenant_key"])

    @property
    def phone_number_id(self) -> str:
        """The first tenant's number at the simulator."""
        return str(self._stack.dev()["channels"][0]["phone_number_id"])

    def agents(self) -> list[Agent]:
        """The first tenant's agents."""
        return [Agent(agent["id"], agent["name"]) for agent in self._stack.dev()["agents"]]

    def token(self, agent: Agent) -> str:
        """A token of the agent that is good for some minutes."""
        return next(str(each["token"]) for each in self._stack.dev()["agents"] if each["id"] == agent.id)

    def processes(self) -> dict[str, int]:
        """Every process, and how often it was started again."""
        return {name: self._stack.restarts(name) for name in self._stack.names()}

    def kill(self, name: str) -> None:
        """SIGKILL, without waiting for anything: starting it again is the stack's business."""
        os.kill(self._stack.pid(name), signal.SIGKILL)

    def _look_after(self) -> None:
        while not self._closing.wait(LOOK_EVERY):
            self._stack.resurrect()
            self._stack.renew_tokens()
