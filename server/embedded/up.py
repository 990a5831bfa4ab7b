"""`switchboard up`: the stack for a person at a terminal, until Ctrl-C."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from server.embedded.errors import StartError
from server.embedded.stack import PAGE, Options, Stack
from server.settings import Settings

LOOK_EVERY = 0.2
GIVEN = ("SWITCHBOARD_META_", "SWITCHBOARD_WHATSAPP_", "SWITCHBOARD_MASTER_KEY_PREVIOUS")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(settings: Settings) -> NoReturn:
    """Run the stack as the settings say, until Ctrl-C, and exit.

    What the environment says of Meta and of a WhatsApp number is for the children: with a real number, token and Graph address the
    first tenant gets a real channel beside the simulated ones. So is the previous master key, while it is being changed.
    """
    ports = {"http_port": settings.http_port, "tls_port": settings.tls_port}
    given = {name: value for name, value in os.environ.items() if name.startswith(GIVEN)}
    sys.exit(up(home=settings.home, cors_origins=settings.cors_origins, environment=given, **ports))


def up(
    *,
    home: Path,
    http_port: int,
    tls_port: int,
    cors_origins: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run the stack in the foreground; the exit code: 0 after Ctrl-C, 1 where it could not start (and it said why)."""
    console = Console(highlight=False, soft_wrap=True)
    asked = threading.Event()
    options = Options(
        home=home,
        http_port=http_port,
        tls_port=tls_port,
        cors_origins=tuple(cors_origins),
        environment=environment or {},
        spares=True,
    )
    stack = Stack(
        options,
        tell=lambda name, seconds: console.print(f"  [green]✓[/] {name:<12} {seconds:5.1f} s"),
        say=lambda line: console.print(f"  {time.strftime('%H:%M:%S')} {line}", markup=False),
    )
    for number in STOPPING:
        signal.signal(number, _interrupt)
    try:
        _run(stack, console, asked)
    except StartError as refusal:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"switchboard: {refusal}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
    return 0


def _run(stack: Stack, console: Console, asked: threading.Event) -> None:
    began = time.monotonic()
    console.print(f"Starting Switchboard in {stack.home.path}")
    try:
        stack.start()
        _introduce(stack, console, time.monotonic() - began)
        while not asked.wait(LOOK_EVERY):
            stack.resurrect()
            stack.renew_tokens()
    finally:
        # From here on another Ctrl-C would only leave half of it running.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        if stack.names():
            console.print("Stopping …")
        stack.stop()


def _introduce(stack: Stack, console: Console, seconds: float) -> None:
    for name, where in _addresses(stack).items():
        console.print(f"  {name:<22}  {where}", markup=False)
    if missing := missing_page(stack.options.page or PAGE):
        console.print(f"  [yellow]![/] {missing}")
    for line in _commands(stack):
        console.print(line, markup=False)
    console.print(f"ready in {seconds:.1f} s; Ctrl-C stops it")


def _addresses(stack: Stack) -> dict[str, str]:
    found = stack.addresses()
    page = f"{stack.url}/live/"
    return {
        "gRPC, grpc-web, REST": found.url,
        "the same over TLS": found.tls_url,
        "web page": page if not missing_page(stack.options.page or PAGE) else "not built",
        "simulated WhatsApp": found.simulator,
        "Envoy's own page": found.envoy_admin,
        "keys, tokens, ports": str(stack.home.dev),
        "logs": str(stack.home.logs),
    }


def missing_page(page: Path) -> str | None:
    """What is missing for the web page, as a sentence, or None where it is there."""
    if (page / "index.html").exists():
        return None
    if shutil.which("node") is None:
        return "Node 20 is not installed, so the web page is missing; everything else runs."
    return "The web page has not been built; everything else runs."


def _commands(stack: Stack) -> list[str]:
    channel = stack.dev()["channels"][0]
    control = f"{stack.addresses().simulator}/_control/inbound"
    body = f'{{"phoneNumberId": "{channel["phone_number_id"]}", "from": "4915112345678", "text": "Hello"}}'
    switchboard = sys.argv[0] if Path(sys.argv[0]).name == "switchboard" else "switchboard"
    if stack.home.path != Path(".switchboard").absolute():
        switchboard = f"SWITCHBOARD_HOME={stack.home.path} {switchboard}"
    return [
        "Try, in another terminal:",
        f"  {switchboard} inbox watch",
        f"  curl -s {control} -d '{body}'",
        f"  {switchboard} conversations list",
    ]


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
