"""The Graph API's side: sending messages, marking them read, listing templates, taking files, looking them up and fetching them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aiohttp import web

from server.simulator import errors, forms, spoiled, uploads
from server.simulator.accounts import SentMessage
from server.simulator.checks import Attempt, refusal
from server.simulator.errors import ErrorKind, Json, envelope
from server.simulator.faults import (
    Delay,
    Failure,
    Fault,
    Hit,
    ReceiptsFirst,
    Reset,
    Target,
    TimeoutAfterAccept,
    TimeoutBeforeAccept,
)
from server.simulator.media import PATH, Media
from server.simulator.simulator import Simulator
from server.simulator.templates import PAGE_MOST, unknown_field
from server.simulator.wamid import new_wamid

_BEARER = re.compile(r"(?:Bearer|OAuth) +(\S+)", re.IGNORECASE)


class GraphApi:
    """The handlers; `routes` are to be added after all others, since the last one takes every path."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._faults = simulator.faults

    def routes(self) -> list[web.RouteDef]:
        """The messages endpoint, and every other path, which the Graph API answers too."""
        return [
            web.post("/{version}/{phone_number_id}/messages", self.messages),
            web.get("/{version}/{waba_id}/message_templates", self.message_templates),
            web.get("/{version}/{media_id:[0-9]+}", self.media),
            web.delete("/{version}/{media_id:[0-9]+}", self.delete_media),
            web.post("/{version}/{phone_number_id}/media", self.upload),
            web.get(PATH, self.media_content),
            web.route("*", "/{tail:.*}", unknown_path),
        ]

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """Sends a text, or marks a message read: the faults and the table decide whether it may, and what is answered."""
        phone_number_id = request.match_info["phone_number_id"]
        target = Target(phone_number_id, request.path)
        if (cut := self._faults.first(target, _before_reading)) is not None:
            self._simulator.record(phone_number_id=phone_number_id, body=None, faults=[cut.id])
            return spoiled.reset(request)
        body = await _json_object(request)
        target = replace(target, recipients=_addressed(self._attempt(request, body)))
        delays = self._faults.all(Delay, target)
        await self._hold(delays, "request")
        response = await self._answered(request, self._attempt(request, body), target, [delay.id for delay in delays])
        await self._hold(delays, "answer")
        return response

    async def _hold(self, delays: Sequence[Hit[Delay]], what: str) -> None:
        for delay in delays:
            if delay.fault.of == what:
                held = delay.fault.delay_ms + delay.random.uniform(0, delay.fault.jitter_ms)
                await spoiled.wait(held, self._simulator.stopping)

    async def message_templates(self, request: web.Request) -> web.Response:
        """A page of a business account's templates, for a token of one of its numbers."""
        version, waba_id = request.match_info["version"], request.match_info["waba_id"]
        if version not in self._simulator.versions:
            return await unknown_path(request)
        owners = [each.config for each in self._simulator.accounts if each.config.waba_id == waba_id]
        tokens, token = self._simulator.accounts.tokens(), _token(request)
        if token is None or tokens.get(token, 0.0) <= self._simulator.clock.wall():
            return refused(errors.BAD_TOKEN, "Invalid OAuth access token - Cannot parse access token", version=version)
        if token not in [each.access_token.get_secret_value() for each in owners]:
            return refused(errors.NO_SUCH_OBJECT, f"Object with ID '{waba_id}' does not exist", version=version)
        limit = request.query.get("limit", "25")
        if not limit.isdigit() or not 1 <= int(limit) <= PAGE_MOST:
            return refused(errors.PARAMETER, f"Param limit must be from 1 to {PAGE_MOST}", version=version)
        if unknown := unknown_field(request.query):
            detail = f"Tried accessing nonexisting field ({unknown}) on node type (WhatsAppMessageTemplate)"
            return refused(errors.PARAMETER, detail, version=version)
        page = self._simulator.templates.page(
            waba_id, limit=int(limit), after=request.query.get("after"), asked=request.query
        )
        return web.json_response(page, headers={"facebook-api-version": version, **spoiled.usage(waba_id)})

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Takes a file, for a token of the number. A fault hits it where its filter has a path."""
        version, number = request.match_info["version"], request.match_info["phone_number_id"]
        if version not in self._simulator.versions:
            return await unknown_path(request)
        form, now, token = await forms.read(request), self._simulator.clock.wall(), _token(request)
        hit = self._faults.first(
            Target(number, request.path), lambda fault: _before_accepting(fault) and fault.filter.path is not None
        )
        if hit is not None and isinstance(hit.fault, Failure):
            return await spoiled.failure(request, hit.fault, version=version, waba_id=None, answer=None)
        if hit is not None:
            return spoiled.reset(request)
        if token is None or self._simulator.accounts.tokens().get(token, 0.0) <= now:
            return refused(errors.BAD_TOKEN, "Invalid OAuth access token - Cannot parse access token", version=version)
        account = self._simulator.accounts.get(number)
        if account is None or token != account.config.access_token.get_secret_value():
            return refused(errors.NO_SUCH_OBJECT, f"Object with ID '{number}' does not exist", version=version)
        if (found := uploads.problem(form)) is not None:
            return refused(found.error, found.detail, version=version)
        media = self._simulator.media.bring(form, number, now)
        return web.json_response({"id": media.id}, headers={"facebook-api-version": version})

    async def delete_media(self, request: web.Request) -> web.Response:
        """Deletes a file, for a token of the number that has it."""
        media = await self._media_of(request)
        if isinstance(media, web.Response):
            return media
        self._simulator.media.remove(media.id)
        return web.json_response({"success": True})

    async def media(self, request: web.Request) -> web.Response:
        """Where a file is to be fetched, for a token of the number that has it."""
        media, now = await self._media_of(request), self._simulator.clock.wall()
        if isinstance(media, web.Response):
            return media
        shown = self._simulator.media.shown(media, base_url=str(request.url.origin()), now=now)
        return web.json_response(shown, headers={"facebook-api-version": request.match_info["version"]})

    async def _media_of(self, request: web.Request) -> Media | web.Response:
        version, media_id = request.match_info["version"], request.match_info["media_id"]
        if version not in self._simulator.versions:
            return await unknown_path(request)
        now, token = self._simulator.clock.wall(), _token(request)
        if token is None or self._simulator.accounts.tokens().get(token, 0.0) <= now:
            return refused(errors.BAD_TOKEN, "Invalid OAuth access token - Cannot parse access token", version=version)
        media = self._simulator.media.found(media_id, now)
        number = request.query.get("phone_number_id")
        if media is None or not self._owns(token, media) or number not in (None, media.phone_number_id):
            return refused(errors.NO_SUCH_OBJECT, f"Object with ID '{media_id}' does not exist", version=version)
        return media

    async def media_content(self, request: web.Request) -> web.StreamResponse:
        """A file, or the rest of it, as Meta's content hosts give it: with the token and to what names itself alone."""
        now, book = self._simulator.clock.wall(), self._simulator.media
        media_id, until = request.query.get("mid", ""), request.query.get("ext", "")
        media = book.found(media_id, now)
        good = until.isdigit() and request.query.get("hash") == book.sign(media_id, int(until)) and int(until) > now
        if media is None or not good:
            return web.Response(status=404)
        if not request.headers.get("User-Agent") or not self._owns(_token(request), media):
            return web.Response(status=401)
        media.fetches += 1
        if media.missing > 0:
            media.missing -= 1
            return web.Response(status=404)
        if media.behaviour.redirect_to is not None:
            return web.Response(status=302, headers={"Location": media.behaviour.redirect_to})
        return await _content(request, media)

    def _owns(self, token: str | None, media: Media) -> bool:
        account = self._simulator.accounts.get(media.phone_number_id)
        return account is not None and token == account.config.access_token.get_secret_value()

    async def _answered(
        self, request: web.Request, attempt: Attempt, target: Target, faults: Sequence[str]
    ) -> web.StreamResponse:
        """The answer, at the moment when the request has had its effect."""
        if (hit := self._faults.first(target, _before_accepting)) is not None:
            self._record(attempt, status=_status(hit.fault), faults=[*faults, hit.id])
            return await self._spoil(request, attempt, hit, answer=None)
        found = refusal(attempt)
        if found is not None:
            row, detail = found
            self._record(attempt, status=row.error.status, faults=faults)
            known = attempt.version in attempt.versions
            return refused(row.error, detail, version=attempt.version if known else None)
        hit = self._faults.first(target, _after_accepting)
        named = [*faults, *([hit.id] if hit else [])]
        answer = (
            self._mark_read(attempt, hit, named)
            if attempt.marks_read
            else await self._accept(attempt, target, hit, named)
        )
        if hit is None or _comes_by_webhook(hit.fault):
            return _answer(attempt, answer)
        return await self._spoil(request, attempt, hit, answer=answer)

    async def _spoil(
        self, request: web.Request, attempt: Attempt, hit: Hit[Fault], *, answer: Json | None
    ) -> web.StreamResponse:
        match hit.fault:
            case Failure() as fault:
                waba_id = attempt.account.config.waba_id if attempt.account else None
                return await spoiled.failure(request, fault, version=attempt.version, waba_id=waba_id, answer=answer)
            case TimeoutBeforeAccept() | TimeoutAfterAccept() as fault:
                nothing = await spoiled.silence(request, fault, self._simulator.stopping)
                return nothing if answer is None or fault.then != "answer" else _answer(attempt, answer)
            case _:
                return spoiled.reset(request)

    def _attempt(self, request: web.Request, body: Mapping[str, object] | None) -> Attempt:
        phone_number_id = request.match_info["phone_number_id"]
        account = self._simulator.accounts.get(phone_number_id)
        return Attempt(
            version=request.match_info["version"],
            phone_number_id=phone_number_id,
            token=_token(request),
            body=body,
            account=account,
            templates=() if account is None else self._simulator.templates.of(account.config.waba_id),
            versions=self._simulator.versions,
            tokens=self._simulator.accounts.tokens(),
            media=lambda media_id: self._simulator.media.found(media_id, self._simulator.clock.wall()),
            wall=self._simulator.clock.wall(),
            steady=self._simulator.clock.steady(),
        )

    def _mark_read(self, attempt: Attempt, hit: Hit[Fault] | None, faults: Sequence[str]) -> Json:
        self._record(attempt, status=_status(hit.fault) if hit else 200, faults=faults)
        return {"success": True}

    async def _accept(self, attempt: Attempt, target: Target, hit: Hit[Fault] | None, faults: Sequence[str]) -> Json:
        """Meta's 200 says "accepted", nothing more: outside the window the failure follows by webhook."""
        account, person = attempt.number, attempt.person
        account.throughput.spend(attempt.steady)
        account.pairs.spend(person.address, attempt.steady)
        opaque = attempt.value("biz_opaque_callback_data")
        wamid = new_wamid(peer=person.address, direction="outbound")
        reaction = attempt.carries == "reaction"
        sent = SentMessage(wamid, person, opaque if isinstance(opaque, str) else None, attempt.wall, reaction)
        account.remember(sent)
        first = self._faults.all(ReceiptsFirst, target)
        named = [*faults, *(early.id for early in first)]
        self._record(attempt, status=_status(hit.fault) if hit else 200, wamid=wamid, faults=named)
        if attempt.window_closed:
            self._simulator.send_failure(account, sent)
        elif hit is not None and isinstance(hit.fault, Failure) and _comes_by_webhook(hit.fault):
            self._simulator.send_failure(account, sent, spoiled.failed_status(hit.fault))
        else:
            early = [status for each in first for status in each.fault.statuses]
            await self._simulator.send_receipts_now(account, sent, early)
            # Of a reaction nobody is told more than that it left.
            self._simulator.send_receipts(account, sent, without=("delivered", "read") if reaction else early)
        taken: Json = {"id": wamid}
        if attempt.value("type") == "template":
            taken["message_status"] = self._simulator.templates.pacing(
                account.config.waba_id, attempt.value("template")
            )
        return {"messaging_product": "whatsapp", "contacts": [_contact(attempt)], "messages": [taken]}

    def _record(self, attempt: Attempt, *, status: int | None, faults: Sequence[str], wamid: str | None = None) -> None:
        self._simulator.record(
            phone_number_id=attempt.phone_number_id, body=attempt.body, status=status, wamid=wamid, faults=faults
        )


