"""Keeps what customers wrote over a restart: Meta does not forget whose window is open when a test bench stops."""

from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from server.simulator.accounts import AccountBook, Person

log = structlog.get_logger("simulator.memory")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _Customer(_Strict):
    phone: str | None
    bsuid: str | None
    name: str | None
    window_until: float


class _Remembered(_Strict):
    customers: tuple[_Customer, ...]
    received: tuple[str, ...]


class _State(_Strict):
    accounts: dict[str, _Remembered]


def save(accounts: AccountBook, path: Path) -> None:
    """Writes customers and the ids of their messages to `path`, for this user's eyes only."""
    state = _State(
        accounts={
            account.config.phone_number_id: _Remembered(
                customers=tuple(_customer(person) for person in account.people()),
                received=tuple(account.received_ids()),
            )
            for account in accounts
        }
    )
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_text(state.model_dump_json())
    fresh.replace(path)


def restore(accounts: AccountBook, path: Path) -> None:
    """Reads what `save` wrote. A file that is missing or spoiled leaves the accounts as they are."""
    try:
        state = _State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValidationError) as error:
        log.warning("state_not_read", reason=type(error).__name__)
        return
    for phone_number_id, remembered in state.accounts.items():
        account = accounts.get(phone_number_id)
        if account is None:
            continue
        for customer in remembered.customers:
            person = account.person(phone=customer.phone, bsuid=customer.bsuid)
            person.name, person.window_until = customer.name, customer.window_until
        account.receive_ids(remembered.received)


def _customer(person: Person) -> _Customer:
    return _Customer(phone=person.phone, bsuid=person.bsuid, name=person.name, window_until=person.window_until)
