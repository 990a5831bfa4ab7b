"""Agents' tokens for dev.json, asked for as any client would: over REST, with the tenant's key."""

import http.client
import json
from collections.abc import Iterable

from server.embedded.ports import LOOPBACK

PATH = "/v1/auth/agent-tokens"
PATIENCE = 2.0
"""Seconds. Whoever asks has children to look after meanwhile."""


def agent_tokens(port: int, agents: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A token, good for 15 minutes, for each (agent id, tenant key). Empty where the server did not give one for each."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE)
    try:
        return {agent: _token(connection, agent, key) for agent, key in agents}
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        # Whoever asks asks again: a server that is being restarted is nothing unusual.
        return {}
    finally:
        connection.close()


def _token(connection: http.client.HTTPConnection, agent: str, key: str) -> str:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", PATH, json.dumps({"agentId": agent}), headers)
    token: str = json.loads(connection.getresponse().read())["token"]
    return token
