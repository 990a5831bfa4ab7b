"""What the simulator remembers of each number: its customers, its messages, and how much it has sent."""

import hashlib
import math
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from server.simulator.config import AccountConfig
from server.simulator.limits import PairRate, Throughput
from server.simulator.payloads import Number

WINDOW_SECONDS = 24 * 3600
REACTION_SECONDS = 30 * 24 * 3600
KEPT = 100_000
# Meta's limit for one number.
REGISTRATIONS_MOST, REGISTRATIONS_WITHIN = 10, 72 * 3600

V = TypeVar("V")


@dataclass(slots=True)
class Person:
    """A customer as this number knows him; `window_until` is in Unix seconds, 0 when he never wrote."""

    phone: str | None
    bsuid: str | None
    name: str | None = None
    window_until: float = 0.0

    @property
    def address(self) -> str:
        """The phone number, or the user id of a customer whose number is hidden."""
        return self.phone or self.bsuid or ""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """An accepted message, kept for its receipts."""

    wamid: str
    person: Person
    opaque: str | None
    sent_time: float = 0.0
    reaction: bool = False


class Account:
    """One business phone number at run time."""

    def __init__(self, config: AccountConfig) -> None:
        self.config = config
        self.subscribed = True
        self.throughput = Throughput(config.limits.throughput_per_second)
        self.pairs = PairRate(seconds=config.limits.pair_seconds, burst=config.limits.pair_burst)
        self._people: OrderedDict[str, Person] = OrderedDict()
        self._sent: OrderedDict[str, SentMessage] = OrderedDict()
        self._received: OrderedDict[str, float] = OrderedDict()
        self._registrations: list[float] = []

    @property
    def number(self) -> Number:
        """The number as webhooks name it."""
        return Number(self.config.waba_id, self.config.phone_number_id, self.config.display_phone_number)

    def reconfigure(self, config: AccountConfig) -> None:
        """Takes new settings; customers and messages stay, the counts of the limits start anew."""
        self.config = config
        self.throughput = Throughput(config.limits.throughput_per_second)
        self.pairs = PairRate(seconds=config.limits.pair_seconds, burst=config.limits.pair_burst)

    def change(self, **settings: object) -> None:
        """Other settings that have nothing to do with limits."""
        self.config = self.config.model_copy(update=settings)

    def may_register(self, wall: float) -> bool:
        """Whether it may be registered once more now; counts."""
        self._registrations = [at for at in self._registrations if at > wall - REGISTRATIONS_WITHIN]
        self._registrations.append(wall)
        return len(self._registrations) <= REGISTRATIONS_MOST

    def upgrade(self, per_second: int) -> None:
        """The number may send so many messages a second from now on."""
        limits = self.config.limits.model_copy(update={"throughput_per_second": per_second})
        self.config = self.config.model_copy(update={"limits": limits})
        self.throughput = Throughput(per_second)

    def person(self, *, phone: str | None, bsuid: str | None = None) -> Person:
        """The customer at either address; a phone number alone gets the user id this business knows it by."""
        found = self._people.get(phone or "")
        if phone is not None and bsuid is None and self.config.bsuid:
            bsuid = (None if found is None else found.bsuid) or _bsuid(self.config.waba_id, phone)
        found = found or self._people.get(bsuid or "") or Person(phone, bsuid)
        found.phone, found.bsuid = found.phone or phone, bsuid or found.bsuid
        for address in filter(None, (found.phone, found.bsuid)):
            _keep(self._people, address, found)
        return found

    def move(self, person: Person, *, phone: str | None, bsuid: str | None) -> None:
        """Gives a customer another number, or another user id, or both; nobody is at the old addresses any more."""
        for address in filter(None, (person.phone, person.bsuid)):
            self._people.pop(address, None)
        person.phone = phone or person.phone
        if person.bsuid is not None:
            person.bsuid = bsuid or f"US.{secrets.randbelow(10**17) + 10**17}"
        for address in filter(None, (person.phone, person.bsuid)):
            _keep(self._people, address, person)

    def known(self, address: str) -> Person | None:
        """The customer at that address, if this number has met him."""
        return self._people.get(address)

    def wrote(self, person: Person, *, wamid: str, timestamp: float) -> None:
        """An inbound message: opens the window from the message's own time, as Meta counts it."""
        person.window_until = max(person.window_until, timestamp + WINDOW_SECONDS)
        _keep(self._received, wamid, timestamp)

    def remember(self, sent: SentMessage) -> None:
        """Keeps an accepted message for its receipts."""
        _keep(self._sent, sent.wamid, sent)

    def sent(self, wamid: str) -> SentMessage | None:
        """The message this number sent under `wamid`."""
        return self._sent.get(wamid)

    def received(self, wamid: str) -> bool:
        """Whether this number received a message with that id."""
        return wamid in self._received

    def reacts_to(self, wamid: str, now: float) -> bool:
        """Whether a reaction may be put on the message of that id: one that is known, no reaction, and 30 days old at most."""
        sent = self._sent.get(wamid)
        if sent is not None:
            return not sent.reaction and now - sent.sent_time <= REACTION_SECONDS
        return wamid in self._received and now - self._received[wamid] <= REACTION_SECONDS

    def people(self) -> list[Person]:
        """Every customer once, the one longest unheard of first."""
        return list({id(person): person for person in self._people.values()}.values())

    def received_ids(self) -> Iterable[str]:
        """The ids of the messages received, oldest first."""
        return self._received

    def receive_ids(self, wamids: Iterable[str]) -> None:
        """Takes over ids an earlier process received, as if they were new."""
        for wamid in wamids:
            _keep(self._received, wamid, math.inf)


