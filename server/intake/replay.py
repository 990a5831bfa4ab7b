"""Journaled payloads, read anew by the present parser: what differs, and on request applied.

Applying goes the way of a webhook, so it is done beside live intake and by two at once without harm. Nothing here writes a
delivery: a replay sends nothing, marks nothing as read.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from server.intake import shadow
from server.intake.apply import Applier, origin_of_item, outcome
from server.intake.shadow import CHANGED, FAILED, MISSED, NOTED, SAME, SUPERSEDED, Finding, Shadow
from server.journal import items as journal_items
from server.journal import service as journal
from server.journal.service import Payload, Range
from server.kit.db import Write
from server.log.append import append
from server.messages import inbound
from server.providers.contract import InboundMessage, Provider
from server.tenancy.tenants import Tenant

PAGE = 20
SAMPLES = 3


@dataclass(slots=True)
class Tally:
    """Findings of one verdict and kind: how many, and ids of the first payloads they were found in."""

    count: int = 0
    payloads: list[uuid.UUID] = field(default_factory=list)

    def add(self, payload_id: uuid.UUID) -> None:
        """Counts one."""
        self.count += 1
        if len(self.payloads) < SAMPLES and payload_id not in self.payloads:
            self.payloads.append(payload_id)


@dataclass(slots=True)
class Report:
    """What came of a range. differs: by verdict and kind, in payloads up to `reached`; errors: what could not be applied."""

    payloads: int = 0
    items: int = 0
    differs: dict[tuple[str, str], Tally] = field(default_factory=dict)
    errors: dict[str, Tally] = field(default_factory=dict)
    reached: datetime | None = None

    def note(self, findings: Sequence[Finding]) -> None:
        """Counts findings."""
        self.items += len(findings)
        for finding in findings:
            if finding.verdict != SAME:
                self.differs.setdefault((finding.verdict, finding.kind), Tally()).add(finding.payload.id)


class Replay:
    """Replays ranges of one tenant's journal."""

    def __init__(self, tenant: Tenant, applier: Applier, providers: Mapping[str, Provider]) -> None:
        self._tenant = tenant
        self._applier = applier
        self._providers = providers

    async def count(self, wanted: Range) -> int:
        """How many payloads the range has."""
        async with self._tenant.database.connection() as connection:
            return await journal.count(connection, wanted)

    async def run(
        self, wanted: Range, *, apply: bool, report: Report, advance: Callable[[int], None] = lambda _count: None
    ) -> None:
        """Goes through a range in the order it was received, and fills the report, which is right wherever it is stopped."""
        after: tuple[datetime, uuid.UUID] | None = None
        while payloads := await self._page(wanted, after):
            for _, group in groupby(payloads, key=lambda payload: payload.provider):
                await self._replay(list(group), apply=apply, report=report)
            after = (payloads[-1].receive_time, payloads[-1].id)
            report.reached = payloads[-1].receive_time
            report.payloads += len(payloads)
            advance(len(payloads))

    async def _page(self, wanted: Range, after: tuple[datetime, uuid.UUID] | None) -> list[Payload]:
        async with self._tenant.database.connection() as connection:
            return await journal.page(connection, wanted, after=after, limit=PAGE)

    async def _look(self, payloads: Sequence[Payload]) -> Shadow:
        provider = self._providers[payloads[0].provider]
        async with self._tenant.database.snapshot() as connection:
            return await shadow.look(connection, provider, payloads)

    async def _replay(self, payloads: Sequence[Payload], *, apply: bool, report: Report) -> None:
        seen = await self._look(payloads)
        report.note(seen.findings)
        for payload in payloads if apply else ():
            findings = [finding for finding in seen.findings if finding.payload.id == payload.id]
            if any(finding.verdict != SAME for finding in findings):
                # Looked at again: what an earlier payload of this page brought is there now.
                seen_now = await self._look([payload])
                await self._apply(payload, seen_now, report)
            await self._mark(payload)

    async def _apply(self, payload: Payload, seen: Shadow, report: Report) -> None:
        """Puts the tables right where a payload reads differently; what cannot be is counted, and its siblings go on."""
        wanted = [f.item for f in seen.findings if f.verdict in (MISSED, FAILED, NOTED) and f.item is not None]
        await self._applier.run_of(self._tenant, payload, seen.owners).all(wanted)
        for finding in seen.findings:
            if finding.verdict == CHANGED:
                result = await outcome(self._reread(finding), journal=str(payload.id))
                if isinstance(result, Exception):
                    report.errors.setdefault(type(result).__name__, Tally()).add(payload.id)
        left = await self._look([payload])
        for finding in left.findings:
            if finding.verdict == FAILED and finding.row is not None:
                report.errors.setdefault(finding.row.result or "failed", Tally()).add(payload.id)
        superseded = [f.row.id for f in left.findings if f.verdict == SUPERSEDED and f.row is not None]
        async with self._tenant.database.connection() as connection:
            await journal_items.supersede(connection, superseded, parser_version=self._version(payload))

    async def _reread(self, finding: Finding) -> None:
        message, row, item = finding.message, finding.row, finding.item
        assert message is not None
        assert row is not None
        assert isinstance(item, InboundMessage)

        async def unit(write: Write) -> None:
            origin = origin_of_item(row.id)
            events = await inbound.reread(write, message.conversation_id, message.id, item, origin=origin)
            version = self._version(finding.payload)
            await journal_items.mark_reread(write.connection, row.id, parser_version=version)
            await append(write, events)

        await self._tenant.database.write(unit)

    async def _mark(self, payload: Payload) -> None:
        async with self._tenant.database.connection() as connection:
            await journal.mark_applied(connection, payload, parser_version=self._version(payload))

    def _version(self, payload: Payload) -> int:
        return self._providers[payload.provider].parser_version
