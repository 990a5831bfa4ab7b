"""Runs Hypothesis' state machines, and says whether one has found the bug that was planted for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def run(
    machine: type[RuleBasedStateMachine], *, examples: int, steps: int, shrink: bool = True, same: bool = True
) -> None:
    """shrink: whether what fails is made small, which takes its time. same: whether every run has the same examples."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=same,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
    run_state_machine_as_test(machine, settings=chosen)


def find(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """With a bug planted. It is found when the machine says what is wrong; what it merely dies of is no finding.

    Bugs that need an unlucky moment may not come again when Hypothesis repeats what failed: found is found.
    """
    with pytest.raises((AssertionError, Flaky)) as found:
        run(machine, examples=examples, steps=steps, shrink=False)
    strangers = [error for error in said(found.value) if not isinstance(error, AssertionError)]
    assert strangers == []
    print(f"found: {found.value!r:.200}")


def said(error: BaseException) -> Iterator[BaseException]:
    """What the machine failed with; of what could not be repeated, what it was when it came first."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from said(inner)
    elif isinstance(error, Flaky) and error.__context__ is not None:
        yield from said(error.__context__)
    else:
        yield error
