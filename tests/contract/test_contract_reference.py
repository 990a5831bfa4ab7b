"""docs/reference/ is what the contract and the recorded examples give, and every example still answers as its page shows."""

import json
import re
import shlex
import subprocess
from typing import Any

import pytest
from contract_edge import HTTP_BODY, Rest, parsed, rest_request
from contract_examples import exchanged, refusal_of, use_of
from contract_outcome import methods
from contract_table import CASES, token
from contract_world import World

from protos import reference

RECORDED = reference.recorded()
SHOWN = sorted(set(RECORDED) & set(CASES))
TYPED = (
    "TagService.CreateTag",
    "TagService.UpdateTag",
    "TagService.DeleteTag",
    "ConversationService.ListConversations",
)


def test_every_rpc_has_an_example_of_use_and_one_of_refusal() -> None:
    assert [f"{name} {reference.ADD}" for name in reference.without_example()] == []


def test_no_example_is_of_an_rpc_that_is_gone() -> None:
    assert set(RECORDED) <= set(methods()), "run: make examples"


def test_every_page_is_what_the_contract_gives() -> None:
    assert reference.differing() == [], "run: make reference"


def test_every_link_leads_somewhere() -> None:
    texts = {path: path.read_text() for path in reference.PAGES.glob("*.md")}
    for path, text in texts.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            file, _, anchor = target.partition("#")
            aim = (path.parent / file).resolve() if file else path
            headings = re.findall(r"^#+ (.*)$", aim.read_text(), re.MULTILINE)
            assert not anchor or anchor in {anchor_of(each) for each in headings}, (path.name, target)


def anchor_of(heading: str) -> str:
    """As GitHub makes them: lower case, letters, digits and hyphens alone; of a link its text."""
    text = re.sub(r"\[(.*)\]\(.*\)", r"\1", heading)
    return re.sub(r"[^\w-]", "", text.lower().replace(" ", "-"))


@pytest.mark.parametrize("name", SHOWN)
def test_a_use_is_answered_as_its_page_shows(world: World, rest: Rest, name: str) -> None:
    shown, told = RECORDED[name]["use"], exchanged(world, rest, use_of(world, name))
    assert told["status"] == shown["status"] == 200
    assert request_of(told) == request_of(shown)
    first = [each["answer"][0] if each["streams"] else each["answer"] for each in (shown, told)]
    # The things that it is about differ by what other tests did to them.
    assert members(first[0]) == members(first[1])
    if methods()[name].output_type.full_name != HTTP_BODY:
        for answer in first:
            parsed(methods()[name], json.dumps(answer).encode())


@pytest.mark.parametrize("name", SHOWN)
def test_a_refusal_is_what_its_page_shows(world: World, rest: Rest, name: str) -> None:
    shown, told = RECORDED[name]["refusal"], exchanged(world, rest, refusal_of(world, name))
    assert (told["status"], request_of(told)) == (shown["status"], request_of(shown))
    assert refused(told["answer"]) == refused(shown["answer"])
    assert reference.reason_of({"refusal": shown}) == CASES[name].reason


@pytest.mark.parametrize("name", TYPED)
def test_an_example_may_be_typed_as_its_page_shows_it(world: World, stack: Any, name: str) -> None:
    ask = use_of(world, name)
    verb, path, body, _ = rest_request(ask.method, ask.request)
    sent = None if body is None else json.loads(body)
    typed = reference.curl(
        {"verb": verb, "path": path, "headers": {}, "body": sent, "caller": ask.caller, "streams": False}
    )
    variable = reference.CREDENTIALS[ask.caller].removeprefix("$")
    given = f"{variable}={shlex.quote(token(world, ask.caller))} SWITCHBOARD_URL={stack.url}\n{typed}"
    printed = subprocess.run(["sh", "-c", given], capture_output=True, check=True, timeout=30).stdout
    assert members(json.loads(printed)) == members(RECORDED[name]["use"]["answer"])


def request_of(exchange: dict[str, Any]) -> Any:
    """All of an exchange that is not its answer."""
    return {name: value for name, value in exchange.items() if name not in ("status", "answer")}


def members(value: Any) -> Any:
    """The members of an answer and what each is; what lies deeper is checked against the contract."""
    return {key: type(inner).__name__ for key, inner in value.items()} if isinstance(value, dict) else type(value)


def refused(answer: dict[str, Any]) -> Any:
    """Code, message, reason, fields at fault, and the names in the metadata: numbers are of what it is about."""
    info = next(detail for detail in answer["details"] if detail.get("domain") == "switchboard")
    fields = [each["field"] for detail in answer["details"] for each in detail.get("fieldViolations", [])]
    return answer["code"], re.sub(r"\d+", "0", answer["message"]), info["reason"], sorted(info["metadata"]), fields
