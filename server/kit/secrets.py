"""Secrets at rest: a master key wraps data keys, a data key seals values bound to the row they stand in.

AES-256-GCM with 96-bit random nonces (NIST SP 800-38D). Everything sealed starts with a version byte and the id of its key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.kit.errors import Refusal

VERSION = 1
KEY_ID_BYTES, NONCE_BYTES = 8, 12
HEADER_BYTES = 1 + KEY_ID_BYTES + NONCE_BYTES


class SecretUnreadable(Refusal):
    """Sealed with another key, moved to another row, or damaged."""

    status = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, place: str) -> None:
        super().__init__(f"the secret in {place} cannot be opened with this master key")


class KeyProvider(Protocol):
    """Holds the master key: the environment, a file, or a key service."""

    @property
    def key_id(self) -> str:
        """Names the key that wraps, without telling it."""

    def wrap(self, key: bytes, *, owner: str) -> bytes:
        """Encrypts a data key for its owner."""

    def unwrap(self, wrapped: bytes, *, owner: str) -> bytes:
        """Decrypts it; SecretUnreadable when it is not this owner's or not wrapped with a master key that is known here."""


class LocalKeyProvider:
    """A master key (32 bytes) in this process's memory. previous: the one before, while it is being changed: it opens, too."""

    def __init__(self, key: bytes, *, previous: bytes | None = None) -> None:
        self._key = key
        self._known = {key_id(known): known for known in (key, previous) if known is not None}

    @property
    def key_id(self) -> str:
        """Names the key that wraps."""
        return key_id(self._key).hex()

    def wrap(self, key: bytes, *, owner: str) -> bytes:
        """Encrypts a data key for its owner."""
        return _seal(self._key, key, owner)

    def unwrap(self, wrapped: bytes, *, owner: str) -> bytes:
        """Decrypts it."""
        return _open(self._known, wrapped, owner)


def new_master_key() -> str:
    """32 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def decode_master_key(text: str) -> bytes:
    """Reads 32 bytes in base64. ValueError says what is wrong, never what was read."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None
    if len(key) != 32:
        raise ValueError(f"must be 32 bytes in base64, not {len(key)}")
    return key


class SecretBox:
    """Seals and opens the secrets of one owner: a tenant by its id, or the installation itself.

    others: keys that open beside the one that seals, while it is being changed. root: what `derive` goes by; the key itself
    unless the key was changed.
    """

    def __init__(self, key: bytes, *, owner: str, others: Sequence[bytes] = (), root: bytes | None = None) -> None:
        self._key = key
        self._owner = owner
        self._known = {key_id(known): known for known in (key, *others)}
        self._root = key if root is None else root

    @classmethod
    def unwrapped(
        cls, wrapped: bytes, provider: KeyProvider, *, owner: str, others: Iterable[bytes | None] = ()
    ) -> SecretBox:
        """The box of a wrapped data key; SecretUnreadable when the master key is another."""
        opened = [provider.unwrap(other, owner=owner) for other in others if other is not None]
        return cls(provider.unwrap(wrapped, owner=owner), owner=owner, others=opened)

    @property
    def key_id(self) -> str:
        """Names the key that seals."""
        return key_id(self._key).hex()

    def learn(self, other: SecretBox) -> None:
        """Takes over another box's keys: whoever holds this one seals and opens with them from now on."""
        self._key, self._known, self._root = other._key, other._known, other._root

    def seal(self, plaintext: bytes, *, table: str, column: str, row: uuid.UUID | str) -> bytes:
        """Encrypts a value for one place; it opens nowhere else."""
        return _seal(self._key, plaintext, self._place(table, column, row))

    def open(self, sealed: bytes, *, table: str, column: str, row: uuid.UUID | str) -> bytes:
        """Decrypts the value of that place; SecretUnreadable."""
        return _open(self._known, sealed, self._place(table, column, row))

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, always the same ones; they tell nothing about the key."""
        return hmac.digest(self._root, f"{self._owner}\0{purpose}".encode(), hashlib.sha256)

    @property
    def root(self) -> bytes:
        """What `derive` goes by."""
        return self._root

    def rooted(self, root: bytes) -> SecretBox:
        """The same box with another root."""
        others = [key for key in self._known.values() if key != self._key]
        return SecretBox(self._key, owner=self._owner, others=others, root=root)

    def _place(self, table: str, column: str, row: uuid.UUID | str) -> str:
        return "\0".join((self._owner, table, column, str(row)))


def new_data_key(provider: KeyProvider, *, owner: str) -> bytes:
    """A new data key, wrapped for its owner."""
    return provider.wrap(secrets.token_bytes(32), owner=owner)


def key_id(key: bytes) -> bytes:
    """Names a key without telling it."""
    return hashlib.sha256(b"switchboard key id\0" + key).digest()[:KEY_ID_BYTES]


def sealed_with(sealed: bytes) -> str:
    """The name of the key that a value is sealed with."""
    return sealed[1 : 1 + KEY_ID_BYTES].hex()


def _seal(key: bytes, plaintext: bytes, place: str) -> bytes:
    header = bytes([VERSION]) + key_id(key) + secrets.token_bytes(NONCE_BYTES)
    return header + AESGCM(key).encrypt(header[-NONCE_BYTES:], plaintext, header + place.encode())


def _open(known: Mapping[bytes, bytes], sealed: bytes, place: str) -> bytes:
    header, body = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
    key = known.get(header[1 : 1 + KEY_ID_BYTES])
    if header[:1] != bytes([VERSION]) or key is None:
        raise SecretUnreadable(place.replace("\0", "/"))
    try:
        return AESGCM(key).decrypt(header[-NONCE_BYTES:], body, header + place.encode())
    except InvalidTag:
        raise SecretUnreadable(place.replace("\0", "/")) from None
