"""Payloads at rest: sealed with a key of the operator's, if there is one.

AES-256 in Galois/Counter Mode with a fresh random nonce each time. The id of the row is authenticated with it, so that
a sealed payload opens in its own row and nowhere else. Beside it stands the id of the key, a hash: it tells which key
a row needs, and nothing about the key.

Two keys may be known: everything is sealed with the first, and what either has sealed can be opened. That is how a key
is replaced; see docs/operations.md.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Any

import orjson

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.notes import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from medscribe_pipeline.settings import Settings

__all__ = ["SEALED_AWAY", "Sealing"]

SEALED_AWAY = "sealed_away"
"""Code of a payload that cannot be opened: its key is not known, or somebody changed what was sealed."""

NONCE_BYTES = 12  # what NIST SP 800-38D recommends for GCM


class Sealing:
    """Seals and opens payloads.

    Args:
        key: 32 bytes to seal with; without one, payloads are kept as they are.
        old_key: 32 bytes that what is there may have been sealed with.
        random: Gives so many random bytes, different ones each time.
    """

    def __init__(
        self, key: bytes | None = None, old_key: bytes | None = None, *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        known = [each for each in (key, old_key) if each is not None]
        self._keys = {_id_of(each): each for each in known}
        self._random = random
        self.key_id = _id_of(key) if key is not None else None

    @classmethod
    def of(cls, settings: Settings) -> Sealing:
        """With the keys of the settings."""
        return cls(_bytes_of(settings.encryption_key), _bytes_of(settings.encryption_old_key))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of the keys that open something."""
        return tuple(self._keys)

    def seal(self, row_id: str, payload: Any) -> tuple[Any, str | None]:
        """What to store for a payload, and the id of the key it is sealed with; `None` where it is as it was."""
        if self.key_id is None or payload is None:
            return payload, None
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only who has a key pays for it

        nonce = self._random(NONCE_BYTES)
        sealed = AESGCM(self._keys[self.key_id]).encrypt(nonce, canonical_json(payload), row_id.encode())
        return base64.b64encode(nonce + sealed).decode(), self.key_id

    def open(self, row_id: str, stored: Any, sealed_with: str | None) -> Any:
        """The payload.

        Raises:
            MedscribeError: `sealed_away`: the key is not among ours, or this is not what was sealed in this row.
        """
        if sealed_with is None:
            return stored
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only who has a key pays for it
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        key = self._keys.get(sealed_with)
        if key is not None:
            try:
                sealed = base64.b64decode(stored, validate=True)
                opened = AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], row_id.encode())
                return orjson.loads(opened)
            except (InvalidTag, ValueError, TypeError):
                pass  # Nothing may be raised from here: an error of orjson holds the document.
        raise MedscribeError(
            "A payload cannot be opened; set the key it was sealed with as MEDSCRIBE_ENCRYPTION_OLD_KEY",
            code=SEALED_AWAY,
            context={"key": sealed_with, "known": key is not None},
        )


def _bytes_of(key: SecretStr | None) -> bytes | None:
    return base64.urlsafe_b64decode(key.get_secret_value()) if key is not None else None


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"medscribe key id\x00" + key).hexdigest()[:16]
