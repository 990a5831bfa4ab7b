"""The pretended company at Meta: one app, one WhatsApp number per tenant. Made once per home, known to seed and simulator."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from server.embedded.devfile import MetaApp
from server.embedded.errors import StartError
from server.embedded.home import write_private

NUMBERS = ("4930901820001", "4930901820002")
"""Reserved for films and examples in Germany: nobody has them."""


@dataclass(frozen=True)
class Account:
    """A WhatsApp number and the token that may send from it."""

    phone_number_id: str
    waba_id: str
    display_phone_number: str
    access_token: str


@dataclass(frozen=True)
class Company:
    """The app and its numbers, one per tenant."""

    app: MetaApp
    accounts: tuple[Account, ...]


def load(path: Path) -> Company:
    """The company of this home, made on the first call. The file is private: it holds the tokens."""
    try:
        read = json.loads(path.read_text())
        return Company(app=MetaApp(**read["app"]), accounts=tuple(Account(**account) for account in read["accounts"]))
    except FileNotFoundError:
        made = _found()
        write_private(path, json.dumps(asdict(made)))
        return made
    except (ValueError, TypeError, KeyError) as error:
        raise StartError(f"{path} is damaged: restore it, or remove the folder {path.parent}.") from error


def simulator_config(
    company: Company, *, url: str, state: Path, receipts: Mapping[str, int | None] | None
) -> dict[str, object]:
    """The simulator's configuration: it sends the app's webhooks to Envoy at `url`. `receipts` as its page says; None: none."""
    accounts = [
        {**asdict(account), "app_secret": company.app.app_secret, "webhook_url": url + company.app.webhook_path}
        for account in company.accounts
    ]
    return {"accounts": accounts, "receipts": receipts, "state_path": str(state)}


def _found() -> Company:
    app = MetaApp(id=_digits(15), app_secret=secrets.token_hex(16), verify_token=secrets.token_urlsafe(24))
    accounts = (Account(_digits(15), _digits(15), number, f"EAA{secrets.token_urlsafe(48)}") for number in NUMBERS)
    return Company(app=app, accounts=tuple(accounts))


def _digits(length: int) -> str:
    return str(secrets.randbelow(9 * 10 ** (length - 1)) + 10 ** (length - 1))
