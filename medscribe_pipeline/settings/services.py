"""Settings of our own receiver, and of how what we do is watched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from medscribe_pipeline.settings.base import PREFIX, HttpUrlText, model_config_for

__all__ = ["SHORTEST_WINDOW_S", "ReceiverSettings", "WatchSettings"]

SHORTEST_WINDOW_S = 120
"""Dagster knows none of less than a minute, and the warning comes at half of it."""


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


class WatchSettings(BaseSettings):
    """Log lines, traces and metrics, and when Dagster calls an asset stale."""

    model_config = model_config_for(PREFIX)

    log_format: Literal["text", "json"] = Field(
        "text", description="How log lines are written to standard error: `text` for people, `json` for programs."
    )
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None,
        description="Level of our own log lines. Default: `info` for the receiver and under Dagster, `warning` for the other commands. Libraries are told of from `warning` on, without their words.",
    )
    otel_endpoint: HttpUrlText | None = Field(
        None,
        description="Base URL of an OpenTelemetry collector (OTLP over HTTP), such as `http://localhost:4318`. The variables of OpenTelemetry itself (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS` and others) are heeded, too. Needs the extra `otel`; without an endpoint nothing is sent.",
    )
    stale_sources_after_s: int = Field(
        86_400, ge=0, description="Dagster calls a source stale that was not pulled for so long; 0 never."
    )
    stale_notes_after_s: int = Field(
        345_600,
        ge=0,
        description="The same for notes and FHIR documents, which are built when something has landed: longer than the longest time without visits.",
    )
    stale_deliveries_after_s: int = Field(345_600, ge=0, description="The same for deliveries.")

    @field_validator("stale_sources_after_s", "stale_notes_after_s", "stale_deliveries_after_s")
    @classmethod
    def _no_shorter_than_dagster_looks(cls, value: int) -> int:
        if 0 < value < SHORTEST_WINDOW_S:
            raise ValueError(f"must be 0, or {SHORTEST_WINDOW_S} or more")
        return value
