"""Runs a program that gets a signal when its parent dies: `python launch.py PARENT SIGNAL PROGRAM ARGUMENTS…`.

Run by path, with the standard library alone. The signal must be asked for in the child itself, and code between
fork and exec is not safe in a process with threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, signal: int, command: list[str]) -> None:
    """Become `command`; end at once where the parent is already gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
