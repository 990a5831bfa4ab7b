"""An invite as it is stored."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Invite:
    """A row. state: what became of it, as of the statement that read it."""

    id: uuid.UUID
    email: str
    name: str
    role: str
    role_id: uuid.UUID | None
    team_ids: Sequence[uuid.UUID]
    channel_ids: Sequence[uuid.UUID]
    secret_hash: bytes
    inviter_kind: int
    inviter_id: uuid.UUID | None
    create_time: datetime
    expire_time: datetime
    revoke_time: datetime | None
    agent_id: uuid.UUID | None
    state: str
