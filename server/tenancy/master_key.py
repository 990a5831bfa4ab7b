"""Where the master key comes from: the environment, or in development a file."""

from __future__ import annotations

from pathlib import Path

from server.kit.secrets import KeyProvider, LocalKeyProvider, decode_master_key
from server.settings import Settings, SettingsInvalid


def key_provider(settings: Settings) -> KeyProvider:
    """The provider that the settings name: environment first, then file. SettingsInvalid says what is missing."""
    if settings.master_key is not None:
        return LocalKeyProvider(decode_master_key(settings.master_key.get_secret_value()))
    if settings.master_key_file is None:
        raise SettingsInvalid("SWITCHBOARD_MASTER_KEY is not set: give 32 random bytes in base64.")
    if settings.env == "production":
        raise SettingsInvalid("SWITCHBOARD_MASTER_KEY_FILE is refused in production: set SWITCHBOARD_MASTER_KEY.")
    return LocalKeyProvider(read_key_file(settings.master_key_file))


def read_key_file(path: Path) -> bytes:
    """Reads a master key file. SettingsInvalid when it is missing, damaged or readable by others."""
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsInvalid(f"SWITCHBOARD_MASTER_KEY_FILE is wrong: {path} is open to others; chmod 600 it.")
        return decode_master_key(path.read_text())
    except OSError as error:
        raise SettingsInvalid(f"SWITCHBOARD_MASTER_KEY_FILE cannot be read: {path}: {error.strerror}.") from None
    except ValueError as error:
        raise SettingsInvalid(f"SWITCHBOARD_MASTER_KEY_FILE is wrong: {path} {error}.") from None
