"""Whatever dies when: after another run the EHR holds each note once, and the ledger says so.

The server heeds no conditions here, so that nothing but the ledger stands between a crash and a second copy.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.medscribe_pipeline.ehr.clinic import edited, note
from tests.medscribe_pipeline.ehr.deliver_and_die import DIED
from tests.warm import start_warm

if TYPE_CHECKING:
    from tests.medscribe_pipeline.ehr.clinic import Clinic
    from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr
    from tests.warm import WarmProcess

SCRIPT = Path(__file__).with_name("deliver_and_die.py")
NOTES = [note(number, patient=f"p{number // 2}") for number in range(1, 7)]
KILLED = -9

# So few notes are claimed at once; everything else happens several times.
POINTS = [("claimed", "1"), *((point, each) for point in ("marked_sent", "answered", "settled") for each in "12")]


@pytest.fixture
def ehr(ehr: FakeEhr) -> FakeEhr:
    ehr.conditions = False
    return ehr


def start(clinic: Clinic, ehr: FakeEhr, *more: str) -> WarmProcess:
    home = clinic.settings.home
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "MEDSCRIBE_WAREHOUSE_URL": clinic.settings.database_url}
    return start_warm([str(home), ehr.base_url, *more], environment, home, script=SCRIPT)


def everything_is_there_once(clinic: Clinic, ehr: FakeEhr, version: str) -> bool:
    kinds = ("Composition", "DocumentReference")
    there = [each for kind in kinds for each in ehr.newest(kind)]
    return (
        len(there) == 2 * len(NOTES)
        and {each["meta"]["versionId"] for each in there} == {version}
        and clinic.ledger("delivered") == clinic.ledger() == 2 * len(NOTES) * int(version)
    )


@pytest.mark.parametrize("amendment", [False, True], ids=["first", "amendment"])
@pytest.mark.parametrize(("point", "occurrence"), POINTS)
def test_a_process_that_dies_at_a_checkpoint(
    clinic: Clinic,
    ehr: FakeEhr,
    point: str,
    occurrence: str,
    amendment: bool,
) -> None:
    version = write_day(clinic, amendment=amendment)

    died = start(clinic, ehr, point, occurrence).wait(60)
    ehr.wait_until_idle()
    clinic.deliver()

    assert died == DIED
    assert everything_is_there_once(clinic, ehr, version)


@pytest.mark.parametrize("amendment", [False, True], ids=["first", "amendment"])
def test_a_process_killed_between_commit_and_answer(any_clinic: Clinic, ehr: FakeEhr, amendment: bool) -> None:
    version = write_day(any_clinic, amendment=amendment)
    victims: list[WarmProcess] = []

    def kill() -> None:
        for _ in range(100):  # The first answer may be due before `start` has returned.
            if victims:
                victims[0].kill()
                return
            time.sleep(0.05)

    ehr.on_commit = kill
    victims.append(start(any_clinic, ehr))
    died = victims[0].wait(60)
    ehr.on_commit = lambda: None
    ehr.wait_until_idle()
    any_clinic.deliver()

    assert died == KILLED
    assert everything_is_there_once(any_clinic, ehr, version)


def test_two_processes_deliver_one_day_and_nothing_twice(any_clinic: Clinic, ehr: FakeEhr) -> None:
    notes = [note(number, patient=f"p{number}") for number in range(1, 41)]
    any_clinic.write(*notes)
    ehr.before_transaction = lambda: time.sleep(0.02)

    ended = [process.wait(60) for process in [start(any_clinic, ehr), start(any_clinic, ehr)]]

    assert ended == [0, 0]
    assert ehr.seen["POST"] == len(notes)
    assert len(ehr.newest("Composition")) == len(ehr.newest("DocumentReference")) == len(notes)
    assert any_clinic.ledger("delivered") == 2 * len(notes)


def write_day(clinic: Clinic, *, amendment: bool) -> str:
    """Writes the notes, and delivers them to be amended; returns the server version that is right in the end."""
    clinic.write(*NOTES)
    if not amendment:
        return "1"
    clinic.deliver()
    clinic.write(*(edited(each, "Seen again after a week.") for each in NOTES))
    return "2"
