"""The whole stack, as a person starts it: ready, described, killed, found again, stopped."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_processes import gone, wait_until
from test_up import UP, environment

NAMES = {"postgres", "valkey", "simulator", "serve-1", "serve-2", "work", "envoy"}


class Running:
    """`up` in a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        command = [sys.executable, "-c", UP, str(home), "0"]
        self.process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        self.said: list[str] = []

    def wait_ready(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("ready"):
                return
        pytest.fail("".join(self.said))

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode

    @property
    def dev(self) -> dict:
        return json.loads((self.home / "dev.json").read_text())

    def pid(self, name: str) -> int:
        return next(each["pid"] for each in self.dev["processes"] if each["name"] == name)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("stack") / "home")
    running.wait_ready()
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGINT)


def get(url: str, token: str) -> tuple[int, dict]:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_dev_json_describes_a_stack_that_works(running: Running) -> None:
    dev = running.dev
    assert (running.home / "dev.json").stat().st_mode & 0o777 == 0o600
    assert [len(tenant["agents"]) for tenant in dev["tenants"]] == [3, 3]
    first = dev["tenants"][0]
    assert (dev["tenant"], dev["tenant_key"], dev["agents"]) == (first["id"], first["key"], first["agents"])
    assert {each["name"] for each in dev["processes"]} == NAMES
    assert [each["kind"] for each in dev["channels"]] == ["whatsapp", "whatsapp"]
    assert {each["tenant"] for each in dev["channels"]} == {tenant["id"] for tenant in dev["tenants"]}
    assert dev["meta_app"]["webhook_path"] == f"/v1/webhooks/meta/{dev['meta_app']['id']}"
    for token in (dev["tenant_key"], *(agent["token"] for agent in dev["agents"])):
        assert get(f"{dev['url']}/v1/conversations", token)[0] == 200
    assert get(f"{dev['url']}/v1/tenants", dev["platform_key"])[0] == 200


@pytest.mark.parametrize("name", ["serve-1", "work", "simulator", "envoy", "valkey", "postgres"])
def test_a_process_that_dies_is_started_again(running: Running, name: str) -> None:
    dead = running.pid(name)
    os.kill(dead, signal.SIGKILL)
    # How soon is asserted by the fault tests, on a quiet machine.
    wait_until(lambda: running.pid(name) != dead, within=40)
    dev = running.dev

    def answers() -> bool:
        try:
            return get(f"{dev['url']}/v1/conversations", dev["tenant_key"])[0] == 200
        except OSError:
            return False

    wait_until(answers, within=60)


def test_a_killed_run_takes_its_processes_with_it_and_the_next_finds_its_data(running: Running) -> None:
    before = running.dev
    # The signal of a dead parent waits in one that was stopped, with its port and its data.
    for name in ("serve-2", "postgres"):
        os.kill(running.pid(name), signal.SIGSTOP)
    running.end(signal.SIGKILL)
    again = Running(running.home)
    again.wait_ready()
    after = again.dev
    assert again.end(signal.SIGINT) == 0
    for same in ("tenant", "platform_key", "tenant_key", "channels", "meta_app", "url", "tls_url"):
        assert after[same] == before[same]
    assert all(gone(each["pid"]) for run in (before, after) for each in run["processes"])
    assert not (running.home / "dev.json").exists()
    assert (running.home / "lock").read_text() == ""
