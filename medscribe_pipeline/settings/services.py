"""Settings of our own receiver."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from medscribe_pipeline.settings.base import PREFIX, model_config_for

__all__ = ["ReceiverSettings"]


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
