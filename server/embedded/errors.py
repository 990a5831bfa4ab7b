"""The one error of the embedded run."""


class StartError(Exception):
    """The stack cannot start. The text is one sentence for the person at the terminal: what is wrong, what to do."""
