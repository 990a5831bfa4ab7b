from pathlib import Path

import pytest

from server.kit.secrets import (
    LocalKeyProvider,
    SecretBox,
    SecretUnreadable,
    decode_master_key,
    new_data_key,
    new_master_key,
    sealed_with,
)
from server.settings import SettingsInvalid, load
from server.tenancy.master_key import key_provider

PLACE = {"table": "channels", "column": "access_token", "row": "1"}
PROVIDER = LocalKeyProvider(decode_master_key(new_master_key()))
WRAPPED = new_data_key(PROVIDER, owner="acme")
BOX = SecretBox.unwrapped(WRAPPED, PROVIDER, owner="acme")


def test_what_is_sealed_opens_in_its_place() -> None:
    sealed = BOX.seal(b"EAAG", **PLACE)
    assert b"EAAG" not in sealed
    assert BOX.open(sealed, **PLACE) == b"EAAG"


def test_the_same_value_never_looks_the_same() -> None:
    assert BOX.seal(b"EAAG", **PLACE) != BOX.seal(b"EAAG", **PLACE)


@pytest.mark.parametrize("other", [{"table": "apps"}, {"column": "secret"}, {"row": "2"}])
def test_it_opens_in_no_other_place(other: dict[str, str]) -> None:
    sealed = BOX.seal(b"EAAG", **PLACE)
    with pytest.raises(SecretUnreadable):
        BOX.open(sealed, **{**PLACE, **other})


def test_it_opens_for_no_other_tenant() -> None:
    with pytest.raises(SecretUnreadable):
        SecretBox.unwrapped(WRAPPED, PROVIDER, owner="globex")
    other = SecretBox.unwrapped(new_data_key(PROVIDER, owner="globex"), PROVIDER, owner="globex")
    with pytest.raises(SecretUnreadable):
        other.open(BOX.seal(b"EAAG", **PLACE), **PLACE)


@pytest.mark.parametrize("position", [0, 5, 12, 25, -1])
def test_a_flipped_bit_is_noticed(position: int) -> None:
    sealed = bytearray(BOX.seal(b"EAAG", **PLACE))
    sealed[position] ^= 1
    with pytest.raises(SecretUnreadable):
        BOX.open(bytes(sealed), **PLACE)


def test_another_master_key_unwraps_nothing() -> None:
    with pytest.raises(SecretUnreadable):
        SecretBox.unwrapped(WRAPPED, LocalKeyProvider(decode_master_key(new_master_key())), owner="acme")


def test_derived_bytes_stay_the_same_and_differ_by_purpose() -> None:
    again = SecretBox.unwrapped(WRAPPED, PROVIDER, owner="acme")
    assert BOX.derive("a") == again.derive("a") != BOX.derive("b")


def key_file(folder: Path) -> Path:
    file = folder / "master.key"
    file.touch(0o600)
    file.write_text(new_master_key() + "\n")
    return file


def test_a_private_key_file_is_read(tmp_path: Path) -> None:
    file = key_file(tmp_path)
    given = LocalKeyProvider(decode_master_key(file.read_text()))
    assert key_provider(load({"master_key_file": file})).key_id == given.key_id


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = key_file(tmp_path)
    file.chmod(0o644)
    with pytest.raises(SettingsInvalid, match="SWITCHBOARD_MASTER_KEY_FILE"):
        key_provider(load({"master_key_file": file}))


def test_a_missing_or_damaged_key_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        key_provider(load({"master_key_file": file}))
    file.touch(0o600)
    with pytest.raises(SettingsInvalid, match="must be 32 bytes"):
        key_provider(load({"master_key_file": file}))


def test_a_private_key_file_is_read_in_production_too(tmp_path: Path) -> None:
    file = key_file(tmp_path)
    given = LocalKeyProvider(decode_master_key(file.read_text()))
    assert key_provider(load({"master_key_file": file, "env": "production"})).key_id == given.key_id


@pytest.mark.parametrize(("key", "why"), [("c2hvcnQ=", "must be 32 bytes in base64, not 5"), ("%%", "must be base64")])
@pytest.mark.parametrize("name", ["master_key", "master_key_previous"])
def test_a_key_of_the_wrong_length_or_form_is_refused(name: str, key: str, why: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load({"master_key": new_master_key(), name: key})
    assert str(refused.value) == f"SWITCHBOARD_{name.upper()} is wrong: {why}."


def test_a_previous_key_opens_and_never_wraps() -> None:
    old, new = (decode_master_key(new_master_key()) for _ in range(2))
    wrapped = new_data_key(LocalKeyProvider(old), owner="acme")
    both = LocalKeyProvider(new, previous=old)
    assert both.unwrap(wrapped, owner="acme") == LocalKeyProvider(old).unwrap(wrapped, owner="acme")
    assert sealed_with(new_data_key(both, owner="acme")) == LocalKeyProvider(new).key_id


def test_a_file_with_the_previous_key_is_named_when_it_is_wrong(tmp_path: Path) -> None:
    file = key_file(tmp_path)
    file.chmod(0o640)
    with pytest.raises(SettingsInvalid, match=r"SWITCHBOARD_MASTER_KEY_PREVIOUS_FILE is wrong: .* chmod 600 it\.$"):
        key_provider(load({"master_key": new_master_key(), "master_key_previous_file": file}))


def test_no_master_key_at_all_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="SWITCHBOARD_MASTER_KEY"):
        key_provider(load())
