"""How many rows a query reads, by what Postgres says of its plan as it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from server.kit.db import Connection


class Counting:
    """A connection whose queries are explained as they run; read: rows that their plans took from tables and indexes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.read = 0
        self.plans: list[Any] = []

    async def fetchrow(self, sql: str, *values: Any) -> Any:
        return (await self.fetch(sql, *values))[0]

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        told = await self._connection.fetchval("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, *values)
        plan = json.loads(told)[0]["Plan"]
        self.plans.append(plan)
        self.read += sum(_rows(node) for node in _nodes(plan))
        found: list[Any] = await self._connection.fetch(sql, *values)
        return found


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _rows(node: dict[str, Any]) -> int:
    if "Relation Name" not in node and node["Node Type"] != "Bitmap Index Scan":
        return 0
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    read: int = round((node["Actual Rows"] + removed) * node["Actual Loops"])
    return read
