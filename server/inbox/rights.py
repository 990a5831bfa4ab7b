"""What the inbox asks of whoever knows credentials."""

from __future__ import annotations

import uuid
from typing import Protocol

from server.rpc.call import Verified


class Rights(Protocol):
    """The rights of callers now. May remember them until it is told that they changed."""

    async def renew(self, verified: Verified) -> Verified:
        """The same caller with the rights it has now. Refuses like a first verification: expired, revoked, tenant disabled."""

    def invalidate(self, tenant_id: uuid.UUID) -> None:
        """Forgets what is known of a tenant: a renew that begins after this call reads anew."""
