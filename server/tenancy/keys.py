"""The keys of the control database as a running process holds them: read at its start, and again every few seconds.

A new key is used by nobody before everybody must have read it, so changing one needs no restart.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from server.kit.clock import utc_now
from server.kit.db import Connection, Database
from server.kit.mac import MacKeys
from server.kit.secrets import KeyProvider, SecretBox, SecretUnreadable, sealed_with
from server.settings import SettingsInvalid

OWNER = "installation"
ROOT = {"table": "installation", "column": "root", "row": "1"}
# After so long every running process has read what is new: it follows every 10 s, keeps a tenant's row for 30 s, and some more.
KNOWN_AFTER = timedelta(seconds=45)
# Cursors are good for a week, page tokens for a day.
MAC_KEPT = timedelta(days=8)

INSTALLATION = "SELECT wrapped_key, next_wrapped_key, previous_wrapped_key, root FROM installation"
# The newest key that everybody knows signs, or the first one there is; one that was replaced long ago verifies nothing.
MAC_KEYS = """
SELECT id, secret, create_time <= now() - $1::interval AS known
FROM (SELECT *, lead(create_time) OVER (ORDER BY create_time, id) AS replace_time FROM mac_keys) k
WHERE replace_time IS NULL OR replace_time > now() - $2::interval
ORDER BY create_time, id
"""


async def load_box(connection: Connection, provider: KeyProvider) -> SecretBox | None:
    """The box of the control database's secrets; None before the first migration. SettingsInvalid for another master key."""
    row = await connection.fetchrow(INSTALLATION)
    if row is None:
        return None
    others = (row["next_wrapped_key"], row["previous_wrapped_key"])
    try:
        box = SecretBox.unwrapped(row["wrapped_key"], provider, owner=OWNER, others=others)
    except SecretUnreadable:
        raise SettingsInvalid(
            f"SWITCHBOARD_MASTER_KEY is key {provider.key_id}, but the secrets of this installation need"
            f" {sealed_with(row['wrapped_key'])}: give that one, or both while the key is being changed"
            " (SWITCHBOARD_MASTER_KEY_PREVIOUS)."
        ) from None
    return box if row["root"] is None else box.rooted(box.open(row["root"], **ROOT))


async def load_mac_keys(database: Database, box: SecretBox) -> MacKeys:
    """The keys of cursors and page tokens. Makes the first one."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO mac_keys (id, secret, create_time) SELECT 1, $1, $2 WHERE NOT EXISTS (SELECT FROM mac_keys)"
            " ON CONFLICT DO NOTHING",
            box.seal(secrets.token_bytes(32), table="mac_keys", column="secret", row="1"),
            utc_now(),
        )
        keys, current = await mac_keys(connection, box)
    return MacKeys(keys, current=current)


async def mac_keys(connection: Connection, box: SecretBox) -> tuple[dict[int, bytes], int]:
    """The keys of cursors and page tokens by their ids, and the id of the one that signs."""
    rows = await connection.fetch(MAC_KEYS, KNOWN_AFTER, MAC_KEPT)
    keys = {row["id"]: box.open(row["secret"], table="mac_keys", column="secret", row=str(row["id"])) for row in rows}
    known = [row["id"] for row in rows if row["known"]]
    return keys, known[-1] if known else rows[0]["id"]
