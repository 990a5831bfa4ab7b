"""Where to call and as whom: options, environment, dev.json."""

import json
from pathlib import Path

import pytest
from cli_server import Cli, Seen, page

LIST = ("conversations", "list")


@pytest.fixture
def dev_json(cli: Cli, tmp_path: Path) -> Path:
    """A Switchboard that was started here, and nothing in the environment."""
    del cli.environment["SWITCHBOARD_URL"]
    del cli.environment["SWITCHBOARD_TOKEN"]
    cli.environment |= {"SWITCHBOARD_URL": "", "SWITCHBOARD_TOKEN": ""}
    first = [{"id": "a1", "name": "Ada", "token": "token of ada"}, {"id": "a2", "name": "Bo", "token": "token of bo"}]
    second = [{"id": "b1", "name": "Cy", "token": "token of cy"}]
    content = {
        "url": cli.url,
        "tls_url": "https://localhost:1",
        "platform_key": "platform key",
        "tenant_key": "tenant key",
        "agents": first,
        "tenants": [{"id": "t1", "key": "tenant key", "agents": first}, {"id": "t2", "key": "k2", "agents": second}],
    }
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(autouse=True)
def one_page(seen: Seen) -> None:
    seen.pages[""] = page()


async def test_the_environment_says_where_and_as_whom(cli: Cli, seen: Seen):
    assert (await cli(*LIST)).code == 0
    assert seen.tokens == ["Bearer sb_test"]


async def test_options_win_before_and_behind_the_command(cli: Cli, seen: Seen):
    await cli("--token", "before", *LIST)
    await cli("--token", "before", *LIST, "--token", "behind")
    assert seen.tokens == ["Bearer before", "Bearer behind"]


async def test_a_switchboard_started_here_needs_no_options(cli: Cli, seen: Seen, dev_json):
    done = await cli(*LIST)
    assert done.code == 0, done.err
    assert seen.tokens == ["Bearer tenant key"]


async def test_methods_of_the_platform_take_its_key(cli: Cli, seen: Seen, dev_json):
    done = await cli("tenants", "list")
    assert done.code == 0, done.err
    assert seen.tokens == ["Bearer platform key"]


@pytest.mark.parametrize(("name", "token"), [("Ada", "ada"), ("bo", "bo"), ("a2", "bo"), ("cy", "cy")])
async def test_as_takes_an_agent_by_name_or_id(cli: Cli, seen: Seen, dev_json, name, token):
    done = await cli(*LIST, "--as", name)
    assert done.code == 0, done.err
    assert seen.tokens == [f"Bearer token of {token}"]


async def test_as_somebody_unknown_names_who_there_is(cli: Cli, dev_json):
    done = await cli(*LIST, "--as", "zed")
    assert (done.code, done.err) == (2, "Error: no agent 'zed'; there are Ada, Bo, Cy\n")


async def test_keys_of_dev_json_go_to_its_own_switchboard_only(cli: Cli, seen: Seen, dev_json):
    content = json.loads(dev_json.read_text())
    dev_json.write_text(json.dumps({**content, "url": "http://localhost:1"}))
    done = await cli("--url", cli.url, *LIST)
    assert done.code == 0, done.err
    assert seen.tokens == [None]
    done = await cli("--url", cli.url, *LIST, "--as", "ada")
    assert done.code == 2
    assert "--as names an agent of http://localhost:1, not of" in done.err


async def test_its_own_certificate_is_trusted(cli: Cli, dev_json):
    content = json.loads(dev_json.read_text())
    dev_json.write_text(json.dumps({**content, "tls_certificate": "/nowhere.pem"}))
    assert "/nowhere.pem: No such file" in (await cli("--url", content["tls_url"], *LIST)).err


async def test_token_and_as_exclude_each_other(cli: Cli):
    done = await cli(*LIST, "--as", "ada", "--token", "t")
    assert (done.code, done.err) == (2, "Error: --token and --as exclude each other\n")


async def test_no_switchboard_anywhere_is_one_sentence(cli: Cli, dev_json: Path):
    dev_json.unlink()
    done = await cli(*LIST)
    assert done.code == 2
    assert done.err.startswith("Error: no server: pass --url, set SWITCHBOARD_URL, or start one here")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
async def test_a_damaged_dev_json_is_named(cli: Cli, dev_json: Path, content):
    dev_json.write_text(content, encoding="latin-1")
    done = await cli(*LIST)
    assert done.code == 2
    assert str(dev_json) in done.err


async def test_a_url_of_another_form_is_refused(cli: Cli):
    done = await cli("--url", "localhost:8080", *LIST)
    assert done.code == 2
    assert "is not of the form http://host:port" in done.err


async def test_a_missing_certificate_file_is_named(cli: Cli):
    done = await cli(*LIST, "--ca-file", "/nowhere.pem")
    assert done.code == 2
    assert "/nowhere.pem" in done.err
