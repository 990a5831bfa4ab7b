"""The table of settings in docs/operating.md against the settings themselves."""

import re
from pathlib import Path

from pydantic import SecretStr

from server.settings import Settings

ROW = re.compile(r"^\| `(?P<name>[A-Z_]+)` \| (?:`(?P<default>[^`]*)`)? ?\|", re.MULTILINE)


def default_of(name: str) -> str:
    value = Settings.model_fields[name].default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, ()) else str(value)


def test_every_setting_is_documented_with_its_default(checkout: Path) -> None:
    page = (checkout / "docs" / "operating.md").read_text()
    documented = {row["name"].lower(): row["default"] or "" for row in ROW.finditer(page)}
    assert documented == {name: default_of(name) for name in Settings.model_fields}
