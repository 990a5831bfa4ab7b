"""Nothing that a customer writes does anything on the terminal of whoever reads it."""

import json

import grpc
import pytest
from cli_server import Cli, Seen, happened, hello, page, received, refusal, row
from switchboard_cli.inert import inert, json_text

# Clears the screen, names the window, colours, turns the direction of text.
EVIL = "a\x1b[2J\x1b]0;b\x07\x9b31m\x7f\r\u202ez\u2066"
SHOWN = "a\\x1b[2J\\x1b]0;b\\x07\\x9b31m\\x7f\\r\\u202ez\\u2066"


def obeyed(text: str) -> set[str]:
    """What of a text a terminal would obey."""
    return set(text) & (set(EVIL) - set(SHOWN))


def test_what_a_terminal_obeys_is_written_out_and_the_rest_stays():
    assert inert(EVIL) == SHOWN
    plain = "Ünï 🎉 \u200f<b>\n\t{{x}}"
    assert inert(plain) == plain
    assert json.loads(json_text({"a": EVIL, "b": plain}, indent=2)) == {"a": EVIL, "b": plain}


@pytest.mark.parametrize("words", [["conversations", "list"], ["conversations", "list", "-o", "json"]])
async def test_an_answer_holds_nothing_that_a_terminal_obeys(cli: Cli, seen: Seen, words: list[str]):
    seen.pages[""] = page(row("k1", last_message_preview=EVIL, tags=[EVIL]))
    done = await cli(*words)
    assert done.code == 0, done.err
    assert "31m" in done.out
    assert obeyed(done.out) == set()


@pytest.mark.parametrize("output", ["table", "json"])
async def test_an_event_holds_nothing_that_a_terminal_obeys(cli: Cli, seen: Seen, output: str):
    evil = received(1, EVIL)
    evil.message_received.conversation.contact.name = EVIL
    seen.streams = [[hello("c0"), happened(evil)]]
    done = await cli("inbox", "watch", "--limit", "1", "-o", output)
    assert done.code == 0, done.err
    assert "31m" in done.out
    assert obeyed(done.out) == set()


@pytest.mark.parametrize("output", ["table", "json"])
async def test_a_refusal_holds_nothing_that_a_terminal_obeys(cli: Cli, seen: Seen, output: str):
    evil = {"violation": ("text.body", EVIL), "name": EVIL}
    seen.refusal = refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", **evil)
    done = await cli("messages", "send", "k1", "--text-body", "", "-o", output)
    assert done.code == 1
    assert "31m" in done.err
    assert obeyed(done.err) == set()
