"""Keeps what customers wrote over a restart: Meta does not forget whose window is open when a test bench stops or dies.

The file holds a line for each message a customer wrote, the newest last; a start makes it short again.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from server.simulator.accounts import Account, AccountBook, Person

log = structlog.get_logger("simulator.memory")


class _Line(BaseModel):
    """A customer as one number knows him, or the id of a message he wrote, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    number: str
    phone: str | None = None
    bsuid: str | None = None
    name: str | None = None
    window_until: float = 0.0
    wamid: str | None = None


class Memory:
    """The file at `path`, for this user's eyes only; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None

    def open(self, accounts: AccountBook) -> None:
        """Tells the accounts what an earlier process noted. A file that is missing or spoiled leaves them as they are."""
        if self._path is None:
            return
        for line in _read(self._path):
            account = accounts.get(line.number)
            if account is not None:
                _apply(account, line)
        fresh = self._path.with_name(self._path.name + ".new")
        self._file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._append(*(line for account in accounts for line in _lines(account)))
        fresh.replace(self._path)

    def note(self, account: Account, person: Person, wamid: str) -> None:
        """A customer wrote. What is noted outlives this process, however it ends."""
        if self._file is not None:
            self._append(_line(account, person, wamid))

    def close(self) -> None:
        """Nothing more will be noted."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, *lines: _Line) -> None:
        assert self._file is not None
        os.write(self._file, "".join(line.model_dump_json(exclude_defaults=True) + "\n" for line in lines).encode())


def _read(path: Path) -> Iterator[_Line]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("state_not_read", reason=type(error).__name__)
        return
    for line in lines:
        try:
            yield _Line.model_validate_json(line)
        except ValidationError:
            # The last line of a process that died in the middle of it, or somebody's own work.
            log.warning("state_line_not_read")


def _apply(account: Account, line: _Line) -> None:
    if line.phone or line.bsuid:
        person = account.person(phone=line.phone, bsuid=line.bsuid)
        person.name = line.name or person.name
        person.window_until = max(person.window_until, line.window_until)
    if line.wamid is not None:
        account.receive_ids([line.wamid])


def _lines(account: Account) -> Iterator[_Line]:
    number = account.config.phone_number_id
    for person in account.people():
        yield _line(account, person, None)
    for wamid in account.received_ids():
        yield _Line(number=number, wamid=wamid)


def _line(account: Account, person: Person, wamid: str | None) -> _Line:
    return _Line(
        number=account.config.phone_number_id,
        phone=person.phone,
        bsuid=person.bsuid,
        name=person.name,
        window_until=person.window_until,
        wamid=wamid,
    )
