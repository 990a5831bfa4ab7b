"""What TenantService does."""

from __future__ import annotations

import re
import uuid

from server.rpc.permissions import ALL
from server.tenancy.api_keys import ApiKey, ApiKeys
from server.tenancy.provisioning import Provisioning

# The contract's rule, for names that do not come through it.
TENANT_NAME = re.compile(r"^[a-z][a-z0-9-]{1,38}[a-z0-9]$")


async def create_tenant(provisioning: Provisioning, keys: ApiKeys, *, name: str) -> tuple[uuid.UUID, ApiKey, str]:
    """Makes a tenant with a first key that may do everything; the key itself is the third value. ALREADY_EXISTS."""
    tenant_id = await provisioning.create(name)
    key, secret = await keys.create(tenant_id=tenant_id, name="first key", permissions=ALL)
    return tenant_id, key, secret
