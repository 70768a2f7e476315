"""FHIR: a `ScribeNote` becomes resources, and they are checked before anybody sees them.

`build_documents` builds plain dicts, `check` refuses what FHIR forbids, and the dict that passed is what is stored
and sent. `BuildOptions.version` changes when the same note would be built differently.
"""

from medscribe_pipeline.fhir.documents import FhirDocuments, build_documents
from medscribe_pipeline.fhir.elements import VERSION_SYSTEM, note_identifier, version_identifier
from medscribe_pipeline.fhir.narrative import clean_text, is_blank, plain_text, to_xhtml
from medscribe_pipeline.fhir.options import BuildOptions
from medscribe_pipeline.fhir.rules import InvalidResource, check
from medscribe_pipeline.fhir.sections import Mapping, default_mapping, load_mapping

__all__ = [
    "VERSION_SYSTEM",
    "BuildOptions",
    "FhirDocuments",
    "InvalidResource",
    "Mapping",
    "build_documents",
    "check",
    "clean_text",
    "default_mapping",
    "is_blank",
    "load_mapping",
    "note_identifier",
    "plain_text",
    "to_xhtml",
    "version_identifier",
]
