"""What every provider with a list has to do, whoever it is.

A subclass names the provider and a few of its fields, and gives an `origin`: the provider's side. Everything runs over
real HTTP, through the settings, the catalogue and the warehouse that production uses.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from medscribe_pipeline.errors import ConfigError, ProviderContractError, Retriable
from medscribe_pipeline.providers.retry import CredentialsError
from medscribe_pipeline.settings import ProviderSettings
from tests.conformance.bench import check_credentials, told
from tests.conformance.gate import CANARY, TROUBLES, unused_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from medscribe_pipeline.providers.pull import PullReport
    from tests.conformance.bench import Bench, OpenBench, Origin

__all__ = ["ListedProviderConformance"]

HARD_TEXTS = {
    "accents": "Élodie Ærøskøbing: déjà vu\N{COMBINING ACUTE ACCENT} 37,5 °C \N{GREEK SMALL LETTER MU}g",
    "scripts": "سلمى 患者 \N{GRINNING FACE} \N{ZERO WIDTH JOINER}\N{RIGHT-TO-LEFT OVERRIDE}",
    "nul": "before\x00after",
    "surrogate": "half \ud83d of a pair",
    "markup": "<script>alert(1)</script> & <b>\"'</b> \\ %s {0} ${x}",
    "long": "A very long sentence about nothing at all. " * 5_000,
}


class ListedProviderConformance(ABC):
    """Gives a provider with streams its tests."""

    name: ClassVar[str]
    """Name of the provider, as in the catalogue."""
    stream: ClassVar[str]
    """The stream whose records become notes."""
    id_field: ClassVar[str]
    text_field: ClassVar[str]
    time_field: ClassVar[str]
    """When the text was made: a note's `created_at`."""
    change_field: ClassVar[str | None] = None
    """When a record changed last, where the provider says so."""
    optional_fields: ClassVar[tuple[str, ...]]
    """What a record of that stream may lack."""
    open_fields: ClassVar[tuple[str, ...]] = ()
    """Fields whose words may grow in number."""
    credentials: ClassVar[tuple[tuple[str, ...], ...]] = (("TOKEN",),)
    """Sets of variables, without their prefix; each set alone is enough. The first is the one the origin accepts."""

    @classmethod
    @abstractmethod
    def origin(cls) -> AbstractContextManager[Origin]:
        """The provider with at least six records in the stream, on at least two pages, all of them well-formed.

        All tests share it; what they change, they change on its way out.
        """

    @classmethod
    @abstractmethod
    def empty_origin(cls) -> AbstractContextManager[Origin]:
        """The same account, as yet without anything."""

    def is_signed_off(self, payload: dict[str, Any], parent: dict[str, Any] | None) -> bool:  # noqa: ARG002
        """Whether a record, with what it hangs on, says that a clinician has signed the text off."""
        return False

    @pytest.fixture(scope="class")
    @classmethod
    def shared_origin(cls) -> Iterator[Origin]:
        with cls.origin() as origin:
            yield origin

    @pytest.fixture
    def bench(self, open_bench: OpenBench, shared_origin: Origin) -> Iterator[Bench]:
        with open_bench(self.name, shared_origin, self.id_field) as bench:
            yield bench

    def _ids(self, bench: Bench) -> list[str]:
        return sorted(bench.origin.held[self.stream])

    def _variable(self) -> str:
        return f"MEDSCRIBE_{self.name.upper()}_{self.credentials[0][0]}"

    def _edited(self, text: Any) -> dict[str, Any]:
        """What changes in a record when somebody rewrites it."""
        later = {self.change_field: "2026-11-01T12:00:00+00:00"} if self.change_field else {}
        return {self.text_field: text, **later}

    # What there is to know about it

    def test_the_catalogue_says_all_about_it(self, bench: Bench) -> None:
        provider = bench.provider

        names = [stream.name for stream in provider.streams]
        assert provider.name == self.name
        assert self.stream in names
        assert set(bench.origin.held) == set(names)
        for place, stream in enumerate(provider.streams):
            assert re.fullmatch(r"[a-z][a-z_]*", stream.name)
            assert stream.description.endswith(".")
            assert set(stream.after) <= set(names[:place])

    def test_its_settings_are_where_they_are_looked_for(self, bench: Bench) -> None:
        assert isinstance(bench.own, ProviderSettings)
        assert bench.own.model_config.get("env_prefix") == f"MEDSCRIBE_{self.name.upper()}_"
        for kind in ("patient", "practitioner", "encounter"):
            assert self.name in bench.settings.identifier_system(self.name, kind)

    def test_it_is_there_with_credentials_and_only_then(self, bench: Bench) -> None:
        check_credentials(bench, self.credentials)

    def test_it_is_one_of_many(self, bench: Bench) -> None:
        assert bench.settings.providers == (self.name,)

    # Credentials and connection

    def test_a_credential_that_cannot_be_sent_names_its_variable(self, bench: Bench) -> None:
        bench.configure(**{self.credentials[0][0]: f"{CANARY}\ntwo lines"})

        with pytest.raises(ConfigError, match=self._variable()) as refused:
            bench.pull()

        assert CANARY not in told(refused.value)
        assert bench.gate.seen == []

    def test_wrong_credentials_name_their_variable_and_nothing_lands(self, bench: Bench) -> None:
        bench.configure(**{self.credentials[0][0]: CANARY})

        with pytest.raises(CredentialsError, match=self._variable()) as refused:
            bench.pull()

        assert refused.value.code == "credentials"
        assert CANARY not in told(refused.value)
        assert bench.records() == []

    def test_unreachable_is_worth_another_try(self, bench: Bench) -> None:
        with unused_url() as url:
            bench.configure(BASE_URL=url, MAX_ATTEMPTS="2")

            with pytest.raises(Retriable):
                bench.pull()

        assert bench.records() == []

    def test_it_only_reads_and_tells_its_credentials_in_a_header(self, bench: Bench) -> None:
        bench.pull()

        secrets = [
            value for name, value in bench.origin.environment.items() if name.endswith(("TOKEN", "SECRET", "KEY"))
        ]
        assert secrets
        assert {asked.method for asked in bench.gate.seen} == {"GET"}
        for asked in bench.gate.seen:
            assert not any(secret in asked.target for secret in secrets)
            assert any(secret in value for secret in secrets for value in asked.headers.values())

    def test_what_is_no_list_stops_it(self, bench: Bench) -> None:
        bench.gate.listed = lambda body: {"detail": CANARY} if isinstance(body, list | dict) else body

        with pytest.raises(ProviderContractError) as stopped:
            bench.pull()

        assert CANARY not in told(stopped.value)
        assert bench.records() == []

    # Pulling

    def test_a_pull_lands_everything(self, bench: Bench) -> None:
        reports = bench.pull()

        held = bench.origin.held
        assert {name: {row["source_id"] for row in bench.records(name)} for name in held} == held
        assert bench.quarantined() == []
        assert reports[self.stream].pages > 1
        assert all(report.complete for report in reports.values())

    def test_a_second_pull_writes_nothing(self, bench: Bench) -> None:
        bench.pull()
        before = bench.records()

        reports = bench.pull()

        assert bench.records() == before
        assert sum(report.landed.new + report.landed.changed for report in reports.values()) == 0

    def test_reading_all_again_changes_nothing(self, bench: Bench) -> None:
        bench.pull()
        before = {key: row["change_seq"] for row in bench.records() if (key := (row["stream"], row["source_id"]))}

        bench.pull(full=True)

        assert {(row["stream"], row["source_id"]): row["change_seq"] for row in bench.records()} == before

    def test_an_empty_account_is_fine(self, open_bench: OpenBench) -> None:
        with self.empty_origin() as origin, open_bench(self.name, origin, self.id_field) as bench:
            reports = bench.pull()

            assert all(report.complete and report.items == 0 for report in reports.values())
            assert bench.records() == []

    def test_a_list_without_end_is_stopped(self, bench: Bench) -> None:
        bench.configure(MAX_PAGES="1")

        with pytest.raises(ProviderContractError) as stopped:
            bench.pull()

        assert stopped.value.code == "too_many_pages"
        assert 0 < len(bench.records()) < sum(map(len, bench.origin.held.values()))

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_trouble_on_the_way_leaves_no_trace(self, bench: Bench, trouble: str) -> None:
        bench.pull()
        undisturbed = bench.state()
        bench.start_again()
        bench.gate.trouble = trouble

        bench.pull()

        assert bench.state() == undisturbed
        assert bench.quarantined() == []

    def test_an_api_that_breaks_down_keeps_what_landed_and_the_next_pull_goes_on(self, bench: Bench) -> None:
        bench.pull()
        undisturbed = bench.state()
        bench.start_again()
        # In the midst of it: pages asked for ahead, of which there are more or fewer, must not be what breaks.
        bench.gate.broken_after = len(bench.gate.seen) * 4 // 3
        with pytest.raises(Retriable) as broken:
            bench.pull()
        landed = len(bench.records())
        bench.gate.behave()

        bench.pull()

        assert CANARY not in told(broken.value)
        assert 0 < landed < len(undisturbed)
        assert bench.state() == undisturbed
        assert bench.quarantined() == []

    def test_a_run_that_dies_is_simply_followed_by_another(self, bench: Bench) -> None:
        bench.pull()
        undisturbed = bench.state()
        bench.start_again()
        with pytest.raises(_PowerCutError):
            bench.pull(on_progress=_die)
        landed = len(bench.records())

        bench.pull()

        assert 0 < landed < len(undisturbed)
        assert bench.state() == undisturbed

    # Records as they come

    def test_what_nobody_knows_yet_is_kept_and_stops_nothing(self, bench: Bench) -> None:
        first, *others = self._ids(bench)
        news = {"qx_new_field": {"deep": [1, None, "x"]}}
        words = dict(zip(others, self.open_fields, strict=False))
        bench.gate.changes = {first: news, **{key: {field: "qx_new_word"} for key, field in words.items()}}

        bench.pull()
        notes = bench.map()

        assert len(words) == len(self.open_fields)
        assert bench.record(self.stream, first)["payload"]["qx_new_field"] == news["qx_new_field"]
        for key, field in words.items():
            assert bench.record(self.stream, key)["payload"][field] == "qx_new_word"
        assert {first, *words} <= {note["source_id"] for note in notes}

    @pytest.mark.parametrize("gone", [..., None], ids=["absent", "null"])
    def test_what_may_be_missing_may_be_missing(self, bench: Bench, gone: Any) -> None:
        assert self.optional_fields
        lacking = {key: dict.fromkeys(self.optional_fields, gone) for key in self._ids(bench)[:1]}
        lacking |= {key: {field: gone} for key, field in zip(self._ids(bench)[1:], self.optional_fields, strict=False)}
        bench.gate.changes = lacking

        bench.pull()
        bench.map()

        assert bench.quarantined() == []
        outcomes = {row["source_id"]: row["outcome"] for row in bench.records(self.stream)}
        assert {outcomes[key] for key in lacking} <= {"note", "held"}

    def test_damaged_records_wait_in_quarantine_and_stop_nothing(self, bench: Bench) -> None:
        keys = self._ids(bench)
        bench.gate.changes = {keys[0]: {self.time_field: f"{CANARY} o'clock"}, keys[1]: {self.time_field: ...}}
        bench.gate.replaced = dict(zip(keys[2:5], (CANARY, 17, {"no": "id"}), strict=True))

        bench.pull()

        rows = bench.quarantined()
        assert {row["source_id"] for row in bench.records(self.stream)} == set(keys[5:])
        assert {row["source_id"] for row in rows} >= set(keys[:2])
        assert len(rows) == 5
        assert CANARY not in str([row["field_paths"] for row in rows])

    def test_a_record_that_is_repaired_leaves_the_quarantine(self, bench: Bench) -> None:
        key = self._ids(bench)[0]
        bench.gate.changes = {key: {self.time_field: 17}}
        bench.pull()
        assert [row["source_id"] for row in bench.quarantined()] == [key]
        bench.gate.changes = {}

        bench.pull(full=True)

        assert bench.quarantined() == []
        assert bench.record(self.stream, key)

    @pytest.mark.parametrize("text", HARD_TEXTS.values(), ids=HARD_TEXTS)
    def test_every_text_comes_through(self, bench: Bench, text: str) -> None:
        key = self._ids(bench)[0]
        bench.gate.changes = {key: {self.text_field: text}}

        bench.pull()
        bench.map()

        # Databases store neither U+0000 nor half a surrogate pair: those alone are replaced.
        kept = re.sub("[\x00\ud800-\udfff]", "[?\N{REPLACEMENT CHARACTER}]", re.escape(text.strip()))
        assert re.search(kept, bench.note(key)["text"])
        assert bench.quarantined() == []

    def test_times_mean_what_they_say(self, bench: Bench) -> None:
        bench.configure_general(TIMEZONE="Europe/Paris")
        spellings = {
            "2026-03-10T09:30:00": datetime(2026, 3, 10, 8, 30, tzinfo=UTC),
            "2026-03-10T09:30:00Z": datetime(2026, 3, 10, 9, 30, tzinfo=UTC),
            "2026-03-10T09:30:00.250000+05:30": datetime(2026, 3, 10, 4, 0, 0, 250_000, tzinfo=UTC),
            "2026-07-10T00:10:00": datetime(2026, 7, 9, 22, 10, tzinfo=UTC),
        }
        expected = dict(zip(self._ids(bench), spellings.values(), strict=False))
        bench.gate.changes = {key: {self.time_field: text} for key, text in zip(expected, spellings, strict=True)}

        bench.pull()
        bench.map()

        assert {key: bench.note(key)["created_at"] for key in expected} == expected

    # Notes

    def test_every_record_becomes_a_note_or_says_why_not(self, bench: Bench) -> None:
        bench.pull()

        notes = bench.map()

        rows = bench.records()
        assert notes
        assert {row["outcome"] for row in rows} <= {"note", "part", "held"}
        assert all(row["outcome_code"] for row in rows if row["outcome"] != "note")
        assert {note["source_id"] for note in notes} >= {row["source_id"] for row in rows if row["outcome"] == "note"}
        assert {note["provider"] for note in notes} == {self.name}
        assert all(note["created_at"] for note in notes)

    def test_only_what_a_clinician_signed_off_counts_as_validated(self, bench: Bench) -> None:
        bench.pull()

        validated = {note["source_id"] for note in bench.map() if note["state"] == "validated"}

        payloads = {row["source_id"]: row["payload"] for row in bench.records()}
        signed = {
            row["source_id"]
            for row in bench.records(self.stream)
            if self.is_signed_off(row["payload"], payloads.get(row["parent_id"]))
        }
        assert validated <= signed

    def test_a_note_has_the_same_id_for_ever_and_another_in_every_account(self, bench: Bench) -> None:
        bench.pull()
        ids = {note["source_id"]: note["note_id"] for note in bench.map()}
        bench.start_again()
        bench.pull()
        again = {note["source_id"]: note["note_id"] for note in bench.map()}
        bench.configure_general(ACCOUNT="another")
        bench.start_again()
        bench.pull()

        elsewhere = {note["source_id"]: note["note_id"] for note in bench.map()}

        assert again == ids
        assert elsewhere.keys() == ids.keys()
        assert not set(elsewhere.values()) & set(ids.values())

    def test_a_version_changes_with_the_text_and_with_nothing_of_ours(self, bench: Bench) -> None:
        key = self._ids(bench)[0]
        bench.pull()
        before = {note["note_id"]: note["version"] for note in bench.map()}
        bench.start_again()
        bench.pull()
        assert {note["note_id"]: note["version"] for note in bench.map()} == before
        bench.gate.changes = {key: self._edited("Chief complaint: another text")}

        bench.pull(full=True)

        after = {note["note_id"]: note["version"] for note in bench.map()}
        changed = {note_id for note_id, version in after.items() if before[note_id] != version}
        assert after.keys() == before.keys()
        assert changed == {bench.note(key)["note_id"]}

    def test_an_edit_touches_one_record(self, bench: Bench) -> None:
        key = self._ids(bench)[0]
        bench.pull()
        before = {row["source_id"]: row["change_seq"] for row in bench.records(self.stream)}
        bench.gate.changes = {key: self._edited("Chief complaint: another text")}

        report = bench.pull(full=True)[self.stream]

        after = {row["source_id"]: row["change_seq"] for row in bench.records(self.stream)}
        assert {source_id for source_id, seq in after.items() if before[source_id] != seq} == {key}
        assert (report.landed.new, report.landed.changed) == (0, 1)

    # What must not get out

    def test_no_log_and_no_error_knows_a_patient(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        keys = self._ids(bench)
        bench.gate.changes = {key: {self.text_field: CANARY} for key in keys[1:]}
        bench.gate.changes[keys[0]] = {self.time_field: CANARY, self.text_field: [CANARY]}
        bench.pull()
        bench.map()
        bench.gate.broken_after = 0

        with pytest.raises(Retriable) as broken:
            bench.pull(full=True)

        said = caplog.text + told(broken.value)
        secrets = [
            value for name, value in bench.origin.environment.items() if name.endswith(("TOKEN", "SECRET", "KEY"))
        ]
        assert CANARY in str(bench.records())
        words = (CANARY, *keys, *secrets, bench.gate.url)
        assert [word for word in words if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", said)] == []


class _PowerCutError(Exception):
    """Stands for the end of the process."""


def _die(_: PullReport) -> None:
    raise _PowerCutError
