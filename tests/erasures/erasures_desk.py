"""A tenant's database in which somebody is erased, and a search through everything that is stored."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from server.erasures import job, service
from server.erasures.job import Tools
from server.kit.db import Write
from server.kit.ids import new_id
from server.log.append import append
from server.tenancy.quarantine import Quarantine
from tests.desk import ALL, Desk, nobody
from tests.installation import Installed
from tests.journal.journal_inlet import Inlet
from tests.seeing.canaries import dumped


@dataclass
class Eraser:
    """Erases at a desk, batch by batch."""

    installed: Installed
    desk: Desk
    inlet: Inlet

    @classmethod
    async def open(cls, installed: Installed, desk: Desk) -> Eraser:
        return cls(installed, desk, await Inlet.open(installed, desk))

    @property
    def tools(self) -> Tools:
        return Tools(self.desk.providers, Quarantine(self.installed.control.database))

    async def contact_of(self, sender: str) -> uuid.UUID | None:
        found: uuid.UUID | None = await self.desk.value(
            "SELECT i.contact_id FROM identity_aliases a JOIN identities i ON i.id = a.identity_id WHERE a.value = $1",
            sender,
        )
        return found

    async def begin(self, contact_id: uuid.UUID, *, reason: str | None = None) -> uuid.UUID:
        async def unit(write: Write) -> uuid.UUID:
            erasure_id, events = await service.begin(
                write, ALL, contact_id, erasure_id=new_id(), reason=reason, origin=nobody()
            )
            await append(write, events)
            return erasure_id

        return await self.desk.database.write(unit)

    async def batch(self) -> bool:
        """One batch of what is due by now, without waiting for what is due later."""
        await self.desk.execute("UPDATE erasures SET due_time = now() WHERE due_time IS NOT NULL")
        return await job.run_due(self.desk.tenant, self.tools)

    async def finish(self, erasure_id: uuid.UUID, *, most: int = 200) -> dict[str, object]:
        for _ in range(most):
            row = (await self.desk.rows("SELECT * FROM erasures WHERE id = $1", erasure_id))[0]
            if row["state"] in ("done", "failed"):
                return dict(row)
            await self.batch()
        raise AssertionError(f"step {row['step']} does not end: {row['error']}")

    async def erased(self, sender: str) -> dict[str, object]:
        contact_id = await self.contact_of(sender)
        assert contact_id is not None
        return await self.finish(await self.begin(contact_id))

    async def whole(self) -> bytes:
        """Everything that is stored, of the tenant and of the installation."""
        control = self.installed.settings.control_dsn.get_secret_value()
        return await dumped(self.installed.owned(self.desk.dsn)) + await dumped(control)


def traces(data: bytes, words: Iterable[str]) -> list[str]:
    """Which of these stand in the data: as they are, in hexadecimal, or in base64 at any place."""
    lower = data.lower()
    return [word for word in words if any(form in (lower if hexed else data) for form, hexed in _forms(word))]


def _forms(word: str) -> Iterable[tuple[bytes, bool]]:
    raw = word.encode()
    yield raw, False
    yield raw.hex().encode(), True
    for shift in range(3):
        # The letters at the ends depend on what stands beside them.
        whole = base64.b64encode(b"\0" * shift + raw)[-(-shift * 8 // 6) :]
        kept = whole.rstrip(b"=")[1 if shift else 0 : -1]
        yield kept, False
        yield kept.hex().encode(), True
