"""Who may use a state folder, and what `up` says to everyone else: one clear sentence each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.embedded import home as homes
from server.embedded import ports
from server.embedded.errors import StartError
from server.embedded.home import Home

OWNS = """
import sys, time
from pathlib import Path
from server.embedded.home import Home
with Home(Path(sys.argv[1])).owned():
    print("owned", flush=True)
    time.sleep(60)
"""


STARTS_FULL = """
import sys
from pathlib import Path
from server.embedded.home import Home
home = Path(sys.argv[1])
(home / "filler").write_bytes(bytes(12288))
with Home(home).owned():
    pass
"""


def test_a_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "home")
    with home.owned():
        made = home.load_secrets()
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert home.secrets.stat().st_mode & 0o777 == 0o600
    assert made == home.load_secrets()


def test_a_second_run_in_the_same_home_is_told_who_is_there(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNS, tmp_path], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "owned\n"
        with pytest.raises(StartError, match=rf"already running .* \(process {first.pid}\)"), Home(tmp_path).owned():
            pass
        first.kill()
    with Home(tmp_path).owned():
        """The lock of the one that was killed stops nobody."""


def test_a_pid_of_somebody_else_in_the_lock_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.lock.write_text("1\n")
    with pytest.raises(StartError, match="names process 1, which runs and is not ours"), home.owned():
        pass


@pytest.mark.parametrize("left", ["", "4194304 17\n", "1 17\n", "4194304\n", "rubbish\n"])
def test_what_a_dead_run_left_in_the_lock_stops_nobody(tmp_path: Path, left: str) -> None:
    home = Home(tmp_path)
    home.lock.write_text(left)
    with home.owned():
        assert home.lock.read_text().split()[0] == str(os.getpid())
    assert home.lock.read_text() == ""


def test_an_unwritable_home_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartError, match=r"cannot be written \(Not a directory\)"),
        Home(tmp_path / "file" / "x").owned(),
    ):
        pass
    with pytest.raises(StartError, match="cannot be written"), Home(Path("/proc/switchboard")).owned():
        pass


def test_a_full_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "SPACE_FIRST", 1 << 60)
    with pytest.raises(StartError, match=r"is full: .* MB are needed"), Home(tmp_path).owned():
        pass


def test_a_home_without_any_room_is_named(tmp_path: Path) -> None:
    """On a file system of sixteen kilobytes, which a process of its own may mount where nobody else sees it."""
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    starts = [*apart, "sh", "-c", 'mount -t tmpfs -o size=16k none "$1" && exec "$0" -c "$2" "$1"']
    done = subprocess.run([*starts, sys.executable, tmp_path, STARTS_FULL], capture_output=True, text=True, check=False)
    assert "is full: " in done.stderr


def test_damaged_secrets_are_named_and_kept(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.secrets.write_text("{")
    with pytest.raises(StartError, match=r"secrets\.json is damaged"):
        home.load_secrets()
    assert home.secrets.read_text() == "{"


def test_ports_are_kept_for_the_next_start(tmp_path: Path) -> None:
    first = ports.choose(tmp_path / "ports", ["a", "b"], fixed={"http": 0})
    assert len(set(first.values())) == 3
    assert ports.choose(tmp_path / "ports", ["a", "b"], fixed={"http": 0}) == first


def test_ports_are_none_that_the_kernel_hands_out(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(200)]
    (tmp_path / "ports").write_text(json.dumps({"p0": 40_000}))
    given = ports.choose(tmp_path / "ports", names, fixed={"http": 0}).values()
    assert len(set(given)) == 201
    assert 20_000 <= min(given) < max(given) < 32_768


def test_a_remembered_port_that_was_taken_is_given_up(tmp_path: Path) -> None:
    import socket

    first = ports.choose(tmp_path / "ports", ["a"], fixed={})
    with socket.create_server(("127.0.0.1", first["a"])):
        assert ports.choose(tmp_path / "ports", ["a"], fixed={})["a"] != first["a"]
        with pytest.raises(StartError, match=rf"Port {first['a']} is taken .* SWITCHBOARD_HTTP_PORT"):
            ports.choose(tmp_path / "ports", [], fixed={"http": first["a"]})
