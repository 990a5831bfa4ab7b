"""What an address of a customer looks like."""

import re

_PHONE = re.compile(r"\+?[1-9][0-9]{6,14}", re.ASCII)
_BSUID = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}", re.ASCII)


def is_phone(text: str) -> bool:
    """An international number: 7 to 15 digits, an optional plus, nothing else."""
    return _PHONE.fullmatch(text) is not None


def is_bsuid(text: str) -> bool:
    """A business-scoped user id: country, dot, up to 128 letters and digits; a parent id has `ENT.` after the dot."""
    return _BSUID.fullmatch(text) is not None
