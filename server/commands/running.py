"""What every command begins and ends with: its imports, its settings, and refusals in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Collects no garbage meanwhile, and never looks again at what was imported: a fifth of the time of a process's start."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def await_settings() -> None:
    """Waits for a line of JSON on standard input and takes it into the environment; ends the process where none comes."""
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)
    os.environ.update(json.loads(line))
    sys.stdin.close()


def process_settings() -> Any:
    """The settings of a process of the installation."""
    from server import settings

    return say(settings.load)


def operator_settings() -> Any:
    """The settings of an operator's command: of the environment, else of the embedded run in the home folder."""
    from server import settings

    return say(settings.load_for_operator)


def say(call: Callable[[], Any]) -> Any:
    """Calls; what is refused is said in one sentence, with exit code 1."""
    from server.kit.errors import Refusal
    from server.settings import SettingsInvalid

    try:
        return call()
    except (Refusal, SettingsInvalid) as error:
        raise click.ClickException(str(error)) from None


def run(make: Callable[[], Any]) -> Any:
    """Runs a coroutine of an operator's command."""
    from server.kit import logging

    logging.configure_command()
    return say(lambda: asyncio.run(make()))
