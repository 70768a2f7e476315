"""The key that signs for us in SMART Backend Services, and the public half of it that the server is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.key_files import KeyFile, SigningKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.settings import EhrSettings

__all__ = ["ClientKey", "load_client_key"]

_KINDS: dict[str | None, tuple[type[SigningKey], ...]] = {
    "RS384": (RSAKey,),
    "ES384": (ECKey,),
    None: (RSAKey, ECKey),
}
# The curve of ES384 (RFC 7518 section 3.4), as the parser calls it.
_P384 = "secp384r1"


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A private key with the name and the algorithm it is used under. Its `repr` shows no secret.

    The algorithms are the two that SMART App Launch 2.2 names for clients: RS384 and ES384.

    Attributes:
        alg: The JWS algorithm.
        kid: The name under which the server knows the public key.
    """

    alg: Literal["RS384", "ES384"]
    kid: str
    _key: SigningKey = field(repr=False)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT with these claims."""
        header = {"alg": self.alg, "typ": "JWT", "kid": self.kid}
        return jwt.encode(header, dict(claims), self._key, algorithms=[self.alg])

    def public_jwk(self) -> dict[str, Any]:
        """The public key as a JWK (RFC 7517): what may be published, and nothing else."""
        return self._key.as_dict(private=False, kid=self.kid, alg=self.alg, use="sig")


def load_client_key(target: EhrSettings) -> ClientKey:
    """Reads the private key of a target.

    Raises:
        ConfigError: `private_key`: none is set; or the file is missing, open to others, or holds no key that fits the
            algorithm (RSA of 2048 bits or more, EC on the curve P-384).
    """
    setting = target.variable("private_key_file")
    if target.private_key_file is None:
        raise ConfigError(f"{setting} is not set", code="private_key", context={"client": target.target})
    if target.signing_alg is not None:
        setting = f"{setting}, {target.variable('signing_alg')}"
    file = KeyFile(target.private_key_file, client=target.target, setting=setting)
    key = file.load(*_KINDS[target.signing_alg])
    if isinstance(key, ECKey) and key.raw_value.curve.name != _P384:
        raise file.unusable("The private key is on another curve; EC keys are on P-384.")
    return ClientKey("RS384" if isinstance(key, RSAKey) else "ES384", target.key_id or key.thumbprint(), key)
