"""Tables of the control database. Importing this module registers all of them."""

from server.models.control.api_key import ApiKey
from server.models.control.installation import Installation
from server.models.control.mac_key import MacKey
from server.models.control.meta_app import MetaApp
from server.models.control.postgres_server import PostgresServer
from server.models.control.quarantine import QuarantinedPart
from server.models.control.route import Route
from server.models.control.signing_key import SigningKey
from server.models.control.tenant import Tenant
from server.models.control.tenant_work import RunningWorker, TenantWork

__all__ = [
    "ApiKey",
    "Installation",
    "MacKey",
    "MetaApp",
    "PostgresServer",
    "QuarantinedPart",
    "Route",
    "RunningWorker",
    "SigningKey",
    "Tenant",
    "TenantWork",
]
