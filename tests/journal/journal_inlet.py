"""A tenant's journal without a server in front of it: payloads as Meta sends them, stored and applied step by step."""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from server.channels.service import ChannelRow
from server.intake.apply import Applier
from server.intake.operator import replay_of
from server.intake.replay import Report
from server.journal import service as journal
from server.journal.service import Payload, Range
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.ids import new_id
from server.messages.batch import BatchWriters
from server.providers.contract import Change, Ignored, InboundMessage, Item, Provider
from server.providers.whatsapp.provider import WhatsApp
from server.simulator import payloads
from server.simulator.payloads import InboundText, Status
from tests.desk import Desk
from tests.installation import Installed

# A row that the database refuses while the trigger stands: what an item comes to that only a fix lets through.
POISON = """
CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN IF NEW.text LIKE ''%poison%'' THEN RAISE EXCEPTION ''poisonous''; END IF; RETURN NEW; END';
CREATE TRIGGER poison BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION refuse_poison();
"""
NO_POISON = "DROP TRIGGER poison ON messages; DROP FUNCTION refuse_poison"


class OldWhatsApp(WhatsApp):
    """The parser before this release: it took places for something to ignore, and did not know what an order was."""

    parser_version = 0

    def parse(self, change: Change) -> Sequence[Item]:
        return [_older(item) for item in super().parse(change)]


def _older(item: Item) -> Item:
    if not isinstance(item, InboundMessage):
        return item
    if item.type == "location":
        return Ignored(
            kind="location",
            provider_id=item.provider_id,
            provider_time=item.provider_time,
            account_id=item.account_id,
            reason="event_not_applied",
        )
    if item.type == "order":
        return replace(item, type="unsupported", text=None)
    return item


@dataclass
class Inlet:
    """One number of one tenant, and what applies its payloads."""

    installed: Installed
    desk: Desk
    channel: ChannelRow
    applier: Applier

    @classmethod
    async def open(cls, installed: Installed, desk: Desk) -> Inlet:
        return cls(installed, desk, await desk.new_channel(), cls.applier_of(installed, desk.providers))

    @staticmethod
    def applier_of(installed: Installed, providers: Mapping[str, Provider]) -> Applier:
        return Applier(tenants=installed.tenants, writers=BatchWriters(providers), providers=providers)

    def older(self) -> Applier:
        """What applies payloads with the older parser."""
        whatsapp: Any = self.desk.providers["whatsapp"]
        return self.applier_of(self.installed, {"whatsapp": OldWhatsApp(whatsapp._graph, whatsapp._media)})

    def texts(self, *texts: str, sender: str = "4915100000001", at: float | None = None) -> dict[str, Any]:
        """A payload with texts of one customer."""
        second = int(time.time() if at is None else at)
        return payloads.inbound_body(
            self.desk.numbers[self.channel.id],
            [InboundText(text=text, timestamp=second, phone=sender) for text in texts],
        )

    def of_type(
        self, word: str, content: Any, *, sender: str = "4915100000001", at: float | None = None
    ) -> dict[str, Any]:
        """A payload with one message of another type."""
        body = self.texts("-", sender=sender, at=at)
        (message,) = body["entry"][0]["changes"][0]["value"]["messages"]
        del message["text"]
        message |= {"type": word, word: content}
        return body

    def receipts(self, *statuses: tuple[str, str], errors: Sequence[Any] = ()) -> dict[str, Any]:
        """A payload with receipts: wamid and status."""
        second = int(time.time())
        found = [Status(wamid=wamid, status=status, timestamp=second) for wamid, status in statuses]
        body = payloads.statuses_body(self.desk.numbers[self.channel.id], found)
        for status in body["entry"][0]["changes"][0]["value"]["statuses"] if errors else ():
            status["errors"] = list(errors)
        return body

    async def store(self, body: Any, *, at: datetime | None = None) -> Payload:
        """A payload, durable and not applied."""
        raw = body if isinstance(body, bytes) else payloads.encode(body)
        payload = Payload(
            id=new_id(),
            receive_time=at or utc_now(),
            provider="whatsapp",
            meta_app_id="app",
            body=raw,
            sha256=hashlib.sha256(raw).digest(),
            split=False,
            secret_index=0,
        )

        async def unit(write: Write) -> None:
            await journal.store(write, payload)

        await self.desk.database.write(unit)
        return payload

    async def apply(self, payload: Payload, *, by: Applier | None = None) -> None:
        await (by or self.applier).apply(self.desk.tenant, payload.id, payload.receive_time)

    async def taken(self, body: Any, *, by: Applier | None = None, at: datetime | None = None) -> Payload:
        """A payload, stored and applied."""
        payload = await self.store(body, at=at)
        await self.apply(payload, by=by)
        return payload

    async def replayed(self, *, apply: bool = False, ids: Sequence[uuid.UUID] = ()) -> Report:
        """Everything, read anew by the present parser."""
        replay = replay_of(self.installed.tenants, self.desk.tenant, self.desk.providers)
        now, report = utc_now(), Report()
        whole = Range(now - timedelta(days=31), now + timedelta(days=1), tuple(ids))
        await replay.run(whole, apply=apply, report=report)
        assert report.payloads == await replay.count(whole)
        return report

    async def payload(self, payload_id: uuid.UUID) -> Any:
        return (await self.desk.rows("SELECT * FROM journal WHERE id = $1", payload_id))[0]

    async def items(self, payload_id: uuid.UUID) -> list[tuple[str, str]]:
        """Kinds and states of a payload's items."""
        rows = await self.desk.rows(
            "SELECT kind, state FROM journal_items WHERE journal_id = $1 ORDER BY kind, state", payload_id
        )
        return [(row["kind"], row["state"]) for row in rows]

    async def said(self) -> list[str]:
        rows = await self.desk.rows(
            "SELECT text FROM messages WHERE channel_id = $1 ORDER BY sequence", self.channel.id
        )
        return [row["text"] for row in rows]

    @contextlib.asynccontextmanager
    async def poisoned(self) -> AsyncIterator[None]:
        """Meanwhile the database refuses texts with the word poison."""
        await self.as_owner(POISON)
        try:
            yield
        finally:
            await self.as_owner(NO_POISON)

    async def as_owner(self, statements: str) -> None:
        """Statements of the database's owner, which the tenant's role may not use."""
        dsn = f"{self.installed.server_dsn.rpartition('/')[0]}/{self.desk.dsn.rpartition('/')[2]}"
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()
