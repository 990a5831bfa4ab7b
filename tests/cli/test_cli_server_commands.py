"""`up`, `serve` and the others: in the list always, imported when they are called, explained when they are not there."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli_server import Cli
from switchboard_cli import server_commands

HELLO = """
import click

def commands():
    return [click.Command("work", callback=lambda: click.echo("working"))]
"""


def write_server(folder: Path, code: str) -> str:
    """A package `server` that comes before the real one."""
    (folder / "server").mkdir()
    (folder / "server" / "__init__.py").touch()
    (folder / "server" / "__main__.py").write_text(code)
    return str(folder)


async def test_help_lists_groups_and_server_commands(cli: Cli):
    done = await cli("--help")
    assert done.code == 0
    words = [line.split()[0] for line in done.out.splitlines() if line.startswith("  ") and line.split()]
    assert set(words) >= {"conversations", "messages", "inbox", *server_commands.COMMANDS}


async def test_a_server_command_is_loaded_and_run(cli: Cli, tmp_path: Path):
    done = await cli.as_process("work", path=write_server(tmp_path, HELLO))
    assert (done.code, done.out) == (0, "working\n"), done.err


async def test_without_the_extra_it_is_one_sentence(cli: Cli, tmp_path: Path):
    path = write_server(tmp_path, "import a_package_that_only_the_extra_brings")
    done = await cli.as_process("up", path=path)
    assert done.code == 2
    assert done.err == "Error: `switchboard up` needs the [server] extra: pip install 'switchboard[server]'\n"


async def test_a_module_of_our_own_that_is_missing_shows_as_the_defect_it_is(cli: Cli, tmp_path: Path):
    done = await cli.as_process("up", path=write_server(tmp_path, "import server.nothing_at_all"))
    assert "ModuleNotFoundError: No module named 'server.nothing_at_all'" in done.err


async def test_a_command_the_server_lacks_is_named(cli: Cli, tmp_path: Path):
    done = await cli.as_process("up", path=write_server(tmp_path, HELLO))
    assert (done.code, done.err) == (2, "Error: this version's server has no command 'up'\n")


def imported_by(*words: str) -> set[str]:
    """The top-level packages that a run of the command line imports."""
    code = f"import sys; sys.argv = ['switchboard', *{words!r}]\nimport switchboard_cli\ntry: switchboard_cli.main()\n"
    code += "finally: print('\\n', *sys.modules)"
    roots = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env={"PYTHONPATH": roots}
    )
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("words", [("--help",), ("conversations", "--help"), ("conversations", "list", "--help")])
def test_help_is_quick_because_it_imports_little(words):
    """Each of these takes longer to import than all the rest of help."""
    assert not imported_by(*words) & {"grpc", "betterproto2", "rich", "switchboard_client", "switchboard_sdk", "server"}
