"""The app at Meta that webhooks come by."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from typing import Any

from tests.whatsapp_channel.number import Numbers, digits


def platform(numbers: Numbers, method: str, path: str, body: Any = None, *, key: str = "") -> tuple[int, Any]:
    """A call of whoever runs the installation: the status, and the answer."""
    headers = {"authorization": f"Bearer {key or numbers.dev['platform_key']}"}
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{numbers.stack.url}/v1/{path}", data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_an_app_by_which_webhooks_of_two_tenants_come_is_deleted_only_when_both_have_left(numbers: Numbers) -> None:
    app = uuid.uuid4().hex
    made = {
        "id": app,
        "name": "Another",
        "appSecret": numbers.dev["meta_app"]["app_secret"],
        "verifyToken": "verify token",
    }
    assert platform(numbers, "POST", "meta-apps", made)[0] == 200
    channels = []
    for tenant in (0, 1):
        number = digits(15)
        numbers.know(number, app_id=app, display_phone_number="15550001111")
        asked = {"phoneNumberId": number, "wabaId": numbers.waba, "accessToken": numbers.token, "name": "Shop"}
        channels.append(numbers.call("channels:connectWhatsapp", asked, tenant=tenant)["channel"]["id"])
    for tenant, left in enumerate(("2", "1")):
        status, answer = platform(numbers, "DELETE", f"meta-apps/{app}")
        (info,) = (each for each in answer["details"] if "reason" in each)
        told = {"channels": left, "tenants": left}
        assert (status, info["reason"], info["metadata"]) == (400, "META_APP_IN_USE", told)
        assert platform(numbers, "GET", f"meta-apps/{app}")[0] == 200
        numbers.call(f"channels/{channels[tenant]}/disconnect", {}, tenant=tenant)
    assert platform(numbers, "DELETE", f"meta-apps/{app}")[0] == 200
    assert platform(numbers, "DELETE", f"meta-apps/{app}")[0] == 404


def test_an_app_is_noted_of_a_channel_whose_provider_told_it_later(numbers: Numbers) -> None:
    channel = numbers.connect()
    app = uuid.uuid4().hex
    made = {
        "id": app,
        "name": "Another",
        "appSecret": numbers.dev["meta_app"]["app_secret"],
        "verifyToken": "verify token",
    }
    assert platform(numbers, "POST", "meta-apps", made)[0] == 200
    numbers.know(channel["whatsapp"]["phoneNumberId"], app_id=app, display_phone_number="15550001111")
    numbers.call(f"channels/{channel['id']}/check", {})
    assert platform(numbers, "DELETE", f"meta-apps/{app}")[1]["details"][0]["reason"] == "META_APP_IN_USE"
    # No tenant's key has a say in it.
    for method in ("GET", "PATCH", "DELETE"):
        assert platform(numbers, method, f"meta-apps/{app}", key=numbers.dev["tenants"][0]["key"])[0] == 403
