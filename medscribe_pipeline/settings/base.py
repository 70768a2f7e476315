"""What all settings classes share: how values are read, and how we behave towards any HTTP server."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = [
    "PREFIX",
    "EncryptionKey",
    "HttpSettings",
    "HttpUrlText",
    "JobSettings",
    "ProviderSettings",
    "SecretUrl",
    "UriText",
    "model_config_for",
]

PREFIX = "MEDSCRIBE_"
KEY_BYTES = 32


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with https:// (or http:// for a test server)")
    if "?" in value or "#" in value or "@" in value:
        raise ValueError("must be a plain base URL without credentials, query or fragment")
    return value.rstrip("/")


def _absolute_uri(value: str) -> str:
    if ":" not in value or any(character.isspace() for character in value):
        raise ValueError("must be an absolute URI (https://..., urn:...)")
    return value.rstrip("/")


def _encryption_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip().translate(str.maketrans("+/", "-_"))
    try:
        key = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("must be 32 random bytes in Base64, as `openssl rand -base64 32` makes them")
    return SecretStr(text)


HttpUrlText = Annotated[str, AfterValidator(_http_url)]
SecretUrl = Annotated[SecretStr, AfterValidator(lambda url: SecretStr(_http_url(url.get_secret_value())))]
UriText = Annotated[str, AfterValidator(_absolute_uri)]
EncryptionKey = Annotated[SecretStr, AfterValidator(_encryption_key)]


def model_config_for(prefix: str) -> SettingsConfigDict:
    """How a settings class reads its variables: by prefix, from the environment or `.env`, never shown in errors."""
    return SettingsConfigDict(
        env_prefix=prefix,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        frozen=True,
    )


class HttpSettings(BaseSettings):
    """How we behave towards any HTTP server; each provider and the EHR has its own copy of these."""

    timeout_s: float = Field(
        30.0, gt=0, le=600, description="Longest wait for a connection, or between two bytes of an answer."
    )
    connections: int = Field(4, ge=1, le=64, description="Connections, and threads, used at once.")
    max_attempts: int = Field(
        6, ge=1, le=20, description="Tries of a request that may be repeated, the first included."
    )
    max_wait_s: float = Field(
        60.0, ge=0, le=3600, description="Longest single wait. A `Retry-After` beyond it ends the run cleanly instead."
    )
    backoff_s: float = Field(0.5, ge=0, le=60, description="First ceiling of the jittered wait; doubles with each try.")
    max_body_bytes: int = Field(64_000_000, ge=1_000, description="Largest answer accepted, in bytes.")
    requests_per_minute: int = Field(
        0, ge=0, description="Our own ceiling on the request rate; 0 leaves it to the server's headers."
    )
    # Off: that a server has closed an idle connection shows in HTTP/2 only when a request is lost on it, and for a
    # write that is an unknown outcome.
    http2: bool = Field(False, description="Speak HTTP/2 with a server that offers it over TLS.")


class ProviderSettings(HttpSettings):
    """What every provider has."""

    max_pages: int = Field(100_000, ge=1, description="Pages read in one sync before we call it a loop and stop.")
    patient_system: UriText | None = Field(
        None,
        description="Identifier system under which the EHR knows this provider's patient ids. Default: a system of the project.",
    )
    practitioner_system: UriText | None = Field(
        None, description="The same for the provider's user (clinician) ids. Default: a system of the project."
    )
    encounter_system: UriText | None = Field(
        None, description="The same for encounter ids given in the visits manifest. Default: a system of the project."
    )

    @property
    def enabled(self) -> bool:
        """Whether any credential is set; which those are, each provider says for itself."""
        return False


class JobSettings(ProviderSettings):
    """What providers share that work on order: something is submitted, and asked after until it is done."""

    poll_first_s: float = Field(10.0, ge=0, le=3600, description="Wait between submitting a job and asking after it.")
    poll_longest_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="Longest wait between two questions after one job; each wait doubles the last.",
    )
    job_expires_after_s: int = Field(
        86_400, ge=1, description="A job without an end after this time is given up as `expired`, and shown."
    )
    jobs_per_run: int = Field(10_000, ge=1, description="Most jobs one run submits, and most it asks after.")
    allow_plain_http_audio: bool = Field(
        False, description="Also accept `http://` audio URLs in the visits manifest. For test servers."
    )
    allow_private_audio: bool = Field(
        False, description="Also accept audio URLs that lead to loopback or private addresses. For test servers."
    )
