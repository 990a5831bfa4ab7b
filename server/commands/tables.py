"""Tables and progress as operators see them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any


def table(*names: str) -> Any:
    """A table without rows yet."""
    from rich.box import SIMPLE
    from rich.table import Table

    made = Table(box=SIMPLE, pad_edge=False)
    for name in names:
        made.add_column(name, overflow="fold", no_wrap=name in ("id", "payload"))
    return made


def print_table(made: Any) -> None:
    """Prints it; into a pipe as wide as it needs to be."""
    from rich.console import Console

    width = None if Console().is_terminal else 240
    Console(highlight=False, markup=False, width=width).print(made)


@contextlib.contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on a terminal. Yields what advances it, by 1 or by as many as it is given."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done=1: progress.advance(task, done)


def time_of(moment: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"
