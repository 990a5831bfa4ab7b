"""Whom to call and as whom: options, environment, or the dev.json of a Switchboard started here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import switchboard_sdk


class SetupError(click.ClickException):
    """There is nobody to call, or nobody to call as. One sentence, exit code 2."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was typed about connection and output, before or behind the command; None: not typed."""

    url: str | None = None
    token: str | None = None
    agent: str | None = None
    ca_file: str | None = None
    output: str | None = None

    def over(self, other: Choice) -> Choice:
        """This choice where it says something, else the other."""
        mine = {name: value for name, value in vars(self).items() if value is not None}
        return Choice(**{**vars(other), **mine})


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to call, and the token or a function that reads it anew."""

    url: str
    token: str | Callable[[], str]
    root_certificates: bytes | None

    def connect(self) -> switchboard_sdk.Client:
        """A client of the target."""
        import switchboard_sdk

        try:
            return switchboard_sdk.connect(self.url, token=self.token, root_certificates=self.root_certificates)
        except ValueError as problem:
            raise SetupError(str(problem)) from None


def options() -> list[click.Parameter]:
    """The options that the root and every command of the API take alike."""
    return [
        click.Option(["--url"], help="Where Switchboard is, such as http://localhost:8080. [SWITCHBOARD_URL]"),
        click.Option(["--token"], help="API key or token of an agent. [SWITCHBOARD_TOKEN]"),
        click.Option(["--as", "agent"], metavar="NAME", help="Act as this agent of the Switchboard started here."),
        click.Option(["--ca-file"], type=click.Path(dir_okay=False), help="Certificates to trust for https, as PEM."),
        click.Option(
            ["-o", "--output"], type=click.Choice(["table", "json"]), help="How to print the answer.  [default: table]"
        ),
    ]


def resolve(choice: Choice, *, is_platform: bool = False) -> Target:
    """Options win over the environment, the environment over dev.json.

    Keys of dev.json go to the Switchboard that wrote it and to nobody else: not to another --url. A method of the platform
    takes the platform's key, any other the tenant's.
    """
    if choice.token and choice.agent:
        raise SetupError("--token and --as exclude each other")
    url = choice.url or os.environ.get("SWITCHBOARD_URL", "")
    token = choice.token or ("" if choice.agent else os.environ.get("SWITCHBOARD_TOKEN", ""))
    local = read_local() if choice.agent or not url else _local_if_there()
    url = url or str(local["url"])
    is_local = url.rstrip("/") in (local.get("url"), local.get("tls_url"))
    # The certificate of a Switchboard started here signed itself; dev.json says where it lies.
    certificates = _read_certificates(choice.ca_file or (local.get("tls_certificate") if is_local else None))
    if choice.agent:
        if not is_local:
            raise SetupError(f"--as names an agent of {local['url']}, not of {url}")
        return Target(url=url, token=_agent(local, choice.agent), root_certificates=certificates)
    if not token and is_local:
        token = str(local["platform_key" if is_platform else "tenant_key"])
    return Target(url=url, token=token, root_certificates=certificates)


def _read_certificates(ca_file: str | None) -> bytes | None:
    try:
        return Path(ca_file).read_bytes() if ca_file else None
    except OSError as problem:
        raise SetupError(f"{ca_file}: {problem.strerror}") from None


def read_local() -> Mapping[str, Any]:
    """The dev.json of the Switchboard started here. Raises SetupError when there is none, or none that can be read."""
    path = Path(os.environ.get("SWITCHBOARD_HOME") or ".switchboard") / "dev.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = "pass --url, set SWITCHBOARD_URL, or start one here with `switchboard up`"
        raise SetupError(f"no server: {hint} (there is no {path})") from None
    except OSError as problem:
        raise SetupError(f"{path}: {problem.strerror}") from None
    except ValueError:
        raise SetupError(f"{path} is not JSON") from None
    if not isinstance(content, dict):
        raise SetupError(f"{path} is not a JSON object")
    return content


def _local_if_there() -> Mapping[str, Any]:
    try:
        return read_local()
    except SetupError:
        return {}


def _agent(local: Mapping[str, Any], name: str) -> Callable[[], str]:
    """The token of an agent, read anew each time: `switchboard up` renews them in the file."""
    _agent_token(local, name)
    return lambda: _agent_token(read_local(), name)


def _agent_token(local: Mapping[str, Any], name: str) -> str:
    """By name or id, in the first tenant before the others."""
    agents = [*local.get("agents", []), *(agent for tenant in local.get("tenants", []) for agent in tenant["agents"])]
    for agent in agents:
        if name.lower() in (agent["name"].lower(), agent["id"]):
            return str(agent["token"])
    raise SetupError(f"no agent {name!r}; there are {', '.join(dict.fromkeys(agent['name'] for agent in agents))}")
