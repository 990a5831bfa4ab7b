"""Files that lie at a provider, as they are fetched, and files that are brought there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol

# gone: it is not there, or not any more. too_large: more than was wanted. forbidden: it lies where we do not go. refused: the provider says
# no, and will again. later: it may be there next time.
FailureKind = Literal["gone", "too_large", "forbidden", "refused", "later"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedMedia:
    """A file to fetch. account_id, token, settings: as of Outgoing. most_bytes: how large it may be."""

    account_id: str
    token: str = field(repr=False)
    settings: Mapping[str, object]
    media_id: str = field(repr=False)
    most_bytes: int


class MediaSink(Protocol):
    """What takes the bytes of a file, in order; a fetch that broke off goes on where it stands."""

    @property
    def size(self) -> int:
        """How many it has."""

    async def write(self, chunk: bytes) -> None:
        """Takes more."""

    async def clear(self) -> None:
        """Forgets all it has."""


@dataclass(frozen=True, slots=True)
class MediaFetched:
    """All of it is in the sink. mime_type, sha256: as the provider told when it was asked, the latter in whatever form; None for none."""

    mime_type: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class MediaFailed:
    """It could not be fetched. code: the provider's, or a fixed word of ours, fit for logs."""

    kind: FailureKind
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What a provider takes of a kind of file, as data. types: how many bytes of each type at most; others, where set, of any type
    beside these. animated_most: of one that moves. captioned: whether words may stand below it. voice: types
    that can be shown as a recorded note.
    """

    types: Mapping[str, int]
    others: int | None = None
    animated_most: int | None = None
    captioned: bool = True
    voice: tuple[str, ...] = ()

    def most(self, mime_type: str, *, animated: bool = False) -> int | None:
        """How many bytes of this type it takes; None for none."""
        if animated and mime_type in self.types:
            return self.animated_most or self.types[mime_type]
        return self.types.get(mime_type, self.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaToBring:
    """A file to bring to the provider. account_id, token, settings: as of Outgoing. chunks: its bytes, from the beginning each time."""

    account_id: str
    token: str = field(repr=False)
    settings: Mapping[str, object]
    mime_type: str
    size: int
    chunks: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class MediaBrought:
    """It is there. lasts: how long its id is good for, less what clocks may differ by."""

    provider_id: str
    lasts: timedelta
