"""The simulator as a process: where it listens, what it logs, how it ends."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from simulator_bench import CUSTOMER, PHONE_NUMBER_ID, TOKEN, Start, account, text

from server.simulator.app import loopback, run
from server.simulator.config import ConfigError, load_config

START = "import asyncio, pathlib, sys; from server.simulator.app import run; \
asyncio.run(run(listen=sys.argv[1], config_path=pathlib.Path(sys.argv[2])))"


def write_config(folder: Path, content: object) -> Path:
    path = folder / "simulator.json"
    path.write_text(json.dumps(content))
    return path


async def test_a_process_serves_logs_nothing_private_and_ends_on_sigterm(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"accounts": [account()], "receipts": None})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START, "127.0.0.1:0", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(10):
            port = json.loads(await process.stderr.readline())["addresses"][0][1]
        base = f"http://127.0.0.1:{port}"
        await _use(base)
        await _send_garbage(port)
    finally:
        process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        out, err = await process.communicate()

    assert process.returncode == 0
    assert out == b""
    events = [json.loads(line) for line in err.splitlines()]
    assert events[-1]["event"] == "stopped"
    assert CUSTOMER not in err.decode()
    assert "morning" not in err.decode()
    assert TOKEN not in err.decode()


async def _use(base: str) -> None:
    inbound: dict[str, Any] = {"from": CUSTOMER, "text": "morning"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/_control/inbound", json=inbound) as response:
            assert (await response.json())["webhookStatus"] is None
        url = f"{base}/v26.0/{PHONE_NUMBER_ID}/messages"
        async with session.post(url, json=text(), headers=headers) as response:
            assert response.status == 200


async def _send_garbage(port: int) -> None:
    """A broken request that holds a number: libraries like to quote those."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"MORNING {CUSTOMER} morning\r\n\r\n".encode())
    await writer.drain()
    await reader.read()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("listen", ["0.0.0.0:8000", ":8000", "[::]:8000", "192.0.2.1:8000", "example.org:80"])
async def test_it_listens_on_loopback_only(listen: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loopback only"):
        await run(listen=listen, config_path=tmp_path / "none.json")


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_needs_a_port(listen: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|loopback only"):
        loopback(listen)


def test_loopback_addresses_are_understood() -> None:
    assert loopback("127.0.0.1:80") == ("127.0.0.1", 80)
    assert loopback("[::1]:0") == ("::1", 0)
    assert loopback("localhost:8080") == ("localhost", 8080)


def test_a_configuration_that_does_not_fit_is_explained_without_its_values(tmp_path: Path) -> None:
    path = write_config(tmp_path, {"accounts": [account(phone_number_id="secret id", webhook_url="ftp://x")]})

    with pytest.raises(ConfigError) as refused:
        load_config(path)

    assert "accounts.0.phone_number_id: String should match" in str(refused.value)
    assert "accounts.0.webhook_url" in str(refused.value)
    assert "secret id" not in str(refused.value)


def test_a_missing_configuration_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.json")


def test_the_shortest_configuration_has_metas_own_limits(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, {"accounts": [account()]}))

    limits = config.accounts[0].limits
    assert (limits.throughput_per_second, limits.pair_seconds, limits.pair_burst) == (80, 6.0, 45)
    assert config.accounts[0].window == "async"
    assert config.receipts is not None
    assert config.receipts.read_ms is None


@pytest.mark.parametrize("clean", [True, False])
async def test_open_windows_outlive_a_stop_and_a_kill(tmp_path: Path, start: Start, *, clean: bool) -> None:
    state = tmp_path / "state.json"
    strict: dict[str, Any] = {"account_fields": {"window": "sync"}, "state_path": str(state)}
    before = await start(**strict)
    answer = await before.inbound(name="Ann")
    if clean:
        await before.stop()
    else:
        # One that is killed does nothing more: what it had written is there, the last line perhaps not whole.
        state.write_bytes(state.read_bytes() + b'{"number": "1065')

    after = await start(**strict)
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": answer["wamids"][0]}

    assert state.stat().st_mode & 0o777 == 0o600
    assert (await after.post(text()))[0] == 200
    assert (await after.post(read))[0] == 200
    assert (await after.post(text(to="+16505559999")))[0] == 400
    assert b'"1065' + b"\n" not in state.read_bytes()


async def test_what_is_noted_is_short_again_after_a_start(tmp_path: Path, start: Start) -> None:
    state = tmp_path / "state.json"
    before = await start(state_path=str(state))
    for turn in range(20):
        await before.inbound(name=f"Ann {turn}" * 10)
    grown = state.stat().st_size
    await before.stop()

    await start(state_path=str(state))

    lines = [json.loads(line) for line in state.read_text().splitlines()]
    assert len([line for line in lines if "phone" in line]) == 1
    assert len([line for line in lines if "wamid" in line]) == 20
    assert state.stat().st_size < grown / 2


@pytest.mark.parametrize("spoiled", ["", "{", '{"accounts": 7}'])
async def test_a_spoiled_state_is_no_reason_not_to_start(spoiled: str, tmp_path: Path, start: Start) -> None:
    state = tmp_path / "state.json"
    state.write_text(spoiled)

    meta = await start(state_path=str(state))

    assert (await meta.inbound())["webhookStatus"] == 200
