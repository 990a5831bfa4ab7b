"""Where the state machine of deliveries lives: a tenant with two channels and four conversations, and time that moves in steps."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import asyncpg

from server.deliveries.claiming import Claimed
from server.kit.clock import CLOCK
from server.kit.db import Database
from server.messages import delivering
from server.messages.delivering import Sender
from server.providers.contract import Accepted, Ambiguous, ErrorClass, Holds, NotSent, Outcome, Pace, Refused
from tests.desk import Desk
from tests.moved_time import BACK, MOVED

STEP, BACKOFF, EVERY = 1000.0, 660.0, 450.0
LATER = timedelta(seconds=600)
QUICK = mock.patch.object(delivering, "NOT_SENT_DELAYS", (LATER.total_seconds(),))
OUTCOMES: dict[str, Callable[[Claimed], Outcome]] = {
    "accepted": lambda claimed: Accepted(provider_id=f"wamid.{claimed.id}.{claimed.attempt}"),
    "not sent": lambda _: NotSent("refused"),
    "ambiguous": lambda _: Ambiguous("cut"),
    "retry": lambda _: Refused(error_class=ErrorClass.RETRY, code="2", message="later", retry_after=LATER),
    "pair": lambda _: Refused(
        error_class=ErrorClass.RETRY, code="131056", message="slow", retry_after=LATER, holds=Holds.RECIPIENT
    ),
    "account": lambda _: Refused(
        error_class=ErrorClass.WAIT, code="80007", message="slow", retry_after=LATER, holds=Holds.ACCOUNT
    ),
    "spam": lambda _: Refused(
        error_class=ErrorClass.WAIT, code="131048", message="spam", retry_after=LATER, holds=Holds.TEMPLATES
    ),
    "stop": lambda _: Refused(error_class=ErrorClass.STOP_CHANNEL, code="190", message="token"),
    "permanent": lambda _: Refused(error_class=ErrorClass.PERMANENT, code="131026", message="no"),
    "bug": lambda _: Refused(error_class=ErrorClass.BUG, code="100", message="malformed"),
}


@dataclass
class World:
    """A tenant with two channels and four conversations, on a loop of its own."""

    desk: Desk
    owner_dsn: str
    channels: list[Any]
    conversations: list[Any]
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __enter__(self) -> World:
        self.owner = self.wait(asyncpg.connect(self.owner_dsn))
        self.desk = dataclasses.replace(
            self.desk, database=Database(self.desk.dsn, pool_size=4), beside=Database(self.desk.dsn, pool_size=4)
        )
        can = self.desk.providers["whatsapp"].capabilities
        # Two to each recipient in a step.
        slow = Pace(every=timedelta(seconds=EVERY), ahead=timedelta(seconds=EVERY))
        can = dataclasses.replace(can, sends_per_second=1000, recipient_pace=slow)
        self.paced: Any = {"whatsapp": SimpleNamespace(capabilities=can)}
        return self

    def __exit__(self, *_: object) -> None:
        self.move(0)
        self.wait(self.owner.close())
        self.wait(self.desk.database.close())
        self.wait(self.desk.beside.close())
        self.runner.close()

    def wait(self, work: Any) -> Any:
        async def whole() -> Any:
            return await asyncio.wait_for(work, 60)

        return self.runner.run(whole())

    def move(self, seconds: float) -> None:
        CLOCK.move(timedelta(seconds=seconds))
        self.wait(self.owner.execute(MOVED.format(seconds=seconds) if seconds else BACK))

    def database(self, worker: str) -> Database:
        return self.desk.database if worker == "a" else self.desk.beside

    def sender(self, worker: str) -> Sender:
        return Sender(self.database(worker), self.desk.tenant.secrets, self.desk.providers)
