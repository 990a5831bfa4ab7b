"""Apps at Meta: the secrets that sign webhooks, and the tokens of the handshake."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from server.kit.cache import Cache
from server.kit.clock import utc_now
from server.kit.errors import AlreadyExists, NotFound, Refusal
from server.tenancy.control import Control

# What is signed with no secret that is known has them read anew, at most so often.
LATEST = timedelta(seconds=1)
# For so long another process may still take what a secret signs that was replaced since it leaked.
KNOWN = timedelta(seconds=5)
SHOWN = "id, name, create_time, rotate_time, CASE WHEN previous_expire_time > now() THEN previous_expire_time END AS previous_expire_time"
UPDATE = """
UPDATE meta_apps SET name = coalesce($2, name), verify_token = coalesce($3, verify_token),
    app_secret = CASE WHEN $4 THEN $5 ELSE app_secret END,
    previous_app_secret = CASE WHEN $4 THEN $6 ELSE previous_app_secret END,
    rotate_time = CASE WHEN $4 THEN now() ELSE rotate_time END,
    previous_expire_time = CASE WHEN $4 THEN now() + $7::interval ELSE previous_expire_time END
WHERE id = $1
"""


DELETE = "DELETE FROM meta_apps WHERE id = $1 AND NOT EXISTS (SELECT FROM routes WHERE app_id = $1 AND release_time IS NULL) RETURNING id"
USED = "SELECT count(*) AS channels, count(DISTINCT tenant_id) AS tenants FROM routes WHERE app_id = $1 AND release_time IS NULL"


class MetaAppInUse(Refusal):
    """Channels get their webhooks by the app."""

    status = "FAILED_PRECONDITION"
    reason = "META_APP_IN_USE"

    def __init__(self, *, channels: int, tenants: int) -> None:
        metadata = {"channels": str(channels), "tenants": str(tenants)}
        super().__init__("the webhooks of connected channels come by this app", metadata=metadata)


@dataclass(frozen=True, slots=True)
class MetaAppSecrets:
    """app_secrets: newest first, two while the secret is being changed."""

    app_secrets: tuple[bytes, ...]
    verify_token: bytes


@dataclass(frozen=True, slots=True)
class MetaApp:
    """An app as everybody may see it. previous_expire_time: until when the secret before the last change counts too."""

    id: str
    name: str
    create_time: datetime
    rotate_time: datetime | None = None
    previous_expire_time: datetime | None = None

    @property
    def webhook_path(self) -> str:
        """The path of its webhook on the public port."""
        return f"/v1/webhooks/meta/{self.id}"


class MetaApps:
    """The apps of the installation."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._cache: Cache[str, MetaAppSecrets] = Cache(self._load, keep=KNOWN)
        self._latest: Cache[str, MetaAppSecrets] = Cache(self._load, keep=LATEST, keep_missing=LATEST)

    async def get(self, app_id: str) -> MetaAppSecrets | None:
        """The app's secrets, at most 5 s old; None when it is unknown."""
        return await self._cache.get(app_id)

    async def latest(self, app_id: str) -> MetaAppSecrets | None:
        """The same, at most a second old: what another process has changed counts at once."""
        found = await self._latest.get(app_id)
        self._cache.forget(app_id)
        return found

    async def app(self, app_id: str) -> MetaApp:
        """The app. NotFound."""
        async with self._control.database.connection() as connection:
            row = await connection.fetchrow(f"SELECT {SHOWN} FROM meta_apps WHERE id = $1", app_id)
        if row is None:
            raise NotFound("meta_app")
        return MetaApp(**row)

    async def update(
        self, app_id: str, *, name: str | None, app_secret: str | None, verify_token: str | None, overlap: timedelta
    ) -> MetaApp:
        """Changes what is given. A secret that was replaced counts for the overlap. NotFound."""
        held = await self._load(app_id)
        if held is None:
            raise NotFound("meta_app")
        rotates = app_secret is not None and app_secret.encode() != held.app_secrets[0]
        async with self._control.database.connection() as connection:
            await connection.execute(
                UPDATE,
                *(app_id, name, None if verify_token is None else self._seal(app_id, "verify_token", verify_token)),
                rotates,
                self._seal(app_id, "app_secret", app_secret or ""),
                self._seal(app_id, "previous_app_secret", held.app_secrets[0]),
                overlap,
            )
        self._cache.forget(app_id)
        return await self.app(app_id)

    async def delete(self, app_id: str) -> None:
        """Takes an app away by which nobody's webhooks come. NotFound, MetaAppInUse."""
        async with self._control.database.connection() as connection:
            found = await connection.fetchval(DELETE, app_id)
            used = None if found is not None else await connection.fetchrow(USED, app_id)
        if used is not None:
            # Its id might be none of an app here, and that of a channel all the same.
            await self.app(app_id)
            raise MetaAppInUse(**used)
        self._cache.forget(app_id)

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
                " previous_app_secret = coalesce($4, previous_app_secret),"
                " rotate_time = CASE WHEN $3 IS NULL THEN rotate_time ELSE now() END,"
                " previous_expire_time = CASE WHEN $3 IS NULL THEN previous_expire_time END WHERE id = $1",
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
                f"SELECT {SHOWN} FROM meta_apps WHERE id > $1 ORDER BY id LIMIT $2", after or "", size
            )
        return [MetaApp(**row) for row in rows]

    async def _load(self, app_id: str) -> MetaAppSecrets | None:
        async with self._control.database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT app_secret, verify_token,"
                " CASE WHEN coalesce(previous_expire_time > now(), true) THEN previous_app_secret END AS previous_app_secret"
                " FROM meta_apps WHERE id = $1",
                app_id,
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
