"""AudioScribe keeps to what is asked of every listed provider."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from medscribe_pipeline.sandbox import AudioScribeOptions, CorpusOptions, Sandbox
from tests.conformance.bench import Origin
from tests.conformance.gate import forward_to
from tests.conformance.listed import ListedProviderConformance

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def sandbox(sessions_per_day: int) -> Iterator[Origin]:
    corpus = CorpusOptions(days=2, audios_per_day=0, sessions_per_day=sessions_per_day, malformed=0, recordings=0)
    with Sandbox(corpus=corpus, audioscribe=AudioScribeOptions(page_size=3)) as running:
        environment = running.environment()
        yield Origin(
            api=forward_to(running.url),
            environment={name: environment[name] for name in ("MEDSCRIBE_AUDIOSCRIBE_TOKEN",)},
            held={"sessions": set(running.world.records("sessions"))},
            path="/audioscribe",
        )


class TestAudioScribe(ListedProviderConformance):
    name = "audioscribe"
    stream = "sessions"
    id_field = "id"
    text_field = "note"
    time_field = "createdAt"
    optional_fields = ("title", "originalTranscript", "tags", "note")

    @classmethod
    @contextmanager
    def origin(cls) -> Iterator[Origin]:
        with sandbox(sessions_per_day=4) as origin:
            yield origin

    @classmethod
    @contextmanager
    def empty_origin(cls) -> Iterator[Origin]:
        with sandbox(sessions_per_day=0) as origin:
            yield origin
