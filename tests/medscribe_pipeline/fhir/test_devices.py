from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fhir.resources.R4B.device import Device

from medscribe_pipeline.fhir.devices import assembler, assembler_device, scribe
from medscribe_pipeline.fhir.people import scribe_device
from tests.fhir_options import options

if TYPE_CHECKING:
    from medscribe_pipeline.notes import ScribeNote


def test_the_scribe_is_an_ai_of_its_maker(note: ScribeNote, base_uri: str) -> None:
    device = scribe(replace(note, provider="audioscribe"), base_uri)

    assert device == {
        "resourceType": "Device",
        "identifier": [{"system": f"{base_uri}/sid/device", "value": "audioscribe"}],
        "manufacturer": "Dictanote",
        "deviceName": [{"name": "Dictanote AudioScribe", "type": "user-friendly-name"}],
        "type": {
            "coding": [
                {
                    "system": "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS",
                    "code": "Artificial-Intelligence",
                }
            ]
        },
    }
    Device.model_validate(device)


@pytest.mark.parametrize("provider", ["askara", "audioscribe", "intron", "nabla", "next"])
def test_a_reference_finds_its_scribe(note: ScribeNote, base_uri: str, provider: str) -> None:
    device = scribe(replace(note, provider=provider), base_uri)

    assert device["identifier"] == [scribe_device(provider, base_uri)["identifier"]]
    assert ("manufacturer" in device) is (provider != "next")
    Device.model_validate(device)


def test_the_assembler_is_this_pipeline_in_its_version(base_uri: str) -> None:
    built = options(base_uri=f"{base_uri}/", assembler_version="9.9.9")

    device = assembler(built)

    assert device["identifier"] == [{"system": f"{base_uri}/sid/device", "value": "medscribe-pipeline"}]
    assert device["version"] == [{"value": "9.9.9"}]
    assert assembler_device(built)["identifier"] == device["identifier"][0]
    assert assembler_device(built)["display"] == "medscribe-pipeline 9.9.9"
    assert "coding" not in device["type"]
    Device.model_validate(device)
