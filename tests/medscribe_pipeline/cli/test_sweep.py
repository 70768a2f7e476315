"""`medscribe sweep` and `medscribe prune`: counts for people and programs, exit codes, and the EHR in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.synced import secrets_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic

DELIVERED = "SELECT n.source_id, n.note_id FROM notes n JOIN deliveries d ON d.note_id = n.note_id "


@pytest.fixture
def victim(clinic: Clinic) -> tuple[str, str]:
    """An Askara note that was delivered, and its note id; the provider has lost it."""
    (source_id, note_id), *_ = clinic.rows(
        f"{DELIVERED} WHERE d.state = 'delivered' AND n.provider = 'askara' ORDER BY n.source_id"
    )
    clinic.sandbox.world.delete("notes", source_id)
    return source_id, note_id


def test_by_default_it_reports_and_asks_somebody_to_look(
    clinic: Clinic, medscribe: Callable[..., Ran], victim: tuple[str, str]
) -> None:
    ran = medscribe("sweep", "--json")

    assert (ran.code, ran.json["policy"]) == (1, "report")
    assert set(ran.json["providers"]) == {"askara", "audioscribe"}
    notes = next(each for each in ran.json["providers"]["askara"] if each["stream"] == "notes")
    assert (notes["missing"], notes["gone"], notes["retracted"], notes["doubt"]) == (1, 1, 0, None)
    assert "gone_ids" not in notes
    assert clinic.value("SELECT state FROM notes WHERE note_id = ?", victim[1]) == "validated"


def test_it_names_no_record_unless_asked_and_then_writes_down_who_asked(
    clinic: Clinic, medscribe: Callable[..., Ran], victim: tuple[str, str]
) -> None:
    without = medscribe("sweep", "--provider", "askara")
    asked = medscribe("sweep", "--provider", "askara", "--ids")

    assert [secret for secret in secrets_of(clinic) if secret in without.out + without.err] == []
    assert "MEDSCRIBE_SWEEP_POLICY=report" in without.words
    assert f"askara:{victim[0]}" in asked.out
    assert clinic.rows("SELECT what, subject FROM access_log") == [("sweep_ids", "askara")]


def test_with_the_policy_retract_the_ehr_learns_of_it(
    clinic: Clinic, medscribe: Callable[..., Ran], victim: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_SWEEP_POLICY", "retract")
    server_id = clinic.value("SELECT server_id FROM deliveries WHERE note_id = ? AND kind = 'Composition'", victim[1])

    swept = medscribe("sweep")
    synced = medscribe("sync", "--json")

    assert swept.code == 0
    assert "retracted by the next `medscribe sync`" in swept.words
    assert synced.json["run"]["failures"] == []
    assert clinic.value("SELECT state FROM notes WHERE note_id = ?", victim[1]) == "retracted"
    withdrawn = "SELECT count(*) FROM deliveries WHERE note_id = ? AND state = 'delivered' AND settled_at IS NOT NULL"
    assert clinic.value(withdrawn, victim[1]) == 4
    current = clinic.sandbox.fhir.read("Composition", server_id)
    assert current.resource["status"] == "entered-in-error"


def test_a_dry_run_writes_nothing(clinic: Clinic, medscribe: Callable[..., Ran], victim: tuple[str, str]) -> None:
    ran = medscribe("sweep", "--dry-run")

    assert ran.code == 1
    assert "Nothing was written" in ran.words
    assert clinic.value("SELECT count(*) FROM sweep_sightings") == 0
    assert victim


def test_a_list_nobody_can_believe_is_told(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    for key in list(clinic.sandbox.world.records("sessions")):
        clinic.sandbox.world.delete("sessions", key)

    ran = medscribe("sweep", "--provider", "audioscribe")

    assert ran.code == 1
    assert "audioscribe sessions: the list is empty" in ran.words


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--provider", "nobody"), "unknown_provider"),
        (("--since-day", "yesterday"), "day"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    clinic: Clinic, medscribe: Callable[..., Ran], arguments: tuple[str, ...], code: str
) -> None:
    ran = medscribe("sweep", *arguments)

    assert (ran.code, f"code={code}" in ran.err) == (2, True)
    assert clinic


def test_without_a_provider_there_is_nothing_to_sweep(home: object, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("sweep")

    assert (ran.code, "code=no_provider" in ran.err) == (2, True)
    assert home


def test_prune_says_what_it_removed(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_PAYLOAD_DAYS", "1")
    clinic.change("UPDATE source_records SET fetched_at = '2026-01-01T00:00:00.000000+00:00'")

    counted = medscribe("prune", "--dry-run", "--json")
    done = medscribe("prune", "--json")
    again = medscribe("prune")

    assert counted.json == {"dry_run": True, "pruned": done.json["pruned"]}
    assert done.json["pruned"]["source_records"] > 0
    assert again.words == "Removed: 0 replaced versions of notes, 0 payloads."
    assert (
        clinic.value("SELECT count(*) FROM source_records WHERE payload = '{}'")
        == done.json["pruned"]["source_records"]
    )
