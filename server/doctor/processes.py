"""The processes: do they take calls, what do their metrics say that must never happen, and does Envoy carry our contract."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.doctor.finding import Finding, Limits, age, note, problem, well

SERVING = health_pb2.HealthCheckResponse.SERVING
# Their pages must show 0 for these.
NEVER = {
    "switchboard_inbox_assertion_violations_total": "A hole was seen in a log, and not passed on to any stream.",
    "switchboard_work_missed_total": "Due work was found that the directory of work did not know of.",
}
SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process of ours, as far as it is known. pid: on this machine. internal, metrics: host:port."""

    name: str
    pid: int | None = None
    internal: str | None = None
    metrics: str | None = None


async def look(process: Process) -> list[Finding]:
    """Whether it lives, and takes calls or works."""
    where = process.name
    if process.pid is not None and not _runs(process.pid):
        do = "`switchboard up` starts it again by itself, databases apart; see its log. Elsewhere: start it."
        return [
            problem("process-dead", where, f"process {process.pid} is gone", why="What it did, nobody does.", do=do)
        ]
    found = [] if process.internal is None else await _health(where, process.internal)
    if not found and process.metrics is not None:
        found = await _metrics(where, process.metrics)
    return found or [well("process", where, "it runs" if process.internal is None else "it takes calls")]


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def _health(where: str, address: str) -> list[Finding]:
    async with aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except aio.AioRpcError as error:
            what = f"nobody answers at {address}: {error.code().name}"
            why = "Calls go to the others, if there are any."
            return [problem("process-away", where, what, why=why, do="Start it, or see its log for why it hangs.")]
        if answer.status != SERVING:
            why = "Envoy sends it no calls."
            return [
                problem("process-drains", where, "it takes no calls", why=why, do="Wait for its end, or restart it.")
            ]
        return [finding for name in ("control-database", "valkey") for finding in await _dependency(where, stub, name)]


async def _dependency(where: str, stub: Any, name: str) -> list[Finding]:
    """Asked for a moment, because a process that has just started says no until it has looked."""
    for _ in range(6):
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)
        except aio.AioRpcError:
            return []
        if answer.status == SERVING:
            return []
        await asyncio.sleep(0.5)
    why = "Calls are refused." if name == "control-database" else "Events come up to 0.4 s late."
    do = f"Look at {name} in this list; if it is well there, look at the network and the settings of this process."
    return [problem(f"process-without-{name}", where, f"it does not reach {name}", why=why, do=do)]


async def _metrics(where: str, address: str) -> list[Finding]:
    try:
        page = await _get(f"http://{address}/metrics")
    except (aiohttp.ClientError, OSError, TimeoutError):
        do = "Look whether SWITCHBOARD_METRICS_LISTEN of this process is the address that is asked."
        return [note("metrics-away", where, f"no metrics at {address}", why="Nobody can look into it.", do=do)]
    found = []
    for line in page.splitlines():
        name, _, value = line.rpartition(" ")
        if name in NEVER and float(value) > 0:
            what = f"{name} is {value}, and must be 0"
            do = "Keep the logs of that time and report it; restarting the process makes it read anew."
            found.append(problem("assertion-violated", where, what, why=NEVER[name], do=do))
    return found


async def _get(url: str) -> str:
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        answer.raise_for_status()
        return await answer.text()


async def look_at_envoy(admin: str) -> list[Finding]:
    """Envoy by its admin address (http://host:port): ready, with healthy processes behind it, and our contract in it."""
    try:
        clusters = json.loads(await _get(f"{admin}/clusters?format=json"))["cluster_statuses"]
        dump = json.loads(await _get(f"{admin}/config_dump"))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
        do = "Start Envoy: envoy -c envoy.yaml; its log says why it refuses a configuration."
        what = f"its admin address {admin} does not answer: {type(error).__name__}"
        return [problem("envoy-away", "Envoy", what, why="Nobody comes in.", do=do)]
    found = [*_backends(clusters), *_drift(dump)]
    return found or [
        well("envoy", "Envoy", "every process behind it is healthy, and it carries this release's contract")
    ]


def _backends(clusters: Iterable[Any]) -> list[Finding]:
    sick = sorted(
        {
            f"{host['address']['socket_address']['address']}:{host['address']['socket_address']['port_value']}"
            for cluster in clusters
            for host in cluster.get("host_statuses", [])
            if host.get("health_status", {}).get("failed_active_health_check")
        }
    )
    if not sick:
        return []
    do = "Start these processes, or take them out of envoy.yaml."
    return [
        problem(
            "envoy-backends",
            "Envoy",
            f"unhealthy behind it: {', '.join(sick)}",
            why="The others carry their calls.",
            do=do,
        )
    ]


def _drift(dump: Any) -> list[Finding]:
    """Envoy reads its descriptors once, at its start."""
    paths = sorted(set(_descriptors(dump)))
    do = "Restart Envoy with this release's generated/descriptor.binpb and envoy.yaml."
    why = "REST calls to what is new are unknown, and fields that are new are dropped."
    found = []
    for path in paths:
        try:
            differs = differences(Path(path).read_bytes())
        except (OSError, DecodeError):
            found.append(
                note("envoy-descriptor", "Envoy", f"its descriptors {path} cannot be read here", why=why, do=do)
            )
            continue
        if differs:
            what = f"its contract differs from this release's in {', '.join(differs[:3])}" + (
                " …" if len(differs) > 3 else ""
            )
            found.append(problem("envoy-drift", "Envoy", what, why=why, do=do))
    return found


def _descriptors(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(value.get("proto_descriptor"), str):
            yield value["proto_descriptor"]
        for item in value.values():
            yield from _descriptors(item)
    elif isinstance(value, list):
        for item in value:
            yield from _descriptors(item)


def differences(descriptors: bytes) -> list[str]:
    """Which of our files say something else in a descriptor set than in this process. Comments do not count."""
    names = [file.name for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file]
    ours = {name: _ours(name) for name in names if name.startswith("switchboard/")}
    # Read once more: only now that our modules are there are the options of methods known, and not just bytes.
    theirs = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
    return [file.name for file in theirs if file.name in ours and _plain(file) != _plain(ours[file.name])]


def _ours(name: str) -> descriptor_pb2.FileDescriptorProto:
    """The file as this release has it; empty where it has none."""
    found = descriptor_pb2.FileDescriptorProto()
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2").DESCRIPTOR.CopyToProto(found)
    return found


def _plain(file: descriptor_pb2.FileDescriptorProto) -> bytes:
    """Without what one compiler writes down and another derives."""
    file.ClearField("source_code_info")
    for extension in file.extension:
        extension.ClearField("json_name")
    for message in file.message_type:
        _without_json_names(message)
    return file.SerializeToString(deterministic=True)


def _without_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _without_json_names(nested)


def certificate(path: Path, limits: Limits) -> list[Finding]:
    """How long Envoy's certificate is still good."""
    where = f"certificate {path.name}"
    do = "Restart `switchboard up`, which makes a new one; elsewhere renew it and replace the file: Envoy sees that."
    try:
        until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return [problem("certificate-unreadable", where, f"{path} is no certificate", why="TLS does not work.", do=do)]
    left = (until - datetime.datetime.now(datetime.UTC)).total_seconds()
    if left > limits.certificate.total_seconds():
        return [well("certificate", where, f"good for {age(left)}")]
    what = "it has ended" if left <= 0 else f"it ends in {age(left)}"
    return [problem("certificate-ends", where, what, why="Clients refuse to connect by TLS.", do=do)]
