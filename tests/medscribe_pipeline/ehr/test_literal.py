from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from medscribe_pipeline.ehr.comparing import identifiers
from medscribe_pipeline.ehr.fitting import Unfit, fit, wanted_references
from tests.fhir_corpus import BUILDS, PEOPLE
from tests.fhir_samples import sample
from tests.medscribe_pipeline.ehr.fitted_notes import (
    CLINICIAN,
    ENCOUNTER,
    KNOWN,
    PATIENT,
    documents,
    fitted,
    literal,
    release_of,
    target,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    Resource = dict[str, Any]


def references_of(node: Any, path: str = "") -> Iterator[tuple[str, Resource]]:
    """Each reference in a document, and where; those of R4 and R5 documents as this project builds them."""
    if isinstance(node, list):
        for item in node:
            yield from references_of(item, path)
    elif isinstance(node, dict):
        named = {"type", "display"} & node.keys() and node.keys() <= {"type", "display"}
        if "resourceType" not in node and ("reference" in node or isinstance(node.get("identifier"), dict) or named):
            yield path, node
        for name, part in node.items():
            yield from references_of(part, f"{path}.{name}".strip("."))


# Who and where, in the target's ids


@pytest.mark.parametrize("build", ["forms", "R5 us"])
def test_people_and_the_encounter_are_named_by_the_ids_of_the_target(build: str) -> None:
    release = release_of(build)

    result = fitted(documents(build=build), literal(release=release))

    composition, document = result["Composition"], result["DocumentReference"]
    clinician = {"reference": "Practitioner/c1", "display": "Dr Exemple Synthétique"}
    patient: Any = {"reference": "Patient/p1"}
    assert composition["subject"] == ([patient] if release == "R5" else patient)
    assert composition["encounter"] == {"reference": "Encounter/e1"}
    assert composition["author"] == document["author"] == [clinician]
    assert composition["attester"][0]["party"] == clinician
    assert document["subject"] == result["Transcript"]["subject"] == patient
    context = document["context"] if release == "R5" else document["context"]["encounter"]
    assert context == [{"reference": "Encounter/e1"}]
    assert [agent["who"] for agent in result["Provenance"]["agent"]][1] == clinician


@pytest.mark.parametrize("state", ["validated", "amended", "retracted"])
@pytest.mark.parametrize("build", list(BUILDS))
def test_nothing_is_named_by_identifier_but_what_is_sent_along(build: str, state: str) -> None:
    release = release_of(build)

    result = fitted(documents(state, build=build), literal(release=release))

    sent = {(each["resourceType"], *name) for each in result.values() for name in identifiers(each)}
    by_name = set()
    for resource in result.values():
        for path, reference in references_of(resource):
            if "identifier" in reference:
                names = (reference["identifier"]["system"], reference["identifier"]["value"])
                assert (reference["type"], *names) in sent, path
            elif "reference" not in reference:
                by_name.add((resource["resourceType"], path))
    # FHIR demands these; the name is all there is.
    assert by_name <= {("Provenance", "agent.who"), ("Provenance", "entity.what")}


@pytest.mark.parametrize("build", ["forms", "us", "R5", "R5 us"])
@pytest.mark.parametrize("where", ["full", "no patient"])
def test_a_patient_the_target_does_not_know_holds_the_note(build: str, where: str) -> None:
    capabilities = literal(release=release_of(build))
    known = without(PATIENT) if where == "full" else KNOWN

    assert fit(documents(where=where, build=build), capabilities, known) == Unfit("patient_missing")


@pytest.mark.parametrize("build", ["us", "R5 us"])
def test_a_patient_who_is_said_to_be_unknown_is_none(build: str) -> None:
    resources = documents(where="no patient", build=build)
    capabilities = literal(kinds=("DocumentReference",), release=release_of(build))

    assert "extension" in resources["DocumentReference"]["subject"]
    assert fit(resources, capabilities, KNOWN) == Unfit("patient_missing")


def test_an_identifier_of_another_system_or_kind_is_of_somebody_else() -> None:
    others = {
        ("Patient", "https://example.org/sid/other", PATIENT[2]): "Patient/2",
        ("Patient", PATIENT[1], "synthetic-patient-2"): "Patient/3",
        ("Practitioner", *PATIENT[1:]): "Practitioner/4",
    }

    assert fit(documents(), literal(), others) == Unfit("patient_missing")


@pytest.mark.parametrize("who", ["clinician", "name only"])
def test_a_clinician_the_target_does_not_know_is_left_out_where_fhir_lets_us_and_else_named(who: str) -> None:
    result = fitted(documents(who=who), literal(), without(CLINICIAN))

    display = PEOPLE[who]
    assert display is not None
    assert result["Composition"]["author"] == [{"type": "Practitioner", "display": display.display}]
    assert "attester" not in result["Composition"]
    assert "author" not in result["DocumentReference"]
    assert [agent["who"]["type"] for agent in result["Provenance"]["agent"]] == ["Device", "Practitioner", "Device"]
    assert all(agent["who"]["display"] for agent in result["Provenance"]["agent"])


def test_a_composition_whose_author_has_no_name_is_held_and_a_provenance_does_without() -> None:
    resources = documents(who="RPPS with a slip")

    assert fit(resources, literal(), KNOWN) == Unfit("author_required")
    provenance = fitted(resources, literal(kinds=("DocumentReference", "Provenance")))["Provenance"]
    assert [agent["who"]["type"] for agent in provenance["agent"]] == ["Device", "Device"]


def test_a_provenance_of_which_nobody_is_left_is_not_sent() -> None:
    resources = documents()
    for agent in resources["Provenance"]["agent"]:
        del agent["who"]["display"]

    assert "Provenance" not in fitted(resources, literal(), without(CLINICIAN))


def test_organizations_are_left_out_where_only_ids_of_the_target_count() -> None:
    resources = documents()

    result = fitted(resources, literal())

    assert all("custodian" not in each for each in result.values())
    assert all("onBehalfOf" not in each for each in result["Provenance"]["agent"])
    assert all("custodian" in each for kind, each in resources.items() if kind != "Provenance")


def test_literal_references_stay_as_they_are() -> None:
    resources = {"DocumentReference": sample("DocumentReference"), "Composition": sample("Composition")}
    both = {"reference": "Patient/9", "type": "Patient", "identifier": {"system": PATIENT[1], "value": PATIENT[2]}}
    resources["Composition"]["subject"] = both
    synthetic = {
        (kind, f"https://example.org/fhir/sid/{kind.lower()}", "synthetic-1"): f"{kind}/1"
        for kind in ("Patient", "Practitioner", "Encounter")
    }

    result = fitted(resources, literal(), synthetic | KNOWN)

    assert PATIENT not in wanted_references(resources)
    assert result["Composition"]["subject"] is resources["Composition"]["subject"]
    for name in ("custodian", "relatesTo", "context"):
        assert result["DocumentReference"][name] is resources["DocumentReference"][name]
    # A signature of nobody the target knows.
    assert "attester" not in result["Composition"]


def test_what_a_document_replaces_is_named_by_identifier_only_where_that_counts() -> None:
    resources = documents("amended")

    assert "relatesTo" in fitted(resources, target())["DocumentReference"]
    assert "relatesTo" not in fitted(resources, literal())["DocumentReference"]


# The author


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_an_author_the_target_must_not_be_told_is_left_out_of_all_but_a_composition(release: str) -> None:
    resources = documents(build="R5 us" if release == "R5" else "forms")

    result = fitted(resources, target(author="omit", release=release))

    assert "author" not in result["DocumentReference"]
    assert "author" not in result["Transcript"]
    assert result["Composition"]["author"] == resources["Composition"]["author"]


@pytest.mark.parametrize("kinds", [("Composition",), ("DocumentReference",)])
@pytest.mark.parametrize("who", ["nobody", "name only", "AM alone"])
def test_an_author_the_target_insists_on_is_a_clinician_one_can_find(kinds: tuple[str, ...], who: str) -> None:
    capabilities = target(kinds=kinds, author="required")

    assert fit(documents(who=who), capabilities, {}) == Unfit("author_required")
    assert fitted(documents(), capabilities)


@pytest.mark.parametrize("kinds", [("Composition",), ("DocumentReference",)])
def test_an_author_the_target_insists_on_must_be_known_there(kinds: tuple[str, ...]) -> None:
    capabilities = literal(kinds=kinds, author="required")

    assert fit(documents(), capabilities, without(CLINICIAN)) == Unfit("author_required")
    assert fit(documents(who="nobody"), capabilities, KNOWN) == Unfit("author_required")
    assert fitted(documents(), capabilities)


# The encounter


@pytest.mark.parametrize("build", ["forms", "R5 us"])
@pytest.mark.parametrize("where", ["no encounter", "no times"])
def test_an_encounter_found_by_time_goes_where_the_documents_name_none(build: str, where: str) -> None:
    release = release_of(build)
    resources = documents(build=build, where=where)

    result = fitted(resources, literal(release=release, encounter="required"), KNOWN, "Encounter/9")

    expected = "Encounter/9" if where == "no encounter" else "Encounter/e1"
    assert result["Composition"]["encounter"] == {"reference": expected}
    for kind in ("DocumentReference", "Transcript"):
        context = result[kind]["context"]
        assert (context if release == "R5" else context["encounter"]) == [{"reference": expected}]
        if release == "R4":
            assert context.get("period") == resources[kind].get("context", {}).get("period")


def test_an_encounter_goes_into_documents_of_a_visit_nobody_knows_anything_of() -> None:
    resources = documents(where="nothing", build="international")
    resources["DocumentReference"].pop("context", None)
    capabilities = target(encounter="required")

    assert fit(resources, capabilities, {}) == Unfit("encounter_required")
    assert fitted(resources, capabilities, {}, "Encounter/9")["DocumentReference"]["context"] == {
        "encounter": [{"reference": "Encounter/9"}]
    }


@pytest.mark.parametrize("kinds", [("Composition",), ("DocumentReference",)])
@pytest.mark.parametrize("build", ["forms", "R5 us"])
def test_an_encounter_is_left_out_unless_the_target_insists(kinds: tuple[str, ...], build: str) -> None:
    release = release_of(build)
    resources, known = documents(build=build), without(ENCOUNTER)

    result = fitted(resources, literal(kinds=kinds, release=release), known)

    assert not [path for each in result.values() for path, _ in references_of(each) if "encounter" in path]
    insisting = literal(kinds=kinds, release=release, encounter="required")
    assert fit(resources, insisting, known) == Unfit("encounter_required")


def test_a_document_that_names_an_encounter_gets_no_other() -> None:
    result = fit(documents(), literal(encounter="required"), without(ENCOUNTER), "Encounter/9")

    assert result == Unfit("encounter_required")


@pytest.mark.parametrize(("build", "where"), [("forms", "backwards"), ("R5 us", "no times"), ("R5 us", "nothing")])
def test_a_visit_without_end_is_held_where_the_target_wants_one(build: str, where: str) -> None:
    release = release_of(build)
    capabilities = target(period_end_required=True, release=release)

    assert fit(documents(where=where, build=build), capabilities, {}) == Unfit("period_end_required")
    assert fitted(documents(build=build), capabilities)


# Wanted references


@pytest.mark.parametrize("build", ["forms", "R5 us"])
def test_wanted_are_patient_clinician_and_encounter_and_nobody_else(build: str) -> None:
    resources = documents(build=build)

    assert wanted_references(resources) == {PATIENT, CLINICIAN, ENCOUNTER}
    assert wanted_references({"Provenance": resources["Provenance"]}) == {CLINICIAN}
    assert wanted_references({}) == set()


def test_nobody_is_wanted_who_is_named_by_an_id_already_or_has_no_identifier() -> None:
    references = {kind: f"{kind}/1" for kind in ("Patient", "Practitioner", "Encounter")}
    settled = fitted(documents(), literal(), {name: references[name[0]] for name in KNOWN})

    assert wanted_references(settled) == set()
    assert wanted_references(documents(where="nothing", who="name only")) == set()
