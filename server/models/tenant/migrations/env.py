from server.models import tenant  # noqa: F401  registers the tables
from server.models.base import TenantBase
from server.models.migration import run_environment

run_environment(TenantBase.metadata)
