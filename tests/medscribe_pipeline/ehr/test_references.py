"""Who and where: what an answer of the server is worth, what is kept, and what is never guessed."""

from __future__ import annotations

import logging
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.link_table import import_links
from medscribe_pipeline.ehr.links import LinkRow
from medscribe_pipeline.ehr.lookup import Span, resource_by_identifier
from medscribe_pipeline.ehr.references import (
    BY_TIME,
    ENCOUNTER,
    PATIENT,
    PRACTITIONER,
    ReferenceKey,
    ReferenceState,
    Resolution,
    Wanted,
    hold_reasons,
    resolve,
)
from medscribe_pipeline.ehr.targets import Capabilities
from medscribe_pipeline.errors import ConfigError, ProviderContractError, Retriable
from medscribe_pipeline.providers.http import HttpClient
from medscribe_pipeline.settings import EhrSettings
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.warehouse.tables import ehr_references
from tests.medscribe_pipeline.ehr.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
MRN = "urn:example:mrn"
VISITS = "urn:example:visits"
WHO = Wanted(PATIENT, MRN, "ZZ-1")
LITERAL = Capabilities(references="literal")
OTHER_PATIENT = {"other": {"reference": "Patient/p2"}, "type": "replaced-by"}


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    yield server
    server.close()


class Desk:
    """Resolves against the registry, with a clock that stands still unless moved."""

    def __init__(self, warehouse: Warehouse, registry: Registry) -> None:
        self.warehouse = warehouse
        self.registry = registry
        self.now = NOW
        self.settings = EhrSettings(
            base_url=registry.base_url, connections=3, max_attempts=1, backoff_s=0, timeout_s=5, max_wait_s=1
        )

    def ask(self, *wanted: Wanted, **changes: Any) -> list[Resolution]:
        self.settings = self.settings.model_copy(update=changes)
        with HttpClient("ehr", self.registry.base_url, self.settings, sleep=lambda _seconds: None) as http:
            found = resolve(
                self.warehouse,
                FhirClient(http),
                "ehr",
                self.settings,
                wanted,
                clock=lambda: self.now,
                capabilities=LITERAL,
            )
        return [found[each] for each in wanted]

    def one(self, wanted: Wanted = WHO, **changes: Any) -> tuple[str, str | None]:
        """State and reference of one."""
        (found,) = self.ask(wanted, **changes)
        return found.state.value, found.reference

    def kept(self) -> list[tuple[Any, ...]]:
        columns = (ehr_references.c[name] for name in ("kind", "value", "state", "server_id", "origin"))
        with self.warehouse.read() as connection:
            rows = connection.execute(sa.select(*columns).order_by(ehr_references.c.kind, ehr_references.c.value))
            return [tuple(row) for row in rows]


@pytest.fixture
def desk(warehouse: Warehouse, registry: Registry) -> Desk:
    return Desk(warehouse, registry)


