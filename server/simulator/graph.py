"""The Graph API's side: sending text messages and marking messages read."""

import json
import re
import time
from collections.abc import Mapping

from aiohttp import web

from server.simulator import errors
from server.simulator.accounts import SentMessage
from server.simulator.checks import Attempt, Row, refusal
from server.simulator.errors import ErrorKind, Json, envelope
from server.simulator.simulator import Simulator
from server.simulator.wamid import new_wamid

_BEARER = re.compile(r"(?:Bearer|OAuth) +(\S+)", re.IGNORECASE)


class GraphApi:
    """The handlers; `routes` are to be added after all others, since the last one takes every path."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> list[web.RouteDef]:
        """The messages endpoint, and every other path, which the Graph API answers too."""
        return [
            web.post("/{version}/{phone_number_id}/messages", self.messages),
            web.route("*", "/{tail:.*}", unknown_path),
        ]

    async def messages(self, request: web.Request) -> web.Response:
        """Sends a text, or marks a message read: the table decides whether it may."""
        attempt = self._attempt(request, await _json_object(request))
        found = refusal(attempt)
        if found is not None:
            return self._refuse(attempt, *found)
        if attempt.marks_read:
            self._record(attempt, status=200)
            return _answer(attempt, {"success": True})
        return self._accept(attempt)

    def _attempt(self, request: web.Request, body: Mapping[str, object] | None) -> Attempt:
        phone_number_id = request.match_info["phone_number_id"]
        return Attempt(
            version=request.match_info["version"],
            phone_number_id=phone_number_id,
            token=_token(request),
            body=body,
            account=self._simulator.accounts.get(phone_number_id),
            versions=self._simulator.versions,
            tokens=self._simulator.accounts.tokens(),
            wall=time.time(),
            steady=time.monotonic(),
        )

    def _refuse(self, attempt: Attempt, row: Row, detail: str) -> web.Response:
        self._record(attempt, status=row.error.status)
        known = attempt.version in attempt.versions
        return refused(row.error, detail, version=attempt.version if known else None)

    def _accept(self, attempt: Attempt) -> web.Response:
        """Meta's 200 says "accepted", nothing more: outside the window the failure follows by webhook."""
        account, person = attempt.number, attempt.person
        account.throughput.spend(attempt.steady)
        account.pairs.spend(person.address, attempt.steady)
        opaque = attempt.value("biz_opaque_callback_data")
        wamid = new_wamid(peer=person.address, direction="outbound")
        sent = SentMessage(wamid, person, opaque if isinstance(opaque, str) else None)
        account.remember(sent)
        self._record(attempt, status=200, wamid=wamid)
        if attempt.window_closed:
            self._simulator.send_failure(account, sent)
        else:
            self._simulator.send_receipts(account, sent)
        return _answer(
            attempt,
            {"messaging_product": "whatsapp", "contacts": [_contact(attempt)], "messages": [{"id": wamid}]},
        )

    def _record(self, attempt: Attempt, *, status: int, wamid: str | None = None) -> None:
        self._simulator.record(phone_number_id=attempt.phone_number_id, body=attempt.body, status=status, wamid=wamid)


async def unknown_path(request: web.Request) -> web.Response:
    """Anything the Graph API has, or has not, that is not simulated."""
    return refused(errors.UNKNOWN_PATH, f"Unknown path components: {request.path}", version=None)


def refused(kind: ErrorKind, detail: str, *, version: str | None) -> web.Response:
    """The error envelope with the headers the Graph API puts beside it."""
    body = envelope(kind, detail)
    problem = "invalid_token" if kind is errors.BAD_TOKEN else "invalid_request"
    headers = {"WWW-Authenticate": f'OAuth "Facebook Platform" "{problem}"'}
    if version is not None:
        headers["facebook-api-version"] = version
    return web.json_response(body, status=kind.status, headers=headers)


def _answer(attempt: Attempt, body: Json) -> web.Response:
    usage = {"type": "whatsapp", "call_count": 1, "total_cputime": 1, "total_time": 1}
    headers = {
        "facebook-api-version": attempt.version,
        "X-Business-Use-Case-Usage": json.dumps(
            {attempt.number.config.waba_id: [usage | {"estimated_time_to_regain_access": 0}]}
        ),
    }
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
