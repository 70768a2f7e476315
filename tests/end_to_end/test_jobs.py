"""Recordings to notes on order: every audio submitted once, every result there once, nothing waits for ever."""

from __future__ import annotations

import resource
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.sandbox import JobOptions, NablaOptions, PushOptions
from medscribe_pipeline.warehouse.tables import inbox, scribe_jobs
from tests.end_to_end.clinic import LISTENED, TRANSCRIBED, UPLOADED, open_clinic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.clinic import Clinic

pytestmark = pytest.mark.timeout(300)

EXPIRES_SOON = {f"MEDSCRIBE_{name}_JOB_EXPIRES_AFTER_S": "5" for name in ("NABLA", "INTRON")}
THOUSAND = 1000


def test_whatever_becomes_of_jobs(tmp_path: Path) -> None:
    push = PushOptions(newest_first=True)
    with open_clinic(tmp_path, settings=EXPIRES_SOON, push=push) as clinic, clinic.receiving():
        clinic.record("nabla", TRANSCRIBED)
        clinic.record("intron", UPLOADED)
        clinic.import_visits()

        clinic.sync_to_the_end()

        assert_ended_as_told(clinic)
        pushes = clinic.sandbox.stats.pushes
        # Sent again by a sender that is refused; both of these it sends once.
        assert {name: count for name, count in pushes.items() if "good" not in name} == {
            "nabla wrong given_up": 2,
            "nabla stale given_up": 1,
        }
        assert set(pushes) >= {"nabla good delivered"}
        events = clinic.rows(inbox)
        assert {(row["verified"], row["code"]) for row in events} == {(True, None)}
        assert sum(row["deliveries"] for row in events) == pushes["nabla good delivered"] > len(events)


def test_whatever_becomes_of_jobs_that_only_callbacks_end(tmp_path: Path, postgres_url: str) -> None:
    """The archived generation of Nabla, which signs nothing and cannot be asked; and Intron; on PostgreSQL."""
    settings = {
        **EXPIRES_SOON,
        "MEDSCRIBE_NABLA_API_VERSION": "archived",
        "MEDSCRIBE_NABLA_WEBHOOK_SECRET": None,
    }
    nabla = NablaOptions(webhook_secrets=())
    with (
        open_clinic(tmp_path, database_url=postgres_url, settings=settings, nabla=nabla) as clinic,
        clinic.receiving(),
    ):
        clinic.record("nabla", LISTENED)
        clinic.record("intron", UPLOADED)
        clinic.import_visits()

        clinic.sync_to_the_end()

        assert_ended_as_told(clinic)
        assert {(row["verified"], row["code"]) for row in clinic.rows(inbox)} == {(False, None)}


def test_a_thousand_jobs(tmp_path: Path) -> None:
    """As many at once as a clinic has in a week; without an EHR, which has tests of its own."""
    settings = {
        "MEDSCRIBE_EHR_BASE_URL": None,
        "MEDSCRIBE_EHR_TOKEN": None,
        "MEDSCRIBE_INTRON_POST_PROCESSING": '["soap_note"]',
        "MEDSCRIBE_NABLA_CONNECTIONS": "8",
        "MEDSCRIBE_INTRON_CONNECTIONS": "8",
    }
    with open_clinic(tmp_path, settings=settings, jobs=JobOptions(steps=1)) as clinic:
        clinic.record("nabla", {"": TRANSCRIBED[""]}, times=THOUSAND // 4)
        clinic.record("intron", {"": UPLOADED[""]}, times=THOUSAND // 2)
        clinic.import_visits(local=False)
        clinic.medscribe.is_cold = True  # Children of this process, whose time is counted below.
        before_s = used_by_commands_s()

        runs = clinic.sync_to_the_end()

        # Of a processor's time: whoever else is busy on this machine does not count.
        assert used_by_commands_s() - before_s < 60
        assert (
            sum(facts.get("submitted", 0) for run in runs for facts in run.json["run"]["sources"].values()) == THOUSAND
        )
        assert clinic.standing() == clinic.ends
        assert len(clinic.ends) == THOUSAND
        assert clinic.sandbox.stats.jobs == clinic.submissions()
        assert not clinic.sandbox.stats.repeats
        clinic.assert_results_are_there_once()


def used_by_commands_s() -> float:
    """Seconds of processor time of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def assert_ended_as_told(clinic: Clinic) -> None:
    """Everything submitted once, ended as its script says, shown by `status`, and there once."""
    assert clinic.standing() == clinic.ends
    assert clinic.sandbox.stats.jobs == clinic.submissions()
    assert not clinic.sandbox.stats.repeats
    assert {row["submissions"] for row in clinic.rows(scribe_jobs)} == {1}
    clinic.assert_results_are_there_once()
    clinic.assert_notes_are_filed_once()
    status = clinic.medscribe.run("status", "--json").json
    for provider in ("nabla", "intron"):
        ends = Counter(end.replace(" ", ".") for key, end in clinic.ends.items() if key.startswith(provider))
        assert status["providers"][provider]["jobs"] == ends
    assert (status["open_events"], status["days_due"]) == (0, 0)