def test_one_in_use_is_found_and_kept(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1", active=True)

    assert desk.one() == ("found", "Patient/p1")
    assert desk.kept() == [("Patient", "ZZ-1", "found", "p1", "search")]
    assert registry.asked("Patient") == [[("identifier", f"{MRN}|ZZ-1")]]


@pytest.mark.parametrize(
    ("people", "state", "reference"),
    [
        ([], "missing", None),
        ([{}], "found", "Patient/p1"),
        ([{}, {}], "ambiguous", None),
        ([{}, {"active": False}], "found", "Patient/p1"),
        ([{"active": False}], "ambiguous", None),
        ([{"active": False}, {"active": False}], "ambiguous", None),
        ([{"link": [{**OTHER_PATIENT, "type": "seealso"}]}], "found", "Patient/p1"),
        # Merged, and the one that stays carries the identifier too.
        ([{"active": False, "link": [OTHER_PATIENT]}, {}], "found", "Patient/p2"),
        ([{"link": [OTHER_PATIENT]}, {}], "found", "Patient/p2"),
    ],
)
def test_people_with_one_identifier(
    desk: Desk, registry: Registry, people: list[dict[str, Any]], state: str, reference: str | None
) -> None:
    for number, more in enumerate(people, start=1):
        registry.put("Patient", f"p{number}", MRN, "ZZ-1", **more)

    assert desk.one() == (state, reference)


@pytest.mark.parametrize(
    ("links", "heir", "expected"),
    [
        ([OTHER_PATIENT], {}, ("found", "Patient/p2")),
        ([OTHER_PATIENT], {"active": False}, ("ambiguous", None)),
        (
            [OTHER_PATIENT],
            {"link": [{"other": {"reference": "Patient/p3"}, "type": "replaced-by"}]},
            ("ambiguous", None),
        ),
        ([OTHER_PATIENT], None, ("ambiguous", None)),
        ([OTHER_PATIENT, OTHER_PATIENT], {}, ("ambiguous", None)),
        ([{"other": {"display": "Zoë Testperson"}, "type": "replaced-by"}], {}, ("ambiguous", None)),
        (
            [{"other": {"reference": "https://elsewhere.example/Patient/p2"}, "type": "replaced-by"}],
            {},
            ("ambiguous", None),
        ),
    ],
)
def test_a_merge_is_followed_once_and_only_where_it_is_certain(
    desk: Desk,
    registry: Registry,
    links: list[dict[str, Any]],
    heir: dict[str, Any] | None,
    expected: tuple[str, str | None],
) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1", active=False, link=links)
    registry.put("Patient", "p3", MRN, "ZZ-3")
    if heir is not None:
        registry.put("Patient", "p2", MRN, "ZZ-2", **heir)

    assert desk.one() == expected


def test_a_server_that_heeds_no_parameter_finds_nobody(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p9", MRN, "ZZ-9")
    registry.heedless = {"identifier"}

    assert desk.one() == ("ambiguous", None)


def test_more_than_a_page_is_not_certain(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.put("Patient", "p2", MRN, "ZZ-1", active=False)
    registry.page_size = 1

    assert desk.one() == ("ambiguous", None)


def test_a_link_to_a_next_page_is_nothing_where_the_total_says_all_is_there(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.edit = lambda bundle: bundle.update(link=[{"relation": "next", "url": "x"}])

    assert desk.one() == ("found", "Patient/p1")


@given(value=st.text(st.sampled_from("aZ1\\,|$ é%&+#"), min_size=1, max_size=12))
@hypothesis_settings(max_examples=60, deadline=None)
def test_only_who_carries_this_very_identifier_is_found(value: str) -> None:
    registry = Registry()
    try:
        registry.put("Patient", "p1", MRN, value)
        for number, part in enumerate({*value.split(","), *value.split("|"), value * 2} - {value}):
            registry.put("Patient", f"decoy{number}", MRN, part)
        with HttpClient("ehr", registry.base_url, EhrSettings(max_attempts=1)) as http:
            answer = resource_by_identifier(FhirClient(http), PATIENT, MRN, value)
    finally:
        registry.close()

    assert (answer.state, answer.server_id) == (ReferenceState.FOUND, "p1")


def test_what_is_known_is_not_asked_again_until_it_is_old(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    nobody = Wanted(PATIENT, MRN, "ZZ-2")
    valid = {"references_valid_s": 1000, "references_missing_s": 100}

    asked = []
    for seconds in (0, 99, 100, 999, 1000):
        desk.now = NOW + timedelta(seconds=seconds)
        before = len(registry.searches)
        assert [each.state for each in desk.ask(WHO, nobody, **valid)] == ["found", "missing"]
        asked.append(sorted(params[0][1][-4:] for _, params in registry.searches[before:]))

    assert asked == [["ZZ-1", "ZZ-2"], [], ["ZZ-2"], ["ZZ-2"], ["ZZ-1"]]


def test_zero_seconds_ask_every_time(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")

    for _ in range(2):
        desk.one(references_valid_s=0)

    assert len(registry.searches) == 2


def test_what_became_known_replaces_what_was(desk: Desk, registry: Registry) -> None:
    assert desk.one(references_missing_s=0) == ("missing", None)

    registry.put("Patient", "p1", MRN, "ZZ-1")

    assert desk.one() == ("found", "Patient/p1")
    assert desk.kept() == [("Patient", "ZZ-1", "found", "p1", "search")]


def test_a_link_wins_and_never_ends(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    desk.one()
    import_links(desk.warehouse, [LinkRow("ehr", ReferenceKey(PATIENT, MRN, "ZZ-1"), "by-hand")], now=NOW)
    desk.now += timedelta(days=3650)
    before = len(registry.searches)

    assert desk.one(references_valid_s=0) == ("found", "Patient/by-hand")
    assert len(registry.searches) == before


def test_a_link_entered_while_the_server_is_asked_stays(desk: Desk, registry: Registry) -> None:
    link = LinkRow("ehr", ReferenceKey(PATIENT, MRN, "ZZ-1"), "by-hand")
    registry.before = lambda _kind: import_links(desk.warehouse, [link], now=NOW)

    assert desk.one() == ("missing", None)
    assert desk.kept() == [("Patient", "ZZ-1", "found", "by-hand", "link")]
    assert desk.one() == ("found", "Patient/by-hand")


def test_two_runs_at_once_come_to_the_same(desk: Desk, registry: Registry) -> None:
    people = [Wanted(PATIENT, MRN, f"ZZ-{number}") for number in range(20)]
    for number in range(0, 20, 2):
        registry.put("Patient", f"p{number}", MRN, f"ZZ-{number}")
    other = Desk(desk.warehouse, registry)
    results: list[list[Resolution]] = []
    threads = [
        threading.Thread(target=lambda who=who, order=order: results.append(who.ask(*order)))
        for who, order in ((desk, people), (other, people[::-1]))
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(results) == 2
    assert {r.reference for r in results[0]} == {r.reference for r in results[1]}
    assert len(desk.kept()) == 20


def test_an_account_knows_nothing_of_another(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    desk.one()
    other = Desk(Warehouse(desk.warehouse.engine, account="other", locks=desk.warehouse.locks), registry)
    registry.resources.clear()
    registry.put("Patient", "q1", MRN, "ZZ-1")

    assert other.one() == ("found", "Patient/q1")
    assert desk.one() == ("found", "Patient/p1")


def test_a_target_of_logical_references_is_asked_nothing(desk: Desk, registry: Registry) -> None:
    with HttpClient("ehr", registry.base_url, desk.settings) as http:
        found = resolve(
            desk.warehouse,
            FhirClient(http),
            "ehr",
            desk.settings,
            {WHO},
            clock=lambda: NOW,
            capabilities=Capabilities(references="logical"),
        )

    assert found == {}
    assert registry.searches == []


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, ConfigError, "credentials"),
        (403, ConfigError, "reference_search"),
        (404, ConfigError, "reference_search"),
        (405, ConfigError, "reference_search"),
        (500, Retriable, "server_error"),
        (429, Retriable, "throttled"),
    ],
)
def test_a_server_that_does_not_answer_leaves_unknown_what_was(
    desk: Desk, registry: Registry, status: int, error: type[Exception], code: str
) -> None:
    registry.refuse["Patient"] = status

    with pytest.raises(error) as caught:
        desk.one()

    assert getattr(caught.value, "code", None) == code
    assert "ZZ-1" not in str(caught.value)
    assert desk.kept() == []


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_search_is_no_missing_patient(desk: Desk, registry: Registry, status: int) -> None:
    registry.refuse["Patient"] = status

    (found,) = desk.ask(WHO)

    assert (found.state, found.reason) == (ReferenceState.REFUSED, "patient_refused")


@pytest.mark.parametrize(
    "edit",
    [
        lambda bundle: bundle.update(resourceType="Basic"),
        lambda bundle: bundle.update(entry=[{"resource": {"resourceType": "Person", "id": "x"}}]),
        lambda bundle: bundle.update(entry=[{"resource": {"resourceType": "Patient"}}]),
    ],
)
def test_an_answer_nobody_can_read_is_none(
    desk: Desk, registry: Registry, edit: Callable[[dict[str, Any]], object]
) -> None:
    registry.edit = edit

    with pytest.raises(ProviderContractError, match="search"):
        desk.one()
    assert desk.kept() == []


def test_what_was_answered_before_a_failure_is_kept(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.refuse["Encounter"] = 500

    with pytest.raises(Retriable):
        desk.ask(WHO, Wanted(ENCOUNTER, VISITS, "E-1"))

    assert desk.kept() == [("Patient", "ZZ-1", "found", "p1", "search")]


def test_after_a_failure_nobody_asks_on(desk: Desk, registry: Registry) -> None:
    registry.refuse["Patient"] = 500

    with pytest.raises(Retriable):
        desk.ask(*(Wanted(PATIENT, MRN, f"ZZ-{number}") for number in range(200)))

    assert len(registry.searches) < 50


def test_several_at_once_and_never_more_than_connections(desk: Desk, registry: Registry) -> None:
    together = threading.Barrier(3)
    registry.before = lambda _kind: together.wait(10)

    desk.ask(*(Wanted(PATIENT, MRN, f"ZZ-{number}") for number in range(9)))

    assert registry.most_at_once == 3


def test_many_are_read_from_the_table(desk: Desk, registry: Registry) -> None:
    keys = [ReferenceKey(PRACTITIONER, MRN, f"D-{number}") for number in range(2100)]
    import_links(desk.warehouse, [LinkRow("ehr", key, key.value) for key in keys], now=NOW)

    found = desk.ask(*(Wanted(key.kind, key.system, key.value) for key in keys))

    assert [each.reference for each in found] == [f"Practitioner/{key.value}" for key in keys]
    assert registry.searches == []


# Encounters


STARTED, ENDED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC), datetime(2026, 3, 2, 9, 50, tzinfo=UTC)
BY_VISIT = Wanted(ENCOUNTER, patient=(MRN, "ZZ-1"), started_at=STARTED, ended_at=ENDED)


def test_an_encounter_by_its_identifier(desk: Desk, registry: Registry) -> None:
    registry.encounter("E-1", "Patient/p1", None)

    assert desk.one(Wanted(ENCOUNTER, VISITS, "E-1")) == ("found", "Encounter/E-1")


@pytest.mark.parametrize("status", ["cancelled", "entered-in-error"])
def test_an_encounter_that_never_was_is_missing(desk: Desk, registry: Registry, status: str) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.encounter("E-1", "Patient/p1", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z", status=status)

    assert desk.one(Wanted(ENCOUNTER, VISITS, "E-1")) == ("missing", None)
    assert desk.one(BY_VISIT, encounter_by_time=True) == ("missing", None)


def test_an_encounter_of_another_patient_is_not_the_notes(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.put("Patient", "p2", MRN, "ZZ-2")
    registry.encounter("E-1", "Patient/p1", None)
    theirs = Wanted(ENCOUNTER, VISITS, "E-1", patient=(MRN, "ZZ-1"))
    others = Wanted(ENCOUNTER, VISITS, "E-1", patient=(MRN, "ZZ-2"))

    for _ in range(2):  # From the server, and from the table.
        right, wrong = desk.ask(theirs, others)
        assert right.reference == "Encounter/E-1"
        assert (wrong.reference, wrong.reason) == (None, "encounter_mismatch")


DAY = "2026-03-02T"


@pytest.mark.parametrize(
    ("encounters", "expected"),
    [
        ([], ("missing", None)),
        ([(f"{DAY}09:00:00Z", f"{DAY}10:00:00Z")], ("found", "Encounter/E-1")),
        # Other offsets, fractions, no end yet.
        ([(f"{DAY}10:25:00+01:00", f"{DAY}10:35:00.123456789+01:00")], ("found", "Encounter/E-1")),
        ([(f"{DAY}08:00:00Z", None)], ("found", "Encounter/E-1")),
        # A moment at the edge counts; a stretch that only touches does not.
        ([(f"{DAY}09:30:00Z", f"{DAY}09:30:00Z")], ("found", "Encounter/E-1")),
        ([(f"{DAY}09:00:00Z", f"{DAY}09:30:00Z")], ("missing", None)),
        ([(f"{DAY}09:00:00Z", f"{DAY}09:30:00Z"), (f"{DAY}09:30:00Z", f"{DAY}09:50:00Z")], ("found", "Encounter/E-2")),
        ([(f"{DAY}09:00:00Z", f"{DAY}09:40:00Z"), (f"{DAY}09:40:00Z", f"{DAY}10:00:00Z")], ("ambiguous", None)),
        ([(f"{DAY}07:00:00Z", f"{DAY}08:00:00Z")], ("missing", None)),
        # Where in time, nobody can tell.
        ([("2026-03-02", None)], ("ambiguous", None)),
        ([(None, f"{DAY}10:00:00Z")], ("ambiguous", None)),
        ([(None, None)], ("ambiguous", None)),
        ([(f"{DAY}09:00:00Z", f"{DAY}10:00:00Z"), ("2026-03-02", None)], ("ambiguous", None)),
        ([(f"{DAY}10:00:00Z", f"{DAY}09:00:00Z")], ("ambiguous", None)),
    ],
)
def test_an_encounter_by_patient_and_time(
    desk: Desk,
    registry: Registry,
    encounters: list[tuple[str | None, str | None]],
    expected: tuple[str, str | None],
) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    for number, (start, end) in enumerate(encounters, start=1):
        registry.encounter(f"E-{number}", "Patient/p1", start, end)
    registry.encounter("E-9", "Patient/p9", f"{DAY}09:00:00Z", f"{DAY}10:00:00Z")
    # Servers differ in what they show at the edges: this one leaves all of that to us.
    registry.heedless = {"date"}

    assert desk.one(BY_VISIT, encounter_by_time=True) == expected


def test_the_search_by_time_names_patient_and_both_ends(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.encounter("E-1", "Patient/p1", f"{DAY}09:00:00Z", f"{DAY}10:00:00Z")

    assert desk.one(BY_VISIT, encounter_by_time=True) == ("found", "Encounter/E-1")
    assert registry.asked("Encounter") == [
        [("patient", "Patient/p1"), ("date", f"ge{DAY}09:30:00Z"), ("date", f"le{DAY}09:50:00Z")]
    ]
    assert [row[:1] + row[2:] for row in desk.kept()] == [
        ("Encounter", "found", "E-1", "search"),
        ("Patient", "found", "p1", "search"),
    ]
    desk.one(BY_VISIT)
    assert len(registry.asked("Encounter")) == 1


def test_by_time_only_where_a_setting_allows(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.encounter("E-1", "Patient/p1", f"{DAY}09:00:00Z", f"{DAY}10:00:00Z")

    assert desk.one(BY_VISIT) == ("missing", None)
    assert registry.asked("Encounter") == []
    assert [row[0] for row in desk.kept()] == ["Patient"]


def test_an_identifier_that_is_missing_falls_back_on_the_time(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.encounter("E-1", "Patient/p1", f"{DAY}09:00:00Z", f"{DAY}10:00:00Z")
    wanted = Wanted(ENCOUNTER, VISITS, "unheard-of", patient=(MRN, "ZZ-1"), started_at=STARTED, ended_at=ENDED)

    assert desk.one(wanted, encounter_by_time=True) == ("found", "Encounter/E-1")


def test_without_the_patient_there_is_no_encounter_by_time(desk: Desk, registry: Registry) -> None:
    registry.encounter("E-1", "Patient/p1", f"{DAY}09:00:00Z", f"{DAY}10:00:00Z")

    assert desk.one(BY_VISIT, encounter_by_time=True) == ("missing", None)
    assert registry.asked("Encounter") == []


def test_another_id_of_the_patient_looks_for_another_encounter(desk: Desk, registry: Registry) -> None:
    registry.put("Patient", "p1", MRN, "ZZ-1")
    registry.encounter("E-1", "Patient/p1", f"{DAY}09:00:00Z", f"{DAY}10:00:00Z")
    registry.encounter("E-2", "Patient/p2", f"{DAY}09:00:00Z", f"{DAY}10:00:00Z")
    assert desk.one(BY_VISIT, encounter_by_time=True) == ("found", "Encounter/E-1")

    import_links(desk.warehouse, [LinkRow("ehr", ReferenceKey(PATIENT, MRN, "ZZ-1"), "p2")], now=NOW)

    assert desk.one(BY_VISIT) == ("found", "Encounter/E-2")


def test_several_notes_of_one_encounter_ask_once(desk: Desk, registry: Registry) -> None:
    registry.encounter("E-1", "Patient/p1", None)
    wanted = [Wanted(ENCOUNTER, VISITS, "E-1"), Wanted(ENCOUNTER, VISITS, "E-1", started_at=STARTED, ended_at=ENDED)]

    assert [each.reference for each in desk.ask(*wanted)] == ["Encounter/E-1"] * 2
    assert len(registry.searches) == 1


# What others see


def test_reasons_are_those_a_resolution_gives() -> None:
    given_by = {
        Resolution(kind, state).reason
        for kind in (PATIENT, PRACTITIONER, ENCOUNTER)
        for state in ReferenceState
        if kind == ENCOUNTER or state is not ReferenceState.MISMATCH
    }
    assert given_by - {None} == set(hold_reasons())
    assert hold_reasons(PRACTITIONER) == ("practitioner_missing", "practitioner_ambiguous", "practitioner_refused")


def test_logs_hold_counts_only(desk: Desk, registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    registry.put("Patient", "p1", MRN, "ZZ-1")

    desk.ask(WHO, Wanted(PATIENT, MRN, "ZZ-2"), Wanted(PRACTITIONER, MRN, "D-1"))

    assert {"found", "missing"} == set(re.findall(r"asked=3 state=(\w+)", caplog.text))
    assert not [word for word in ("ZZ-", "D-1", "p1", MRN, "identifier=") if word in caplog.text]


def test_an_encounter_nobody_knows_anything_of_has_no_key() -> None:
    assert Wanted(ENCOUNTER).key is None
    assert Wanted(ENCOUNTER, patient=(MRN, "ZZ-1")).key is None
    key = BY_VISIT.key
    assert key is not None
    assert (key.system, len(key.value)) == (BY_TIME, 64)


moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 2), timezones=st.just(UTC)).map(  # noqa: DTZ001 - hypothesis wants them naive
    lambda at: at.replace(minute=at.minute // 20 * 20, second=0, microsecond=0)
)
spans = st.tuples(moments, moments).map(lambda pair: Span(min(pair), max(pair)))


@given(one=spans, other=spans)
@hypothesis_settings(max_examples=200, deadline=None)
def test_overlap_is_mutual_and_never_apart(one: Span, other: Span) -> None:
    assert one.overlaps(other) == other.overlaps(one)
    assert one.overlaps(one)
    if one.end < other.start or other.end < one.start:
        assert not one.overlaps(other)
    elif max(one.start, other.start) < min(one.end, other.end):
        assert one.overlaps(other)
