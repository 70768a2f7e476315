"""Settings of what is not a provider: the EHR, and our own receiver."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from medscribe_pipeline.settings.base import PREFIX, HttpSettings, HttpUrlText, model_config_for

__all__ = ["EhrSettings", "ReceiverSettings"]


class EhrSettings(HttpSettings):
    """The EHR's FHIR endpoint: present as soon as its base URL is given."""

    model_config = model_config_for(f"{PREFIX}EHR_")

    base_url: HttpUrlText | None = Field(None, description="FHIR R4 base URL of the EHR.")
    token: SecretStr | None = Field(None, description="Bearer token; none is sent without it.")
    target: str = Field(
        "ehr",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of this target in the delivery ledger. Keep it when the URL changes: it is how the ledger knows what is there.",
    )
    reconcile_after_s: float = Field(
        2.0,
        ge=0,
        le=600,
        description="Wait before a delivery with unknown outcome is looked up, so that a slow server can finish.",
    )

    @property
    def enabled(self) -> bool:
        """Whether there is an EHR to deliver to."""
        return self.base_url is not None

    @model_validator(mode="after")
    def _whole_target(self) -> Self:
        if self.token is not None and self.base_url is None:
            raise ValueError(f"{PREFIX}EHR_TOKEN is set; missing: {PREFIX}EHR_BASE_URL")
        return self


class ReceiverSettings(BaseSettings):
    """The receiver of callbacks and webhooks, `medscribe receive`."""

    model_config = model_config_for(f"{PREFIX}RECEIVER_")

    host: str = Field("127.0.0.1", description="Address to listen on. TLS belongs to a proxy in front of it.")
    port: int = Field(8088, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    path_secret: SecretStr | None = Field(
        None,
        min_length=24,
        description="Unguessable part of the webhook paths of providers that sign nothing. Without it those paths do not exist.",
    )
    max_body_bytes: int = Field(10_000_000, ge=1_000, description="Largest event accepted, in bytes.")
    max_events_per_minute: int = Field(6_000, ge=1, description="More events in a minute are answered 429.")
    tolerance_s: int = Field(300, ge=1, description="Oldest signature timestamp accepted, in seconds.")
