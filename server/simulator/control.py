"""The control API, for demos and tests: be a customer, send receipts, read what was sent. No token, loopback only.

Bad input is answered 400 with `{"error": "field: what is wrong"}`.
"""

import base64
import binascii
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError, model_validator

from server.simulator import errors, samples
from server.simulator.accounts import Account, SentMessage
from server.simulator.addresses import is_phone
from server.simulator.config import AccountConfig, ReceiptPlan, explain
from server.simulator.customers import InboundBatch, InboundSingle, MoveInput, inbound, moved
from server.simulator.faults import FAULT, FAULTS_MOST, Fault, Faults
from server.simulator.inputs import Input, UnixSeconds
from server.simulator.media import Media, MediaInput, sample
from server.simulator.payloads import SERVICE_PRICING, Status, field_body, numbered, statuses_body, webhook_body
from server.simulator.simulator import RequestRecord, Simulator
from server.simulator.templates import ReviewInput, TemplateChangeInput, TemplatesInput
from server.simulator.wamid import read_wamid

M = TypeVar("M", bound=BaseModel)

CLOCK_MOST = 10 * 366 * 86_400.0
"""Seconds the clock may be moved."""


class StatusInput(Input):
    """One receipt; `errors` of a `failed` one default to 131026 and are sent as they are, even when empty. `more` stands beside."""

    phone_number_id: str | None = None
    wamid: Annotated[str, Field(min_length=1, max_length=512)]
    status: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
    timestamp: UnixSeconds | None = None
    errors: tuple[dict[str, object], ...] | None = None
    more: dict[str, Any] = {}


class FieldInput(Input):
    """A webhook of any field: `value` over what is usual there. `messages` is a field too."""

    phone_number_id: str | None = None
    field: Annotated[str, Field(min_length=1, max_length=256)]
    value: dict[str, Any] = {}


class RawInput(Input):
    """A webhook that need not be one: any JSON as `body`, or any text as `raw`."""

    phone_number_id: str | None = None
    body: Any = None
    raw: str | None = None


