"""`medscribe day` and the verdict of `medscribe status`: the answer for a synced clinic, as page, text and JSON."""

from __future__ import annotations

import stat
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.cli.options import local_day
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.operation.reasons import Kind, look
from tests.synced import CLOSED_PORT, DAYS, secrets_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.cli.conftest import Ran
    from tests.synced import Clinic

DAY = DAYS[1]


def test_a_day_is_written_as_a_page_for_its_owner_that_names_nobody(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    out = tmp_path / "day.html"

    ran = medscribe("day", DAY, "--out", out)

    page = out.read_text(encoding="utf-8")
    assert ran.code == 1
    assert f"{DAY} is not complete:" in ran.words
    assert f"{out} written." in ran.words.replace("\n", "")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "<svg" in page
    assert [secret for secret in secrets_of(clinic) if secret in page + ran.out] == []


def test_a_page_that_is_there_is_replaced_only_on_demand(
    clinic: Clinic, medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    assert clinic
    out = tmp_path / "day.html"
    out.write_text("mine", encoding="utf-8")

    kept, replaced = medscribe("day", DAY, "--out", out), medscribe("day", DAY, "--out", out, "--force")

    assert (kept.code, replaced.code) == (2, 1)
    assert "file_exists" in kept.err
    assert "<svg" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", sorted({look(kind, "refused", date(2026, 3, 2)) for kind in Kind} - {""}))
def test_what_lists_which_ones_they_are_is_a_command_there_is(
    clinic: Clinic, medscribe: Callable[..., Ran], command: str
) -> None:
    assert clinic
    program, *words = command.split()

    assert (program, medscribe(*words).code) == ("medscribe", 0)


@pytest.mark.parametrize("words", [("quarantine", "list"), ("deliveries", "list"), ("jobs", "list")])
def test_every_list_knows_yesterday(clinic: Clinic, medscribe: Callable[..., Ran], words: tuple[str, ...]) -> None:
    assert clinic

    assert medscribe(*words, "--day", "yesterday").code == 0
    assert medscribe(*words, "--day", "someday").code == 2


def test_a_day_for_programs_counts_what_is_in_the_warehouse(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("day", DAY, "--json")

    told = ran.json
    landed = clinic.value("SELECT count(*) FROM source_records WHERE visit_day = ?", DAY.isoformat())
    notes = clinic.value("SELECT count(*) FROM notes WHERE visit_day = ?", DAY.isoformat())
    assert sum(each["landed"] for each in told["providers"].values()) == landed
    assert sum(sum(each["notes"].values()) for each in told["providers"].values()) == notes
    assert all(stream["past_the_day"] for stream in told["streams"])
    assert told["verdict"]["over"] is True
    assert [secret for secret in secrets_of(clinic) if secret in ran.out] == []


def test_without_a_file_every_gap_says_what_to_do(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    assert clinic
    ran = medscribe("day", DAY)

    gaps = medscribe("day", DAY, "--json").json["missing"]
    assert gaps
    for gap in gaps:
        assert gap["says"] in ran.words
        assert gap["to_do"] in ran.words


def test_providers_are_asked_for_their_own_counts_only_on_demand(
    clinic: Clinic, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clinic
    asked = {
        f"{each['provider']} {each['stream']}": each
        for each in medscribe("day", DAY, "--ask-providers", "--json").json["own_counts"]
    }
    monkeypatch.setenv("MEDSCRIBE_ASKARA_BASE_URL", CLOSED_PORT)
    alone = medscribe("day", DAY, "--json").json["own_counts"]

    assert asked["askara audios"]["counted"] > 0
    assert asked["askara audios"]["missing"] == 0
    assert asked["audioscribe sessions"]["code"] == "no_count"
    assert alone == []


def test_status_answers_for_a_day_and_without_one_for_yesterday(clinic: Clinic, medscribe: Callable[..., Ran]) -> None:
    yesterday = datetime.now(clinic.settings.zone).date() - timedelta(days=1)

    of_day, of_all = medscribe("status", "--day", DAY), medscribe("status")
    named = medscribe("status", "--day", "yesterday", "--json").json["explained"]

    assert f"{DAY} is not complete:" in of_day.words
    assert "Do this first:" in of_day.words
    assert f"{yesterday} is " in of_all.words
    assert (of_day.code, of_all.code) == (0, 0)
    assert (named["day"], set(named)) == (yesterday.isoformat(), {"day", "verdict", "missing"})


@pytest.mark.parametrize("command", [("day", "someday"), ("status", "--day", "2026-02-30")])
def test_what_is_no_day_is_refused(home: Path, medscribe: Callable[..., Ran], command: tuple[str, ...]) -> None:
    assert home
    ran = medscribe(*command)

    assert ran.code == 2
    assert "code=day" in ran.err


def test_yesterday_is_that_of_the_account(make_settings: Callable[..., Settings]) -> None:
    paris = make_settings(timezone="Europe/Paris")
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)  # half past midnight in Paris

    assert local_day("today", paris, late) == date(2026, 3, 2)
    assert local_day("yesterday", paris, late) == date(2026, 3, 1)
    with pytest.raises(ConfigError, match="code=day"):
        local_day("tomorrow", paris, late)
