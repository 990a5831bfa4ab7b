"""A canary is fed through the real stack in every kind of content and then erased: nothing that is stored, streamed or logged has it.
Another one is fed beside it, and stays.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import pytest
import redis
from switchboard.v1 import inbox_service_pb2 as inbox
from switchboard.v1.inbox_service_pb2_grpc import InboxServiceStub

from server.embedded.stack import Stack
from server.simulator.payloads import Inbound, Number, Status, encode, field_body, inbound_body, sign, statuses_body
from server.simulator.wamid import new_wamid
from tests.erasures.erasures_desk import traces
from tests.installation import connection_to
from tests.seeing.canaries import dumped

T = TypeVar("T")


def eventually(look: Callable[[], T | None]) -> T:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing came within 30 s")


class Bird:
    """A customer whose words nobody else uses, and everything that can be said to it, by it and about it."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.dev = stack, stack.dev()
        self.word = secrets.token_hex(5)
        self.phone = f"49157{secrets.randbelow(10**9):09}"
        own = self.dev["channels"][0]
        self.channel = own["id"]
        self.number = Number(own["waba_id"], own["phone_number_id"], "15550001111")
        self.bodies: list[bytes] = []
        self.contact = ""
        self.file = str(secrets.randbelow(9 * 10**14) + 10**14)

    @property
    def words(self) -> list[str]:
        return [self.phone, self.word]

    def says(self, what: str) -> str:
        return f"{what} {self.word}"

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.stack.url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"authorization": f"Bearer {self.dev['tenant_key']}"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def post(self, body: Any) -> None:
        """A signed webhook."""
        raw = encode(body)
        self.bodies.append(raw)
        self.repeat(raw)

    def repeat(self, raw: bytes) -> None:
        app = self.dev["meta_app"]
        request = urllib.request.Request(
            self.stack.url + app["webhook_path"],
            data=raw,
            method="POST",
            headers={"x-hub-signature-256": sign(raw, app["app_secret"])},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    def message(self, type_: str, content: Any, **more: Any) -> Inbound:
        return Inbound(
            type=type_,
            content=content,
            timestamp=int(time.time()),
            phone=self.phone,
            bsuid=f"DE.{self.word}",
            name=self.says("Name"),
            more=more,
        )

    def put_file(self) -> None:
        """A file at Meta that is named by the word, and says nothing else."""
        content = base64.b64encode(b"\xff\xd8\xff\xe0" + self.says("File").encode() * 100).decode()
        body = {"phoneNumberId": self.number.phone_number_id, "mimeType": "image/jpeg", "bytes": content}
        url = f"{self.dev['simulator']['url']}/_control/media/{self.file}"
        request = urllib.request.Request(url, data=json.dumps(body).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    def writes(self) -> str:
        """Messages of every kind; the conversation."""
        control = self.dev["simulator"]["url"] + "/_control/inbound"
        body = {"from": self.phone, "text": self.says("First"), "name": self.says("Name")}
        body["phoneNumberId"] = self.number.phone_number_id
        request = urllib.request.Request(control, data=json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            (wamid,) = json.load(answer)["wamids"]
        self.put_file()
        files = {"mime_type": "image/jpeg", "id": self.file, "sha256": "x", "caption": self.says("Caption")}
        card = {"name": {"formatted_name": self.says("Card")}, "phones": [{"phone": self.phone, "wa_id": self.phone}]}
        order = {"catalog_id": "1", "text": self.says("Order"), "product_items": []}
        reply = {"type": "button_reply", "button_reply": {"id": self.word, "title": self.says("Title")}}
        place = {"latitude": 1, "longitude": 2, "name": self.says("Place"), "address": self.says("Street")}
        quoted = {"from": self.phone, "id": wamid}
        system = {"type": "user_changed_user_id", "body": self.says("Changed"), "wa_id": self.phone}
        for items in (
            [self.message("image", files), self.message("location", place), self.message("contacts", [card])],
            [self.message("order", order), self.message("interactive", reply, context=quoted)],
            [
                self.message("document", {**files, "filename": self.says("File")}),
                self.message("hologram", {"x": self.says("x")}),
            ],
            [self.message("reaction", {"message_id": wamid, "emoji": self.says("e")})],
            [self.message("reaction", {"message_id": new_wamid(peer=self.phone, direction="inbound"), "emoji": "x"})],
            [
                self.message("system", system),
                self.message("text", {"body": self.says("Second")}, referral={"body": self.says("Ad")}),
            ],
        ):
            self.post(inbound_body(self.number, items))
        self.post(
            self.field(
                "user_preferences", [{"wa_id": self.phone, "detail": self.says("Stop"), "category": "marketing"}]
            )
        )
        self.post(self.field("calls", [{"id": self.word, "from": self.phone, "event": "connect"}]))
        return str(eventually(lambda: self.found("Second"))[0]["id"])

    def field(self, name: str, items: Any) -> Any:
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"phone_number_id": self.number.phone_number_id},
            name: items,
        }
        return field_body(self.number, name, value, time=int(time.time()))

    def found(self, word: str) -> Any:
        """Conversations in which somebody said this."""
        return self.rest("POST", "/v1/conversations:search", {"filter": {"text": self.says(word)}}).get("conversations")

    def template(self) -> Any:
        """One whose name says nothing, filled with a word."""
        name = f"bird_{secrets.token_hex(4)}"
        body = {"type": "BODY", "text": "Hello {{1}}, it is time.", "example": {"body_text": [["Mia"]]}}
        made = {"name": name, "language": "en_US", "components": [body]}
        control = self.dev["simulator"]["url"] + "/_control/templates"
        data = json.dumps({"wabaId": self.number.waba_id, "templates": [made]}).encode()
        with urllib.request.urlopen(urllib.request.Request(control, data=data, method="POST"), timeout=20):
            self.rest("POST", f"/v1/channels/{self.channel}/templates:sync", {})
        filling = {"body": [{"text": self.says("Parameter")}]}
        return {"key": {"name": name, "language": "en_US"}, "filling": filling}

    def answered(self, conversation: str) -> str:
        """What colleagues say to it and of it; the contact."""
        row = self.rest("GET", f"/v1/conversations/{conversation}")["conversation"]
        messages = f"/v1/conversations/{conversation}/messages"
        sent = self.rest("POST", messages, {"text": {"body": self.says("Answer")}})["message"]["id"]
        choice = {"body": self.says("Choose"), "buttons": [{"id": self.word, "title": self.word}]}
        self.rest("POST", messages, {"buttons": choice})
        self.rest("POST", messages, {"template": self.template()})
        content = base64.b64encode(self.says("Brought").encode() * 100).decode()
        brought = {"content": content, "mimeType": "text/plain", "fileName": self.says("Name")}
        item = {"mediaId": self.rest("POST", "/v1/media", brought)["media"]["id"], "caption": self.says("Below")}
        linked = {"link": f"https://10.0.0.1/{self.word}.png", "kind": "ATTACHMENT_KIND_IMAGE"}
        self.rest("POST", messages, {"media": {"items": [item, linked]}})
        self.rest("POST", f"/v1/conversations/{conversation}/notes", {"text": self.says("Note")})
        details = {"subject": self.says("Subject"), "attributes": {"case": self.says("Case")}}
        self.rest("PATCH", f"/v1/conversations/{conversation}", details)
        contact = row["contact"]["id"]
        self.rest(
            "PATCH", f"/v1/contacts/{contact}", {"name": self.says("Known"), "attributes": {"plan": self.says("Plan")}}
        )
        self.rest("POST", f"/v1/contacts/{contact}/block", {"reason": self.says("Rude")})
        self.rest("POST", f"/v1/contacts/{contact}/unblock", {})
        wamid = eventually(lambda: self.rest("GET", f"/v1/messages/{sent}")["message"].get("externalId"))
        error = {"code": 131026, "title": self.says("Title"), "error_data": {"details": self.says("Why")}}
        now = int(time.time())
        self.post(
            statuses_body(
                self.number, [Status(wamid=wamid, status="failed", timestamp=now, phone=self.phone, errors=[error])]
            )
        )
        # Of a message that is not there: it is parked.
        lost = new_wamid(peer=self.phone, direction="outbound")
        self.post(statuses_body(self.number, [Status(wamid=lost, status="read", timestamp=now, phone=self.phone)]))
        return str(contact)

    def merged(self, contact: str) -> None:
        """Another number that turned out to be the same person."""
        other = f"+49158{secrets.randbelow(10**9):09}"
        body = {"channelId": self.channel, "name": self.says("Twin"), "phoneNumber": other}
        twin = self.rest("POST", "/v1/contacts", body)["contact"]["id"]
        self.rest("POST", f"/v1/contacts/{contact}/merge", {"mergedContactId": twin, "reason": self.says("Same")})

    def erased(self, contact: str) -> Any:
        asked = self.rest(
            "POST", f"/v1/contacts/{contact}/erase", {"requestId": str(uuid.uuid4()), "reason": "Case 17."}
        )
        path = f"/v1/erasures/{asked['erasure']['id']}"
        ended = ("ERASURE_STATE_DONE", "ERASURE_STATE_FAILED")
        return eventually(lambda: (found := self.rest("GET", path)["erasure"])["state"] in ended and found)


def replayed(stack: Stack, cursor: str) -> dict[str, bytes]:
    """The log from an old cursor on, as each server streams it, up to its head."""
    found, dev = {}, stack.dev()
    for number, each in enumerate(dev["serve"]):
        with grpc.insecure_channel(each["grpc"]) as channel:
            metadata = (("authorization", f"Bearer {dev['tenant_key']}"),)
            stream = InboxServiceStub(channel).WatchInbox(
                inbox.WatchInboxRequest(cursor=cursor), metadata=metadata, timeout=20
            )
            parts = []
            for item in stream:
                parts.append(item.SerializeToString())
                if item.HasField("caught_up"):
                    break
            stream.cancel()
        found[f"stream of serve-{number + 1}"] = b"".join(parts)
    return found


async def everything(stack: Stack, cursor: str) -> dict[str, bytes]:
    """All places in which something may be."""
    dev = stack.dev()
    dsns = {each["name"]: each["postgres"] for each in dev["tenants"]} | {"control": dev["postgres"]["control"]}
    found = {name: await dumped(stack.server_dsn(dsn.rpartition("/")[2])) for name, dsn in dsns.items()}
    found |= {path.name: path.read_bytes() for path in stack.home.logs.iterdir()}
    found |= {"valkey": valkey_contents(stack)} | replayed(stack, cursor)
    for each in dev["processes"]:
        if "metrics" in each:
            with urllib.request.urlopen(each["metrics"], timeout=20) as answer:
                found[f"metrics of {each['name']}"] = answer.read()
    return found


async def applied(stack: Stack) -> None:
    """Waits until every webhook is."""
    waiting = "SELECT count(*) FROM journal WHERE state = 'received'"
    dsn = stack.dev()["tenants"][0]["postgres"]
    async with connection_to(stack.server_dsn(dsn.rpartition("/")[2])) as connection:
        until = time.monotonic() + 20
        while await connection.fetchval(waiting) and time.monotonic() < until:
            time.sleep(0.05)


def valkey_contents(stack: Stack) -> bytes:
    client: Any = redis.Redis.from_url(stack.valkey_url())
    try:
        keys = list(client.scan_iter())
        return b"\n".join([*keys, *(client.dump(key) or b"" for key in keys)])
    finally:
        client.close()


def places(found: dict[str, bytes], words: list[str]) -> dict[str, list[str]]:
    return {name: seen for name, data in found.items() if (seen := traces(data, words))}


def holding(bird: Bird) -> set[str]:
    """Where customers' data belongs."""
    return {bird.dev["tenants"][0]["name"], "stream of serve-1", "stream of serve-2"}


def files_of(stack: Stack, word: str) -> int:
    """How many files of this canary are in the store."""
    folder = stack.home.path / "media"
    return sum(word.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
async def erased(stack: Stack) -> tuple[Bird, Bird, str]:
    """A canary that is erased, one that is not, and a cursor of before both."""
    canary, control = Bird(stack), Bird(stack)
    cursor = canary.rest("GET", "/v1/inbox/events?pageSize=1")["nextCursor"]
    for bird in (canary, control):
        bird.contact = bird.answered(bird.writes())
        bird.merged(bird.contact)
    await applied(stack)
    both = [*canary.words, *control.words]
    # What servers streamed before, they have in memory.
    before = places(await everything(stack, cursor), both)
    assert before == dict.fromkeys(holding(canary), both)
    # Two that it sent, one that it got.
    eventually(lambda: all(files_of(stack, bird.word) == 3 for bird in (canary, control)))
    found = canary.erased(canary.contact)
    assert found["state"] == "ERASURE_STATE_DONE", found
    return canary, control, cursor


async def test_the_canary_is_found_nowhere_and_the_other_one_where_it_was(
    stack: Stack, erased: tuple[Bird, Bird, str]
) -> None:
    canary, control, cursor = erased
    found = await everything(stack, cursor)
    assert places(found, canary.words) == {}
    assert [files_of(stack, bird.word) for bird in (canary, control)] == [0, 3]
    assert places(found, control.words) == dict.fromkeys(holding(control), control.words)


async def test_every_webhook_of_it_again_brings_nothing_back(stack: Stack, erased: tuple[Bird, Bird, str]) -> None:
    canary, _, cursor = erased
    for raw in canary.bodies:
        canary.repeat(raw)
    await applied(stack)
    assert not canary.rest("GET", f"/v1/contacts?addressPrefix={canary.phone}").get("contacts")
    assert places(await everything(stack, cursor), canary.words) == {}