async def unknown_path(request: web.Request) -> web.Response:
    """Anything the Graph API has, or has not, that is not simulated."""
    return refused(errors.UNKNOWN_PATH, f"Unknown path components: {request.path}", version=None)


def refused(kind: ErrorKind, detail: str, *, version: str | None) -> web.Response:
    """The error envelope with the headers the Graph API puts beside it."""
    problem = "invalid_token" if kind.code == errors.BAD_TOKEN.code else "invalid_request"
    return web.json_response(
        envelope(kind, detail), status=kind.status, headers=spoiled.headers(problem, version=version)
    )


def _before_reading(fault: Fault) -> bool:
    return isinstance(fault, Reset) and fault.when == "before_reading"


def _before_accepting(fault: Fault) -> bool:
    match fault:
        case Failure():
            return not fault.accepts and fault.via == "answer"
        case Reset():
            return fault.when == "after_reading"
        case _:
            return isinstance(fault, TimeoutBeforeAccept)


def _after_accepting(fault: Fault) -> bool:
    match fault:
        case Failure():
            return fault.accepts or fault.via == "webhook"
        case Reset():
            return fault.when == "after_accept"
        case _:
            return isinstance(fault, TimeoutAfterAccept)


def _comes_by_webhook(fault: Fault) -> bool:
    return isinstance(fault, Failure) and fault.via == "webhook"


