"""The examples of docs/reference/: each success and each refusal of the table, as one HTTP call and its answer.

`make examples` records them from a stack of its own, as {"use": exchange, "refusal": exchange} for each RPC.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from contract_edge import Rest, bearer, rest_request
from contract_outcome import methods
from contract_placeholders import Placeholders
from contract_table import CASES, COUNTED_LATER, token
from contract_transports import Grpc
from contract_world import World
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from server.embedded.stack import Options, Stack

FOLDER = Path(__file__).parent / "examples"
# Of a stream so many items are shown.
LINES = 3


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A call that is about to be made: a method, its request, who calls, and headers beside those of every call."""

    method: MethodDescriptor
    request: Message
    caller: str
    headers: Mapping[str, str]


def use_of(world: World, name: str) -> Ask:
    """The call that the table has as the success of an RPC."""
    case = CASES[name]
    request = (case.shown or case.ask)(world)
    return Ask(method=methods()[name], request=request, caller=case.caller, headers=case.headers(world, request))


def refusal_of(world: World, name: str) -> Ask:
    """The call that the table has as the refusal of an RPC."""
    case = CASES[name]
    headers, caller = case.refused_headers, case.refused_caller
    return Ask(method=methods()[name], request=case.refuse(world), caller=caller, headers=headers)


def exchanged(world: World, rest: Rest, ask: Ask) -> dict[str, Any]:
    """Calls over REST: what was sent and what was answered, with placeholders."""
    verb, path, body, more = rest_request(ask.method, ask.request)
    answered = rest.send(verb, path, body, {**bearer(token(world, ask.caller)), **more, **ask.headers})
    streams = ask.method.server_streaming and answered.status == 200
    answer = _lines(rest, answered) if streams else _json_or_text(answered.read())
    sent = None if body is None else _json_or_text(body)
    secrets = {world.meta_app["verify_token"]: "$VERIFY_TOKEN", world.meta_app["app_secret"]: "…"}
    holders = Placeholders([path, sent, answer], end=datetime.now(UTC), secrets=secrets)
    return {
        "caller": ask.caller,
        "verb": verb,
        "path": holders.text(path),
        "headers": holders.request(dict(ask.headers)),
        "body": holders.request(sent),
        "streams": streams,
        "status": answered.status,
        "answer": [holders.answer(line) for line in answer] if streams else holders.answer(answer),
    }


def _lines(rest: Rest, answered: Any) -> list[Any]:
    """The first items; the stream would go on, so its connection is given up."""
    found = [json.loads(answered.readline()) for _ in range(LINES)]
    answered.close()
    rest.close()
    return found


def _json_or_text(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()


def recorded(world: World, rest: Rest) -> dict[str, dict[str, Any]]:
    """Every example of the table, by service and method."""
    # Before the other calls make more of what these count.
    uses = {name: settled(world, rest, name) for name in COUNTED_LATER}
    found: dict[str, dict[str, Any]] = {}
    for name in CASES:
        service, _, method = name.partition(".")
        use = uses[name] if name in uses else exchanged(world, rest, use_of(world, name))
        refusal = exchanged(world, rest, refusal_of(world, name))
        found.setdefault(service, {})[method] = {"use": use, "refusal": refusal}
    return found


def settled(world: World, rest: Rest, name: str) -> dict[str, Any]:
    """A use that follows the log, at most two seconds behind it, once it is the same for longer than that."""
    while True:
        before = exchanged(world, rest, use_of(world, name))
        time.sleep(3)
        after = exchanged(world, rest, use_of(world, name))
        if after == before:
            return after


def write(examples: Mapping[str, Mapping[str, Any]]) -> None:
    """A file for each service, and none for those that are gone."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for service, methods_of_it in examples.items():
        (FOLDER / f"{service}.json").write_text(json.dumps(methods_of_it, ensure_ascii=False, indent=1) + "\n")


def main() -> None:
    """Records every example."""
    with tempfile.TemporaryDirectory() as folder, Stack(Options(home=Path(folder) / "home")) as stack:
        dev = stack.dev()
        with grpc.insecure_channel(dev["serve"][0]["grpc"]) as channel, closing(Rest(stack.url)) as rest:
            write(recorded(World(Grpc("grpc", channel), dev), rest))


if __name__ == "__main__":
    main()