class ClockInput(Input):
    """Where the simulator's clock is to go: `offset` from the machine's clock, or `advance` from where it stands."""

    offset: Annotated[float, Field(ge=-CLOCK_MOST, le=CLOCK_MOST)] | None = None
    advance: Annotated[float, Field(ge=0, le=CLOCK_MOST)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "ClockInput":
        if (self.offset is None) == (self.advance is None):
            raise ValueError("either offset or advance is needed, in seconds")
        return self


class ControlApi:
    """The handlers under /_control/."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> list[web.RouteDef]:
        """Every call; other paths below /_control are 404."""
        return [
            web.get("/_control/health", self.health),
            web.get("/_control/requests", self.requests),
            web.delete("/_control/requests", self.clear_requests),
            web.post("/_control/inbound", self.inbound),
            web.post("/_control/statuses", self.statuses),
            web.post("/_control/customers/{address}", self.move_customer),
            web.post("/_control/fields", self.field),
            web.post("/_control/webhooks", self.raw),
            web.post("/_control/accounts", self.accounts),
            web.put("/_control/receipts", self.receipts),
            web.get("/_control/faults", self.faults),
            web.post("/_control/faults", self.add_faults),
            web.delete("/_control/faults", self.clear_faults),
            web.delete("/_control/faults/{id}", self.remove_fault),
            web.post("/_control/templates", self.put_templates),
            web.post("/_control/templates/{id}", self.change_template),
            web.delete("/_control/templates/{id}", self.remove_template),
            web.get("/_control/media", self.list_media),
            web.post("/_control/reviews", self.reviews),
            web.put("/_control/media/{id}", self.put_media),
            web.get("/_control/clock", self.clock),
            web.post("/_control/clock", self.move_clock),
            web.route("*", "/_control{tail:.*}", _unknown),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        """Answers as soon as requests are taken."""
        return web.json_response({"status": "ok", "accounts": sum(1 for _ in self._simulator.accounts)})

    async def requests(self, request: web.Request) -> web.Response:
        """The calls of the messages endpoint, oldest first; `?since=` (RFC 3339) leaves out those up to that time."""
        since = _time(request.query["since"]) if "since" in request.query else None
        found = [record for record in self._simulator.requests if since is None or record.time > since]
        return web.json_response({"requests": [_record(record) for record in found]})

    async def clear_requests(self, _request: web.Request) -> web.Response:
        """Forgets the calls seen so far."""
        self._simulator.requests.clear()
        return web.json_response({})

    async def inbound(self, request: web.Request) -> web.Response:
        """Sends one webhook and waits for the answer to its first try: `webhookStatus`, null when none came."""
        body = await _json(request)
        batched = isinstance(body, Mapping) and "messages" in body
        given = _read(InboundBatch, body) if batched else _read(InboundSingle, body)
        account = self._account(given.phone_number_id)
        inputs = given.messages if isinstance(given, InboundBatch) else (given,)
        now = int(self._simulator.clock.wall())
        messages = [inbound(account, message, now) for message in inputs]
        status = await self._simulator.receive(account, messages)
        return web.json_response({"wamids": [message.wamid for message in messages], "webhookStatus": status})

    async def statuses(self, request: web.Request) -> web.Response:
        """Sends one receipt, as it is given, and waits for the answer to its first try."""
        given = _read(StatusInput, await _json(request))
        account, sent = self._sender_of(given)
        body = statuses_body(account.number, [_status(given, sent, int(self._simulator.clock.wall()))])
        return web.json_response({"webhookStatus": await self._simulator.webhooks.send(account, body)})

    async def move_customer(self, request: web.Request) -> web.Response:
        """Gives a customer another number or user id, and sends the two webhooks that tell so, one after the other."""
        given, now = _read(MoveInput, await _json(request)), int(self._simulator.clock.wall())
        account = self._account(given.phone_number_id)
        told = moved(account, request.match_info["address"], given, now)
        if told is None:
            return web.json_response({"error": "there is no such customer"}, status=404)
        answers = [await self._simulator.receive(account, [told.message])]
        if told.update is not None:
            body = self._field_body(account, "user_id_update", told.update)
            answers.append(await self._simulator.webhooks.send(account, body))
        return web.json_response({"userId": told.user_id, "webhookStatuses": answers})

    async def field(self, request: web.Request) -> web.Response:
        """Sends one webhook of any field, and waits for the answer to its first try."""
        given = _read(FieldInput, await _json(request))
        account = self._account(given.phone_number_id)
        value = samples.value(given.field, account.number) | given.value
        if value.get("event") == "THROUGHPUT_UPGRADE":
            account.upgrade(samples.THROUGHPUT_UPGRADED)
        body = self._field_body(account, given.field, value)
        return web.json_response({"webhookStatus": await self._simulator.webhooks.send(account, body)})

    def _field_body(self, account: Account, name: str, value: errors.Json) -> errors.Json:
        if name == "messages":
            return webhook_body(account.number, **value)
        named = numbered(account.number) if name in samples.NUMBERED else {}
        return field_body(account.number, name, named | value, time=int(self._simulator.clock.wall()))

    async def raw(self, request: web.Request) -> web.Response:
        """Signs and sends what is given, whatever it is, and waits for the answer to its first try."""
        given = _read(RawInput, await _json(request))
        data = given.raw.encode("utf-8", "surrogatepass") if given.raw is not None else json.dumps(given.body).encode()
        status = await self._simulator.webhooks.send_raw(self._account(given.phone_number_id), data)
        return web.json_response({"webhookStatus": status})

    async def accounts(self, request: web.Request) -> web.Response:
        """Adds a number (201), or gives a known one new settings (200). Fields as in the configuration file."""
        config = _read(AccountConfig, await _json(request))
        new = self._simulator.accounts.put(config)
        return web.json_response({"phoneNumberId": config.phone_number_id}, status=201 if new else 200)

    async def receipts(self, request: web.Request) -> web.Response:
        """Replaces the receipt plan for the messages accepted from now on; a body of null, or none, sends none."""
        body = await _json(request)
        self._simulator.receipts = None if body is None else _read(ReceiptPlan, body)
        return web.json_response({})

    async def faults(self, _request: web.Request) -> web.Response:
        """Every fault that was armed, used up or not, with its counts; and how often each kind fired."""
        armed = list(self._simulator.faults)
        fired: Counter[str] = Counter()
        for each in armed:
            fired[each.fault.kind] += each.fired
        return web.json_response({"faults": [each.shown() for each in armed], "fired": fired})

    async def add_faults(self, request: web.Request) -> web.Response:
        """Arms one fault, or those of `{"faults": [...]}`, all or none (201)."""
        body = await _json(request)
        several = isinstance(body, Mapping) and "faults" in body
        given: tuple[Fault, ...] = _read(Faults, body).faults if several else (_read_fault(body),)
        book = self._simulator.faults
        if len(book) + len(given) > FAULTS_MOST:
            raise _bad(f"there are {len(book)} faults already and {FAULTS_MOST} at most; remove some")
        return web.json_response({"faults": [book.add(fault).shown() for fault in given]}, status=201)

    async def clear_faults(self, _request: web.Request) -> web.Response:
        """Disarms all faults and forgets their counts; what they have already delayed or held still comes."""
        self._simulator.faults.clear()
        return web.json_response({})

    async def remove_fault(self, request: web.Request) -> web.Response:
        """Disarms one fault."""
        if not self._simulator.faults.remove(request.match_info["id"]):
            return web.json_response({"error": "there is no such fault"}, status=404)
        return web.json_response({})

    async def put_templates(self, request: web.Request) -> web.Response:
        """Adds templates to a business account, by default the first number's; their ids. Nobody is told."""
        given = _read(TemplatesInput, await _json(request))
        waba_id = given.waba_id or self._account(None).config.waba_id
        return web.json_response({"ids": [self._simulator.templates.put(waba_id, each) for each in given.templates]})

    async def change_template(self, request: web.Request) -> web.Response:
        """Changes a template, sends the webhooks about it one after the other, and waits for the answers to their first tries."""
        given, template_id = _read(TemplateChangeInput, await _json(request)), request.match_info["id"]
        account = self._owner_of(template_id)
        if account is None:
            return web.json_response({"error": "there is no such template"}, status=404)
        answers = []
        for field, value in self._simulator.templates.change(template_id, given):
            body = self._field_body(account, field, value)
            answers.append(await self._simulator.webhooks.send(account, body))
        return web.json_response({"webhookStatuses": answers})

    async def remove_template(self, request: web.Request) -> web.Response:
        """Takes a template away. Nobody is told."""
        if not self._simulator.templates.remove(request.match_info["id"]):
            return web.json_response({"error": "there is no such template"}, status=404)
        return web.json_response({})

    async def reviews(self, request: web.Request) -> web.Response:
        """What becomes of templates that businesses write from now on."""
        given = _read(ReviewInput, await _json(request))
        self._simulator.templates.reviews[given.waba_id] = given
        return web.json_response({})

    def _owner_of(self, template_id: str) -> Account | None:
        waba_id = self._simulator.templates.owner(template_id)
        return next((each for each in self._simulator.accounts if each.config.waba_id == waba_id), None)

    async def list_media(self, _request: web.Request) -> web.Response:
        """The files that businesses brought, the oldest first."""
        found = [each for each in self._simulator.media.all() if each.uploaded]
        return web.json_response(
            {
                "media": [
                    {
                        "id": each.id,
                        "phoneNumberId": each.phone_number_id,
                        "mimeType": each.mime_type,
                        "size": len(each.content),
                        "sha256": hashlib.sha256(each.content).hexdigest(),
                    }
                    for each in found
                ]
            }
        )

    async def put_media(self, request: web.Request) -> web.Response:
        """Puts a file at Meta, to be named by a message; for one that is there, says how it behaves from now on."""
        given, media_id = _read(MediaInput, await _json(request)), request.match_info["id"]
        account, book, now = self._account(given.phone_number_id), self._simulator.media, self._simulator.clock.wall()
        mime_type = given.mime_type or "image/jpeg"
        content = sample(media_id, mime_type) if given.bytes is None else _decoded(given.bytes)
        known = book.get(media_id)
        if known is None or given.bytes is not None:
            known = Media(media_id, account.config.phone_number_id, mime_type, content, now)
            book.put(known)
        known.behaviour, known.missing = given, given.missing or 0
        digest = hashlib.sha256(known.content).digest()
        return web.json_response(
            {
                "id": media_id,
                "sha256": base64.b64encode(digest).decode(),
                "mimeType": known.mime_type,
                "fetches": known.fetches,
            }
        )

    async def clock(self, _request: web.Request) -> web.Response:
        """The simulator's time, and how many seconds it is ahead of the machine's."""
        clock = self._simulator.clock
        return web.json_response({"time": _shown(datetime.fromtimestamp(clock.wall(), UTC)), "offset": clock.offset})

    async def move_clock(self, request: web.Request) -> web.Response:
        """Moves the simulator's time; what becomes due by that happens at once."""
        given, clock = _read(ClockInput, await _json(request)), self._simulator.clock
        clock.move(given.offset if given.offset is not None else clock.offset + (given.advance or 0.0))
        return await self.clock(request)

    def _account(self, phone_number_id: str | None) -> Account:
        accounts = self._simulator.accounts
        account = accounts.first() if phone_number_id is None else accounts.get(phone_number_id)
        if account is None:
            raise _bad("phoneNumberId: there is no such account")
        return account

    def _sender_of(self, given: StatusInput) -> tuple[Account, SentMessage | None]:
        """The account that sent the message; for a message nobody sent, the account named, or the first."""
        for account in self._simulator.accounts:
            sent = account.sent(given.wamid)
            if sent is not None and given.phone_number_id in (None, account.config.phone_number_id):
                return account, sent
        return self._account(given.phone_number_id), None


def _status(given: StatusInput, sent: SentMessage | None, now: int) -> Status:
    """A receipt for a message we know, or for a foreign one, whose recipient its id tells."""
    foreign = read_wamid(given.wamid) if sent is None else None
    failures = given.errors
    if failures is None and given.status == "failed":
        failures = (errors.status_error(errors.UNDELIVERABLE, "Message Undeliverable."),)
    return Status(
        wamid=given.wamid,
        status=given.status,
        timestamp=now if given.timestamp is None else given.timestamp,
        phone=sent.person.phone if sent else foreign.peer if foreign and is_phone(foreign.peer) else None,
        bsuid=sent.person.bsuid if sent else None,
        name=sent.person.name if sent else None,
        opaque=sent.opaque if sent else None,
        pricing=SERVICE_PRICING if given.status in ("sent", "delivered") else None,
        errors=failures,
        more=given.more,
    )


def _record(record: RequestRecord) -> errors.Json:
    return {
        "time": _shown(record.time),
        "phoneNumberId": record.phone_number_id,
        "body": record.body,
        "status": record.status,
        "wamid": record.wamid,
        "faults": record.faults,
    }


def _shown(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time(text: str) -> datetime:
    try:
        time_given = datetime.fromisoformat(text)
    except ValueError:
        raise _bad("since: a time like 2026-11-22T19:00:00Z is needed") from None
    return time_given if time_given.tzinfo else time_given.replace(tzinfo=UTC)


async def _json(request: web.Request) -> object:
    """The body; an empty one is null, since clients leave out a body of null."""
    try:
        body: object = json.loads(await request.read() or b"null")
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    return body


def _read(model: type[M], body: object) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _bad(explain(error)) from None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _bad("bytes: must be base64") from None


def _read_fault(body: object) -> Fault:
    try:
        return FAULT.validate_python(body)
    except ValidationError as error:
        raise _bad(explain(error)) from None


def _bad(message: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=json.dumps({"error": message}), content_type="application/json")


async def _unknown(_request: web.Request) -> web.Response:
    return web.json_response({"error": "there is no such control call"}, status=404)
