"""A healthy stack is called well; each planted fault is found, named, and comes with what to do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from doctor_planted import PLANTED
from doctor_stack import Ill

from server.doctor import visit
from server.doctor.finding import Report, Severity
from server.doctor.visit import Asked
from server.embedded.stack import Options, Stack

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ill]:
    folder = tmp_path_factory.mktemp("doctor")
    with Stack(Options(home=folder / "home", processes=1, receipts=None)) as stack:
        yield Ill(stack, folder)


@pytest.fixture(autouse=True)
def _home(ill: Ill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_HOME", str(ill.stack.home.path))


def named(report: Report) -> set[str]:
    return {finding.name for finding in report.findings if finding.severity is not Severity.WELL}


async def until_well(within: float = 20) -> Report:
    """What a fault left behind is worked off in a moment."""
    deadline = time.monotonic() + within
    while True:
        report = await visit.examine(Asked())
        if not named(report) or time.monotonic() > deadline:
            return report
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("fault", PLANTED)
async def test_a_planted_fault_is_found_and_named(ill: Ill, fault: str) -> None:
    planted = PLANTED[fault]
    before = await until_well()
    assert not named(before), before.findings
    async with planted.plant(ill) as asked:
        began = time.monotonic()
        report = await visit.examine(asked)
    # Whatever hangs, the doctor does not.
    assert time.monotonic() - began < 30
    found = [finding for finding in report.findings if finding.name == planted.name and planted.where in finding.where]
    assert found, [(finding.name, finding.where, finding.what) for finding in report.findings]
    assert all(finding.what and finding.why and finding.do for finding in found)
    assert named(report) >= {planted.name, *planted.also}
    assert report.exit_code == planted.exit_code


def doctor(ill: Ill, *words: str) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": roots, "SWITCHBOARD_HOME": str(ill.stack.home.path)}
    command = [sys.executable, "-m", "server", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


async def test_the_command_says_that_all_is_well_and_what_is_not(ill: Ill) -> None:
    await until_well()
    done = await asyncio.to_thread(doctor, ill)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1] == "All is well."
    async with PLANTED["a channel is paused"].plant(ill):
        one = await asyncio.to_thread(doctor, ill, "--tenant", "acme", "--json")
        other = await asyncio.to_thread(doctor, ill, "--tenant", "globex")
    found = json.loads(one.stdout)
    (paused,) = (finding for finding in found["findings"] if finding["severity"] == "problem")
    assert (one.returncode, found["exit_code"], paused["name"]) == (1, 1, "channel-paused")
    assert "190: the token ended" in paused["what"]
    assert "switchboard channels resume" in paused["do"]
    assert other.returncode == 0, other.stdout


async def test_no_secret_stands_in_the_report(ill: Ill) -> None:
    dev = ill.stack.dev()
    async with PLANTED["a tenant's role is locked"].plant(ill):
        done = await asyncio.to_thread(doctor, ill, "--json")
    secrets = [dev["tenant_key"], dev["platform_key"], dev["meta_app"]["app_secret"], dev["agents"][0]["token"]]
    secrets += [ill.stack.home.load_secrets().postgres_password, ill.stack.home.load_secrets().valkey_password]
    secrets += [tenant["postgres"].split(":")[2].partition("@")[0] for tenant in dev["tenants"]]
    assert not [secret for secret in secrets if secret in done.stdout + done.stderr]
