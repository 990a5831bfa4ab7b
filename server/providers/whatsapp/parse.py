"""A change of a WhatsApp webhook as items. Pure, and total: whatever the JSON holds, it returns.

Every item is read on its own; one that cannot be read is Broken and its siblings go on. What this version does not
apply is Ignored, so that the journal has it once. A message of an unknown type is a message still: the agents must
see that something came.

Source: Meta's Cloud API webhooks reference, field `messages`, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from server.providers.contract import (
    Address,
    Broken,
    Change,
    Ignored,
    Item,
    Json,
    Receipt,
    ReceiptStatus,
)
from server.providers.meta.errors import provider_errors
from server.providers.meta.text import DEPTH_MOST, clean_text, deeper_than, fingerprint
from server.providers.whatsapp import account, consents, copies, fields, handovers, identities, templates
from server.providers.whatsapp.fields import Malformed
from server.providers.whatsapp.message import CHANGES, People, addresses, read_change, read_message, thread

VERSION = 3

# They are about a message, or about the person, and are none themselves: they open no window and wake no conversation.
_EVENTS = frozenset({"request_welcome", "media_placeholder"})

_STATUSES: Mapping[str, ReceiptStatus] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "failed": "failed",
    "played": "played",
}
_WORD_MOST = 64


def parse(change: Change) -> list[Item]:
    """The messages, then the statuses, then the errors of a change; one item for a field other than `messages`."""
    if change.field == "user_id_update":
        return _user_ids(change)
    if change.field == "user_preferences":
        return _preferences(change)
    if change.field == "smb_message_echoes":
        return _echoes(change)
    if change.field == "history":
        return _history(change)
    if change.field == "messaging_handovers":
        return _handovers(change)
    if change.field != "messages":
        return [_of_account(change)]
    if not isinstance(change.value, dict):
        return [_broken(change.value, change.account_id, Malformed("value is not an object"))]
    if deeper_than(change.value, DEPTH_MOST):
        return [_broken(change.value, change.account_id, Malformed("value is too deep"))]
    if change.account_id is None:
        return [_broken(change.value, None, Malformed("metadata.phone_number_id is missing"))]
    return [
        *_messages(change.value, change.account_id),
        *_told_before(change.value, change.account_id),
        *_statuses(change.value, change.account_id),
        *_errors(change.value, change),
    ]


def _user_ids(change: Change) -> list[Item]:
    """The customers whose ids were made anew; recorded and nothing else where no number of ours is named."""
    if change.account_id is None or not isinstance(change.value, dict) or deeper_than(change.value, DEPTH_MOST):
        return [_field_not_applied(change)]
    account_id = change.account_id
    return list(_each(change.value, "user_id_update", account_id, lambda item: identities.of_update(item, account_id)))


def _preferences(change: Change) -> list[Item]:
    """What customers want; of other things than marketing messages nothing is known yet."""
    if change.account_id is None or not isinstance(change.value, dict) or deeper_than(change.value, DEPTH_MOST):
        return [_field_not_applied(change)]
    account_id = change.account_id
    return list(_each(change.value, "user_preferences", account_id, lambda item: consents.read(item, account_id)))


def _handovers(change: Change) -> list[Item]:
    """Who answers a customer from now on."""
    if change.account_id is None or not isinstance(change.value, dict) or deeper_than(change.value, DEPTH_MOST):
        return [_field_not_applied(change)]
    try:
        return [handovers.read(change.value, change.account_id)]
    except Malformed as error:
        return [_broken(change.value, change.account_id, error)]


def _told_before(value: Mapping[str, Json], account_id: str) -> Iterator[Item]:
    """What was said to an agent of Meta's before."""
    try:
        told = handovers.of_messages(value, account_id)
    except Malformed:
        # The message that it stands beside is Broken already.
        return
    if told is not None:
        yield told


def _echoes(change: Change) -> list[Item]:
    """What the business wrote in the app on its phone."""
    if change.account_id is None or not isinstance(change.value, dict) or deeper_than(change.value, DEPTH_MOST):
        return [_field_not_applied(change)]
    account_id, people = change.account_id, People.of(change.value)
    return list(
        _each(change.value, "message_echoes", account_id, lambda item: copies.of_echo(item, account_id, people))
    )


def _history(change: Change) -> list[Item]:
    """A chunk of what was written before the number was connected; or that the business shares none of it."""
    if change.account_id is None or not isinstance(change.value, dict) or deeper_than(change.value, DEPTH_MOST):
        return [_field_not_applied(change)]
    account_id, value = change.account_id, change.value
    number = copies.number_of(value)
    found: list[Item] = []
    for chunk in _objects(value, "history", account_id, found):
        found += _each(chunk, "errors", account_id, lambda error: copies.of_error(error, change, account_id=account_id))
        for talk in _objects(chunk, "threads", account_id, found):
            found += _each(talk, "messages", account_id, copies.reader(talk, account_id, number))
    # Files of the history come later, each as a message of its own.
    return [*found, *_each(value, "messages", account_id, copies.reader({}, account_id, number))]


