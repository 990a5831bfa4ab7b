"""Templates of WhatsApp business accounts: Meta's list of them, what the control API makes of them, and the webhooks about that."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from server.simulator.config import Digits, Milliseconds
from server.simulator.errors import Json
from server.simulator.inputs import Input

Upper = Annotated[str, Field(pattern=r"^[A-Z_]{1,32}$")]
PAGE_MOST = 100
CREATED_MOST = 100
DAY = 86_400.0


# What is told of templates where nobody says what, and all there is.
USUAL_FIELDS = "name,parameter_format,components,language,status,category,id"
FIELDS = frozenset({*USUAL_FIELDS.split(","), "quality_score", "rejected_reason"})


class TemplateInput(Input):
    """A template as Meta would have it after its review. `components` are in Meta's shape."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,512}$")]
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(_[A-Za-z]{2,4})?$")] = "en"
    category: Upper = "UTILITY"
    status: Upper = "APPROVED"
    parameter_format: Literal["POSITIONAL", "NAMED"] = "POSITIONAL"
    components: Annotated[tuple[Json, ...], Field(max_length=20)] = ()


class TemplatesInput(Input):
    """Templates to add to an account, or to put in the place of those of the same name and language; no webhook tells of it."""

    waba_id: Digits | None = None
    templates: Annotated[tuple[TemplateInput, ...], Field(min_length=1, max_length=1000)]


class TemplateChangeInput(Input):
    """What becomes different, each told by its own webhook; `correct_category` announces a category instead of changing it.

    pacing: what is said of messages when they are taken.
    """

    status: Upper | None = None
    pacing: Literal["held_for_quality_assessment", "paused", "accepted"] | None = None
    reason: Annotated[str, Field(max_length=200)] | None = None
    other_info: dict[str, str] | None = None
    quality: Upper | None = None
    category: Upper | None = None
    correct_category: Upper | None = None
    components: Annotated[tuple[Json, ...], Field(max_length=20)] | None = None


class ReviewInput(Input):
    """What becomes of templates that are written from now on, and when; without a status they stay PENDING. most: of an account.

    waba_id: of one account, else of all that were not said anything of.
    """

    waba_id: Digits | None = None
    status: Upper | None = "APPROVED"
    reason: Annotated[str, Field(max_length=200)] | None = None
    after_ms: Milliseconds = 200
    most: Annotated[int, Field(ge=0, le=6000)] = 6000


