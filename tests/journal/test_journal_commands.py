"""`switchboard journal` as an operator types it."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from journal_inlet import Inlet

from server.intake import replay
from server.intake.replay import Replay
from server.kit.clock import utc_now
from server.kit.errors import DatabaseUnavailable
from tests.typed import environment_of, switchboard

EARLIER = timedelta(minutes=5)


class Typed:
    """Types commands about one tenant."""

    def __init__(self, inlet: Inlet, home: Path) -> None:
        self._inlet = inlet
        self._home = home

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        environment = environment_of(self._inlet.installed)
        tenant = ("--tenant", self._inlet.desk.tenant.name)
        return await switchboard("journal", *arguments, *tenant, environment=environment, home=self._home)


@pytest.fixture
def typed(inlet: Inlet, tmp_path: Path) -> Typed:
    return Typed(inlet, tmp_path)


async def poisoned_payload(inlet: Inlet) -> Any:
    async with inlet.poisoned():
        return await inlet.taken(inlet.texts("hello Maria", "poison", sender="4915112345678"), at=utc_now() - EARLIER)


async def test_the_list_shows_outcomes_and_nothing_of_a_customer(inlet: Inlet, typed: Typed) -> None:
    payload = await poisoned_payload(inlet)
    fine = await inlet.taken(inlet.texts("fine"), at=utc_now() - EARLIER)
    code, out, _ = await typed("list")
    assert code == 0
    assert f"{payload.id}" in out
    assert "1 applied, 1 failed" in out
    assert "RaiseError" in out
    assert "present secret" in out
    for secret in ("Maria", "4915112345678", "wamid", "poison"):
        assert secret not in out
    code, out, _ = await typed("list", "--failed")
    assert str(payload.id) in out
    assert str(fine.id) not in out
    code, out, _ = await typed("list", "--state", "received")
    assert out == "no payloads\n"
    code, out, _ = await typed("list", "--until", "1h")
    assert out == "no payloads\n"


async def test_a_body_is_shown_when_it_is_asked_for_with_a_word_of_warning(inlet: Inlet, typed: Typed) -> None:
    payload = await poisoned_payload(inlet)
    code, out, error = await typed("show", str(payload.id))
    assert code == 0
    assert "it is customer data" in error
    assert json.loads(out.splitlines()[-1]) == json.loads(payload.body)
    code, _, error = await typed("show", str(inlet.channel.id))
    assert (code, error.startswith("Error: there is no such payload")) == (1, True)


async def test_a_replay_shows_then_applies_then_has_nothing_to_do(inlet: Inlet, typed: Typed) -> None:
    payload = await poisoned_payload(inlet)
    recent = await inlet.store(inlet.texts("a moment ago"))
    code, out, _ = await typed("replay")
    assert code == 0
    assert "1 payloads with 2 items" in out
    assert "failed before" in out
    assert str(payload.id) in out
    assert "nothing was changed" in out
    code, out, _ = await typed("replay", "--apply", "--since", "1h")
    assert (code, "failed before: tried again" in out) == (0, True)
    assert sorted(await inlet.said()) == ["hello Maria", "poison"]
    code, out, _ = await typed("replay", "--apply")
    assert (code, out.splitlines()[-1]) == (0, "nothing differs")
    assert (await inlet.payload(recent.id))["state"] == "received", "left to whoever received it"


async def test_what_cannot_be_applied_ends_with_one(inlet: Inlet, typed: Typed) -> None:
    async with inlet.poisoned():
        await inlet.taken(inlet.texts("poison"), at=utc_now() - EARLIER)
        code, out, error = await typed("replay", "--apply")
    assert code == 1
    assert "could not be applied" in out
    assert "4915100000001" not in error, "tracebacks would quote the row"
    assert "wamid" not in error


async def test_a_replay_that_is_stopped_says_where_to_go_on(
    inlet: Inlet, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age in (4, 3, 2):
        await inlet.taken(inlet.texts("fine"), at=utc_now() - timedelta(minutes=age))
    monkeypatch.setattr(replay, "PAGE", 1)
    whole, pages = Replay._page, iter(range(2))

    async def page(of: Replay, *arguments: Any) -> Any:
        if next(pages, None) is None:
            raise DatabaseUnavailable
        return await whole(of, *arguments)

    monkeypatch.setattr(Replay, "_page", page)
    code, out, error = await typed("replay")
    assert (code, "2 payloads with 2 items" in out) == (1, True)
    (since,) = re.findall(r"stopped; go on with --since (\S+)", error)
    monkeypatch.setattr(Replay, "_page", whole)
    code, out, _ = await typed("replay", "--since", since)
    assert (code, "2 payloads with 2 items" in out) == (0, True), "the last one done, and the one that was left"


async def test_a_wrong_tenant_or_time_is_said_in_one_sentence(inlet: Inlet, typed: Typed, tmp_path: Path) -> None:
    environment = environment_of(inlet.installed)
    code, _, error = await switchboard("journal", "list", "--tenant", "nobody", environment=environment, home=tmp_path)
    assert (code, error) == (1, "Error: no such tenant\n")
    code, _, error = await typed("list", "--since", "yesterday")
    assert code == 2
    assert "give a time such as" in error
