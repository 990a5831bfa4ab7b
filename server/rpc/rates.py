"""How many unary calls a caller, and a tenant in all, may make in a second. Streams have limits of their own; webhooks have none.

Each process decides by itself, from buckets in its memory, and tells Valkey four times a second what it has spent: the answer is the
level that is left after all processes. So a call costs no round trip, the long run is exact over all processes, and without Valkey
each process keeps the limit for itself. A tenant whose limit is reached still gives every caller its share: who asks for less than
an equal part is not refused because of one who asks for more.
"""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import Counter

from server.kit.errors import Refusal

BURST_SECONDS = 5.0
# A caller that was quiet for so long has no part in its tenant's limit any more.
QUIET_SECONDS = 10.0
REFUSED = Counter("switchboard_rate_limited_total", "Calls refused by a limit: of a caller, or of a tenant.", ["limit"])


@dataclass(frozen=True, slots=True)
class Rates:
    """Calls per second; 0: no limit. A bucket holds five seconds of them."""

    caller: float = 0.0
    tenant: float = 0.0


UNLIMITED = Rates()


class RateLimited(Refusal):
    """More calls than a limit allows. It says which limit, and when the next call would pass."""

    status = "RESOURCE_EXHAUSTED"
    reason = "RATE_LIMITED"

    def __init__(self, *, subject: str, kind: str, rate: float, wait: float) -> None:
        limit = f"{rate:g} calls per second of one {kind}"
        wait = max(wait, 0.001)
        super().__init__(
            f"too many calls: {limit}; wait {wait:.3f} s",
            metadata={"limit": f"{rate:g}", "subject": kind},
            retry_after=timedelta(seconds=wait),
        )
        self.quota = (subject, limit)
        self.headers = {
            "ratelimit-limit": f"{rate:g}",
            "ratelimit-remaining": "0",
            "ratelimit-reset": str(math.ceil(wait)),
        }


class Bucket:
    """A token bucket. spent: since it was last told to the others. level may be below 0: what others spent counts too."""

    __slots__ = ("at", "burst", "level", "rate", "spent")

    def __init__(self, rate: float, now: float) -> None:
        self.rate, self.burst = rate, rate * BURST_SECONDS
        self.level, self.at, self.spent = self.burst, now, 0.0

    def filled(self, now: float) -> float:
        """The level now."""
        level = self.level + (now - self.at) * self.rate
        self.level = level = min(self.burst, level)
        self.at = now
        return level

    def take(self) -> None:
        """One call."""
        self.level -= 1
        self.spent += 1

    def shared(self, level: float, told: float, now: float) -> None:
        """What is left after all processes; told: what of ours is in it already."""
        self.spent -= told
        self.level, self.at = level - self.spent, now

    @property
    def full(self) -> bool:
        """Whether nobody used it lately; then forgetting it changes nothing."""
        return not self.spent and self.level >= self.burst


class CallerBuckets:
    """A caller's own bucket, and its equal part of its tenant's."""

    __slots__ = ("bucket", "last_use", "share", "share_at")

    def __init__(self, rate: float, now: float) -> None:
        self.bucket = Bucket(rate, now)
        self.share, self.share_at, self.last_use = 1.0, now, now

    def share_filled(self, per_second: float, now: float) -> float:
        """How many calls of its equal part are left; a second's worth at most, and one at least."""
        share = min(max(per_second, 1.0), self.share + (now - self.share_at) * per_second)
        self.share, self.share_at = share, now
        return share


class TenantBuckets:
    """A tenant's bucket, and its callers that were heard of lately."""

    __slots__ = ("bucket", "callers")

    def __init__(self, rate: float, now: float) -> None:
        self.bucket = Bucket(rate, now)
        self.callers: dict[uuid.UUID, CallerBuckets] = {}


class RateLimits:
    """The buckets of one process."""

    def __init__(self) -> None:
        self.tenants: dict[uuid.UUID, TenantBuckets] = {}

    def take(self, tenant_id: uuid.UUID, caller_id: uuid.UUID, rates: Rates) -> None:
        """Lets one call pass, or raises RateLimited. Never waits."""
        now = time.monotonic()
        tenant = self.tenants.get(tenant_id)
        if tenant is None or tenant.bucket.rate != rates.tenant:
            tenant = self.tenants[tenant_id] = TenantBuckets(rates.tenant, now)
        caller = tenant.callers.get(caller_id)
        if caller is None or caller.bucket.rate != rates.caller:
            caller = tenant.callers[caller_id] = CallerBuckets(rates.caller, now)
        caller.last_use = now
        own, all_of = caller.bucket, tenant.bucket
        if own.rate and own.filled(now) < 1:
            _refuse("caller", caller_id, own.rate, (1 - own.level) / own.rate)
        if all_of.rate:
            level = all_of.filled(now)
            # Other processes give equal parts too: the debt that grows of it makes all of them smaller until the sum is right.
            part = all_of.rate / len(tenant.callers) * min(1.0, max(0.0, 1 + level / all_of.rate))
            share = caller.share_filled(part, now)
            if level < 1 and share < 1:
                wait = (1 - level) / all_of.rate
                _refuse("tenant", tenant_id, all_of.rate, min(wait, (1 - share) / part) if part else wait)
            caller.share = max(share - 1, 0.0)
            all_of.take()
        if own.rate:
            own.take()

    def buckets(self) -> dict[str, Bucket]:
        """Those that others must hear of, by a name that is the same in every process. Forgets the quiet ones."""
        now = time.monotonic()
        found: dict[str, Bucket] = {}
        for tenant_id, tenant in list(self.tenants.items()):
            for caller_id, caller in list(tenant.callers.items()):
                caller.bucket.filled(now)
                if now - caller.last_use > QUIET_SECONDS and (caller.bucket.full or not caller.bucket.rate):
                    del tenant.callers[caller_id]
                elif caller.bucket.rate and not caller.bucket.full:
                    found[f"{tenant_id}:{caller_id}"] = caller.bucket
            tenant.bucket.filled(now)
            if not tenant.callers and (tenant.bucket.full or not tenant.bucket.rate):
                del self.tenants[tenant_id]
            elif tenant.bucket.rate and not tenant.bucket.full:
                found[str(tenant_id)] = tenant.bucket
        return found


def _refuse(kind: str, subject_id: uuid.UUID, rate: float, wait: float) -> None:
    REFUSED.labels(kind).inc()
    raise RateLimited(subject=f"{kind}:{subject_id}", kind=kind, rate=rate, wait=wait)