class TemplateBook:
    """All templates by their ids, in the order they were added; a business account has its own.

    sessions: of uploads, with the length and the type they were begun with. handles: of samples, with their types.
    """

    def __init__(self) -> None:
        self._templates: dict[str, Json] = {}
        self._owners: dict[str, str] = {}
        self._created: dict[str, list[float]] = {}
        self._edited: dict[str, list[float]] = {}
        self._pacing: dict[str, str] = {}
        self._blocked: dict[tuple[str, str, str], float] = {}
        self.reviews: dict[str | None, ReviewInput] = {None: ReviewInput()}
        self.sessions: dict[str, tuple[int, str]] = {}
        self.handles: dict[str, str] = {}

    def review(self, waba_id: str | None) -> ReviewInput:
        """What becomes of an account's templates."""
        return self.reviews.get(waba_id) or self.reviews[None]

    def may_create(self, waba_id: str, now: float) -> bool:
        """A hundred in an hour."""
        return sum(time > now - 3600 for time in self._created.get(waba_id, ())) < CREATED_MOST

    def created(self, waba_id: str, now: float) -> None:
        """Notes that one was."""
        self._created.setdefault(waba_id, []).append(now)

    def may_edit(self, template_id: str, now: float) -> bool:
        """An approved one once a day, and ten times in 30 days."""
        times = self._edited.get(template_id, ())
        return not any(time > now - DAY for time in times) and sum(time > now - 30 * DAY for time in times) < 10

    def edited(self, template_id: str, now: float) -> None:
        """Notes that one was."""
        self._edited.setdefault(template_id, []).append(now)

    def blocked(self, waba_id: str, name: str, language: str, now: float) -> bool:
        """Whether a name may not be used, since what was approved was deleted."""
        return self._blocked.get((waba_id, name, language), 0.0) > now

    def delete(self, waba_id: str, template_id: str, now: float) -> None:
        """Takes a template away; the name of an approved one is blocked for 30 days."""
        template = self._templates[template_id]
        if template["status"] == "APPROVED":
            self._blocked[waba_id, str(template["name"]), str(template["language"])] = now + 30 * DAY
        self.remove(template_id)

    def put(self, waba_id: str, given: TemplateInput) -> str:
        """Adds a template, or changes the one of this name and language; its id."""
        held = self.named(waba_id, given.name, given.language)
        template_id = f"{secrets.randbelow(9 * 10**14) + 10**14}" if held is None else str(held["id"])
        self._owners[template_id] = waba_id
        self._templates[template_id] = {
            "id": template_id,
            "name": given.name,
            "language": given.language,
            "status": given.status,
            "category": given.category,
            "quality_score": {"score": "UNKNOWN"},
            "rejected_reason": "NONE",
            "parameter_format": given.parameter_format,
            "components": list(given.components),
        }
        return template_id

    def named(self, waba_id: str, name: str, language: str) -> Json | None:
        """The template of an account with that name in that language."""
        wanted = (name, language)
        return next((each for each in self.of(waba_id) if (each["name"], each["language"]) == wanted), None)

    def pacing(self, waba_id: str, template: object) -> str:
        """What is said of a message of a template when it is taken. template: as the message names it."""
        named = template if isinstance(template, Mapping) else {}
        language = named.get("language")
        code = language.get("code") if isinstance(language, Mapping) else ""
        held = self.named(waba_id, str(named.get("name")), str(code))
        return "accepted" if held is None else self._pacing.get(str(held["id"]), "accepted")

    def of(self, waba_id: str) -> list[Json]:
        """The templates of an account."""
        return [each for template_id, each in self._templates.items() if self._owners[template_id] == waba_id]

    def owner(self, template_id: str) -> str | None:
        """The account that has a template."""
        return self._owners.get(template_id)

    def remove(self, template_id: str) -> bool:
        """Takes a template away, as if it had never been."""
        self._owners.pop(template_id, None)
        return self._templates.pop(template_id, None) is not None

    def change(self, template_id: str, given: TemplateChangeInput) -> list[tuple[str, Json]]:
        """Changes a template; the fields and values of the webhooks that tell of it."""
        template = self._templates[template_id]
        told: list[tuple[str, Json]] = []
        if given.pacing is not None:
            self._pacing[template_id] = given.pacing
        if given.status is not None:
            template["status"], template["rejected_reason"] = given.status, given.reason or "NONE"
            event: Json = {"event": given.status, "reason": given.reason}
            if given.other_info is not None:
                event["other_info"] = dict(given.other_info)
            told.append(("message_template_status_update", event))
        if given.quality is not None:
            before = _score(template)
            template["quality_score"] = {"score": given.quality}
            told.append(
                (
                    "message_template_quality_update",
                    {"previous_quality_score": before, "new_quality_score": given.quality},
                )
            )
        if given.correct_category is not None:
            announced = {"new_category": template["category"], "correct_category": given.correct_category}
            told.append(("template_category_update", announced))
        if given.category is not None:
            done = {"previous_category": template["category"], "new_category": given.category}
            template["category"] = given.category
            told.append(("template_category_update", done))
        if given.components is not None:
            template["components"] = list(given.components)
            told.append(("message_template_components_update", _texts(given.components)))
        return [(field, value | _named(template)) for field, value in told]

    def page(self, waba_id: str, *, limit: int, after: str | None, asked: Mapping[str, str]) -> Json:
        """A page as Meta answers it: `cursors` are always there, `next` only where there is more. asked: `name`, which is in the names
        that are wanted, other values that they have, and `fields`.
        """
        wanted = [each for each in self.of(waba_id) if _wanted(each, asked)]
        ids = [str(each["id"]) for each in wanted]
        start = ids.index(after) + 1 if after in ids else 0
        shown = wanted[start : start + limit]
        if not shown:
            return {"data": []}
        paging: Json = {"cursors": {"before": shown[0]["id"], "after": shown[-1]["id"]}}
        if start + limit < len(ids):
            paging["next"] = f"https://graph.facebook.com/{waba_id}/message_templates?after={shown[-1]['id']}"
        fields = {"id", *(asked.get("fields") or USUAL_FIELDS).split(",")}
        return {
            "data": [{name: value for name, value in each.items() if name in fields} for each in shown],
            "paging": paging,
        }


def unknown_field(asked: Mapping[str, str]) -> str | None:
    """A field that is asked for and that no template has."""
    given = (asked.get("fields") or USUAL_FIELDS).split(",")
    return next((name for name in given if name not in FIELDS), None)


def _wanted(template: Json, asked: Mapping[str, str]) -> bool:
    same = all(
        str(template[name]).upper() == asked[name].upper()
        for name in ("status", "language", "category")
        if name in asked
    )
    return same and asked.get("name", "") in str(template["name"])


def _named(template: Json) -> Json:
    """Webhooks give the id as a number, and the language with a hyphen."""
    return {
        "message_template_id": int(str(template["id"])),
        "message_template_name": template["name"],
        "message_template_language": str(template["language"]).replace("_", "-"),
    }


def _score(template: Json) -> object:
    score = template["quality_score"]
    return score["score"] if isinstance(score, dict) else None


def _texts(components: tuple[Json, ...]) -> Json:
    names: Mapping[object, str] = {"HEADER": "title", "BODY": "element", "FOOTER": "footer"}
    texts = {
        f"message_template_{names[part['type']]}": part["text"]
        for part in components
        if part.get("type") in names and "text" in part
    }
    buttons = [
        {f"message_template_button_{name}": button[name] for name in ("type", "text", "url") if name in button}
        for part in components
        if part.get("type") == "BUTTONS" and isinstance(given := part.get("buttons"), list)
        for button in given
        if isinstance(button, dict)
    ]
    return {**texts, **({"message_template_buttons": buttons} if buttons else {})}
