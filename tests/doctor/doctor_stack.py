"""A stack to be made ill."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from aiohttp import web
from google.protobuf import descriptor_pb2

from server.embedded.envoy import DESCRIPTOR
from server.embedded.stack import Stack
from server.simulator.payloads import InboundText, Number, encode, inbound_body, sign


@dataclass
class Ill:
    """The stack, and what plants need of it. tenant: acme, the first one; other: globex."""

    stack: Stack
    folder: Path

    def dsn(self, name: str) -> str:
        """The superuser's address of a database: server, control, tenant, other."""
        dev = self.stack.dev()
        names = {"server": "postgres", "control": dev["postgres"]["control"].rpartition("/")[2]}
        for key, tenant in zip(("tenant", "other"), dev["tenants"], strict=True):
            names[key] = tenant["postgres"].rpartition("/")[2]
        return self.stack.server_dsn(names[name])

    async def execute(self, database: str, statements: str) -> None:
        tenant, other = (self.dsn(name).rpartition("/")[2] for name in ("tenant", "other"))
        connection = await asyncpg.connect(self.dsn(database))
        try:
            for statement in statements.format(tenant=tenant, role=tenant, other=other).split("; "):
                await connection.execute(statement)
        finally:
            await connection.close()

    async def until(self, query: str) -> None:
        """Waits until a query of acme's database says more than 0."""
        connection = await asyncpg.connect(self.dsn("tenant"))
        try:
            async with asyncio.timeout(20):
                while not await connection.fetchval(query):
                    await asyncio.sleep(0.1)
        finally:
            await connection.close()

    def customer_writes(self) -> None:
        channel = self.stack.dev()["channels"][0]
        self._write(Number(channel["waba_id"], channel["phone_number_id"], "15550001111"))

    def stranger_number_writes(self) -> None:
        """A number of the same app that nobody connected."""
        self._write(Number("102290129340398", "999888777666555", "15550001112"))

    def _write(self, number: Number) -> None:
        raw = encode(inbound_body(number, [InboundText(text="hello", timestamp=1_700_000_000, phone="4915112345678")]))
        app = self.stack.dev()["meta_app"]
        headers = {"x-hub-signature-256": sign(raw, app["app_secret"])}
        request = urllib.request.Request(self.stack.url + app["webhook_path"], data=raw, headers=headers, method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def older_descriptors(self) -> Path:
        """Descriptors without one field that this release has."""
        found = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR.read_bytes())
        message = next(file for file in found.file if file.name == "switchboard/v1/message.proto").message_type[0]
        del message.field[-1]
        path = self.folder / "older.binpb"
        path.write_bytes(found.SerializeToString())
        return path

    async def envoy_saying(self, dump: object) -> tuple[int, web.AppRunner]:
        """A page that answers like Envoy's admin; its port, and what is to be cleaned up."""

        async def clusters(_request: web.Request) -> web.Response:
            return web.json_response({"cluster_statuses": []})

        async def config_dump(_request: web.Request) -> web.Response:
            return web.json_response(dump)

        app = web.Application()
        app.add_routes([web.get("/clusters", clusters), web.get("/config_dump", config_dump)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner.addresses[0][1], runner
