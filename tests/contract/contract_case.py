"""What the contract's table holds of an RPC."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from contract_world import World
from google.protobuf.message import Message

Ask = Callable[[World], Message]


@dataclass(frozen=True, kw_only=True)
class Case:
    """An RPC. Callers are roles of agents, "key" for the tenant's key, "platform", "nobody" and "broken"."""

    ask: Ask
    refuse: Ask
    reason: str
    caller: str = "key"
    refused: str = ""
    headers: Callable[[World, Message], Mapping[str, str]] = lambda _world, _request: {}
    # What the reference shows instead of `ask`, where what can be compared says little.
    shown: Ask | None = None
    refused_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def refused_caller(self) -> str:
        return self.refused or self.caller
