"""Canaries: strings that nobody else writes, where they are sent, and where they may be found."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from server.app import SERVICES
from server.embedded.stack import Stack

# What a field is called, and which canary it takes; everything else takes the text.
FIELDS = {
    "name": "name",
    "email": "email",
    "access_token": "token",
    "app_secret": "app_secret",
    "verify_token": "verify_token",
    "page_token": "page_token",
    "cursor": "cursor",
    "display_phone_number": "phone",
}
CUSTOMERS = ("text", "phone", "name", "email", "note")


def made() -> dict[str, str]:
    """Those that can be made up; keys, tokens and cursors are added as they are given out."""
    word = secrets.token_hex(6)
    return {
        "text": f"Canarytext{word}",
        "phone": f"49157{secrets.randbelow(10**9):09}",
        "name": f"Canaryname{word}",
        "email": f"canary{word}@birds.example",
        "note": f"Canarynote{word}",
        "token": f"EAACanarytoken{word}",
        "app_secret": f"canarysecret{word}",
        "verify_token": f"canaryverify{word}",
    }


def methods() -> Iterator[MethodDescriptor]:
    """Every RPC of the contract."""
    for file in SERVICES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def filled(method: MethodDescriptor, canaries: Mapping[str, str], an_id: str) -> Message:
    """A request with a canary in every string, and an id where the contract wants one."""
    request = message_factory.GetMessageClass(method.input_type)()
    _fill(request, canaries, an_id, depth=3)
    return request


def _fill(message: Any, canaries: Mapping[str, str], an_id: str, *, depth: int) -> None:
    for field_ in message.DESCRIPTOR.fields:
        if field_.containing_oneof is not None and message.WhichOneof(field_.containing_oneof.name):
            continue
        if field_.type == FieldDescriptor.TYPE_STRING:
            is_id = field_.name.endswith(("_id", "_ids")) and field_.name != "request_id"
            value = an_id if is_id else canaries.get(FIELDS.get(field_.name, "text"), canaries["text"])
            if field_.is_repeated:
                getattr(message, field_.name).append(value)
            else:
                setattr(message, field_.name, value)
        elif field_.message_type is not None and depth and not field_.message_type.full_name.startswith("google."):
            inner = getattr(message, field_.name)
            _fill(inner.add() if field_.is_repeated else inner, canaries, an_id, depth=depth - 1)


def call_everything(stack: Stack, canaries: Mapping[str, str], an_id: str, credential: str) -> int:
    """Calls every RPC; how many were answered, well or with a refusal."""
    answered = 0
    target = stack.url.removeprefix("http://")
    with grpc.insecure_channel(target) as channel:
        for method in methods():
            path = f"/{method.containing_service.full_name}/{method.name}"
            made_ = channel.unary_stream(path) if method.server_streaming else channel.unary_unary(path)
            request = filled(method, canaries, an_id).SerializeToString()
            with contextlib.suppress(grpc.RpcError):
                answer = made_(request, metadata=(("authorization", f"Bearer {credential}"),), timeout=2)
                if method.server_streaming:
                    for _ in answer:
                        break
                    answer.cancel()
            answered += 1
    return answered


@dataclass
class Listener:
    """Everything that Valkey is told while it listens."""

    heard: bytearray = field(default_factory=bytearray)


@contextlib.contextmanager
def monitored(stack: Stack) -> Iterator[Listener]:
    """Runs MONITOR on Valkey."""
    parts = urllib.parse.urlsplit(stack.valkey_url())
    listener = Listener()
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        connection.sendall(f"AUTH {parts.password}\r\nMONITOR\r\n".encode())
        connection.settimeout(None)

        def listen() -> None:
            with contextlib.suppress(OSError):
                while data := connection.recv(1 << 16):
                    listener.heard += data

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield listener
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def found_in(data: bytes, canaries: Mapping[str, str]) -> list[str]:
    """The names of canaries that stand in these bytes, as they are or in hexadecimal, as bytea columns are printed."""
    lower = data.lower()
    return [
        name for name, value in canaries.items() if value.encode() in data or value.encode().hex().encode() in lower
    ]


async def dumped(dsn: str) -> bytes:
    """Every row of every table of a database, as text."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname = 'public'"
        )
        rows = []
        for table in tables:
            rows += [row["row"] for row in await connection.fetch(f"SELECT t::text AS row FROM {table['name']} t")]
    finally:
        await connection.close()
    return "\n".join(rows).encode()


def command_lines() -> bytes:
    """Of every process of this machine that may be looked at."""
    return b"\n".join(_read(folder / "cmdline") for folder in Path("/proc").glob("[0-9]*"))


def environments(but: set[int]) -> bytes:
    """Of every process but these."""
    folders = (folder for folder in Path("/proc").glob("[0-9]*") if int(folder.name) not in but)
    return b"\n".join(_read(folder / "environ") for folder in folders)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
