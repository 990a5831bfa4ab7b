"""Where the master key comes from: the environment, or a file that nobody else can read."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from server.kit.secrets import KeyProvider, LocalKeyProvider, decode_master_key
from server.settings import Settings, SettingsInvalid

KEY, PREVIOUS = "SWITCHBOARD_MASTER_KEY", "SWITCHBOARD_MASTER_KEY_PREVIOUS"


def key_provider(settings: Settings) -> KeyProvider:
    """The provider that the settings name. SettingsInvalid says what is missing."""
    key, *previous = master_keys(settings)
    return LocalKeyProvider(key, previous=previous[0] if previous else None)


def master_keys(settings: Settings) -> list[bytes]:
    """The master key and, while it is being changed, the one before: environment first, then file. SettingsInvalid."""
    key = _read(settings.master_key, settings.master_key_file, name=KEY)
    if key is None:
        raise SettingsInvalid(f"{KEY} is not set: give 32 random bytes in base64, or a file of them as {KEY}_FILE.")
    previous = _read(settings.master_key_previous, settings.master_key_previous_file, name=PREVIOUS)
    return [key] if previous is None else [key, previous]


def _read(key: SecretStr | None, file: Path | None, *, name: str) -> bytes | None:
    if key is not None:
        return decode_master_key(key.get_secret_value())
    return None if file is None else read_key_file(file, name=f"{name}_FILE")


def read_key_file(path: Path, *, name: str = f"{KEY}_FILE") -> bytes:
    """Reads a master key file. SettingsInvalid when it is missing, damaged or readable by others."""
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsInvalid(f"{name} is wrong: {path} is open to others; chmod 600 it.")
        return decode_master_key(path.read_text())
    except OSError as error:
        raise SettingsInvalid(f"{name} cannot be read: {path}: {error.strerror}.") from None
    except ValueError as error:
        raise SettingsInvalid(f"{name} is wrong: {path} {error}.") from None
