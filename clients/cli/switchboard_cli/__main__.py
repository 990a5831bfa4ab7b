"""`python -m switchboard_cli`."""

from switchboard_cli import main

main()
