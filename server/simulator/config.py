"""What the simulator is told: its accounts, their limits, its receipts, and how stubbornly it calls webhooks."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]
Digits = Annotated[str, Field(pattern=r"^[0-9]{1,32}$")]
PhoneDigits = Annotated[str, Field(pattern=r"^[0-9]{7,15}$")]


class ConfigError(ValueError):
    """The configuration file cannot be used; the text says which field, and never shows a value."""


class Frozen(BaseModel):
    """Settings that do not change and have no unknown fields."""

    # Values stay out of error texts: they are tokens, phone numbers and messages.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Limits(Frozen):
    """Meta's sending limits of one number; `None` switches a limit off.

    `pair_seconds` and `pair_burst`: one message per `pair_seconds` to one customer; up to `pair_burst` may go within
    one such span, and then nothing goes until the time of all of them has passed (20 messages: two minutes).
    """

    throughput_per_second: Annotated[int, Field(ge=1, le=100_000)] | None = 80
    pair_seconds: Annotated[float, Field(gt=0, le=3600)] | None = 6.0
    pair_burst: Annotated[int, Field(ge=1, le=1000)] = 45


class AccountConfig(Frozen):
    """One business phone number, the token that may use it, and the app that receives its webhooks.

    `window` says what happens to free text for a customer who has not written for 24 hours. `async` is what Meta does:
    the request is answered 200 and a `failed` status with 131047 follows. `sync` refuses the request with 131047,
    as Meta did in the first years; `off` delivers it.
    `token_until` ends the access token, in Unix seconds of the simulator's clock, as those of a user's login end.
    `bsuid` adds the business-scoped user id to every inbound message, as Meta does since April 2026.
    `app_id` is the app's, by default what the webhook's address ends with; `scopes` are the token's, `fields` what the app is told of.
    `status`, `quality`, `name_status`, `messaging_limit`, `verified_name` and `can_send` are what the number is asked for; one that is
    not `CONNECTED` is not registered, and its `pin` must be right to be. `on_phone`: it is used in the WhatsApp Business app as well.
    `subscribed` ends or begins the webhooks of its business account.
    `wa_ids` maps a number as it is dialled to the number WhatsApp knows it by (Brazil, Mexico, Argentina).
    """

    phone_number_id: Digits
    waba_id: Digits
    display_phone_number: PhoneDigits
    access_token: SecretStr
    app_secret: SecretStr
    webhook_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    limits: Limits = Limits()
    token_until: Annotated[float, Field(ge=0)] | None = None
    window: Literal["async", "sync", "off"] = "async"
    bsuid: bool = True
    wa_ids: dict[PhoneDigits, PhoneDigits] = {}
    app_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    scopes: tuple[str, ...] = ("whatsapp_business_management", "whatsapp_business_messaging")
    fields: tuple[str, ...] = (
        "account_update", "message_template_status_update", "messages", "phone_number_quality_update",
    )  # fmt: skip
    status: Annotated[str, Field(pattern=r"^[A-Z_]{1,32}$")] = "CONNECTED"
    quality: Literal["GREEN", "YELLOW", "RED", "UNKNOWN"] = "GREEN"
    name_status: Annotated[str, Field(pattern=r"^[A-Z_]{1,64}$")] = "APPROVED"
    messaging_limit: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,32}$")] = "TIER_2K"
    verified_name: Annotated[str, Field(min_length=1, max_length=512)] = "Simulated shop"
    can_send: Literal["AVAILABLE", "LIMITED", "BLOCKED"] = "AVAILABLE"
    on_phone: bool = False
    pin: Annotated[str, Field(pattern=r"^[0-9]{6}$")] | None = None
    subscribed: bool | None = None

    @property
    def app(self) -> str:
        """The app that receives its webhooks."""
        return self.app_id or urlsplit(self.webhook_url).path.rstrip("/").rpartition("/")[2] or "0"


class ReceiptPlan(Frozen):
    """How long after the acceptance of a message each receipt is sent; `None` sends none of that kind."""

    sent_ms: Milliseconds | None = 20
    delivered_ms: Milliseconds | None = 60
    read_ms: Milliseconds | None = None


class WebhookPlan(Frozen):
    """How webhooks are delivered. Meta retries at once, then ever more rarely, for 7 days; by the simulator's clock."""

    concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    timeout_ms: Annotated[int, Field(ge=1, le=600_000)] = 10_000
    retry_first_ms: Annotated[int, Field(ge=1)] = 500
    retry_longest_ms: Annotated[int, Field(ge=1)] = 60_000
    give_up_after_seconds: Annotated[float, Field(ge=0)] = 7 * 86_400.0
    pending_most: Annotated[int, Field(ge=1)] = 100_000


class SimulatorConfig(Frozen):
    """The whole file. `receipts: null` sends none; `versions` are those of the Graph API that are alive.

    `state_path` names a file that keeps customers and their windows, whatever ends the process; without it all is
    forgotten.
    """

    accounts: tuple[AccountConfig, ...] = ()
    receipts: ReceiptPlan | None = ReceiptPlan()
    webhooks: WebhookPlan = WebhookPlan()
    versions: tuple[str, ...] = ("v21.0", "v22.0", "v23.0", "v24.0", "v25.0", "v26.0")
    requests_kept: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    state_path: Path | None = None


def explain(error: ValidationError) -> str:
    """`field.path: what is wrong`, joined by semicolons, without the values."""
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}" for problem in error.errors()
    )


def load_config(path: Path) -> SimulatorConfig:
    """Reads the JSON file at `path`. Raises ConfigError when it is missing, not JSON, or does not fit."""
    try:
        return SimulatorConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the simulator's configuration {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ConfigError(f"the simulator's configuration {path} does not fit: {explain(error)}") from None
