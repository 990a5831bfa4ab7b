"""Every limit of Meta's on what goes out, on both sides.

Each limit is tried at its bound, which we and the simulator must take, and with one more, which we must refuse by its field with
nothing stored, and the simulator with Meta's code when it is asked directly. What whole messages leave behind is written down in
tests/whatsapp_send/golden and tests/templates/golden.
"""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.error
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from limit_rows import ABSENT, EXAMPLES, FAULTS, LIMITS, OTP, TEMPLATES, at, put

from server.embedded.stack import Stack
from tests.templates.template_shop import Shop
from tests.whatsapp_send.sending_files import MP4, OGG, PDF, PNG, WEBP

FILES = {"image": PNG, "video": MP4, "audio": OGG, "document": PDF, "sticker": WEBP}
ROWS = """
SELECT m.status, d.state FROM messages m JOIN message_parts p ON p.message_id = m.id JOIN deliveries d ON d.part_id = p.id
WHERE m.id = $1
"""


class Bench(Shop):
    """A shop whose customers have all written, one for each row; what was sent to them by the names of the rows."""

    database: asyncpg.Connection

    def begin(self) -> None:
        limits = {"throughput_per_second": None, "pair_seconds": None}
        self.control("accounts", self.account | {"limits": limits})
        templates = [{"language": "en_US", **each} for each in TEMPLATES]
        self.control("templates", {"wabaId": self.waba, "templates": templates})
        self.sync()
        self.ours = {}
        for kind, content in FILES.items():
            body = {"content": base64.b64encode(content).decode(), "fileName": f"{kind}.bin"}
            self.ours[f"<{kind}>"] = self.ask("media", body)["media"]["id"]

    async def meet(self, names: list[str]) -> None:
        """A customer for each name, who writes."""
        self.phones = {name: f"49{10**9 + uuid.uuid4().int % (9 * 10**9)}" for name in names}
        messages = [{"from": phone, "text": "hello"} for phone in self.phones.values()]
        assert self.control("inbound", {"phoneNumberId": self.number, "messages": messages})["webhookStatus"] == 200
        query = """
        SELECT i.value, c.id::text FROM conversations c JOIN identity_aliases i ON i.identity_id = c.identity_id
        WHERE i.value = ANY ($1) AND c.message_count > 0
        """
        while len(rows := await self.database.fetch(query, [*self.phones.values()])) < len(names):
            await asyncio.sleep(0.05)
        ids = {row["value"]: row["id"] for row in rows}
        self.conversations = {name: ids[phone] for name, phone in self.phones.items()}

    def send(self, name: str, content: Any) -> str:
        """Sends to the customer of a row; the message's id."""
        text = json.dumps(content)
        for mark, media_id in self.ours.items():
            text = text.replace(mark, media_id)
        body = {**json.loads(text), "requestId": uuid.uuid4().hex}
        return str(self.ask(f"conversations/{self.conversations[name]}/messages", body)["message"]["id"])

    def taken(self, name: str, content: Any) -> str | None:
        """The same of what should be taken; None of what is not, so that the other rows are tried."""
        try:
            return self.send(name, content)
        except urllib.error.HTTPError:
            return None

    def refusal(self, name: str, content: Any) -> tuple[str, str, dict[str, str]]:
        """Status, reason and the fields of a refused send."""
        with pytest.raises(urllib.error.HTTPError) as error:
            self.send(name, content)
        told = json.load(error.value)
        fields = {
            each["field"]: each["description"] for part in told["details"] for each in part.get("fieldViolations", ())
        }
        return str(told["code"]), told["details"][0]["reason"], fields

    def post(self, body: Any) -> tuple[int, Any]:
        """Asks the simulator as if it were Meta, past our server."""
        url, token = self.dev["simulator"]["url"], self.account["access_token"]
        try:
            path = f"{url}/v26.0/{self.number}/messages"
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            return 200, self._json(path, "POST", body, **headers)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    async def settled(self, ids: list[str]) -> None:
        """Until all of these messages were read by their customers, or failed."""
        query = """
        SELECT d.state, d.error_message, count(*) FROM messages m JOIN message_parts p ON p.message_id = m.id
        JOIN deliveries d ON d.part_id = p.id
        WHERE m.id = ANY ($1) AND m.status NOT IN ('read', 'failed') GROUP BY 1, 2
        """
        deadline = asyncio.get_running_loop().time() + 20
        while left := await self.database.fetch(query, ids):
            assert asyncio.get_running_loop().time() < deadline, left
            await asyncio.sleep(0.05)

    def asked(self) -> dict[str, Any]:
        """What Meta was asked of each row: the answer's status and the body."""
        names = {f"+{phone}": name for name, phone in self.phones.items()}
        return {
            names[each["body"]["to"]]: (each["status"], each["body"])
            for each in self.control("requests", None, "GET")["requests"]
            if each["phoneNumberId"] == self.number and each["body"].get("to") in names
        }

    async def messages(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM messages"))


@pytest.fixture(scope="module")
async def bench(stack: Stack) -> AsyncIterator[Bench]:
    dev = stack.dev()
    made = Bench(stack, dev)
    made.database = await asyncpg.connect(dev["tenants"][0]["postgres"])
    made.begin()
    await made.meet([*EXAMPLES, *LIMITS])
    yield made
    await made.database.close()


@pytest.fixture(scope="module")
async def sent(bench: Bench) -> dict[str, Any]:
    """The examples, and each limit at its bound: the rows of each, and what Meta was asked."""
    bounds = {name: put(EXAMPLES[row.of], row.field, row.made(row.most)) for name, row in LIMITS.items()}
    answered = {name: bench.taken(name, content) for name, content in (EXAMPLES | bounds).items()}
    ids = {name: message_id for name, message_id in answered.items() if message_id is not None}
    await bench.settled([*ids.values()])
    asked = bench.asked()
    return {name: ([tuple(row) for row in await bench.database.fetch(ROWS, ids[name])], asked[name]) for name in ids}


@pytest.mark.parametrize("name", OTP)
def test_codes_go_the_same_way_whatever_the_button_does(sent: dict[str, Any], name: str) -> None:
    status, body = sent[f"template_{name}"][1]
    code = [{"type": "text", "text": "123456"}]
    pressed = {"type": "button", "sub_type": "url", "index": "0", "parameters": code}
    assert (status, body["template"]["components"]) == (200, [{"type": "body", "parameters": code}, pressed])


async def test_a_code_goes_to_no_user_id(bench: Bench, sent: dict[str, Any]) -> None:
    body = sent["template_otp_zero_tap"][1][1]
    status, answer = bench.post({**put(body, "to", ABSENT), "recipient": "US.13491208655302741918"})
    assert (status, answer["error"]["code"]) == (400, 131062)


@pytest.mark.parametrize("name", LIMITS)
async def test_a_limit_is_taken_at_its_bound_by_both(sent: dict[str, Any], name: str) -> None:
    row = LIMITS[name]
    rows, (status, body) = sent[name]
    assert status == 200
    assert at(body, row.meta) == (row.meta_made or row.made)(row.most)
    assert rows == [("read", "accepted")]


@pytest.mark.parametrize("name", LIMITS)
async def test_one_more_is_refused_by_its_field_and_nothing_is_stored(bench: Bench, name: str) -> None:
    row = LIMITS[name]
    before = await bench.messages()
    code, reason, fields = bench.refusal(name, put(EXAMPLES[row.of], row.field, row.made(row.most + 1)))
    assert (code, reason) in (("3", "PROVIDER_LIMIT"), ("3", "INVALID_FIELDS"))
    assert next(iter(fields)) == (row.named or row.field)
    assert str(row.most) in fields[row.named or row.field]
    assert await bench.messages() == before


@pytest.mark.parametrize("name", LIMITS)
async def test_one_more_is_refused_by_meta_too(bench: Bench, sent: dict[str, Any], name: str) -> None:
    row = LIMITS[name]
    body = put(sent[name][1][1], row.meta, (row.meta_made or row.made)(row.most + 1))
    status, answer = bench.post(body)
    assert (status, answer["error"]["code"]) == (400, row.code)


OURS = [name for name, row in FAULTS.items() if row.field]


@pytest.mark.parametrize("name", OURS)
async def test_a_fault_is_refused_by_its_field_and_nothing_is_stored(bench: Bench, name: str) -> None:
    row = FAULTS[name]
    before = await bench.messages()
    code, reason, fields = bench.refusal(row.of, put(EXAMPLES[row.of], row.field, row.value))
    assert code in ("3", "5", "9")
    assert not row.reason or reason == row.reason
    assert row.named in (fields or {"": ""})
    assert await bench.messages() == before


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_refused_by_meta_with_its_code(bench: Bench, sent: dict[str, Any], name: str) -> None:
    row = FAULTS[name]
    status, answer = bench.post(put(sent[row.of][1][1], row.meta, row.meta_value))
    assert status in (400, 404)
    assert answer["error"]["code"] == row.code
