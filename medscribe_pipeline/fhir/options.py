"""What decides, beside the note, how its documents come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medscribe_pipeline import __version__
from medscribe_pipeline.fhir.renderings import require
from medscribe_pipeline.fhir.sections import Mapping, load_mapping
from medscribe_pipeline.notes import Identifier, content_hash

if TYPE_CHECKING:
    from medscribe_pipeline.settings import FhirSettings

__all__ = ["BuildOptions", "Rendering"]

Rendering = Literal["text", "xhtml", "pdf"]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How documents are built.

    Attributes:
        base_uri: Base of the identifier and code systems this project owns, without a slash at its end.
        mapping: Codes and titles.
        profile: Country profile: `international`, `us` or `fr`.
        release: FHIR release of the result.
        renderings: Forms of the same content in a DocumentReference, in order.
        transcripts: Whether a DocumentReference of the transcript is built too.
        custodian: The organisation that keeps the documents.
        custodian_name: Its name.
        assembler_version: Version of this pipeline, named in Provenance.
        check: How what has been built is checked, see `shapes`. Part of no version: it changes no document.
    """

    base_uri: str
    mapping: Mapping
    profile: Literal["international", "us", "fr"] = "international"
    release: Literal["R4", "R5"] = "R4"
    renderings: tuple[Rendering, ...] = ("text",)
    transcripts: bool = False
    custodian: Identifier | None = None
    custodian_name: str | None = None
    assembler_version: str = __version__
    check: Literal["shape", "strict"] = "shape"

    @classmethod
    def of(cls, settings: FhirSettings) -> BuildOptions:
        """Reads the options off the settings.

        Raises:
            ConfigError: The mapping file of the user cannot be used, or a rendering needs an extra that is missing.
        """
        require(settings.renderings)
        custodian = None
        if settings.custodian_system and settings.custodian_id:
            custodian = Identifier(settings.custodian_system, settings.custodian_id)
        return cls(
            base_uri=settings.base_uri,
            mapping=load_mapping(settings.mapping),
            profile=settings.profile,
            release=settings.release,
            renderings=settings.renderings,
            transcripts=settings.transcripts,
            custodian=custodian,
            custodian_name=settings.custodian_name,
            check=settings.check,
        )

    @property
    def version(self) -> str:
        """Version of the mapping as a whole, at most 64 characters: the same note and version give the same bytes.

        The pipeline's own version is left out: a new release whose documents differ raises
        `sections.CODE_VERSION` instead.
        """
        facts = [
            self.base_uri,
            self.profile,
            self.release,
            self.renderings,
            self.transcripts,
            self.custodian,
            self.custodian_name,
        ]
        return f"{self.mapping.version}+{content_hash(facts)[:8]}"
