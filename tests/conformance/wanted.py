"""The first half of what every provider that works on order has to do: what there is to know of it, what it wants.

See `ordered.WorkProviderConformance`, which is what providers derive from.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from medscribe_pipeline.errors import MedscribeError
from medscribe_pipeline.providers.records import ManifestVisit
from medscribe_pipeline.settings import JobSettings
from tests.conformance.bench import check_credentials
from tests.conformance.gate import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from medscribe_pipeline.providers.work import WorkProvider
    from tests.conformance.bench import Bench, OpenBench, Origin

__all__ = ["AUDIO", "WantedConformance"]

AUDIO = "https://audio.example.invalid/visit-1.wav"
REFUSED_URLS = {
    "plain http": "http://audio.example.invalid/secret.wav",
    "credentials": "https://someone:secret@audio.example.invalid/1.wav",
    "loopback": "https://127.0.0.1/secret.wav",
    "loopback in disguise": "https://0x7f.1/secret.wav",
    "private": "https://10.1.2.3/secret.wav",
    "metadata service": "https://169.254.169.254/secret",
    "local name": "https://localhost/secret.wav",
    "another scheme": "file:///secret.wav",
    "no URL": "secret recording",
}


class WantedConformance(ABC):
    """Says what a subclass has to name, and tests settings and wishes."""

    name: ClassVar[str]
    """Name of the provider, as in the catalogue."""
    text_field: ClassVar[str]
    """Field of a result whose text gets into a note."""
    takes_files: ClassVar[bool]
    """Whether local files can be handed over."""
    repeatable: ClassVar[bool]
    """Whether the vendor documents that the same request id twice does no harm."""
    same_wishes: ClassVar[tuple[tuple[dict[str, Any], dict[str, Any]], ...]]
    """Pairs of manifest columns that mean the same."""
    credentials: ClassVar[tuple[tuple[str, ...], ...]] = (("TOKEN",),)
    """Sets of variables, without their prefix; each set alone is enough. The first is the one the origin accepts."""

    @classmethod
    @abstractmethod
    def origin(cls) -> AbstractContextManager[Origin]:
        """The provider, with nothing in its hands yet. All tests share it: each works for an account of its own."""

    def callback(self, job: dict[str, Any], result: dict[str, Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """What the provider would push when a job (a row of the ledger) has that result; `None` if it never does."""
        return None

    @pytest.fixture(scope="class")
    @classmethod
    def shared_origin(cls) -> Iterator[Origin]:
        with cls.origin() as origin:
            yield origin

    @pytest.fixture
    def bench(self, open_bench: OpenBench, shared_origin: Origin) -> Iterator[Bench]:
        with open_bench(self.name, shared_origin, "id") as bench:
            yield bench

    def _variable(self) -> str:
        return f"MEDSCRIBE_{self.name.upper()}_{self.credentials[0][0]}"

    # What there is to know about it

    def test_the_catalogue_says_all_about_it(self, bench: Bench) -> None:
        work: WorkProvider = bench.work

        assert bench.provider.name == work.name == self.name
        assert work.repeatable_submit is self.repeatable
        assert set(work.budgets) <= {"submit", "poll"}
        assert all(calls > 0 for calls in work.budgets.values())

    def test_its_settings_are_where_they_are_looked_for(self, bench: Bench) -> None:
        assert isinstance(bench.own, JobSettings)
        assert bench.own.model_config.get("env_prefix") == f"MEDSCRIBE_{self.name.upper()}_"
        for kind in ("patient", "practitioner", "encounter"):
            assert self.name in bench.settings.identifier_system(self.name, kind)

    def test_it_is_there_with_credentials_and_only_then(self, bench: Bench) -> None:
        check_credentials(bench, self.credentials)

    # What is wanted

    def test_a_recording_is_wanted_in_the_same_words_every_time(self, bench: Bench) -> None:
        visit = ManifestVisit(audio_url=AUDIO, language="en")

        specs = bench.work.wanted("visit-1", visit)

        assert specs
        assert specs == bench.work.wanted("visit-1", visit)
        for spec in specs:
            assert spec.correlation_key == "visit-1"
            assert re.fullmatch(r"[a-z][a-z_]*", spec.step)
            assert json.loads(json.dumps(spec.request)) == spec.request

    def test_who_and_when_are_not_told(self, bench: Bench) -> None:
        visit = ManifestVisit(audio_url=AUDIO, patient_id=CANARY, practitioner_id=CANARY, encounter_id=CANARY)

        assert CANARY not in str(bench.work.wanted("visit-1", visit))

    def test_a_visit_without_recording_wants_nothing(self, bench: Bench) -> None:
        assert bench.work.wanted("visit-1", ManifestVisit(language="en")) == []

    @pytest.mark.parametrize("url", REFUSED_URLS.values(), ids=REFUSED_URLS)
    def test_a_url_nobody_should_fetch_is_refused(self, bench: Bench, url: str) -> None:
        with pytest.raises(MedscribeError) as refused:
            bench.work.wanted("visit-1", ManifestVisit(audio_url=url))

        assert refused.value.code.startswith("audio_url")
        assert "secret" not in str(refused.value)

    def test_a_local_file_is_refused_unless_files_are_taken_from_its_folder(self, bench: Bench) -> None:
        path = bench.settings.home / "somewhere-else.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64))

        with pytest.raises(MedscribeError) as refused:
            bench.work.wanted("visit-1", ManifestVisit(audio_path=str(path)))
        if self.takes_files:
            bench.configure(AUDIO_FOLDER=str(path.parent))
            assert bench.work.wanted("visit-1", ManifestVisit(audio_path=str(path)))

        assert refused.value.code.startswith("audio_")
        assert str(path) not in str(refused.value)

    def test_a_language_that_is_none_is_refused(self, bench: Bench) -> None:
        with pytest.raises(MedscribeError) as refused:
            bench.work.wanted("visit-1", ManifestVisit(audio_url=AUDIO, language="?!"))

        assert refused.value.code == "language"

    def test_spelling_does_not_matter_where_the_sense_is_clear(self, bench: Bench) -> None:
        assert self.same_wishes
        for one, other in self.same_wishes:
            specs = [bench.work.wanted("v", ManifestVisit(**{"audio_url": AUDIO, **each})) for each in (one, other)]
            assert specs[0] == specs[1]
