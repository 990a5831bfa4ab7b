"""The faults the simulator can be told to have: what each is, which requests or webhooks it hits, and how often.

A fault is drawn for whatever its filter lets through, by its own seeded generator, so that a run can be repeated.
"""

import itertools
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, TypeAdapter, model_validator

from server.simulator.config import Digits, Milliseconds
from server.simulator.errors import Json
from server.simulator.inputs import Address, Input

FAULTS_MOST = 1000
"""Armed at a time."""
SIX_DAYS = 6 * 86_400

Receipt = Literal["sent", "delivered", "read", "played", "failed", "deleted"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a fault may hit: a request, or a webhook with the addresses of its customers.

    `recipients` is None where it is not known yet (a body that has not been read), or not said (a read mark).
    """

    phone_number_id: str | None
    path: str
    recipients: frozenset[str] | None = None
    statuses: frozenset[str] | None = None


class Filter(Input):
    """All that is given must fit. `path` is that of the request, or of the webhook's address; `*` fits anything."""

    phone_number_id: Digits | None = None
    recipient: Address | None = None
    path: Annotated[str, Field(min_length=1, max_length=512)] | None = None

    def fits(self, target: Target) -> bool:
        """Whether the target is one of those meant."""
        return (
            self.phone_number_id in (None, target.phone_number_id)
            and (self.path is None or fnmatchcase(target.path, self.path))
            and (self.recipient is None or self.recipient.removeprefix("+") in (target.recipients or ()))
        )


class FaultBase(Input):
    """How often: each time, with a probability, the next `count` times, or both together."""

    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    count: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    filter: Filter = Filter()
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None

    def fits(self, target: Target) -> bool:
        """Whether the fault may hit this target."""
        return self.filter.fits(target)


class Delay(FaultBase):
    """The answer is held back, after the request has had its effect; or the request on its way, before it is looked at.

    `jitter_ms`: up to so much more, drawn evenly.
    """

    kind: Literal["delay"]
    delay_ms: Milliseconds
    jitter_ms: Milliseconds = 0
    of: Literal["request", "answer"] = "answer"


class Failure(FaultBase):
    """An error in the place of the answer, or of the receipts.

    `code` decides title and HTTP status, unless these are given. `body`: `truncated` is JSON that ends in the middle,
    `cut` one whose connection ends in the middle. `accepts`: the message goes out all the same. `via: webhook`: the
    answer is 200 and the error comes as a `failed` status.
    """

    kind: Literal["error"]
    code: Annotated[int, Field(ge=0, le=99_999_999)] = 131000
    subcode: Annotated[int, Field(ge=0, le=99_999_999)] | None = None
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    details: Annotated[str, Field(max_length=2048)] | None = None
    transient: bool | None = None
    regain_minutes: Annotated[int, Field(ge=0, le=100_000)] | None = None
    body: Literal["json", "truncated", "cut", "html", "empty"] = "json"
    accepts: bool = False
    via: Literal["answer", "webhook"] = "answer"

    @model_validator(mode="after")
    def _fits_together(self) -> "Failure":
        if self.status is not None and self.status < 300 and (not self.accepts or self.body == "json"):
            raise ValueError("a status below 300 is for accepted messages whose answer is spoiled")
        if self.via == "webhook" and (self.accepts or self.body != "json" or self.status is not None):
            raise ValueError("accepts, body and status belong to an error that is answered")
        return self


class TimeoutAfterAccept(FaultBase):
    """The message is accepted and goes out; the answer never comes, or the connection closes, or it comes too late.

    `after_ms`: of the close (0 when not given) or of the answer (a minute when not given).
    """

    kind: Literal["timeout_after_accept"]
    then: Literal["hang", "close", "answer"] = "hang"
    after_ms: Milliseconds | None = None


class TimeoutBeforeAccept(FaultBase):
    """The request is read and nothing follows: no message, no answer; with `close` the connection ends after a while."""

    kind: Literal["timeout_before_accept"]
    then: Literal["hang", "close"] = "hang"
    after_ms: Milliseconds | None = None


class Reset(FaultBase):
    """The connection is reset: before the body is read, after it, or after the message was accepted."""

    kind: Literal["reset"]
    when: Literal["before_reading", "after_reading", "after_accept"] = "after_reading"

    @model_validator(mode="after")
    def _fits_together(self) -> "Reset":
        if self.when == "before_reading" and self.filter.recipient is not None:
            raise ValueError("before the body is read its recipient is not known")
        return self


class ReceiptsFirst(FaultBase):
    """These receipts are sent, and answered, before the response of the send."""

    kind: Literal["receipts_first"]
    statuses: Annotated[tuple[Receipt, ...], Field(min_length=1)] = ("sent", "delivered")


class WebhookFault(FaultBase):
    """A fault of webhooks; `of` says which ones."""

    of: Literal["any", "messages", "statuses"] = "any"

    def fits(self, target: Target) -> bool:
        """Whether the fault may hit this webhook."""
        wanted = self.of == "any" or (self.of == "statuses") == (target.statuses is not None)
        return wanted and self.filter.fits(target)


class Duplicate(WebhookFault):
    """A webhook is sent `times` more, at once, or each copy at a random moment within `within_ms`."""

    kind: Literal["duplicate"]
    times: Annotated[int, Field(ge=1, le=100)] = 1
    within_ms: Milliseconds = 0


class Reorder(WebhookFault):
    """Webhooks are held for `window_ms` from the first one and then sent in random order."""

    kind: Literal["reorder"]
    window_ms: Milliseconds = 500


class LateRetry(WebhookFault):
    """A webhook that was answered 200 comes once more, long afterwards, by the simulator's clock."""

    kind: Literal["late_retry"]
    after_seconds: Annotated[float, Field(gt=0, le=30 * 86_400)] = SIX_DAYS


class Garbage(WebhookFault):
    """A webhook has more in it than anybody knows: members, a field and a status of tomorrow. What it says is the same."""

    kind: Literal["garbage"]


class DropReceipts(FaultBase):
    """Webhooks with these statuses (all, when none is named) are never sent."""

    kind: Literal["drop_receipts"]
    statuses: tuple[Receipt, ...] = ()

    def fits(self, target: Target) -> bool:
        """Whether the webhook carries nothing but such statuses."""
        unwanted = target.statuses is not None and (not self.statuses or target.statuses <= set(self.statuses))
        return unwanted and self.filter.fits(target)


Fault = Annotated[
    Delay
    | Failure
    | TimeoutAfterAccept
    | TimeoutBeforeAccept
    | Reset
    | ReceiptsFirst
    | Duplicate
    | Reorder
    | LateRetry
    | Garbage
    | DropReceipts,
    Field(discriminator="kind"),
]


class Faults(Input):
    """Several faults, all taken or none."""

    faults: Annotated[tuple[Fault, ...], Field(min_length=1, max_length=100)]


FAULT: TypeAdapter[Fault] = TypeAdapter(Fault)

F = TypeVar("F", bound=FaultBase)


class Armed:
    """A fault that is waiting: what passed its filter, and how often it hit."""

    def __init__(self, name: str, fault: Fault) -> None:
        self.id = name
        self.fault = fault
        self.seed = secrets.randbelow(2**32) if fault.seed is None else fault.seed
        self.random = random.Random(self.seed)
        self.matched = 0
        self.fired = 0

    def draw(self, target: Target) -> bool:
        """Whether it hits the target; counts."""
        fault = self.fault
        if (fault.count is not None and self.fired >= fault.count) or not fault.fits(target):
            return False
        self.matched += 1
        if fault.probability < 1 and self.random.random() >= fault.probability:
            return False
        self.fired += 1
        return True

    def shown(self) -> Json:
        """The fault as it was given, with its id, its seed and its counts; `left` is null without a count."""
        left = None if self.fault.count is None else self.fault.count - self.fired
        counts = {"id": self.id, "seed": self.seed, "matched": self.matched, "fired": self.fired, "left": left}
        return self.fault.model_dump(mode="json", by_alias=True, exclude_none=True) | counts


@dataclass(frozen=True, slots=True)
class Hit(Generic[F]):
    """A fault that fired: who, what it is told, and its generator for the rest of what is random."""

    id: str
    fault: F
    random: random.Random


class FaultBook:
    """All faults, oldest first, with those used up, until they are removed."""

    def __init__(self) -> None:
        self._armed: dict[str, Armed] = {}
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Armed]:
        return iter(self._armed.values())

    def __len__(self) -> int:
        return len(self._armed)

    def add(self, fault: Fault) -> Armed:
        """Arms a fault."""
        armed = Armed(f"fault-{next(self._numbers)}", fault)
        self._armed[armed.id] = armed
        return armed

    def remove(self, name: str) -> bool:
        """Disarms one; False where there is none of that id."""
        return self._armed.pop(name, None) is not None

    def clear(self) -> None:
        """Disarms all and forgets their counts."""
        self._armed.clear()

    def all(self, kind: type[F], target: Target) -> list[Hit[F]]:
        """Every fault of that kind that hits the target."""
        return [
            Hit(armed.id, armed.fault, armed.random)
            for armed in self._armed.values()
            if isinstance(armed.fault, kind) and armed.draw(target)
        ]

    def first(self, target: Target, suits: Callable[[Fault], bool]) -> Hit[Fault] | None:
        """The oldest fault that `suits` and that hits the target; the later ones are not drawn."""
        for armed in self._armed.values():
            if suits(armed.fault) and armed.draw(target):
                return Hit(armed.id, armed.fault, armed.random)
        return None
