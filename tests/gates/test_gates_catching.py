"""Everything may be caught in four places only, and whoever tidies up after any end lets it go on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

EDGES = {"server/kit/edge.py", "server/rpc/errors.py", "server/intake/apply.py", "server/providers/whatsapp/parse.py"}


def handlers(checkout: Path, *names: str | None) -> Iterator[tuple[str, ast.ExceptHandler]]:
    """The handlers of these exceptions, wherever our own code has them; None: a bare one."""
    for root in ("server", "clients/python", "clients/cli"):
        for path in sorted((checkout / root).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ExceptHandler) and set(names) & set(caught(node)):
                    yield str(path.relative_to(checkout)), node


def caught(handler: ast.ExceptHandler) -> list[str | None]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [kind.id if isinstance(kind, ast.Name) else None if kind is None else ast.unparse(kind) for kind in kinds]


def test_everything_is_caught_at_the_edges_only(checkout: Path) -> None:
    assert sorted(path for path, _ in handlers(checkout, "Exception", None)) == sorted(EDGES)


def test_whoever_catches_every_end_raises_it_again(checkout: Path) -> None:
    for path, handler in handlers(checkout, "BaseException"):
        raised = [node for node in ast.walk(handler) if isinstance(node, ast.Raise) and node.exc is None]
        assert raised, f"{path}:{handler.lineno}"
