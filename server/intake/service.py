"""Takes a signed payload to durable places: the journals of its tenants, or the quarantine."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import structlog
from prometheus_client import Counter

from server.journal import service as journal
from server.journal.service import Payload
from server.kit import tracing
from server.kit.clock import utc_now
from server.kit.db import Write
from server.kit.errors import FieldViolation, InvalidFields, Refusal
from server.kit.ids import new_id
from server.providers.contract import Change
from server.providers.meta import signature
from server.providers.meta.envelope import Envelope, Unreadable, read_envelope
from server.providers.meta.signature import Handshake
from server.tenancy.meta_apps import MetaApps
from server.tenancy.quarantine import Part, Quarantine
from server.tenancy.routes import WHATSAPP, Route, Routes
from server.tenancy.tenants import Tenants
from server.traces import service as traces

log = structlog.get_logger(__name__)
TENANT_SECONDS = 2.0
RECEIVED = Counter("switchboard_webhooks_received_total", "Signed payloads of Meta.", ["outcome"])
UNOWNED = Counter("switchboard_webhook_parts_quarantined_total", "Parts that no tenant took.", ["reason"])


class SignatureInvalid(Refusal):
    """Unknown app, missing or wrong signature: one answer for all of them."""

    status = "UNAUTHENTICATED"
    reason = "SIGNATURE_INVALID"

    def __init__(self) -> None:
        super().__init__("the signature is missing or wrong")


class HandshakeRefused(Refusal):
    """Wrong mode or token."""

    status = "PERMISSION_DENIED"
    reason = "HANDSHAKE_REFUSED"

    def __init__(self) -> None:
        super().__init__("the handshake's mode or token is wrong")


class HandshakeMalformed(InvalidFields):
    """A parameter is missing, or the challenge is not one."""

    def __init__(self, **parameters: str) -> None:
        missing = [FieldViolation(f"hub.{name}", "is needed") for name, value in parameters.items() if not value]
        super().__init__(*(missing or [FieldViolation("hub.challenge", "takes 1 to 128 of A-Z a-z 0-9 . _ -")]))


@dataclass(frozen=True, slots=True)
class Stored:
    """A journal row of a tenant."""

    tenant_id: uuid.UUID
    payload_id: uuid.UUID
    receive_time: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """A verified payload."""

    app_id: str
    raw: bytes
    secret_index: int
    sha256: bytes
    receive_time: datetime


class Intake:
    """The way of a webhook to durable places."""

    def __init__(
        self, *, tenants: Tenants, routes: Routes, meta_apps: MetaApps, quarantine: Quarantine, objects: frozenset[str]
    ) -> None:
        self._tenants = tenants
        self._routes = routes
        self._meta_apps = meta_apps
        self._quarantine = quarantine
        self._objects = objects

    async def handshake(self, app_id: str, *, mode: str, token: str, challenge: str) -> str:
        """The challenge to echo. HandshakeMalformed, HandshakeRefused."""
        app = await self._meta_apps.get(app_id)
        tokens = [app.verify_token] if app is not None else []
        outcome = signature.check_handshake(mode=mode, token=token, challenge=challenge, verify_tokens=tokens)
        if outcome is Handshake.MALFORMED:
            raise HandshakeMalformed(mode=mode, verify_token=token, challenge=challenge)
        if outcome is Handshake.FORBIDDEN:
            raise HandshakeRefused()
        return challenge

    async def receive(self, app_id: str, raw: bytes, header: str | None) -> list[Stored]:
        """Returns once every part is durable somewhere. SignatureInvalid; DatabaseUnavailable when a part is not durable."""
        app = await self._meta_apps.get(app_id)
        secret_index = signature.matching_secret(raw, header, app.app_secrets if app is not None else ())
        if secret_index is None:
            # It may be a new secret that another process was told.
            app = await self._meta_apps.latest(app_id)
            secret_index = signature.matching_secret(raw, header, app.app_secrets if app is not None else ())
        if secret_index is None:
            RECEIVED.labels("refused").inc()
            raise SignatureInvalid()
        delivery = Delivery(app_id, raw, secret_index, hashlib.sha256(raw).digest(), utc_now())
        envelope = read_envelope(raw, objects=self._objects)
        if isinstance(envelope, Unreadable):
            await self._set_apart([self._part(delivery, raw, reason=envelope.value)])
            RECEIVED.labels("unreadable").inc()
            return []
        stored = await self._store(delivery, envelope)
        RECEIVED.labels("stored").inc()
        return stored

    async def _store(self, delivery: Delivery, envelope: Envelope) -> list[Stored]:
        accounts = {change.account_id for change in envelope.changes if change.account_id is not None}
        routes = await self._routes.find(WHATSAPP, accounts)
        owned: dict[uuid.UUID, list[Change]] = {}
        unowned: dict[str | None, list[Change]] = {}
        for change in envelope.changes:
            owners = await self._owners(change, routes)
            if not owners:
                unowned.setdefault(change.account_id, []).append(change)
            for tenant_id in owners:
                owned.setdefault(tenant_id, []).append(change)
        apart = [
            self._part(delivery, envelope.subset(changes), reason="unrouted", external_id=account, split=True)
            for account, changes in unowned.items()
        ]
        results = await asyncio.gather(
            *(self._store_for(tenant_id, delivery, envelope, changes) for tenant_id, changes in owned.items())
        )
        apart += [item for item in results if isinstance(item, Part)]
        await self._set_apart(apart)
        return [item for item in results if isinstance(item, Stored)]

    async def _owners(self, change: Change, routes: Mapping[str, Route]) -> Collection[uuid.UUID]:
        """One tenant where an account is named; where only what accounts share is named, each that has one of them."""
        if change.account_id is not None:
            route = routes.get(change.account_id)
            return () if route is None else (route.tenant_id,)
        return () if change.entry_id is None else await self._routes.sharing(WHATSAPP, change.entry_id)

    async def _store_for(
        self, tenant_id: uuid.UUID, delivery: Delivery, envelope: Envelope, changes: Sequence[Change]
    ) -> Stored | Part:
        """Stores a tenant's part in its journal; a tenant that does not answer in 2 s must not hold up the others."""
        whole = len(changes) == len(envelope.changes)
        body = delivery.raw if whole else envelope.subset(changes)
        payload = Payload(
            id=new_id(),
            receive_time=delivery.receive_time,
            provider=WHATSAPP,
            meta_app_id=delivery.app_id,
            body=body,
            sha256=delivery.sha256,
            split=not whole,
            secret_index=delivery.secret_index,
        )
        try:
            async with asyncio.timeout(TENANT_SECONDS):
                with tracing.span("journal.store", journal=str(payload.id), bytes=len(body)):
                    await self._journal(tenant_id, payload)
        except (Refusal, TimeoutError, asyncpg.PostgresError) as error:
            log.warning("intake.tenant_unavailable", tenant=str(tenant_id), error=type(error).__name__)
            account = changes[0].account_id
            return self._part(
                delivery, body, reason="tenant_unavailable", external_id=account, split=not whole, tenant_id=tenant_id
            )
        return Stored(tenant_id=tenant_id, payload_id=payload.id, receive_time=payload.receive_time)

    async def _journal(self, tenant_id: uuid.UUID, payload: Payload) -> None:
        tenant = await self._tenants.get(tenant_id, disabled_too=True)
        database = tenant.database.background
        await traces.store(database, {payload.id: tracing.current()})

        async def unit(write: Write) -> None:
            await journal.store(write, payload)

        await database.write(unit)

    async def redrive(self, part: Part) -> Stored | None:
        """Gives a part in quarantine to its tenant; None when nobody owns it still. Doing it twice stores it once."""
        tenant_id = part.tenant_id
        if tenant_id is None and part.external_id is not None:
            route = (await self._routes.find(part.provider, [part.external_id])).get(part.external_id)
            tenant_id = None if route is None else route.tenant_id
        if tenant_id is None:
            return None
        payload = Payload(
            id=part.id,
            receive_time=part.receive_time,
            provider=part.provider,
            meta_app_id=part.app_id,
            body=part.body,
            sha256=part.content_hash,
            split=part.split,
            secret_index=part.secret_index,
        )
        await self._journal(tenant_id, payload)
        return Stored(tenant_id=tenant_id, payload_id=payload.id, receive_time=payload.receive_time)

    async def _set_apart(self, parts: Sequence[Part]) -> None:
        if not parts:
            return
        await self._quarantine.store(parts)
        for part in parts:
            UNOWNED.labels(part.reason).inc()

    def _part(
        self,
        delivery: Delivery,
        body: bytes,
        *,
        reason: str,
        external_id: str | None = None,
        split: bool = False,
        tenant_id: uuid.UUID | None = None,
    ) -> Part:
        return Part(
            id=new_id(),
            provider=WHATSAPP,
            app_id=delivery.app_id,
            external_id=external_id,
            tenant_id=tenant_id,
            reason=reason,
            body=body,
            split=split,
            content_hash=delivery.sha256,
            secret_index=delivery.secret_index,
            receive_time=delivery.receive_time,
        )
