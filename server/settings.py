"""Every setting of the installation, read once from the environment.

A setting called `control_dsn` here is the environment variable SWITCHBOARD_CONTROL_DSN.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.kit.secrets import decode_master_key

PREFIX = "SWITCHBOARD_"


class SettingsInvalid(Exception):
    """A setting is missing or wrong; the text names the environment variable."""


class Settings(BaseSettings):
    """The settings of one process. Frozen: pass it on, never change it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True
    )

    home: Path = Path(".switchboard")
    """Folder of the embedded run: its databases, logs and dev.json."""

    env: Literal["development", "production", "test"] = "development"
    """In a test time moves."""

    clock_offset: float = 0
    """Seconds by which this process's clock goes before that of the databases. Only in a test."""

    control_dsn: SecretStr = SecretStr("")
    """postgresql:// address of the control database."""

    valkey_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """redis:// address of Valkey or Redis. It carries hints only; nothing is lost without it."""

    master_key: SecretStr | None = None
    """32 bytes in base64. Wraps the keys that encrypt secrets in the databases. Without it those secrets cannot be read."""

    master_key_file: Path | None = None
    """A file (0600) that holds the master key, in place of SWITCHBOARD_MASTER_KEY."""

    master_key_previous: SecretStr | None = None
    """The master key before this one, while it is being changed: what it wraps can be opened too."""

    master_key_previous_file: Path | None = None
    """A file (0600) that holds it."""

    listen: str = "127.0.0.1:9090"
    """Address of `serve` for gRPC, behind Envoy."""

    internal_listen: str = "127.0.0.1:9091"
    """Address for health, reflection and metrics; keep it on loopback or a private network."""

    metrics_listen: str = ""
    """Address of the page that Prometheus reads, on loopback or a private network; empty: none."""

    pool_size: int = Field(default=8, ge=1, le=100)
    """Connections that a process opens to one database at most."""

    max_connections: int = Field(default=100, ge=10, le=10_000)
    """Connections that a process keeps open to all tenant databases together."""

    calls_per_second: int = Field(default=10_000, ge=0)
    """Unary calls of one tenant at most, over all serve processes; 0: no limit. A tenant's own number goes before it."""

    calls_per_second_of_caller: int = Field(default=2000, ge=0)
    """The same of one API key or agent."""

    event_retention_days: int = Field(default=7, ge=1, le=3650)
    """How long the log keeps events at least; streams announce it. Clients that were away for longer list anew."""

    verify_connections: int = Field(default=200, ge=0, le=10_000)
    """Connections that a process keeps for the tails of live streams, one for each tenant, at most half of max_connections."""

    meta_graph_url: str = "https://graph.facebook.com"
    """Base address of Meta's Graph API."""

    meta_graph_version: str = Field(default="v26.0", pattern=r"^v[0-9]+\.[0-9]+$")
    """Version of the Graph API for channels that name none."""

    meta_app_id: str = Field(default="switchboard", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Id of the app made from the next two settings; the last part of its webhook's path."""

    meta_app_secret: SecretStr | None = None
    """Single-tenant start: the secret of the app at Meta. Signs its webhooks."""

    meta_verify_token: SecretStr | None = None
    """Single-tenant start: what was typed in Meta's dashboard as verify token."""

    whatsapp_token: SecretStr | None = None
    """Single-tenant start: access token of the WhatsApp number."""

    whatsapp_phone_number_id: str | None = Field(default=None, pattern=r"^[0-9]{5,30}$")
    """Single-tenant start: id of the WhatsApp number at Meta."""

    whatsapp_waba_id: str | None = Field(default=None, pattern=r"^[0-9]{5,30}$")
    """Single-tenant start: id of the WhatsApp business account."""

    http_port: int = Field(default=8080, ge=0, le=65535)
    """Public port of the embedded run: gRPC, grpc-web and REST."""

    tls_port: int = Field(default=8443, ge=0, le=65535)
    """The same over TLS."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call, separated by commas. None by default."""

    media_listen: str = "127.0.0.1:9094"
    """Address of `serve` for files over HTTP, behind Envoy."""

    media_store: str = ""
    """Where files are kept: s3://bucket/prefix or file:///folder, the same for all processes; empty: the folder media in home."""

    media_store_endpoint: str = ""
    """Address of an S3-compatible store, such as https://s3.example.com; empty: Amazon's."""

    media_store_region: str = "us-east-1"
    """Region of the bucket."""

    media_store_access_key: str = ""
    """Id of the key to the bucket; empty: as the machine has it (environment, role)."""

    media_store_secret_key: SecretStr = SecretStr("")
    """The key to the bucket."""

    media_base_url: str = Field(default="", pattern=r"^(https?://[^?#]+)?$")
    """Scheme and host of links to files: the CDN's, or that of this installation; empty: links are paths on the API's address."""

    media_signing_key: SecretStr | None = Field(default=None, min_length=32)
    """Signs links to files, at least 32 characters; set it where a CDN checks signatures by itself. Unset: made from the master key."""

    media_most_bytes: int = Field(default=100 * 1024 * 1024, ge=1, le=2 * 1024**3)
    """The largest file: of a customer's that is fetched, of a caller's that is brought, of what a link leads to."""

    callback_networks: Annotated[tuple[str, ...], NoDecode] = ()
    """Networks, such as 10.0.0.0/8, that callbacks of channels may go to beside public addresses, separated by commas. None by
    default. To these a callback may go without TLS."""

    @field_validator("callback_networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("cors_origins", "callback_networks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("control_dsn")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not value.get_secret_value().startswith("postgresql://"):
            raise ValueError("must start with postgresql://")
        return value

    @field_validator("master_key", "master_key_previous")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            decode_master_key(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _time_stands(self) -> Settings:
        if self.clock_offset and self.env != "test":
            raise ValueError("SWITCHBOARD_CLOCK_OFFSET moves the clock, which only SWITCHBOARD_ENV=test allows")
        return self

    @model_validator(mode="after")
    def _whole_channel(self) -> Settings:
        channel = ("whatsapp_token", "whatsapp_phone_number_id", "whatsapp_waba_id")
        missing = [name for name in channel if getattr(self, name) is None]
        if 0 < len(missing) < 3:
            raise ValueError(f"{', '.join(map(variable, missing))} must be set too, or none of SWITCHBOARD_WHATSAPP_*")
        if (self.meta_app_secret is None) != (self.meta_verify_token is None):
            raise ValueError("SWITCHBOARD_META_APP_SECRET and SWITCHBOARD_META_VERIFY_TOKEN must be set together")
        return self

    def needed_control_dsn(self) -> str:
        """The control database's address, or SettingsInvalid."""
        dsn = self.control_dsn.get_secret_value()
        if not dsn:
            raise SettingsInvalid("SWITCHBOARD_CONTROL_DSN is not set: give the address of the control database.")
        return dsn


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Reads the settings from the environment; overrides by setting name. SettingsInvalid names each bad variable."""
    try:
        return Settings(**(overrides or {}))
    except ValidationError as error:
        raise SettingsInvalid(" ".join(map(_sentence, error.errors()))) from None


def load_for_operator() -> Settings:
    """The settings of the environment; where they name no control database, those of the embedded run in the home folder."""
    settings = load()
    if settings.control_dsn.get_secret_value():
        return settings
    try:
        dev = json.loads((settings.home / "dev.json").read_text())
        found = {"control_dsn": dev["postgres"]["control"], "valkey_url": dev["valkey"]["url"]}
        return load({**found, "master_key_file": settings.home / "master.key"})
    except (OSError, ValueError, KeyError):
        raise SettingsInvalid(
            f"SWITCHBOARD_CONTROL_DSN is not set, and no embedded run is found in {settings.home}."
        ) from None


def _sentence(problem: Any) -> str:
    text = problem["msg"].removeprefix("Value error, ")
    where = problem["loc"]
    return f"{variable(str(where[0]))} is wrong: {text}." if where else f"{text}."
