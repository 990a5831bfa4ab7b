"""A history as a tenant lives it: by webhooks in several processes or by a replay; and what its tables hold afterwards.

What may depend on the order in which webhooks come, and is left out of `dump`, is all of this: the ids and times of ours, `arrival`
and the numbers that count commits (`version`), which of the messages of one second stands first, whether a receipt moved its
message when it came, waited for it or was late (`applied`, state `parked`), and by how many of the addresses of one person something
waits for its message (the contacts of a POST name them for all of its messages). Not part of the histories is one thing that depends on
it: two addresses that no webhook told to be one person's before each of them wrote are two people.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from history_made import History, Names, body

from server.channels.service import ChannelRow
from server.intake.apply import Applier
from server.intake.operator import replay_of
from server.intake.replay import Report
from server.intake.service import Intake, Stored
from server.journal.service import Range
from server.kit.clock import utc_now
from server.kit.db import Write
from server.log.append import append
from server.messages import receipts
from server.messages.batch import BatchWriters
from server.messages.receipts import Update
from server.runner import TIMERS
from server.simulator import payloads
from server.simulator.payloads import Number
from server.tenancy.meta_apps import MetaApps
from server.tenancy.quarantine import Quarantine
from server.tenancy.routes import WHATSAPP, Routes
from server.timers import service as timers
from tests.desk import Desk, nobody
from tests.installation import Installed, connection_to

APP, SECRET = "history", "app secret"
TAGS = itertools.count(100)
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
HASH = re.compile(r"(sha256:)?[0-9a-f]{32,}")
# Whatever looks for its message again does so now.
LOOK_AGAIN = "UPDATE timers SET due_time = now() WHERE kind IN ('message_change', 'reply_link', 'identity_change')"

WHO = "(SELECT string_agg(a.kind || ' ' || a.value, ', ' ORDER BY a.kind, a.value) FROM identity_aliases a WHERE a.identity_id = {0})"
TABLES = {
    "contacts": f"""
        SELECT c.name, c.name_source, c.attributes::text, {WHO.format("i.id")} AS addresses, i.profile_name
        FROM identities i JOIN contacts c ON c.id = i.contact_id WHERE i.channel_id = $1""",
    "ended": """
        SELECT kind, value, end_time, told_time FROM identity_aliases WHERE channel_id = $1 AND told_time IS NOT NULL""",
    "conflicts": """
        SELECT kind FROM identity_conflicts WHERE channel_id = $1""",
    "consents": """
        SELECT kind, value, state, provider_time FROM marketing_consents WHERE channel_id = $1""",
    "conversations": f"""
        SELECT {WHO.format("c.identity_id")} AS who, c.status, c.message_count, c.inbound_count, c.team_read_count, c.contact_name,
            c.last_message_preview, c.reply_window_expire_time, c.waiting_since IS NULL AS answered,
            CASE WHEN m.direction = 'inbound' THEN c.last_message_time END AS last_message_time, c.last_message_id
        FROM conversations c LEFT JOIN messages m ON m.id = c.last_message_id WHERE c.channel_id = $1""",
    "messages": f"""
        SELECT m.id, {WHO.format("c.identity_id")} AS who, m.direction, m.type, m.status, m.text, m.details::text, m.provider_time,
            CASE WHEN m.direction = 'inbound' THEN m.sequence >> 12 END AS second
        FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE m.channel_id = $1""",
    "parts": """
        SELECT message_id, position, provider_message_id, status, error_code, error_message FROM message_parts WHERE channel_id = $1""",
    "attachments": """
        SELECT a.message_id, a.position, a.kind, a.mime_type, a.file_name, a.provider_media_id, a.sha256, a.voice, a.animated
        FROM message_attachments a JOIN messages m ON m.id = a.message_id WHERE m.channel_id = $1""",
    "receipts": """
        SELECT u.message_id, u.position, u.status, u.source, u.provider_time, u.error_code FROM message_status_updates u
        JOIN messages m ON m.id = u.message_id WHERE m.channel_id = $1 AND u.source = 'receipt'""",
    "parked": """
        SELECT provider_message_id, status, error_code, provider_time FROM parked_receipts WHERE channel_id = $1""",
    "templates": """
        SELECT provider_template_id, name, language, status, quality, category, reason, stale FROM templates
        WHERE business_account_id = $1""",
    "waiting": """
        SELECT kind, (payload - 'tries' - 'channel_id' - 'addresses')::text AS payload FROM timers
        WHERE kind = 'message_change' AND payload ->> 'channel_id' = $1::uuid::text""",
    "journal_items": """
        SELECT kind, provider_id, discriminator, provider_time, result,
            CASE WHEN state = 'parked' THEN 'applied' ELSE state END AS state FROM journal_items
        WHERE channel_id = $1 OR journal_id IN (SELECT id FROM journal WHERE meta_app_id = $2)""",
}


@dataclass
class Life:
    """One number of a tenant that lives a history."""

    desk: Desk
    installed: Installed
    history: History
    began: int
    names: Names
    number: Number
    channel: ChannelRow
    intake: Intake
    processes: list[tuple[Applier, Any]]
    stored: list[Stored] = field(default_factory=list)

    @classmethod
    async def of(
        cls, installed: Installed, desk: Desk, history: History, *, began: int, like: Life | None = None
    ) -> Life:
        """like: whose names and number it has, in another tenant."""
        tag = f"{next(TAGS):06}"
        names = Names(tag) if like is None else Names(like.names.tag)
        number = Number(f"88{tag}", f"77{tag}", "15550783881") if like is None else like.number
        channel = await desk.new_channel()
        await desk.execute("UPDATE channels SET account_id = $2 WHERE id = $1", channel.id, number.phone_number_id)
        desk.numbers[channel.id] = number
        control = installed.control
        apps, routes = MetaApps(control), Routes(control.database)
        app = APP + tag
        await apps.ensure(app_id=app, name=app, app_secret=SECRET, verify_token="-")
        if like is None:
            await routes.claim(
                WHATSAPP,
                number.phone_number_id,
                tenant_id=desk.tenant.id,
                channel_id=channel.id,
                shared_id=number.waba_id,
            )
        intake = Intake(
            tenants=installed.tenants,
            routes=routes,
            meta_apps=apps,
            quarantine=Quarantine(control.database),
            objects=desk.providers["whatsapp"].webhook_objects,
        )
        tenants = [desk.tenant, dataclasses.replace(desk.tenant, database=desk.beside)]
        processes = [
            (Applier(tenants=installed.tenants, writers=BatchWriters(desk.providers), providers=desk.providers), tenant)
            for tenant in tenants
        ]
        return cls(desk, installed, history, began, names, number, channel, intake, processes)

    @property
    def app(self) -> str:
        return APP + self.names.tag

    async def begins(self) -> None:
        """Customers whom we answer write first, and what we answer is on its way."""
        for index in range(self.history.opening if self.history.answered else 0):
            await self.post([index], [True])
        await self.sends()

    async def sends(self) -> None:
        """Our answers are stored, and nobody has them yet."""
        for who in self.history.sends:
            conversation = await self.desk.value(
                "SELECT conversation_id FROM message_parts WHERE channel_id = $1 AND provider_message_id = $2",
                *(self.channel.id, self.names.wamid("W", who)),
            )
            item = self.desk.send(conversation, by=nobody())
            await self.desk.writer().submit(item)
            self.names.parts.append(str(item.part_id))

    async def accepted(self, send: int) -> None:
        """The answer to a send is stored."""
        part = self.names.parts[send]
        update = Update(
            channel_id=self.channel.id,
            provider_message_id=self.names.wamid("X", send),
            part_id=uuid.UUID(part),
            status="sent",
            source="response",
            origin=nobody(),
        )

        async def unit(write: Write) -> None:
            await append(write, (await receipts.apply(write, [update])).events)

        await self.desk.database.write(unit)

    async def post(self, entries: Sequence[int], cuts: Sequence[bool], *, by: Sequence[int] = (0,)) -> None:
        """One POST, applied by these processes at once."""
        chosen = [self.history.entries[index] for index in entries]
        data = payloads.encode(body(self.history, chosen, self.names, self.number, began=self.began, cuts=cuts))
        found = await self.intake.receive(self.app, data, payloads.sign(data, SECRET))
        self.stored += found
        works = [
            self.processes[process][0].apply(self.processes[process][1], each.payload_id, each.receive_time)
            for each in found
            for process in by
        ]
        await asyncio.gather(*works)

    async def settles(self) -> None:
        """Whatever waits for a message that came meanwhile finds it."""
        for _ in range(2):
            await self.desk.execute(LOOK_AGAIN)
            while (await timers.run_due(self.desk.database, TIMERS)).fired:
                pass

    async def replays(self, other: Life) -> None:
        """Reads the journal of another one who lived the same. What no payload tells is what we sent: it is stored beside."""
        async with connection_to(other.installed.owned(other.desk.dsn)) as source:
            rows = await source.fetch(
                "SELECT * FROM journal WHERE meta_app_id = $1 ORDER BY receive_time, id", other.app
            )
        places = ", ".join(f"${index + 1}" for index in range(len(rows[0])))
        async with connection_to(self.installed.owned(self.desk.dsn)) as target:
            for day in {row["receive_time"].date() for row in rows}:
                await target.execute("SELECT ensure_journal_day($1)", day)
            statement = f"INSERT INTO journal ({', '.join(rows[0].keys())}) VALUES ({places})"
            await target.executemany(statement, [tuple(row.values()) for row in rows])
        ids = [row["id"] for row in rows]
        if self.history.answered:
            await self._replay(ids[: self.history.opening])
        await self.sends()
        await self._replay(ids)
        for send in range(len(self.history.sends)):
            await self.accepted(send)

    async def _replay(self, ids: Sequence[uuid.UUID]) -> None:
        replay, report, now = (
            replay_of(self.installed.tenants, self.desk.tenant, self.desk.providers),
            Report(),
            utc_now(),
        )
        whole = Range(now - timedelta(days=1), now + timedelta(days=1), tuple(ids))
        await replay.run(whole, apply=True, report=report)
        assert (report.errors, report.payloads) == ({}, len(ids))

    async def dump(self) -> dict[str, list[str]]:
        """Every table as sorted lines, in the words of the history."""
        number = {self.number.waba_id: "<account>", self.number.phone_number_id: "<number>"}
        words = self.names.back(self.history) | await self._ids() | number
        found: dict[str, list[str]] = {}
        given: dict[str, tuple[Any, ...]] = {
            "templates": (self.number.waba_id,),
            "journal_items": (self.channel.id, self.app),
        }
        for name, query in TABLES.items():
            rows = await self.desk.rows(query, *given.get(name, (self.channel.id,)))
            found[name] = sorted(self._line(dict(row), words) for row in rows)
        return found

    async def _ids(self) -> dict[str, str]:
        """Ids of ours, by what the history calls what they are of."""
        messages = await self.desk.rows(
            "SELECT message_id, coalesce(provider_message_id, id::text) AS said FROM message_parts WHERE channel_id = $1",
            self.channel.id,
        )
        contacts = await self.desk.rows(
            f"SELECT i.contact_id, {WHO.format('i.id')} AS who FROM identities i WHERE i.channel_id = $1",
            self.channel.id,
        )
        found = {str(row["message_id"]): f"message {row['said']}" for row in messages}
        return found | {str(row["contact_id"]): f"contact {row['who']}" for row in contacts}

    def _line(self, row: dict[str, Any], words: dict[str, str]) -> str:
        for column in ("details", "payload", "attributes"):
            if row.get(column) is not None:
                row[column] = json.loads(row[column])
        text = json.dumps(row, default=str, sort_keys=True, ensure_ascii=False)
        for _ in range(2):
            for name in sorted(words, key=len, reverse=True):
                text = text.replace(name, words[name])
        return HASH.sub("<hash>", ID.sub("<another id>", text))
