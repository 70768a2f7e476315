"""Settings of the FHIR servers we deliver to. A target is present as soon as its base URL is given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from medscribe_pipeline.settings.base import PREFIX, HttpSettings, HttpUrlText, model_config_for

__all__ = ["EHR_PREFIX", "EhrSettings", "SignIn"]

EHR_PREFIX = f"{PREFIX}EHR_"

SignIn = Literal["none", "bearer", "basic", "oauth2", "smart"]

# The last of each tells the ways apart.
_CREDENTIALS: dict[SignIn, tuple[str, ...]] = {
    "bearer": ("token",),
    "basic": ("username", "password"),
    "oauth2": ("client_id", "client_secret"),
    "smart": ("client_id", "private_key_file"),
}
# What means something only beside another setting.
_EXTRAS = {
    "key_id": "private_key_file",
    "signing_alg": "private_key_file",
    "token_url": "client_id",
    "scope": "client_id",
    "client_key_file": "client_cert_file",
}


class EhrSettings(HttpSettings):
    """One FHIR server we deliver to: the EHR, or a FHIR store beside it."""

    model_config = model_config_for(EHR_PREFIX)

    base_url: HttpUrlText | None = Field(None, description="FHIR base URL of the server.")
    target: str = Field(
        "ehr",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of this target in the delivery ledger. Keep it when the URL changes: it is how the ledger knows what is there.",
    )
    kind: Literal["generic", "hapi", "medplum", "epic", "oracle", "azure", "google", "healthlake", "us-core-9"] = Field(
        "generic", description="What kind of server it is, see [delivery](delivery.md#targets)."
    )
    capabilities: Path | None = Field(
        None, description="TOML file with capabilities of this server that differ from those of its kind."
    )
    hold_all: bool = Field(False, description="`true` sends nothing to this target; what is due waits.")
    documents_per_run: int = Field(0, ge=0, description="Most notes sent to this target in one run; 0 for any number.")
    bytes_per_run: int = Field(0, ge=0, description="Most bytes sent to this target in one run; 0 for any number.")
    reconcile_after_s: float = Field(
        2.0,
        ge=0,
        le=600,
        description="Wait before a delivery with unknown outcome is looked up, so that a slow server can finish.",
    )
    read_back_share: float = Field(
        0.0, ge=0, le=1, description="Share of delivered notes that is read back and compared; 1 for every one."
    )
    references_valid_s: int = Field(
        86_400,
        ge=0,
        description="How long a patient, clinician or encounter found on the server is trusted to be there.",
    )
    references_missing_s: int = Field(
        900, ge=0, description="How long one that was missing or ambiguous is not asked for again."
    )
    encounter_by_time: bool = Field(
        False, description="Also find an encounter by its patient and the time of the visit, if exactly one fits."
    )

    auth: Literal["auto", "none", "bearer", "basic", "oauth2", "smart"] = Field(
        "auto",
        description="How we say who we are, see [signing in](delivery.md#signing-in); `auto` goes by the credentials that are set.",
    )
    token: SecretStr | None = Field(None, description="Fixed bearer token.")
    username: str | None = Field(
        None, pattern=r"^[^:\x00-\x1f\x7f]+$", description="User name of basic authentication; without a colon."
    )
    password: SecretStr | None = Field(None, description="Password of basic authentication.")
    client_id: str | None = Field(
        None, description="Client id, for OAuth2 client credentials and SMART Backend Services."
    )
    client_secret: SecretStr | None = Field(None, description="Client secret, for OAuth2 client credentials.")
    private_key_file: Path | None = Field(
        None,
        description="PEM file with the private key for SMART Backend Services, RSA or EC P-384; must not be readable by others.",
    )
    key_id: str | None = Field(None, description="`kid` of that key. Default: its RFC 7638 thumbprint.")
    signing_alg: Literal["RS384", "ES384"] | None = Field(None, description="Default: the one that fits the key.")
    token_url: HttpUrlText | None = Field(
        None, description="Token endpoint. Default: what `.well-known/smart-configuration` of the server says."
    )
    scope: str | None = Field(
        None,
        pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$",
        description="Scopes asked for, with a space between; `none` asks for none. Default: `system/*.cruds` or what the kind of server needs.",
    )
    client_cert_file: Path | None = Field(None, description="PEM file with our certificate, for mutual TLS.")
    client_key_file: Path | None = Field(
        None,
        description="PEM file with its key, where it is not in the same file. The file with the key must not be readable by others.",
    )
    ca_file: Path | None = Field(
        None,
        description="PEM file with the certificate authorities to trust, instead of the usual ones; for the token endpoint too.",
    )

    @property
    def enabled(self) -> bool:
        """Whether there is a server to deliver to."""
        return self.base_url is not None

    @classmethod
    def named(cls, name: str) -> EhrSettings:
        """Settings of a further target: the same fields under `MEDSCRIBE_EHR_<NAME>_`."""
        prefix = f"{EHR_PREFIX}{re.sub('[^A-Z0-9]', '_', name.upper())}_"
        # The class is named like its prefix, so that a report of what is wrong names the right variable.
        own: type[EhrSettings] = type(
            prefix, (cls,), {"model_config": model_config_for(prefix), "__module__": __name__}
        )
        return own(target=name)

    @property
    def sign_in(self) -> SignIn:
        """How we say who we are: `auth`, or what the credentials that are set are for."""
        if self.auth != "auto":
            return self.auth
        return next((way for way, fields in _CREDENTIALS.items() if getattr(self, fields[-1]) is not None), "none")

    def variable(self, field: str) -> str:
        """Name of the environment variable of a field, for messages: further targets have other prefixes.

        >>> EhrSettings().variable("client_id")
        'MEDSCRIBE_EHR_CLIENT_ID'
        """
        return f"{self.model_config.get('env_prefix', EHR_PREFIX)}{field.upper()}"

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        own = _CREDENTIALS.get(self.sign_in, ())
        given = [name for name in dict.fromkeys(sum(_CREDENTIALS.values(), ())) if getattr(self, name) is not None]
        foreign = [name for name in given if name not in own]
        if foreign and (own or self.auth == "none"):
            if self.auth != "auto":
                raise ValueError(f"{self.variable('auth')} is {self.auth}, which takes no {self._named(foreign)}")
            both = self._named(name for name in given if name in foreign or name != "client_id")
            raise ValueError(f"these do not go together, set one kind of credentials only: {both}")
        if foreign:
            # Nothing that would tell the way is set, only the first half of one.
            needed = {"username": ("password",), "client_id": ("client_secret", "private_key_file")}[foreign[0]]
            ways = " or ".join(self.variable(name) for name in needed)
            raise ValueError(f"{self._named(foreign)} is set; missing: {ways}")
        if missing := [name for name in own if name not in given]:
            raise ValueError(f"{self.sign_in} sign-in needs all of its settings; missing: {self._named(missing)}")
        for name, needs in _EXTRAS.items():
            if getattr(self, name) is not None and getattr(self, needs) is None:
                raise ValueError(f"{self.variable(name)} is set; missing: {self.variable(needs)}")
        if (given or self.client_cert_file) and self.base_url is None:
            first = given[0] if given else "client_cert_file"
            raise ValueError(f"{self.variable(first)} is set; missing: {self.variable('base_url')}")
        return self

    def _named(self, fields: Iterable[str]) -> str:
        return ", ".join(self.variable(name) for name in fields)
