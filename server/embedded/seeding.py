"""Two tenants with agents, keys and a channel each, in the databases of this run: the seed's answer in the words of dev.json."""

from collections.abc import Mapping

from server.embedded.devfile import Installation
from server.embedded.meta import Company

CONTROL_DATABASE = "switchboard_control"


def install(environment: Mapping[str, str], *, server_dsn: str, company: Company) -> Installation:
    """Make what is missing and find the rest."""
    raise NotImplementedError
