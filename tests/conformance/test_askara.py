"""Askara keeps to what is asked of every listed provider."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox import CorpusOptions, Sandbox
from tests.conformance.bench import Origin
from tests.conformance.gate import forward_to
from tests.conformance.listed import ListedProviderConformance

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def sandbox(audios_per_day: int) -> Iterator[Origin]:
    corpus = CorpusOptions(days=2, audios_per_day=audios_per_day, sessions_per_day=0, malformed=0, recordings=0)
    with Sandbox(corpus=corpus) as running:
        token = running.environment()["MEDSCRIBE_ASKARA_TOKEN"]
        yield Origin(
            api=forward_to(running.url),
            environment={"MEDSCRIBE_ASKARA_TOKEN": token, "MEDSCRIBE_ASKARA_PAGE_SIZE": "3"},
            held={name: set(running.world.records(name)) for name in ("audios", "notes")},
            path="/askara",
        )


class TestAskara(ListedProviderConformance):
    name = "askara"
    stream = "notes"
    id_field = "uuid"
    text_field = "content"
    time_field = "createdAt"
    change_field = "updatedAt"
    optional_fields = ("type", "content", "patient", "audio", "user", "archivedAt")
    open_fields = ("type",)
    credentials = (("TOKEN",), ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN"))

    @classmethod
    @contextmanager
    def origin(cls) -> Iterator[Origin]:
        with sandbox(audios_per_day=6) as origin:
            yield origin

    @classmethod
    @contextmanager
    def empty_origin(cls) -> Iterator[Origin]:
        with sandbox(audios_per_day=0) as origin:
            yield origin

    def is_signed_off(self, payload: dict[str, Any], parent: dict[str, Any] | None) -> bool:
        assert payload
        return parent is not None and parent["audioWorkflowStepV3"] == "validated"
