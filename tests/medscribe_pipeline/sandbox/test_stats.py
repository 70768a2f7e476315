from __future__ import annotations

import pytest

from medscribe_pipeline.sandbox.stats import Stats, template


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/askara/audios", "/askara/audios"),
        ("/askara/audios/95BE615a-a8ad-4c33-8e9c-c7612fbf6c9f", "/askara/audios/{uuid}"),
        ("/fhir", "/fhir"),
        ("/fhir/Composition", "/fhir/Composition"),
        ("/fhir/Provenance/prov-1", "/fhir/Provenance/{id}"),
        ("/fhir/Composition/95be615a-a8ad-4c33-8e9c-c7612fbf6c9f", "/fhir/Composition/{uuid}"),
        ("/intron/file/v1/status/12a9760f-b165-4404-91d0-a65d4cdt78fs", "/intron/file/v1/status/{id}"),
        (
            "/nabla/v1/core/server/transcribe-async/98FCE1EF-DBCA-41EF-8BC7-4D1621AC07C6",
            "/nabla/v1/core/server/transcribe-async/{uuid}",
        ),
        ("/audioscribe/api/v1/audioscribe/notes/7/", "/audioscribe/api/v1/audioscribe/notes/{id}/"),
    ],
)
def test_templates(path: str, expected: str) -> None:
    assert template(path) == expected


def test_counters_start_again() -> None:
    stats = Stats()
    stats.count_request("GET", "/fhir/Patient/1")
    stats.count_request("GET", "/fhir/Patient/2")
    stats.count_fault("slow")
    stats.count_job("nabla", "transcribe", "visit-1.wav")
    stats.count_job("nabla", "transcribe", "visit-1.wav", repeated=True)
    stats.count_push("nabla good delivered")

    before = stats.snapshot()
    stats.reset()

    assert before == {
        "requests": {"GET /fhir/Patient/{id}": 2},
        "faults": {"slow": 1},
        "jobs": {"nabla transcribe visit-1.wav": 1},
        "repeats": {"nabla transcribe visit-1.wav": 1},
        "pushes": {"nabla good delivered": 1},
    }
    assert set(map(len, stats.snapshot().values())) == {0}
