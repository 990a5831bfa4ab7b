"""What `up` says to the person who typed it, and what it leaves behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server.embedded import up
from server.embedded.home import Home

UP = """
import sys
from pathlib import Path
from server.embedded.up import up
sys.exit(up(home=Path(sys.argv[1]), http_port=int(sys.argv[2]), tls_port=0))
"""


def environment() -> dict[str, str]:
    """A child imports what the tests import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def run_up(home: Path, *, http_port: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", UP, str(home), str(http_port)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = sentence(run_up(tmp_path / "home", http_port=port))
    assert f"Port {port} is taken" in said
    assert "SWITCHBOARD_HTTP_PORT" in said


def test_a_second_run_in_the_same_home_is_one_sentence(tmp_path: Path) -> None:
    with Home(tmp_path).owned():
        assert "already running" in sentence(run_up(tmp_path))


def test_an_unwritable_home_is_one_sentence() -> None:
    assert "cannot be written" in sentence(run_up(Path("/proc/switchboard")))


def test_a_missing_node_is_named_and_a_built_page_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up.shutil, "which", lambda _name: None)
    assert "Node 20 is not installed" in str(up.missing_page(tmp_path))
    (tmp_path / "index.html").touch()
    assert up.missing_page(tmp_path) is None
