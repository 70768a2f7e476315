"""Files that hold a private key: read only if nobody else may read them, and never shown."""

from __future__ import annotations

import os
import stat
import warnings
from typing import TYPE_CHECKING, TypeAlias

from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from joserfc.jwk import ECKey, RSAKey

__all__ = ["KeyFile", "SigningKey"]

SigningKey: TypeAlias = "RSAKey | ECKey"

_MAX_KEY_BYTES = 65_536
_MIN_RSA_BITS = 2048


def _closed(status: os.stat_result) -> int:
    """The permissions a key file must not give.

    What root owns and its group may read is taken, unless we are root: systemd (`LoadCredential`) and Kubernetes
    (`fsGroup`) hand a file to one service in just this way. PostgreSQL has the same rule for its server's key.
    """
    closed = stat.S_IRWXG | stat.S_IRWXO
    return closed & ~stat.S_IRGRP if status.st_uid == 0 and os.geteuid() != 0 else closed


class KeyFile:
    """One file with a private key.

    Args:
        path: The file.
        client: Name of the client the key is for, for messages.
        setting: The setting that names the file, for messages.
    """

    def __init__(self, path: Path, *, client: str, setting: str) -> None:
        self._path = path
        self._context = {"client": client, "setting": setting}

    def read(self) -> bytes:
        """What the file holds.

        Raises:
            ConfigError: `private_key`: the file is missing, is none, cannot be read, or may be read by others.
        """
        problem = "The private key file cannot be read."
        try:
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                problem = "The private key file is no file."
            elif os.name == "posix" and status.st_mode & _closed(status):
                problem = "The private key file is open to other users; allow its owner only (chmod 600)."
            elif status.st_size > _MAX_KEY_BYTES:
                problem = "The private key file is too large to be a key."
            else:
                return self._path.read_bytes()
        except FileNotFoundError:
            problem = "The private key file does not exist."
        except (OSError, ValueError):
            pass
        raise self.unusable(problem)

    def load(self, *kinds: type[SigningKey]) -> SigningKey:
        """The private key in the file: PEM, not encrypted, of one of these kinds.

        Raises:
            ConfigError: `private_key`: as for `read`, or the file holds no such key, or an RSA key under 2048 bits.
                Nothing of its content is shown.
        """
        from joserfc.jwk import RSAKey  # noqa: PLC0415 - cryptography is slow to load: only who has a key pays for it

        key = self._parse(self.read(), kinds)
        if not key.is_private:
            raise self.unusable("The private key file holds a public key.")
        if isinstance(key, RSAKey) and key.raw_value.key_size < _MIN_RSA_BITS:
            raise self.unusable("The private key is too short; RSA keys have 2048 bits or more.")
        return key

    def unusable(self, message: str) -> ConfigError:
        """The error that says what is wrong with the file."""
        return ConfigError(message, code="private_key", context=self._context)

    def _parse(self, data: bytes, kinds: tuple[type[SigningKey], ...]) -> SigningKey:
        from joserfc.errors import InvalidKeyTypeError, SecurityWarning  # noqa: PLC0415 - as above

        problem = "The private key file holds no private key in PEM format."
        try:
            with warnings.catch_warnings():
                # A key that is too short gets a warning there and an error here.
                warnings.simplefilter("ignore", SecurityWarning)
                for kind in kinds:
                    try:
                        return kind.import_key(data)
                    except InvalidKeyTypeError:
                        names = (each.__name__.removesuffix("Key") for each in kinds)
                        problem = f"The private key is no {' or '.join(names)} key."
        except TypeError:
            problem = "The private key is encrypted; one without pass phrase is needed."
        except Exception:  # noqa: BLE001, S110  # whatever the parsers below raise, it means the same and may quote the key
            pass
        # Out here, so that what the parser raised is not reachable from our error.
        raise self.unusable(problem)
