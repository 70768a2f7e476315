"""Software that has a part in a document: the AI scribe that drafted it, and this pipeline, which assembled it.

Facts: FHIR R4 Device (https://hl7.org/fhir/R4/device.html), and the AIDevice profile of the HL7 AI Transparency guide
(https://build.fhir.org/ig/HL7/aitransparency-ig/), which asks for the type. `Device.type` is an example binding in R4,
so the code is at home there. The guide's extension for the kind of model is left out: the guide is not published yet,
validators refuse extensions they cannot look up, and no scribe says which kind of model it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.elements import present
from medscribe_pipeline.fhir.people import scribe_device

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import ScribeNote

__all__ = ["ASSEMBLER", "artificial_intelligence", "assembler", "assembler_device", "scribe"]

ASSEMBLER = "medscribe-pipeline"
"""This pipeline, among the devices of the project's own identifier system."""

_MANUFACTURERS = {
    "askara": "Askara",
    "audioscribe": "Dictanote",
    "intron": "Intron Health",
    "nabla": "Nabla",
}


def scribe(note: ScribeNote, base_uri: str) -> dict[str, Any]:
    """The AI scribe that drafted a note, as a resource. Its version is unknown: no provider tells it with a note."""
    reference = scribe_device(note.provider, base_uri)
    return present(
        {
            "resourceType": "Device",
            "identifier": [reference["identifier"]],
            "manufacturer": _MANUFACTURERS.get(note.provider),
            "deviceName": [{"name": reference["display"], "type": "user-friendly-name"}],
            "type": artificial_intelligence(),
        }
    )


def assembler_device(options: BuildOptions) -> dict[str, Any]:
    """This pipeline, as a reference that shows its version."""
    return {
        "type": "Device",
        "identifier": {"system": f"{options.base_uri.rstrip('/')}/sid/device", "value": ASSEMBLER},
        "display": f"{ASSEMBLER} {options.assembler_version}",
    }


def assembler(options: BuildOptions) -> dict[str, Any]:
    """This pipeline in its version, as a resource."""
    return {
        "resourceType": "Device",
        "identifier": [assembler_device(options)["identifier"]],
        "deviceName": [{"name": ASSEMBLER, "type": "user-friendly-name"}],
        "type": {"text": "Software that assembles FHIR documents"},
        "version": [{"value": options.assembler_version}],
    }


def artificial_intelligence() -> dict[str, Any]:
    """That a device is an AI, undifferentiated: as `Device.type`, and as the role of an agent in Provenance."""
    system = "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS"
    return {"coding": [{"system": system, "code": "Artificial-Intelligence"}]}
