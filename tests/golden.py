"""Golden files: JSON of what is stored and shown, without what is another one in each run.

With GOLDEN=write in the environment they are written anew; they are read by eye before they are committed.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

VOLATILE = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"wamid\.[A-Za-z0-9+/=]+"), "<wamid>"),
    (re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|\+00:00)"), "<time>"),
)
OF_A_RUN = {"sequence", "create_time", "message_id", "conversationId"}


def normal(value: Any) -> Any:
    """Without what is another one in each run."""
    if isinstance(value, dict):
        return {name: normal(member) for name, member in value.items() if name not in OF_A_RUN}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, str):
        for pattern, replacement in VOLATILE:
            value = pattern.sub(replacement, value)
    return value


def golden(file: Path, found: Any) -> Any:
    """What the file says."""
    if os.environ.get("GOLDEN") == "write":
        file.write_text(json.dumps(found, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
    return json.loads(file.read_text())