def _status(fault: Fault) -> int | None:
    """The HTTP status a request hit by this fault is answered with; None for no answer."""
    match fault:
        case Failure():
            return 200 if fault.via == "webhook" else spoiled.error_kind(fault).status
        case TimeoutAfterAccept():
            return 200 if fault.then == "answer" else None
        case _:
            return None


def _addressed(attempt: Attempt) -> frozenset[str]:
    """Every address of the customer a message goes to, as far as the number knows him; none for a read mark."""
    to, recipient = attempt.value("to"), attempt.value("recipient")
    given = {address.removeprefix("+") for address in (to, recipient) if isinstance(address, str)}
    account = attempt.account
    if account is None:
        return frozenset(given)
    dialled = {account.config.wa_ids.get(address, address) for address in given}
    people = filter(None, (account.known(address) for address in dialled))
    return frozenset(given | dialled | {address for one in people for address in (one.phone, one.bsuid) if address})


async def _content(request: web.Request, media: Media) -> web.StreamResponse:
    try:
        start = request.http_range.start or 0
    except ValueError:
        start = 0
    if start >= len(media.content) > 0:
        return web.Response(status=416)
    rest = media.content[start:]
    response = web.StreamResponse(status=206 if start else 200, headers={"Content-Type": media.mime_type})
    if start:
        response.headers["Content-Range"] = f"bytes {start}-{len(media.content) - 1}/{len(media.content)}"
    response.content_length = len(rest)
    await response.prepare(request)
    cut = media.behaviour.cut_after
    if cut is not None and cut < len(rest):
        await response.write(rest[:cut])
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write(rest)
    await response.write_eof()
    return response


def _answer(attempt: Attempt, body: Json) -> web.Response:
    headers = {"facebook-api-version": attempt.version, **spoiled.usage(attempt.number.config.waba_id)}
    return web.json_response(body, headers=headers)


def _contact(attempt: Attempt) -> Json:
    """`input` is the address as it was given; `wa_id` is the number WhatsApp knows, absent for a user id."""
    to = attempt.value("to")
    if isinstance(to, str):
        return {"input": to, "wa_id": attempt.person.phone}
    return {"input": attempt.value("recipient"), "user_id": attempt.value("recipient")}


def _token(request: web.Request) -> str | None:
    match = _BEARER.fullmatch(request.headers.get("Authorization", "").strip())
    return match[1] if match else request.query.get("access_token")


async def _json_object(request: web.Request) -> Mapping[str, object] | None:
    """The body, or None when it is not a JSON object or not said to be one."""
    raw = await request.read()
    if request.content_type != "application/json":
        return None
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
