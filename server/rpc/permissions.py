"""The contract's permissions as the numbers that callers, roles and keys carry."""

from __future__ import annotations

from switchboard.v1 import options_pb2

ALL = frozenset(number for number in options_pb2.Permission.values() if number)


def named(*names: str) -> frozenset[int]:
    """The numbers of permissions by name, without prefix. ValueError for a name that the contract does not know."""
    return frozenset(options_pb2.Permission.Value(f"PERMISSION_{name}") for name in names)
