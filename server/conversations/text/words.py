"""How a text is cut into words, the same for what is written and for what is looked for.

Upper and lower case are alike, and so are letters with and without accents, forms of width, and Arabic with and without vowel signs.
Where a script has no spaces between words, each two characters that follow each other are one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby, pairwise

# What is longer is found by its beginning: numbers of parcels and links are, and no index entry becomes a page.
LONGEST = 40
_BETWEEN, _WORD, _DENSE = range(3)
_PLAIN = re.compile(r"[a-z0-9]+")
# Accents of Latin, Greek and Cyrillic letters, Arabic vowel signs and the stroke that lengthens a word. Signs of other scripts are
# letters to their readers.
_ACCENTS = re.compile("[\u0300-\u036f\u0610-\u061a\u0640\u064b-\u065f\u0670]")
# Myanmar, Thai, Lao, Khmer, kana, bopomofo and Han, by the blocks of Unicode.
_DENSE_BLOCKS = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x312F)),
    *((0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
)


def words_of(text: str) -> set[str]:
    """The words that a text is found by."""
    found: set[str] = set()
    for kind, run in _runs(text):
        if kind == _WORD:
            found.add(run[:LONGEST])
        else:
            # The last character by itself too: every other one begins a pair.
            found |= {a + b for a, b in pairwise(run)} | {run[-1]}
    return found


def sought(text: str) -> list[str]:
    """The beginnings of words that are looked for, each once, in their order; none that another one implies."""
    found: list[str] = []
    for kind, run in _runs(text):
        pairs = kind == _DENSE and len(run) > 1
        found += [a + b for a, b in pairwise(run)] if pairs else [run[:LONGEST]]
    return [
        word
        for place, word in enumerate(found)
        if word not in found[:place] and not any(other != word and other.startswith(word) for other in found)
    ]


def _runs(text: str) -> Iterator[tuple[int, str]]:
    if text.isascii():
        for word in _PLAIN.findall(text.lower()):
            yield _WORD, word
        return
    for kind, run in groupby(_folded(text), _kind):
        if kind != _BETWEEN:
            yield kind, "".join(run)


def _folded(text: str) -> str:
    # Decomposing makes capitals of some signs, such as that of degrees, so the case is folded after it as well.
    open_text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return "".join(
        letter for letter in unicodedata.normalize("NFC", open_text).casefold() if unicodedata.category(letter) != "Cf"
    )


@lru_cache(maxsize=8192)
def _kind(letter: str) -> int:
    if unicodedata.category(letter)[0] not in "LMN":
        return _BETWEEN
    code = ord(letter)
    return _DENSE if any(first <= code <= last for first, last in _DENSE_BLOCKS) else _WORD
