"""Nothing of a secret, a phone number or a text where it does not belong: canaries are sent everywhere, and looked for everywhere."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import canaries as birds
import pytest
import redis
from collector import Collector

from server.embedded.stack import Stack
from server.simulator.payloads import InboundText, Number, encode, inbound_body, sign
from tests.known_number import know


def http(url: str, body: bytes | None = None, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Flight:
    """One canary's way through the stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.dev = stack, stack.dev()
        self.canaries = birds.made()

    def rest(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        bearer = f"Bearer {key or self.dev['tenant_key']}"
        data = None if body is None else json.dumps(body).encode()
        status, answer = http(self.stack.url + path, data, method, authorization=bearer)
        assert status == 200, (path, answer)
        return json.loads(answer)

    def webhook(self, number: Number, *, app: dict[str, str], text: str, signed: bool = True) -> int:
        message = InboundText(
            text=text, timestamp=int(time.time()), phone=self.canaries["phone"], name=self.canaries["name"]
        )
        raw = encode(inbound_body(number, [message]))
        signature = sign(raw, app["app_secret"] if signed else "another one")
        path = f"/v1/webhooks/meta/{app['id']}"
        return http(self.stack.url + path, raw, "POST", **{"x-hub-signature-256": signature})[0]

    def control(self, what: str, **body: Any) -> None:
        """Tells the simulator."""
        url = f"{self.dev['simulator']['url']}/_control/{what}"
        assert http(url, json.dumps(body).encode(), "POST")[0] in (200, 201)

    def prepare(self) -> None:
        """An app and a channel whose secrets are canaries, an agent, a key, a token."""
        text = self.canaries
        app = {"id": "canaryapp", "name": "birds", "appSecret": text["app_secret"], "verifyToken": text["verify_token"]}
        self.rest("POST", "/v1/meta-apps", app, key=self.dev["platform_key"])
        self.app = {"id": "canaryapp", "app_secret": text["app_secret"]}
        self.number = Number("102290129340399", "777666555444333", "15550009999")
        channel = {"name": "birds", "phoneNumberId": self.number.phone_number_id, "wabaId": self.number.waba_id}
        more = {"accessToken": text["token"], "displayPhoneNumber": text["phone"]}
        hooks = {"webhook_url": f"{self.stack.url}/v1/webhooks/meta/canaryapp", "app_secret": text["app_secret"]}
        known = (self.number.phone_number_id, self.number.waba_id, text["token"])
        know(self.dev, *known, display_phone_number=text["phone"].removeprefix("+"), **hooks)
        self.channel = self.rest("POST", "/v1/channels:connectWhatsapp", {**channel, **more})["channel"]["id"]
        agent = self.rest("POST", "/v1/agents", {"name": text["name"], "email": text["email"]})["agent"]["id"]
        permissions = ["PERMISSION_CONVERSATIONS_READ"]
        text["key"] = self.rest("POST", "/v1/auth/api-keys", {"name": "birds", "permissions": permissions})["secret"]
        text["jwt"] = self.rest("POST", "/v1/auth/agent-tokens", {"agentId": agent})["token"]
        text["master_key"] = self.stack.home.master_key.read_text().strip()
        made = self.stack.home.load_secrets()
        text |= {"postgres_password": made.postgres_password, "valkey_password": made.valkey_password}

    def customers_write(self) -> str:
        """Webhooks of every kind; the conversation that came of it."""
        own = self.dev["channels"][0]
        real = Number(own["waba_id"], own["phone_number_id"], "15550001111")
        # Through the simulator first, which answers only those who wrote to it.
        body = {"from": self.canaries["phone"], "text": self.canaries["text"], "name": self.canaries["name"]}
        self.control("inbound", **body, phoneNumberId=own["phone_number_id"])
        assert self.webhook(real, app=self.dev["meta_app"], text=self.canaries["text"]) == 200
        assert self.webhook(self.number, app=self.app, text=self.canaries["text"]) == 200
        assert self.webhook(self.number, app=self.app, text=self.canaries["text"], signed=False) == 401
        stranger = Number("102290129340400", "888777666555444", "15550008888")
        assert self.webhook(stranger, app=self.app, text=self.canaries["text"]) == 200
        raw = f"not json {self.canaries['text']} {self.canaries['phone']}".encode()
        headers = {"x-hub-signature-256": sign(raw, self.app["app_secret"])}
        assert http(f"{self.stack.url}/v1/webhooks/meta/canaryapp", raw, "POST", **headers)[0] == 200
        query = f"hub.mode=subscribe&hub.verify_token={self.canaries['verify_token']}&hub.challenge=abc"
        assert http(f"{self.stack.url}/v1/webhooks/meta/canaryapp?{query}")[0] == 200
        assert http(f"{self.stack.url}/v1/webhooks/meta/canaryapp?{query}x&hub.verify_token=again")[0] in (400, 403)
        return self.conversation(own["id"])

    def conversation(self, channel: str) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = self.rest("GET", f"/v1/conversations?filter.channelId={channel}")
            if found.get("conversations"):
                self.canaries["cursor"] = found["asOf"]
                return str(found["conversations"][0]["id"])
            time.sleep(0.2)
        raise AssertionError("the customer's message did not arrive")

    def agents_answer(self, conversation: str) -> None:
        """Sends that go well and that fail in many ways, a note, pages."""
        details = f"{self.canaries['phone']} {self.canaries['text']}"
        faults = [
            {"kind": "error", "code": 131026, "details": details, "title": details},
            {"kind": "error", "code": 131000, "body": "html"},
            {"kind": "timeout_after_accept", "then": "close"},
            {"kind": "reset", "when": "after_reading"},
        ]
        for fault in [None, *faults]:
            if fault is not None:
                self.control("faults", **fault, count=1)
            self.rest("POST", f"/v1/conversations/{conversation}/messages", {"text": {"body": self.canaries["text"]}})
            time.sleep(0.2)
        self.rest("POST", f"/v1/conversations/{conversation}/notes", {"text": self.canaries["note"]})
        page = self.rest("GET", "/v1/conversations?pageSize=1")
        self.canaries["page_token"] = page["nextPageToken"]
        self.rest("GET", f"/v1/conversations?pageSize=1&pageToken={page['nextPageToken']}")
        damaged = f"/v1/conversations?pageSize=1&pageToken={page['nextPageToken'][:-2]}xx"
        assert http(self.stack.url + damaged, authorization=f"Bearer {self.dev['tenant_key']}")[0] == 400
        self.rest("GET", f"/v1/inbox/events?cursor={self.canaries['cursor']}")

    def crash(self) -> None:
        """Processes die in the middle."""
        for name in ("serve-1", "work"):
            self.webhook(self.number, app=self.app, text=self.canaries["text"])
            self.stack.kill(name)
            self.stack.restart(name)
        # An unknown send holds the next ones, so not every fault has hit one.
        http(f"{self.dev['simulator']['url']}/_control/faults", method="DELETE")


def valkey_contents(stack: Stack) -> bytes:
    client: Any = redis.Redis.from_url(stack.valkey_url())
    try:
        keys = list(client.scan_iter())
        return b"\n".join([*keys, *(client.dump(key) or b"" for key in keys)])
    finally:
        client.close()


@pytest.fixture(scope="module")
def flown(traced: Stack) -> tuple[Flight, bytes]:
    """A flight, and what Valkey heard of it."""
    flight = Flight(traced)
    with birds.monitored(traced) as listener:
        flight.prepare()
        conversation = flight.customers_write()
        flight.agents_answer(conversation)
        for credential in (flight.dev["tenant_key"], flight.dev["platform_key"]):
            assert birds.call_everything(traced, flight.canaries, conversation, credential) > 40
        for credential in (flight.canaries["key"][:-1] + "0", flight.canaries["jwt"] + "x"):
            birds.call_everything(traced, flight.canaries, conversation, credential)
        flight.crash()
        time.sleep(2)
    return flight, bytes(listener.heard)


def test_the_canaries_arrived(flown: tuple[Flight, bytes], traced: Stack) -> None:
    """Else nothing of this says anything."""
    flight, heard = flown
    assert set(flight.canaries) >= {
        *birds.CUSTOMERS,
        "token",
        "app_secret",
        "verify_token",
        "key",
        "jwt",
        "cursor",
        "page_token",
    }
    assert b"switchboard:hint:" in heard


def test_a_leak_would_be_found(flown: tuple[Flight, bytes]) -> None:
    """In plain text, and as the hexadecimal in which Postgres prints bytes."""
    flight, _ = flown
    for name, value in flight.canaries.items():
        assert birds.found_in(f"a line with {value} in it".encode(), flight.canaries) == [name]
        assert birds.found_in(f"\\x00{value.encode().hex()}00".encode(), flight.canaries) == [name]


async def test_customers_data_is_in_the_tenants_database_and_secrets_are_in_none(
    flown: tuple[Flight, bytes], traced: Stack
) -> None:
    flight, _ = flown
    secret = {
        name: value for name, value in flight.canaries.items() if name not in (*birds.CUSTOMERS, "cursor", "page_token")
    }
    dsns = [*(each["postgres"] for each in flight.dev["tenants"]), flight.dev["postgres"]["control"]]
    tenant, other, control = [await birds.dumped(traced.server_dsn(dsn.rpartition("/")[2])) for dsn in dsns]
    customers = {name: flight.canaries[name] for name in birds.CUSTOMERS}
    assert set(birds.found_in(tenant, customers)) == set(customers)
    assert birds.found_in(other, flight.canaries) == []
    assert [birds.found_in(each, secret) for each in (tenant, other, control)] == [[], [], []]


def test_no_log_holds_a_canary(flown: tuple[Flight, bytes], traced: Stack) -> None:
    flight, _ = flown
    logs = {path.name: path.read_bytes() for path in traced.home.logs.iterdir()}
    assert {"postgres.log", "envoy.log", "serve-1.log", "work.log", "valkey.log"} <= logs.keys()
    assert b"ReceiveMetaWebhook" in logs["envoy.log"] or b"/v1/webhooks/" in logs["envoy.log"]
    assert {name: found for name, data in logs.items() if (found := birds.found_in(data, flight.canaries))} == {}


def test_no_trace_metric_or_hint_holds_a_canary(
    flown: tuple[Flight, bytes], traced: Stack, collector: Collector
) -> None:
    flight, heard = flown
    pages = [http(each["metrics"])[1] for each in traced.dev()["processes"] if "metrics" in each]
    assert len(pages) == 2
    assert collector.raw
    places = {
        "traces": b"".join(collector.raw),
        "metrics": b"".join(pages),
        "valkey": valkey_contents(traced),
        "hints": heard,
    }
    # The passwords of a session's own AUTH are not shown by MONITOR.
    assert {name: found for name, data in places.items() if (found := birds.found_in(data, flight.canaries))} == {}


def test_no_other_process_knows_a_canary(flown: tuple[Flight, bytes], traced: Stack) -> None:
    flight, _ = flown
    ours = {each["pid"] for each in traced.dev()["processes"]}
    assert birds.found_in(birds.command_lines(), flight.canaries) == []
    assert birds.found_in(birds.environments(ours), flight.canaries) == []
    children = b"".join(birds._read(birds.Path(f"/proc/{pid}/environ")) for pid in ours)
    # Their addresses of databases carry passwords; the master key goes by a file.
    assert set(birds.found_in(children, flight.canaries)) <= {"postgres_password", "valkey_password"}
    known = {name: flight.canaries[name] for name in flight.canaries if not name.endswith("_password")}
    assert birds.found_in(traced.home.dev.read_bytes(), known) == []
    assert traced.home.dev.stat().st_mode & 0o077 == 0
