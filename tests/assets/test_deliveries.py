"""The assets that deliver: one for each target, each on its own, within what one run may send."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from assets.deliveries import delivery_names, summary
from medscribe_pipeline.ehr.delivery import DeliveryReport
from medscribe_pipeline.pipeline import due_days
from medscribe_pipeline.sandbox import Sandbox
from tests.assets.jobs import build, failures, reported, sync
from tests.synced import CLOSED_PORT, CORPUS, DAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings
    from tests.synced import Clinic

ON_TARGET = "SELECT DISTINCT note_id, version, state, reason FROM deliveries WHERE target = ? ORDER BY 1, 2"


@pytest.fixture
def store(empty_clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A second FHIR server, which the clinic delivers to as well."""
    assert empty_clinic
    with Sandbox(corpus=CORPUS) as other:
        monkeypatch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["fhir-store"]')
        for name in ("BASE_URL", "TOKEN"):
            monkeypatch.setenv(f"MEDSCRIBE_EHR_FHIR_STORE_{name}", other.environment()[f"MEDSCRIBE_EHR_{name}"])
        yield other


def due(clinic: Clinic) -> int:
    with clinic.open() as warehouse:
        return len(due_days(warehouse, clinic.settings))


def report(**facts: object) -> DeliveryReport:
    counts = {"delivered": 2, "already_delivered": 1, "planned": 0, "in_flight": 0}
    return DeliveryReport(target="ehr", day=DAYS[0], **{**counts, **facts})  # type: ignore[arg-type]  # any of its facts


def test_a_target_that_is_down_stops_no_other_and_is_delivered_to_when_it_is_back(
    empty_clinic: Clinic, store: Sandbox, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store.environment()["MEDSCRIBE_EHR_BASE_URL"]
    monkeypatch.setenv("MEDSCRIBE_EHR_FHIR_STORE_BASE_URL", CLOSED_PORT)
    monkeypatch.setenv("MEDSCRIBE_EHR_FHIR_STORE_MAX_ATTEMPTS", "1")
    sync(instance)

    while_down = build(instance, DAYS)
    due_while_down = due(empty_clinic)
    monkeypatch.setenv("MEDSCRIBE_EHR_FHIR_STORE_BASE_URL", url)
    when_back = build(instance, DAYS)

    told = failures(while_down)
    assert list(told) == ["ehr_deliveries_fhir_store"]
    assert told["ehr_deliveries_fhir_store"]["exit_code"] == 3
    sent = {day: facts["delivered"] for (name, day), facts in reported(while_down).items() if name == "ehr_deliveries"}
    assert set(sent) == set(map(str, DAYS))
    assert sum(sent.values()) > 0
    assert due_while_down == len(DAYS)
    assert when_back.success
    assert due(empty_clinic) == 0
    assert empty_clinic.rows(ON_TARGET, "ehr") == empty_clinic.rows(ON_TARGET, "fhir-store") != []
    for kind in ("Composition", "DocumentReference"):
        filed = [len(list(each.fhir.resources(kind))) for each in (empty_clinic.sandbox, store)]
        assert filed == [sum(sent.values())] * 2


def test_what_a_run_may_send_is_shared_by_its_days_and_the_rest_is_left(
    empty_clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_EHR_DOCUMENTS_PER_RUN", "3")
    monkeypatch.setenv("MEDSCRIBE_EHR_READ_BACK_SHARE", "1")
    sync(instance)

    result = build(instance, DAYS)

    facts = [facts for (name, _), facts in reported(result).items() if name == "ehr_deliveries"]
    total = {key: sum(each[key] for each in facts) for key in ("delivered", "left_for_next_run", "read_back")}
    planned = empty_clinic.value("SELECT count(DISTINCT note_id) FROM deliveries WHERE state = 'planned'")
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert result.success
    assert total == {"delivered": 3, "left_for_next_run": planned, "read_back": 3}
    assert planned > 0
    assert due(empty_clinic) > 0
    assert (checks["stored_as_sent"].passed, checks["stored_as_sent"].metadata["read_back"].value) == (True, 3)
    assert {"delivered  " in each["run"] for each in facts} == {True}
    assert len({each["run"] for each in facts}) == 1


def test_what_the_server_did_not_keep_is_a_warning(
    clinic: Clinic, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clinic
    found = report(read_back=2, changed={"DocumentReference.custodian": 2, "Composition.title": 1})
    monkeypatch.setattr("assets.deliveries.deliver_day", lambda *_, **__: found)

    result = build(instance, DAYS[:2])

    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "stored_as_sent"]
    assert result.success
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert {name: value.value for name, value in check.metadata.items()} == {
        "read_back": 4,
        "changed": "DocumentReference.custodian 4, Composition.title 2",
    }


def test_a_run_is_the_sum_of_its_days() -> None:
    quick, slow = {0.05: 9, 0.1: 1}, {0.1: 5, math.inf: 5}

    told = summary([report(latency_histogram=quick, held={"not_validated": 3}), report(latency_histogram=slow)])

    lines = [line.rstrip() for line in told.split("\n")]
    assert "**Notes of 2 visit days, by state**" in lines
    assert [line.split()[-1] for line in lines if line.startswith(("delivered", "already", "held"))] == ["4", "2", "3"]
    assert [(line.split("  ")[0], line.split()[-1]) for line in lines if line.startswith(("up to", "longer"))] == [
        ("up to 0.05", "9"),
        ("up to 0.1", "6"),
        ("longer", "5"),
    ]
    assert "half within 0.1 s, 95 % within longer" in told


def test_a_run_without_days_or_answers_still_says_so() -> None:
    assert summary([]).startswith("**Notes of 0 visit days")
    assert "Answered" not in summary([report()])


def test_the_ehr_keeps_its_asset_whatever_else_is_delivered_to(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(ehr={"base_url": "https://ehr.example/fhir", "target": "clinic"})
    store = settings.ehr.model_copy(update={"target": "fhir.store-2"})
    alone = settings.model_copy(update={"ehr": settings.ehr.model_copy(update={"base_url": None})})

    assert delivery_names(settings.model_copy(update={"more_targets": (store,)})) == {
        "clinic": "ehr_deliveries",
        "fhir.store-2": "ehr_deliveries_fhir_store_2",
    }
    assert delivery_names(alone.model_copy(update={"more_targets": (store,)})) == {
        "fhir.store-2": "ehr_deliveries_fhir_store_2"
    }
