"""Intron keeps to what is asked of every provider that works on order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from medscribe_pipeline.sandbox import CorpusOptions, IntronOptions, Sandbox
from tests.conformance.bench import Origin
from tests.conformance.gate import forward_to
from tests.conformance.ordered import WorkProviderConformance

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestIntron(WorkProviderConformance):
    name = "intron"
    text_field = "transcript_soap_note"
    takes_files = True
    repeatable = False
    same_wishes = (
        ({"category": "telehealth"}, {"category": " file_category_TELEHEALTH"}),
        ({"language": "en"}, {"language": "EN-gb"}),
    )

    @classmethod
    @contextmanager
    def origin(cls) -> Iterator[Origin]:
        corpus = CorpusOptions(days=1, audios_per_day=0, sessions_per_day=0, recordings=0)
        # Here a minute of the ledger takes no time, so the provider's own count of calls a minute cannot agree.
        with Sandbox(corpus=corpus, intron=IntronOptions(status_calls_per_minute=100_000)) as running:
            token = running.environment()["MEDSCRIBE_INTRON_TOKEN"]
            yield Origin(forward_to(running.url), {"MEDSCRIBE_INTRON_TOKEN": token}, {}, "/intron")
