"""A stack as the tests hold it: its children can be killed and had again, its tokens are renewed."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta

import pytest

from server.embedded import stack as stacks
from server.embedded.stack import Options, Stack

REAL_NUMBER = {
    "SWITCHBOARD_META_APP_SECRET": "a secret of Meta's",
    "SWITCHBOARD_META_VERIFY_TOKEN": "a token of the dashboard",
    "SWITCHBOARD_WHATSAPP_TOKEN": "EAAreal",
    "SWITCHBOARD_WHATSAPP_PHONE_NUMBER_ID": "123456789012345",
    "SWITCHBOARD_WHATSAPP_WABA_ID": "998877665544",
}


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Not the shared one: after a kill the others would wait for pools and streams to recover."""
    options = Options(home=tmp_path_factory.mktemp("own") / "home", environment=REAL_NUMBER, workers=2, spares=True)
    with Stack(options) as running:
        yield running


def lists(stack: Stack, token: str) -> int:
    request = urllib.request.Request(f"{stack.url}/v1/conversations", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status


def test_a_number_of_the_environment_is_a_channel_of_the_first_tenant(own_stack: Stack) -> None:
    dev = own_stack.dev()
    headers = {"authorization": f"Bearer {dev['tenant_key']}"}
    with urllib.request.urlopen(urllib.request.Request(f"{own_stack.url}/v1/channels", headers=headers)) as answer:
        numbers = [channel["whatsapp"]["phoneNumberId"] for channel in json.load(answer)["channels"]]
    assert "123456789012345" in numbers
    assert dev["meta_app"]["app_secret"] == "a secret of Meta's"
    query = "hub.mode=subscribe&hub.verify_token=a%20token%20of%20the%20dashboard&hub.challenge=42"
    with urllib.request.urlopen(f"{own_stack.url}{dev['meta_app']['webhook_path']}?{query}") as answer:
        assert answer.read() == b"42"


def test_tokens_in_dev_json_are_renewed_before_they_expire(own_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = own_stack
    before = stack.dev()
    stack.renew_tokens()
    assert stack.dev()["agents"] == before["agents"]
    time.sleep(1.1)  # a token's times are whole seconds
    monkeypatch.setattr(stacks, "RENEW_EVERY", timedelta(0))
    stack.renew_tokens()
    written = json.loads(stack.home.dev.read_text())
    assert {agent["id"] for agent in written["agents"]} == {agent["id"] for agent in before["agents"]}
    assert not {agent["token"] for agent in written["agents"]} & {agent["token"] for agent in before["agents"]}
    assert lists(stack, written["agents"][0]["token"]) == 200


def test_what_waited_with_its_imports_done_takes_the_place_of_a_server(own_stack: Stack) -> None:
    stack = own_stack
    for _ in range(2):  # the first may find none that waits, as one is made some seconds after the start
        stack.kill("serve-1")
        assert stack.resurrect() == ["serve-1"]
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not stack.spare_pid("serve-1"):
            stack.resurrect()
            time.sleep(0.05)
        waiting = stack.spare_pid("serve-1")
    stack.kill("serve-1")
    stack.resurrect()
    assert stack.pid("serve-1") == waiting
    stack.restart("serve-1")
    assert lists(stack, stack.dev()["tenant_key"]) == 200


@pytest.mark.parametrize("name", ["serve-2", "work-2", "valkey", "simulator", "envoy", "postgres"])
def test_a_child_is_killed_and_had_again(own_stack: Stack, name: str) -> None:
    stack = own_stack
    before = stack.pid(name)
    stack.kill(name)
    stack.restart(name)
    assert stack.pid(name) != before
    assert json.loads(stack.home.dev.read_text()) == stack.dev()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            assert lists(stack, stack.dev()["tenant_key"]) == 200
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(0.1)
        else:
            return
    pytest.fail("the stack does not answer again")
