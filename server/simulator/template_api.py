"""Templates that a business writes: create, edit, unpause, delete, the samples of their files, and what a review makes of them.

Sources: Meta's pages "Message templates", "Template management", "Template pacing" and "Resumable upload".
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import NoReturn

from aiohttp import web

from server.simulator import errors, spoiled, template_checks
from server.simulator.business import MANAGES, BusinessApi, Handler, Refusal
from server.simulator.contents import Problem
from server.simulator.errors import Json
from server.simulator.faults import Failure, Fault, Target
from server.simulator.payloads import field_body
from server.simulator.simulator import Simulator
from server.simulator.template_checks import LIMIT_REACHED, NAME_BLOCKED, NAME_EXISTS, NOT_EDITABLE
from server.simulator.templates import TemplateChangeInput, TemplateInput

SAMPLES = frozenset({"image/jpeg", "image/png", "video/mp4", "application/pdf"})


class TemplateApi(BusinessApi):
    """The handlers."""

    def __init__(self, simulator: Simulator, *, other: Handler) -> None:
        super().__init__(simulator, other=other)
        self._book = simulator.templates

    def routes(self) -> list[web.RouteDef]:
        """To be added before those of the Graph API's other side, which take every path."""
        return [
            web.post("/{version}/{waba_id:[0-9]+}/message_templates", self._writing(self.create)),
            web.delete("/{version}/{waba_id:[0-9]+}/message_templates", self._writing(self.delete)),
            web.post("/{version}/{template_id:[0-9]+}", self._writing(self.edit)),
            web.post("/{version}/{template_id:[0-9]+}/unpause", self._writing(self.unpause)),
            web.post("/{version}/{app_id}/uploads", self._writing(self.begin_upload)),
            web.post("/{version}/upload:{session}", self._writing(self.upload)),
        ]

    def _writing(self, ask: Callable[[web.Request], Awaitable[Json]]) -> Handler:
        """As all of the business side; a fault that `accepts` spoils the answer to what was done."""
        plain = self._answering(ask)

        async def handler(request: web.Request) -> web.StreamResponse:
            hit = self._simulator.faults.first(Target(None, request.path), _accepts)
            answer = await plain(request)
            if hit is None or not isinstance(hit.fault, Failure) or answer.status >= 400:
                return answer
            version = request.match_info["version"]
            return await spoiled.failure(request, hit.fault, version=version, waba_id=None, answer=None)

        return handler

    async def create(self, request: web.Request) -> Json:
        """A new template, which is looked at."""
        waba_id, body = request.match_info["waba_id"], await _body(request)
        self._account(request)
        now = self._simulator.clock.wall()
        if not self._book.may_create(waba_id, now):
            raise Refusal(errors.CALLS, "Too many templates were created in an hour.")
        _refuse(template_checks.identity(body))
        category, named = str(body["category"]).upper(), str(body.get("parameter_format")).upper() == "NAMED"
        self._check(body.get("components"), category=category, named=named)
        name, language = str(body["name"]), str(body["language"])
        if self._book.named(waba_id, name, language) is not None:
            _refuse(Problem(NAME_EXISTS, f"There is already {language} content for this template."))
        if self._book.blocked(waba_id, name, language, now):
            _refuse(
                Problem(
                    NAME_BLOCKED, f"New {language} content can't be added while the existing content is being deleted."
                )
            )
        if len(self._book.of(waba_id)) >= self._book.review(waba_id).most:
            _refuse(Problem(LIMIT_REACHED, "The account has as many templates as it may have."))
        parts = body["components"]
        assert isinstance(parts, list)
        given = TemplateInput.model_construct(
            name=name,
            language=language,
            category=category,
            status="PENDING",
            parameter_format="NAMED" if named else "POSITIONAL",
            components=tuple(parts),
        )
        template_id = self._book.put(waba_id, given)
        self._book.created(waba_id, now)
        self._look_at(template_id)
        return {"id": template_id, "status": "PENDING", "category": category}

    async def edit(self, request: web.Request) -> Json:
        """Other components, which are looked at."""
        template, now = self._template(request), self._simulator.clock.wall()
        body, template_id = await _body(request), str(template["id"])
        approved = template["status"] == "APPROVED"
        if template["status"] not in ("APPROVED", "REJECTED", "PAUSED"):
            _refuse(Problem(NOT_EDITABLE, "Message templates can only be edited when approved, rejected or paused."))
        if approved and not self._book.may_edit(template_id, now):
            _refuse(
                Problem(NOT_EDITABLE, "You can edit an active message template once a day and ten times in 30 days.")
            )
        category = str(body.get("category") or template["category"]).upper()
        if approved and category != template["category"]:
            _refuse(Problem(NOT_EDITABLE, "The category of an approved message template can't be changed."))
        self._check(body.get("components"), category=category, named=template["parameter_format"] == "NAMED")
        template |= {"components": body["components"], "category": category, "status": "PENDING"}
        if approved:
            self._book.edited(template_id, now)
        self._look_at(template_id)
        return {"success": True, "id": template_id, "name": template["name"], "category": category}

    async def unpause(self, request: web.Request) -> Json:
        """A paused template may be sent again, which a webhook tells."""
        template = self._template(request)
        if template["status"] != "PAUSED":
            _refuse(Problem(errors.INVALID_PARAMETER, "The message template is not paused."))
        given = TemplateChangeInput(status="APPROVED", other_info={"title": "UNPAUSE", "description": "Resumed."})
        if self._book.review(self._book.owner(str(template["id"]))).status is not None:
            self._tell(str(template["id"]), given)
        return {"success": True}

    async def delete(self, request: web.Request) -> Json:
        """One template by its id and name, several by their ids, or all of a name."""
        waba_id, asked = request.match_info["waba_id"], request.query
        self._account(request)
        owned = {str(each["id"]): each for each in self._book.of(waba_id)}
        if "hsm_ids" in asked:
            ids = [str(each) for each in _list(asked["hsm_ids"])]
        elif "hsm_id" in asked:
            ids = [asked["hsm_id"]]
        else:
            ids = [template_id for template_id, each in owned.items() if each["name"] == asked.get("name")]
        wrong = "hsm_id" in asked and any(owned.get(each, {}).get("name") != asked.get("name") for each in ids)
        if wrong or not 1 <= len(ids) <= 100 or not set(ids) <= owned.keys():
            _refuse(Problem(errors.INVALID_PARAMETER, "Message template was not found."))
        for template_id in ids:
            self._book.delete(waba_id, template_id, self._simulator.clock.wall())
        return {"success": True}

    async def begin_upload(self, request: web.Request) -> Json:
        """A session for the sample of a file."""
        self._allowed(request, MANAGES)
        body = await _body(request)
        asked = {name: body.get(name) or request.query.get(name) for name in ("file_length", "file_type", "file_name")}
        owner = self._owner(_token(request))
        if owner is None or request.match_info["app_id"] != owner.config.app:
            raise Refusal(errors.NO_SUCH_OBJECT, f"Object with ID '{request.match_info['app_id']}' does not exist")
        length = str(asked["file_length"] or "")
        if asked["file_type"] not in SAMPLES or not length.isdigit() or not asked["file_name"]:
            raise Refusal(
                errors.PARAMETER, "file_length, file_type and file_name are required, and the type must be supported."
            )
        session = f"{secrets.token_hex(16)}=="
        self._book.sessions[session] = (int(length), str(asked["file_type"]))
        return {"id": f"upload:{session}?sig=AR{secrets.token_urlsafe(12)}"}

    async def upload(self, request: web.Request) -> Json:
        """The sample of a file, whole; its handle."""
        self._allowed(request, MANAGES)
        content = await request.read()
        length, kind = self._book.sessions.get(request.match_info["session"], (None, ""))
        if length is None or request.headers.get("file_offset") != "0" or len(content) != length:
            raise Refusal(errors.PARAMETER, "The session, the offset or the length of the file is not valid.")
        handle = f"4::{base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()}"
        self._book.handles[handle] = kind
        return {"h": handle}

    def _template(self, request: web.Request) -> Json:
        template_id = request.match_info["template_id"]
        self._allowed(request, MANAGES)
        waba_id = self._book.owner(template_id)
        if waba_id is None or not self._owns(_token(request), waba_id):
            raise Refusal(errors.NO_SUCH_OBJECT, f"Object with ID '{template_id}' does not exist")
        return next(each for each in self._book.of(waba_id) if each["id"] == template_id)

    def _check(self, parts: object, *, category: str, named: bool) -> None:
        _refuse(template_checks.components(parts, category=category, named=named, handles=self._book.handles))

    def _look_at(self, template_id: str) -> None:
        """The review, a moment later; what it makes of the template, the control API has said."""
        review = self._book.review(self._book.owner(template_id))
        if review.status is None:
            return
        given = TemplateChangeInput(status=review.status, reason=review.reason)
        self._simulator.clock.call_later(review.after_ms / 1000, lambda: self._tell(template_id, given))

    def _tell(self, template_id: str, given: TemplateChangeInput) -> None:
        waba_id = self._book.owner(template_id)
        account = next((each for each in self._simulator.accounts if each.config.waba_id == waba_id), None)
        if account is None:
            return
        for field, value in self._book.change(template_id, given):
            body = field_body(account.number, field, value, time=int(self._simulator.clock.wall()))
            self._simulator.webhooks.send(account, body)


def _refuse(problem: Problem | None) -> None:
    if problem is not None:
        _raise(problem)


def _raise(problem: Problem) -> NoReturn:
    raise Refusal(problem.error, problem.detail)


def _accepts(fault: Fault) -> bool:
    return isinstance(fault, Failure) and fault.accepts and fault.filter.path is not None


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").partition(" ")[2].strip()


def _list(raw: str) -> list[object]:
    try:
        found: object = json.loads(raw)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


async def _body(request: web.Request) -> Json:
    try:
        body: object = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
