"""Templates as Meta is asked to write them, and what it answers.

Source: Meta's Business Management API, "Message templates", and its Graph API, "Resumable upload", as of November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.providers.contract import Ambiguous, Json, NotSent, Refused
from server.providers.meta.graph import GraphAnswer, GraphClient
from server.providers.meta.text import clean_text
from server.providers.template import (
    TemplateAccount,
    TemplateDeletion,
    TemplateDraft,
    TemplateEdit,
    TemplateSample,
    TemplateUnpause,
    TemplateWrite,
    TemplateWritten,
)
from server.providers.whatsapp import send
from server.providers.whatsapp.templates import numbered, places, word

_EDGE = "message_templates"
_HANDLE_MOST = 4096
_PLAIN = frozenset({"QUICK_REPLY", "CATALOG", "MPM", "SPM", "VOICE_CALL", "REQUEST_CONTACT_INFO"})


async def write(
    graph: GraphClient, account: TemplateAccount, wanted: TemplateWrite
) -> TemplateWritten | Refused | NotSent | Ambiguous:
    """Asks Meta to write a template."""
    version, token = str(account.settings.get("graph_version", "")), account.token
    match wanted:
        case TemplateDraft():
            answer = await graph.post(
                version=version,
                object_id=account.business_account_id,
                edge=_EDGE,
                token=token,
                body=draft_body(wanted),
            )
        case TemplateEdit():
            body = edit_body(wanted)
            answer = await graph.post(version=version, object_id=wanted.provider_id, edge=None, token=token, body=body)
        case TemplateUnpause():
            answer = await graph.post(
                version=version, object_id=wanted.provider_id, edge="unpause", token=token, body={}
            )
        case TemplateDeletion():
            query = {"name": wanted.name} | ({"hsm_id": wanted.provider_id} if wanted.provider_id else {})
            answer = await graph.delete(
                version=version, object_id=account.business_account_id, edge=_EDGE, token=token, query=query
            )
    return _outcome(answer, needs_id=isinstance(wanted, TemplateDraft))


async def upload(
    graph: GraphClient, account: TemplateAccount, sample: TemplateSample
) -> str | Refused | NotSent | Ambiguous:
    """Uploads a sample to the app whose token this is; the handle that a header names it by."""
    version, token = str(account.settings.get("graph_version", "")), account.token
    told = send.read(
        await graph.get(version=version, object_id="debug_token", edge=None, token=token, query={"input_token": token}),
        lambda body: _word_of(_mapping(body).get("data"), "app_id"),
    )
    if not isinstance(told, str):
        return told
    named = {
        "file_length": len(sample.content),
        "file_type": sample.mime_type,
        "file_name": sample.file_name,
    }
    session = send.read(
        await graph.post(version=version, object_id=told, edge="uploads", token=token, body=named),
        lambda body: _word_of(body, "id"),
    )
    if not isinstance(session, str):
        return session
    answer = await graph.upload_sample(version=version, session=session, token=token, content=sample.content)
    return send.read(answer, lambda body: _word_of(body, "h"))


def _outcome(
    answer: GraphAnswer | NotSent | Ambiguous, *, needs_id: bool
) -> TemplateWritten | Refused | NotSent | Ambiguous:
    """A 5xx without Meta's error may have passed the request on; a good answer that says nothing is no answer."""

    def read(body: Json) -> TemplateWritten | None:
        given = _mapping(body)
        found = given.get("id")
        provider_id = str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) else ""
        if not provider_id if needs_id else given.get("success") is not True:
            return None
        return TemplateWritten(provider_id=provider_id, status=word(given, "status"), category=word(given, "category"))

    told = isinstance(answer, GraphAnswer) and isinstance(_mapping(answer.body).get("error"), dict)
    if isinstance(answer, GraphAnswer) and answer.status >= 500 and not told:
        return Ambiguous(f"http_{answer.status}")
    outcome = send.read(answer, read)
    if isinstance(outcome, Refused) and outcome.code in ("1", "2"):
        # Meta says "unknown error" also of requests that it carried out.
        return Ambiguous(f"code_{outcome.code}")
    return outcome


def draft_body(draft: TemplateDraft) -> dict[str, Json]:
    """The body of POST /{waba_id}/message_templates."""
    named = draft.parameter_format == "named"
    return {
        "name": draft.name,
        "language": draft.language,
        "category": draft.category,
        "parameter_format": "NAMED" if named else "POSITIONAL",
        "components": [_component(part, named=named) for part in draft.components],
        **({"allow_category_change": True} if draft.allow_category_change else {}),
    }


def edit_body(edit: TemplateEdit) -> dict[str, Json]:
    """The body of POST /{template_id}."""
    named = edit.parameter_format == "named"
    body: dict[str, Json] = {"components": [_component(part, named=named) for part in edit.components]}
    return body | ({"category": edit.category} if edit.category else {})


def _component(part: Mapping[str, Any], *, named: bool) -> dict[str, Json]:
    kind, text = part["type"], part.get("text", "")
    if kind == "LIMITED_TIME_OFFER":
        return {
            "type": kind,
            "limited_time_offer": {"text": text, "has_expiration": bool(part.get("expires"))},
        }
    made: dict[str, Json] = {"type": kind}
    made |= {name: part[name] for name in ("format", "text") if part.get(name)}
    example = _sample(part) if part.get("sample") else _example(part, named=named)
    made |= {"example": example} if example else {}
    made |= {"add_security_recommendation": True} if part.get("security_recommendation") else {}
    minutes = part.get("code_expiration_minutes")
    made |= {"code_expiration_minutes": minutes} if minutes else {}
    if part.get("buttons"):
        made["buttons"] = [_button(button) for button in part["buttons"]]
    if part.get("cards"):
        made["cards"] = [
            {"components": [_component(each, named=named) for each in card["components"]]} for card in part["cards"]
        ]
    return made


def _sample(part: Mapping[str, Any]) -> dict[str, Json]:
    return {"header_handle": [part["sample"]]}


def _example(part: Mapping[str, Any], *, named: bool) -> dict[str, Json]:
    found = places(part.get("text", ""))
    told = dict(zip(found, part.get("examples", ()), strict=False))
    field = f"{part['type'].lower()}_text"
    if not told:
        return {}
    if named:
        return {f"{field}_named_params": [{"param_name": place, "example": told[place]} for place in found]}
    values: list[Json] = [told[place] for place in numbered(found)]
    return {field: values if part["type"] == "HEADER" else [values]}


def _button(button: Mapping[str, Any]) -> dict[str, Json]:
    kind = button["type"]
    made: dict[str, Json] = {"type": kind} | ({"text": button["text"]} if button.get("text") else {})
    if kind in _PLAIN:
        return made
    made |= {name: button[name] for name in ("url", "phone_number", "flow_id") if button.get(name)}
    if kind == "OTP":
        made["otp_type"] = "COPY_CODE"
    if button.get("example"):
        made["example"] = button["example"] if kind == "COPY_CODE" else [button["example"]]
    return made


def _mapping(given: Json) -> Mapping[str, Json]:
    return given if isinstance(given, dict) else {}


def _word_of(given: Json, name: str) -> str | None:
    found = _mapping(given).get(name)
    return clean_text(found)[:_HANDLE_MOST] if isinstance(found, str) and found else None
