"""What reaches the log, seen from outside: a process that logs secrets and customers' data in every way it can."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

CANARIES = (
    "sb_aaaabbbbccccdddd_" + "0" * 64,
    "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl",
    "hunter2",
    "4930901820001",
    "ana@acme.example",
    "Where is my parcel?",
    "EAAGsecret",
)

PROGRAM = """
import logging, structlog
from server.kit.logging import configure
configure()
log = structlog.get_logger("server.test")
structlog.contextvars.bind_contextvars(call="c-1")
key, token, password, phone, email, text, access = {canaries!r}
log.info("call.done", method="/switchboard.v1.InboxService/WatchInbox", milliseconds=12, tenant="01a204c5-e5fd-771a-82d0-d511e4632f8c")
log.info("said " + key, credential=key, header="Bearer " + token, nested={{"deep": [token, {{"password": password}}]}})
log.warning("dsn", control_dsn="postgresql://u:" + password + "@db/x", where="connect to postgresql://u:" + password + "@db/x failed")
log.info("message", text=text, phone_number=phone, address="+" + phone, email=email, to="mail to " + email, access_token=access)
try:
    try:
        raise ValueError(text + phone)
    except ValueError as error:
        raise RuntimeError(key) from error
except RuntimeError:
    log.exception("rpc.failed", incident="abc")
    logging.getLogger("grpc").exception("Unexpected %s", key)
logging.getLogger("alembic").info("not shown")
logging.getLogger("asyncio").warning("slow callback of %s", key)
"""


def logged() -> tuple[str, list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM.format(canaries=CANARIES))],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stdout == ""
    return done.stderr, [json.loads(line) for line in done.stderr.splitlines()]


def test_the_log_is_json_and_holds_no_secret_and_no_customers_data() -> None:
    raw, lines = logged()
    for canary in CANARIES:
        assert canary not in raw
    assert all(line["level"] and line["timestamp"].endswith("Z") for line in lines)
    assert lines[0] == {
        "event": "call.done",
        "call": "c-1",
        "level": "info",
        "timestamp": lines[0]["timestamp"],
        "method": "/switchboard.v1.InboxService/WatchInbox",
        "milliseconds": 12,
        "tenant": "01a204c5-e5fd-771a-82d0-d511e4632f8c",
    }


def test_an_exception_is_logged_as_kinds_and_places() -> None:
    _, lines = logged()
    failed = next(line for line in lines if line["event"] == "rpc.failed")
    assert failed["exception"] == "RuntimeError <- ValueError"
    assert failed["incident"] == "abc"
    assert failed["where"][0].endswith("<module>")


def test_libraries_speak_from_warnings_up() -> None:
    _, lines = logged()
    assert [line.get("logger") for line in lines if "logger" in line] == ["grpc", "asyncio"]
