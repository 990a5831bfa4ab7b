"""Files that lie at a provider, as they are fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
