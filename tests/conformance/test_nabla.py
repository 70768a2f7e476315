"""Nabla keeps to what is asked of every provider that works on order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox import CorpusOptions, Sandbox
from tests.conformance.bench import Origin
from tests.conformance.gate import forward_to
from tests.conformance.ordered import WorkProviderConformance

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestNabla(WorkProviderConformance):
    name = "nabla"
    text_field = "text"
    takes_files = False
    repeatable = True
    same_wishes = (
        ({"language": "en-US"}, {"language": "EN_us"}),
        ({"template": "GENERAL_MEDICINE"}, {"template": "general_medicine"}),
        ({"section_style": "bullet_points"}, {"section_style": "BULLET_POINTS"}),
    )
    credentials = (("TOKEN",), ("CLIENT_ID", "PRIVATE_KEY_FILE"))

    @classmethod
    @contextmanager
    def origin(cls) -> Iterator[Origin]:
        corpus = CorpusOptions(days=1, audios_per_day=0, sessions_per_day=0, recordings=0)
        with Sandbox(corpus=corpus) as running:
            token = running.environment()["MEDSCRIBE_NABLA_TOKEN"]
            yield Origin(forward_to(running.url), {"MEDSCRIBE_NABLA_TOKEN": token}, {}, "/nabla")

    def callback(self, job: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": job["vendor_job_id"],
            "client_request_id": job["client_request_id"],
            "status": "SUCCEEDED",
            "payload": {"transcript": [], **result},
        }
