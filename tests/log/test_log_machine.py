"""Runs the machine of the log: as it is, for long, and with each planted bug, which it must find."""

import asyncio
import logging
from collections.abc import AsyncIterator

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test

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


def run(machine: type[LogMachine], *, examples: int, steps: int, shrink: bool = True) -> None:
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=not shrink,
        report_multiple_bugs=False,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
    run_state_machine_as_test(machine, settings=settings)


def test_the_log_is_what_a_list_says(machine: type[LogMachine]) -> None:
    run(machine, examples=3, steps=10)


@pytest.mark.faults
def test_the_log_is_what_a_list_says_for_long(machine: type[LogMachine]) -> None:
    run(machine, examples=120, steps=40)


@pytest.mark.faults
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(machine: type[LogMachine], bug: str) -> None:
    with PLANTED[bug](), pytest.raises((Exception, ExceptionGroup)) as found:
        run(machine, examples=150, steps=30, shrink=False)
    print(f"{bug}: {found.value!r:.200}")
