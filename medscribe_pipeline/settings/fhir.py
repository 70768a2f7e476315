"""Settings of the FHIR documents: which country, which release, which of the optional resources."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from medscribe_pipeline.settings.base import PREFIX, UriText, model_config_for

__all__ = ["FhirSettings"]


class FhirSettings(BaseSettings):
    """How notes become FHIR resources. A change builds the documents of all days again, from what has landed.

    But for `check`, which changes nothing about them.
    """

    model_config = model_config_for(f"{PREFIX}FHIR_")

    base_uri: UriText = Field(
        "https://medscribe-pipeline.github.io/fhir",
        description="Base of the identifier and code systems the project owns.",
    )
    release: Literal["R4", "R5"] = Field("R4", description="FHIR release of the resources.")
    profile: Literal["international", "us", "fr"] = Field(
        "international",
        description="Country profile: decides the document types, and with `us` claims the US Core profile.",
    )
    mapping: Path | None = Field(
        None, description="TOML file of your own whose rows lie over those of this project, see docs/mapping.md."
    )
    renderings: tuple[Literal["text", "xhtml", "pdf"], ...] = Field(
        ("text",),
        min_length=1,
        description="Forms of the same content in a DocumentReference, as a JSON list in order: `text`, `xhtml`, "
        "`pdf` (needs the extra `pdf`).",
    )
    transcripts: bool = Field(
        False, description="Also build a DocumentReference of the transcript, apart from the note."
    )
    custodian_system: UriText | None = Field(
        None, description="Identifier system of the organisation that keeps the documents."
    )
    custodian_id: str | None = Field(None, min_length=1, description="Identifier of that organisation.")
    custodian_name: str | None = Field(None, min_length=1, description="Name of that organisation, shown to people.")
    check: Literal["shape", "strict"] = Field(
        "shape",
        description="How each resource is checked: `strict` looks at all of it each time, `shape` comes to the same "
        "verdicts in less time, see docs/mapping.md. It changes no document.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.custodian_system is None) != (self.custodian_id is None):
            missing = "CUSTODIAN_ID" if self.custodian_id is None else "CUSTODIAN_SYSTEM"
            raise ValueError(f"an identifier needs system and value; missing: {PREFIX}FHIR_{missing}")
        if len(set(self.renderings)) != len(self.renderings):
            raise ValueError(f"{PREFIX}FHIR_RENDERINGS names a form twice")
        return self
