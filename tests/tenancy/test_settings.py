import json
from pathlib import Path

import pytest

from server.settings import SettingsInvalid, load, load_for_operator


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SWITCHBOARD_CONTROL_DSN", "mysql://somewhere"),
        ("SWITCHBOARD_MASTER_KEY", "not base64!"),
        ("SWITCHBOARD_MASTER_KEY", "c2hvcnQ="),
        ("SWITCHBOARD_HTTP_PORT", "eighty"),
        ("SWITCHBOARD_ENV", "staging"),
        ("SWITCHBOARD_META_GRAPH_VERSION", "26"),
        ("SWITCHBOARD_WHATSAPP_PHONE_NUMBER_ID", "+49 30"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid) as refused:
        load()
    assert variable in str(refused.value)
    assert value not in str(refused.value)


def test_half_a_channel_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_WHATSAPP_TOKEN", "token")
    with pytest.raises(SettingsInvalid, match="SWITCHBOARD_WHATSAPP_PHONE_NUMBER_ID, SWITCHBOARD_WHATSAPP_WABA_ID"):
        load()


def test_an_app_secret_needs_its_verify_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_META_APP_SECRET", "secret-secret")
    with pytest.raises(SettingsInvalid, match="SWITCHBOARD_META_VERIFY_TOKEN"):
        load()


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_CORS_ORIGINS", "https://a.example, https://b.example")
    assert load().cors_origins == ("https://a.example", "https://b.example")


def test_secrets_do_not_show_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_CONTROL_DSN", "postgresql://user:hunter2@db/control")
    assert "hunter2" not in repr(load())


def test_a_missing_control_database_is_said_when_it_is_needed() -> None:
    with pytest.raises(SettingsInvalid, match="SWITCHBOARD_CONTROL_DSN"):
        load().needed_control_dsn()


def test_an_operator_without_settings_finds_the_embedded_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_HOME", str(tmp_path))
    with pytest.raises(SettingsInvalid, match="no embedded run"):
        load_for_operator()
    dev = {"postgres": {"control": "postgresql://u:p@127.0.0.1:1/control"}, "valkey": {"url": "redis://127.0.0.1:2/0"}}
    (tmp_path / "dev.json").write_text(json.dumps(dev))
    found = load_for_operator()
    assert found.needed_control_dsn().endswith("/control")
    assert found.valkey_url.get_secret_value() == "redis://127.0.0.1:2/0"
    assert found.master_key_file == tmp_path / "master.key"
