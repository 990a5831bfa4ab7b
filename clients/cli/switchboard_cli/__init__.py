"""The `switchboard` command: the API, made from the contract's descriptors, and the commands that run a server."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    from switchboard_cli.root import root

    root(prog_name="switchboard")
