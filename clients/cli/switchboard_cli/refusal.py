"""What a refused or unanswered call looks like, and the exit code it ends with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from switchboard_cli.inert import inert, json_text

if TYPE_CHECKING:
    from switchboard_sdk import SwitchboardError

REFUSED = 1
# 2 is click's own, for what was typed wrong.
UNAVAILABLE = 3


def exit_with(error: SwitchboardError, *, output: str) -> NoReturn:
    """Prints the error to standard error, as words or as the google.rpc.Status that REST answers with, and exits."""
    from switchboard_sdk import DeadlineExceededError, UnavailableError

    if output == "json":
        _print_status(error)
    else:
        _print_words(error)
    sys.exit(UNAVAILABLE if isinstance(error, UnavailableError | DeadlineExceededError) else REFUSED)


def _print_words(error: SwitchboardError) -> None:
    words = " ".join(word for word in (error.code.name, error.reason) if word)
    click.secho(inert(f"{words}: {error.message}"), fg="red", err=True)
    for each in error.violations:
        if error.message != f"{each.field}: {each.description}":
            click.secho(inert(f"  {each.field}: {each.description}"), fg="red", err=True)
    for name, value in sorted(error.metadata.items()):
        click.echo(inert(f"  {name} = {value}"), err=True)
    if error.retry_after is not None:
        click.echo(f"  try again in {error.retry_after.total_seconds():g} s", err=True)


def _print_status(error: SwitchboardError) -> None:
    from switchboard_cli.json_form import to_json

    click.echo(json_text(to_json(error.status)), err=True)
