"""Tenants as the contract shows them."""

from __future__ import annotations

from switchboard.v1 import api_key_pb2, tenant_pb2

from server.kit import pb
from server.tenancy.api_keys import ApiKey
from server.tenancy.tenants import TenantRow

STATE = pb.Words(tenant_pb2.TenantState, "TENANT_STATE_")


def tenant(row: TenantRow) -> tenant_pb2.Tenant:
    """A tenant's row."""
    return tenant_pb2.Tenant(
        id=str(row.id),
        name=row.name,
        state=STATE.number(row.state),
        server=row.server,
        schema_revision=row.schema_revision or "",
        create_time=pb.timestamp(row.create_time),
        migration_error=row.migration_error,
    )


def api_key(key: ApiKey) -> api_key_pb2.ApiKey:
    """A key's row, without what would let anybody use it."""
    return api_key_pb2.ApiKey(
        id=str(key.id),
        name=key.name,
        key_id=key.key_id,
        permissions=sorted(key.permissions),  # type: ignore[arg-type]
        create_time=pb.timestamp(key.create_time),
        expire_time=pb.timestamp(key.expire_time),
        revoke_time=pb.timestamp(key.revoke_time),
        last_use_time=pb.timestamp(key.last_use_time),
    )
