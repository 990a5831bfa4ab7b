"""A stack under its own supervision, as `switchboard up` runs it: what dies is started again by the stack, not by the test."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from server.embedded import seeding
from server.embedded.stack import Options, Stack
from server.embedded.up import LOOK_EVERY


@contextmanager
def supervised(options: Options) -> Iterator[Stack]:
    """The stack, ready, started and looked after by one thread: children die with the thread that started them."""
    stack = Stack(options)
    ready, done = threading.Event(), threading.Event()
    failure: list[BaseException] = []

    def run() -> None:
        try:
            with stack:
                ready.set()
                while not done.wait(LOOK_EVERY):
                    stack.resurrect()
        except BaseException as error:
            failure.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="supervisor")
    thread.start()
    ready.wait()
    try:
        if not failure:
            yield stack
    finally:
        done.set()
        thread.join()
        if failure:
            raise failure[0]


def unlimited(stack: Stack) -> None:
    """The simulated provider neither limits nor closes windows: here customers write without it."""
    dev: dict[str, Any] = stack.dev()
    hooks = {"app_secret": dev["meta_app"]["app_secret"], "webhook_url": stack.url + dev["meta_app"]["webhook_path"]}
    limits = {"throughput_per_second": None, "pair_seconds": None}
    for account in seeding.load_accounts(stack.home.accounts).values():
        config = {**asdict(account), **hooks, "limits": limits, "window": "off"}
        body = json.dumps(config).encode()
        request = urllib.request.Request(dev["simulator"]["url"] + "/_control/accounts", data=body, method="POST")
        urllib.request.urlopen(request, timeout=10).close()
