"""Apps at Meta: the secrets that sign webhooks, and the tokens of the handshake."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from server.kit.cache import Cache
from server.kit.clock import utc_now
from server.kit.errors import AlreadyExists
from server.tenancy.control import Control


@dataclass(frozen=True, slots=True)
class MetaAppSecrets:
    """app_secrets: newest first, two while the secret is being changed."""

    app_secrets: tuple[bytes, ...]
    verify_token: bytes


@dataclass(frozen=True, slots=True)
class MetaApp:
    """An app as everybody may see it."""

    id: str
    name: str
    create_time: datetime

    @property
    def webhook_path(self) -> str:
        """The path of its webhook on the public port."""
        return f"/v1/webhooks/meta/{self.id}"


class MetaApps:
    """The apps of the installation."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._cache: Cache[str, MetaAppSecrets] = Cache(self._load)

    async def get(self, app_id: str) -> MetaAppSecrets | None:
        """The app's secrets, at most 30 s old; None when it is unknown."""
        return await self._cache.get(app_id)

    async def create(self, *, app_id: str, name: str, app_secret: str, verify_token: str) -> MetaApp:
        """Adds an app. ALREADY_EXISTS when the id is taken."""
        app = MetaApp(id=app_id, name=name, create_time=utc_now())
        async with self._control.database.connection() as connection:
            try:
                await connection.execute(
                    "INSERT INTO meta_apps (id, name, app_secret, verify_token, create_time) VALUES ($1, $2, $3, $4, $5)",
                    app_id,
                    name,
                    self._seal(app_id, "app_secret", app_secret),
                    self._seal(app_id, "verify_token", verify_token),
                    app.create_time,
                )
            except asyncpg.UniqueViolationError:
                raise AlreadyExists("meta_app", f"there is already an app {app_id}") from None
        self._cache.forget(app_id)
        return app

    async def ensure(self, *, app_id: str, name: str, app_secret: str, verify_token: str) -> None:
        """Adds an app, or brings it to these secrets; a replaced app secret is still accepted beside the new one."""
        held = await self._load(app_id)
        if held is None:
            # Another process that starts at the same time may be first, with the same settings.
            with contextlib.suppress(AlreadyExists):
                await self.create(app_id=app_id, name=name, app_secret=app_secret, verify_token=verify_token)
            return
        changed = held.app_secrets[0] != app_secret.encode()
        async with self._control.database.connection() as connection:
            await connection.execute(
                "UPDATE meta_apps SET verify_token = $2, app_secret = coalesce($3, app_secret),"
                " previous_app_secret = coalesce($4, previous_app_secret) WHERE id = $1",
                app_id,
                self._seal(app_id, "verify_token", verify_token),
                self._seal(app_id, "app_secret", app_secret) if changed else None,
                self._seal(app_id, "previous_app_secret", held.app_secrets[0]) if changed else None,
            )
        self._cache.forget(app_id)

    async def page(self, *, after: str | None, size: int) -> list[MetaApp]:
        """Up to size apps by id, after that id."""
        async with self._control.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT id, name, create_time FROM meta_apps WHERE id > $1 ORDER BY id LIMIT $2", after or "", size
            )
        return [MetaApp(id=row["id"], name=row["name"], create_time=row["create_time"]) for row in rows]

    async def _load(self, app_id: str) -> MetaAppSecrets | None:
        async with self._control.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT app_secret, previous_app_secret, verify_token FROM meta_apps WHERE id = $1", app_id
            )
        if row is None:
            return None
        columns = ("app_secret", "previous_app_secret")
        app_secrets = tuple(self._open(app_id, column, row) for column in columns if row[column] is not None)
        return MetaAppSecrets(app_secrets, self._open(app_id, "verify_token", row))

    def _seal(self, app_id: str, column: str, value: str | bytes) -> bytes:
        plaintext = value.encode() if isinstance(value, str) else value
        return self._control.box.seal(plaintext, table="meta_apps", column=column, row=app_id)

    def _open(self, app_id: str, column: str, row: Any) -> bytes:
        return self._control.box.open(row[column], table="meta_apps", column=column, row=app_id)
