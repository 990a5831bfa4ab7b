"""Runs the machine of the log: as it is, for long, and with each planted bug, which it must find."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from tests import machines
from tests.inbox.inbox_bench import new_database
from tests.log.log_machine import LogMachine
from tests.log.log_planted import PLANTED

logging.getLogger("asyncio").setLevel(logging.CRITICAL)


@pytest.fixture(scope="module")
async def machine(server_dsn: str) -> AsyncIterator[type[LogMachine]]:
    """Runs on the loop of the session, which stands still while a test that is not async runs."""
    loop = asyncio.get_running_loop()
    async with new_database(server_dsn) as name:

        class OnDatabase(LogMachine):
            system = staticmethod(lambda: (loop, server_dsn, name))

        yield OnDatabase


def test_the_log_is_what_a_list_says(machine: type[LogMachine]) -> None:
    machines.run(machine, examples=3, steps=10, same=False)


@pytest.mark.faults
def test_the_log_is_what_a_list_says_for_long(machine: type[LogMachine]) -> None:
    machines.run(machine, examples=120, steps=40, same=False)


@pytest.mark.faults
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(machine: type[LogMachine], bug: str) -> None:
    with PLANTED[bug]():
        machines.find(machine, examples=150, steps=30)
