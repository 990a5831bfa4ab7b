"""Every key is changed under load: nothing is refused, nothing is lost, and what was handed out before stays good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from faults_stack import Faults

from server.embedded.stack import Options, Stack

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
CUSTOMERS = 40


def command(stack: Stack, *words: str, **more: str) -> subprocess.Popen[str]:
    """A command of the operator, as a process of its own."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
    return subprocess.Popen(
        [sys.executable, "-m", "server", "secrets", *words],
        env={**settings, "SWITCHBOARD_HOME": str(stack.home.path), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(running: subprocess.Popen[str]) -> str:
    out, _ = running.communicate(timeout=240)
    assert running.returncode == 0, out
    return out


class Talk:
    """Answers to customers, one after the other, until it is stopped; what went wrong is kept."""

    def __init__(self, faults: Faults, conversation_ids: list[str]) -> None:
        self._faults = faults
        self._conversation_ids = conversation_ids
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent: list[str] = []
        self.errors: list[str] = []

    def __enter__(self) -> Talk:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.2):
            conversation_id = self._conversation_ids[len(self.sent) % len(self._conversation_ids)]
            body = {"text": {"body": "hello"}, "requestId": uuid.uuid4().hex}
            try:
                answer = self._faults.call("POST", f"/v1/conversations/{conversation_id}/messages", body)
            except urllib.error.HTTPError as error:
                self.errors.append(error.read().decode())
            else:
                self.sent.append(answer["message"]["id"])


async def conversations_of(faults: Faults) -> list[str]:
    """New conversations with so many customers, who wrote by way of the simulator: it refuses answers to anybody else."""
    base = uuid.uuid4().int % 10**6
    body = {
        "phoneNumberId": faults.number.phone_number_id,
        "messages": [{"from": f"49151{base:06d}{index:03d}", "text": "hi"} for index in range(CUSTOMERS)],
    }
    asked = urllib.request.Request(
        faults.dev["simulator"]["url"] + "/_control/inbound", data=json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        wamids = json.load(answer)["wamids"]
    statement = "SELECT DISTINCT conversation_id FROM message_parts WHERE provider_message_id = ANY($1) ORDER BY conversation_id"
    for _ in range(100):
        rows = await faults.sql(statement, wamids)
        if len(rows) == CUSTOMERS:
            return [str(row["conversation_id"]) for row in rows]
        time.sleep(0.1)
    raise AssertionError("the customers' messages did not come")


async def until_sent(faults: Faults, message_ids: list[str]) -> dict[str, int]:
    statement = "SELECT status, count(*) AS n FROM messages WHERE id = ANY($1::uuid[]) GROUP BY status"
    for _ in range(300):
        found = {row["status"]: row["n"] for row in await faults.sql(statement, message_ids)}
        if set(found) == {"sent"}:
            break
        time.sleep(0.2)
    return found


async def test_keys_change_while_people_talk(faults: Faults) -> None:
    conversation_ids = await conversations_of(faults)
    page = faults.call("GET", "/v1/conversations?pageSize=5")
    with Talk(faults, conversation_ids) as talk:
        for words in (["rotate-cursors"], ["rotate-signing"]):
            ended(command(faults.stack, *words))
        running = [command(faults.stack, "rotate-tenant", "--all"), command(faults.stack, "rotate-installation")]
        for each in running:
            ended(each)
        ended(command(faults.stack, "status"))
        again = faults.call("GET", f"/v1/conversations?pageSize=5&pageToken={page['nextPageToken']}")
        # New processes find their way with the new keys as well.
        for name in ("serve-1", "work"):
            faults.stack.restart(name)
        time.sleep(3)
    assert talk.errors == []
    assert "conversations" in again, "a page token of before is good still"
    assert len(talk.sent) > 100
    assert await until_sent(faults, talk.sent) == {"sent": len(talk.sent)}, "none unknown, none left"
    print(f"{len(talk.sent)} sends while every key was changed")


def key_file(stack: Stack) -> Path:
    return stack.home.path / "master.key"


async def test_the_master_key_of_an_embedded_run_is_changed(tmp_path: Path) -> None:
    home, old = tmp_path / "home", tmp_path / "old.key"

    def stack(**environment: str) -> Stack:
        return Stack(Options(home=home, receipts=None, processes=1, environment=environment))

    with stack() as first:
        before = ended(command(first, "status"))
    key_file(first).rename(old)
    previous = {"SWITCHBOARD_MASTER_KEY_PREVIOUS_FILE": str(old)}
    with stack(**previous) as second:
        out = ended(command(second, "rotate-master", **previous))
        assert "3 data keys wrapped with" in out
    old.unlink()
    with stack() as third:
        after: Any = ended(command(third, "status"))
        faults = Faults(third)
        with Talk(faults, await conversations_of(faults)) as talk:
            time.sleep(3)
        assert talk.errors == []
        assert await until_sent(faults, talk.sent) == {"sent": len(talk.sent)}
    assert before.splitlines()[0] != after.splitlines()[0]