class AccountBook:
    """All numbers, in the order they were added."""

    def __init__(self, configs: Iterable[AccountConfig]) -> None:
        self._accounts: dict[str, Account] = {}
        self._tokens: dict[str, float] | None = None
        self._unsubscribed: set[str] = set()
        for config in configs:
            self.put(config)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def get(self, phone_number_id: str) -> Account | None:
        """The number with that id."""
        return self._accounts.get(phone_number_id)

    def first(self) -> Account | None:
        """The number meant when none is named."""
        return next(iter(self), None)

    def tokens(self) -> Mapping[str, float]:
        """Every access token that is, or was, good for some number, and when it ends, in Unix seconds."""
        if self._tokens is None:
            self._tokens = {account.config.access_token.get_secret_value(): _end(account.config) for account in self}
        return self._tokens

    def subscribed(self, waba_id: str) -> bool:
        """Whether a business account's webhooks are sent; they are until somebody ends them."""
        return waba_id not in self._unsubscribed

    def subscribe(self, waba_id: str, *, on: bool) -> None:
        """Begins or ends a business account's webhooks."""
        (self._unsubscribed.discard if on else self._unsubscribed.add)(waba_id)
        for account in self:
            if account.config.waba_id == waba_id:
                account.subscribed = on

    def put(self, config: AccountConfig) -> bool:
        """Adds a number or changes its settings; True when it is new."""
        self._tokens = None
        if config.subscribed is not None:
            self.subscribe(config.waba_id, on=config.subscribed)
        account = self._accounts.get(config.phone_number_id)
        if account is not None:
            account.reconfigure(config)
            return False
        account = self._accounts[config.phone_number_id] = Account(config)
        account.subscribed = self.subscribed(config.waba_id)
        return True


def _end(config: AccountConfig) -> float:
    return math.inf if config.token_until is None else config.token_until


def _bsuid(waba_id: str, phone: str) -> str:
    """Stable for one business and one customer, and different for another business, as Meta scopes them."""
    digest = hashlib.sha256(f"{waba_id}/{phone}".encode()).digest()
    return f"US.{int.from_bytes(digest[:8], 'big') % 10**17 + 10**17}"


def _keep(kept: OrderedDict[str, V], key: str, value: V) -> None:
    """The newest KEPT entries: a simulator that runs for weeks must not grow for weeks."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > KEPT:
        kept.popitem(last=False)
