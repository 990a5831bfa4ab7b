"""Tells the simulator of a number, so that it can be connected."""

from __future__ import annotations

import json
import urllib.request
from typing import Any


def know(dev: dict[str, Any], phone_number_id: str, waba_id: str, access_token: str, **more: Any) -> None:
    """A number of the stack's app; more: as in the simulator's configuration."""
    app = dev["meta_app"]
    account = {
        "phone_number_id": phone_number_id,
        "waba_id": waba_id,
        "access_token": access_token,
        "display_phone_number": "15550001111",
        "app_secret": app["app_secret"],
        "webhook_url": dev["url"] + app["webhook_path"],
        **more,
    }
    url, data = dev["simulator"]["url"] + "/_control/accounts", json.dumps(account).encode()
    urllib.request.urlopen(urllib.request.Request(url, data, method="POST"), timeout=10).close()
