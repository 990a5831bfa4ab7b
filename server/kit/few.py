"""Rows that an index finds few of: of several statements that each find all of something, the first that ends below its limit."""

from __future__ import annotations

from collections.abc import Sequence


def chosen(statements: Sequence[str], most: str) -> str:
    """Parts of a WITH: `chosen`, the ids of the first statement that found all there is; `fits`, whether one did.

    Each statement has a limit of one above `most`, the place of a parameter.
    """
    parts = [f"s{index} AS MATERIALIZED ({statement})" for index, statement in enumerate(statements)]
    fits = [f"(SELECT count(*) FROM s{index}) <= {most}" for index in range(len(statements))]
    chosen = [
        f"SELECT id FROM s{index} WHERE {' AND '.join([*(f'NOT {earlier}' for earlier in fits[:index]), fits[index]])}"
        for index in range(len(statements))
    ]
    parts.append(f"chosen AS MATERIALIZED ({' UNION ALL '.join(chosen)})")
    return ", ".join([*parts, f"fits AS (SELECT {' OR '.join(fits)} AS fits)"])