def _of_account(change: Change) -> Item:
    """What happened to the business account, a number of it, or a template of it."""
    if change.field not in templates.READERS and change.field not in account.READERS:
        return _field_not_applied(change)
    if deeper_than(change.value, DEPTH_MOST):
        return _broken(change.value, None, Malformed("value is too deep"))
    try:
        if change.field in templates.READERS:
            return templates.read_change(change)
        return account.read_change(change)
    except Malformed as error:
        return _broken(change.value, None, error)


def _messages(value: Mapping[str, Json], account_id: str) -> Iterator[Item]:
    people = People.of(value)

    def read(item: Mapping[str, Json]) -> Item:
        word = item.get("type")
        if isinstance(word, str) and word in _EVENTS:
            return _event(item, account_id, word)
        if word == "system":
            return identities.of_system(item, account_id) or _event(item, account_id, word)
        if isinstance(word, str) and word in CHANGES:
            return read_change(item, account_id, thread(item, people.find(item)), CHANGES[word])
        return read_message(item, account_id, people)

    return _each(value, "messages", account_id, read)


def _statuses(value: Mapping[str, Json], account_id: str) -> Iterator[Item]:
    return _each(value, "statuses", account_id, lambda item: _status(item, account_id))


def _errors(value: Mapping[str, Json], change: Change) -> Iterator[Item]:
    """Errors of the number, with neither message nor status."""
    account_id = change.account_id or ""
    return _each(value, "errors", account_id, lambda item: account.read_error(item, change, account_id=account_id))


def _each(
    value: Mapping[str, Json], name: str, account_id: str, read: Callable[[Mapping[str, Json]], Item]
) -> Iterator[Item]:
    """Every item of the array `name`, each read on its own: one that cannot be read, or has us fail, is Broken."""
    broken: list[Item] = []
    for item in _objects(value, name, account_id, broken):
        try:
            yield read(item)
        except Malformed as error:
            broken.append(_broken(item, account_id, error))
        except Exception as error:  # noqa: BLE001 - a fault of ours in one item is no reason to lose its neighbours
            broken.append(_broken(item, account_id, Malformed(f"{name}: unexpected {type(error).__name__}")))
    yield from broken


def _objects(value: Mapping[str, Json], name: str, account_id: str, broken: list[Item]) -> Iterator[Mapping[str, Json]]:
    """The objects of the array `name`. broken: gets what is none."""
    try:
        items: Iterable[Json] = fields.listed(value.get(name), name)
    except Malformed as error:
        broken.append(_broken(value.get(name), account_id, error))
        return
    for item in items:
        try:
            yield fields.mapping(item, name)
        except Malformed as error:
            broken.append(_broken(item, account_id, error))


def _event(item: Mapping[str, Json], account_id: str, word: str) -> Ignored:
    return Ignored(
        kind=word,
        provider_id=fields.identifier(item, "id"),
        provider_time=fields.second(item, "timestamp"),
        account_id=account_id,
        reason="event_not_applied",
    )


def _status(item: Mapping[str, Json], account_id: str) -> Item:
    """A receipt; payments stand in the same array, and there may be words that Meta has yet to invent."""
    provider_id = fields.identifier(item, "id")
    time = fields.second(item, "timestamp")
    word = fields.identifier(item, "status")[:_WORD_MOST]
    status = _STATUSES.get(word)
    payment = item.get("type") == "payment"
    if payment or status is None:
        return Ignored(
            kind="payment" if payment else "status",
            provider_id=provider_id,
            discriminator=word,
            provider_time=time,
            account_id=account_id,
            reason="payment_not_applied" if payment else "unknown_status",
        )
    participant = _participant(item)
    return Receipt(
        provider_id=provider_id,
        discriminator=status if participant is None else f"{status}/{participant.value}",
        provider_time=time,
        account_id=account_id,
        status=status,
        opaque=fields.opaque(item),
        errors=provider_errors(item.get("errors")),
        addresses=_recipient(item),
        participant=participant,
    )


def _recipient(item: Mapping[str, Json]) -> tuple[Address, ...]:
    if item.get("recipient_type") == "group":
        return addresses(item, group="recipient_id")
    return addresses(item, wa_id="recipient_id", bsuid="recipient_user_id", parent_bsuid="recipient_parent_user_id")


def _participant(item: Mapping[str, Json]) -> Address | None:
    """The member of a group; the phone number's field is spelled in two ways."""
    found = (
        *addresses(item, bsuid="recipient_participant_user_id"),
        *addresses(item, wa_id="recipient_participant_id"),
        *addresses(item, wa_id="participant_recipient_id"),
    )
    return found[0] if found else None


def _field_not_applied(change: Change) -> Ignored:
    return Ignored(
        kind=f"field:{clean_text(change.field)[:_WORD_MOST]}",
        provider_id=fingerprint(change.value),
        discriminator=change.entry_id or "",
        # The same again may be told of another account, and at another time.
        provider_time=change.time,
        account_id=change.account_id,
        reason="field_not_applied",
    )


def _broken(item: Json, account_id: str | None, error: Malformed) -> Broken:
    digest = fingerprint(item)
    given = item.get("id") if isinstance(item, dict) else None
    named = isinstance(given, str) and 0 < len(given) <= fields.ID_MOST
    return Broken(
        provider_id=clean_text(given) if isinstance(given, str) and named else digest,
        discriminator=digest,
        account_id=account_id,
        error=str(error),
    )
