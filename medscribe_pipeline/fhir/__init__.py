"""FHIR R4: a `ScribeNote` becomes a Composition and a DocumentReference, and is checked before anybody sees it.

`build_documents` builds plain dicts, `check` refuses what R4 forbids, and the dict that passed is what is stored
and sent. `MAPPING_VERSION` changes when the same note would be built differently.
"""

from medscribe_pipeline.fhir.documents import (
    VERSION_SYSTEM,
    FhirDocuments,
    build_documents,
    note_identifier,
    version_identifier,
)
from medscribe_pipeline.fhir.narrative import clean_text, to_xhtml
from medscribe_pipeline.fhir.rules import InvalidResource, check
from medscribe_pipeline.fhir.sections import (
    MAPPING_VERSION,
    default_title,
    document_type,
    known_keys,
    section_coding,
)

__all__ = [
    "MAPPING_VERSION",
    "VERSION_SYSTEM",
    "FhirDocuments",
    "InvalidResource",
    "build_documents",
    "check",
    "clean_text",
    "default_title",
    "document_type",
    "known_keys",
    "note_identifier",
    "section_coding",
    "to_xhtml",
    "version_identifier",
]
