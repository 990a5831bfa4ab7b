"""Templates from the provider to the inbox: synchronised, changed by webhooks, gone."""

from __future__ import annotations

import json
import urllib.error
import uuid

import pytest

from server.embedded.stack import Stack
from tests.known_number import know
from tests.templates.template_shop import Shop


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Shop:
    return Shop(stack, stack.dev())


def test_what_the_provider_has_is_listed_after_a_synchronisation_and_what_it_has_not_is_gone(shop: Shop) -> None:
    kept, dropped = shop.put("kept", "dropped")
    assert shop.sync()["foundCount"] == 2
    assert shop.sync() == {"foundCount": 2, "changedCount": 0, "goneCount": 0}
    first = shop.until("kept", lambda _: True)
    assert (first["externalId"], first["language"], first["status"]) == (kept, "en_US", "TEMPLATE_STATUS_APPROVED")
    assert first["components"] == [
        {
            "type": "BODY",
            "format": "",
            "text": "Hello {{1}}, order {{2}} is ready.",
            "buttons": [],
            "places": ["1", "2"],
            "cards": [],
            "examples": ["Mia", "17"],
            "sample": "",
            "securityRecommendation": False,
            "codeExpirationMinutes": 0,
            "expires": False,
        }
    ]
    assert shop.ask(f"{shop.path}/{first['id']}")["template"] == first
    shop.control(f"templates/{dropped}", None, "DELETE")
    # The worker reads by itself too: either found it gone.
    assert shop.sync()["foundCount"] == 1
    assert shop.until("dropped", lambda each: "goneTime" in each)
    assert [each["name"] for each in shop.templates("?sendable=true")] == ["kept"]


def test_a_webhook_of_the_account_changes_the_template(shop: Shop) -> None:
    (template_id,) = shop.put("told")
    shop.sync()
    changed = {"status": "PAUSED", "reason": "NONE", "quality": "RED", "correctCategory": "MARKETING"}
    assert shop.control(f"templates/{template_id}", changed) == {"webhookStatuses": [200, 200, 200]}
    found = shop.until(
        "told",
        lambda each: (
            each["status"].endswith("PAUSED") and each["quality"].endswith("RED") and "upcomingCategory" in each
        ),
    )
    assert (found["providerStatus"], found["upcomingCategory"], found["stale"]) == ("PAUSED", "MARKETING", False)


def test_a_token_that_is_refused_changes_nothing(shop: Shop) -> None:
    shop.put("safe")
    shop.sync()
    before = shop.templates()
    number, token = f"2{uuid.uuid4().int % 10**14:014}", uuid.uuid4().hex
    know(shop.dev, number, shop.waba, token)
    channel = {"name": "Other", "phoneNumberId": number, "accessToken": token}
    connected = shop.ask("channels:connectWhatsapp", channel | {"wabaId": shop.waba})
    know(shop.dev, number, shop.waba, "another one")
    with pytest.raises(urllib.error.HTTPError) as refused:
        shop.ask(f"channels/{connected['channel']['id']}/templates:sync", {})
    assert json.load(refused.value)["details"][0]["reason"] == "PROVIDER_REFUSED"
    assert shop.templates() == before
