from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.fhir.people import (
    author,
    custodian,
    practitioner,
    practitioner_identifiers,
    role_identifiers,
)
from medscribe_pipeline.notes import Identifier, Practitioner
from tests.fhir_options import options

if TYPE_CHECKING:
    from medscribe_pipeline.notes import ScribeNote

RPPS = Identifier("https://rpps.esante.gouv.fr", "10101748050")
MISTYPED_RPPS = Identifier("https://rpps.esante.gouv.fr", "10101748051")
USER = Identifier("https://example.org/user", "synthetic-user-1")
AM = Identifier("https://example.org/fhir/sid/fr-numero-am", "999000001")
TYPED_RPPS = {
    "type": {"coding": [{"system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203", "code": "RPPS"}]},
    "system": "https://rpps.esante.gouv.fr",
    "value": "10101748050",
}
PLAIN_USER = {"system": "https://example.org/user", "value": "synthetic-user-1"}


@pytest.mark.parametrize("identifiers", [(USER, RPPS), (RPPS, USER)])
def test_the_number_an_ehr_knows_comes_first(identifiers: tuple[Identifier, ...]) -> None:
    known = Practitioner(identifiers, (AM,), " Dr  Exemple\n")

    assert practitioner(known) == {"type": "Practitioner", "identifier": TYPED_RPPS, "display": "Dr Exemple"}
    assert practitioner_identifiers(known) == [TYPED_RPPS, PLAIN_USER]


def test_a_number_that_fails_its_key_is_carried_and_trusted_with_nothing() -> None:
    known = Practitioner((MISTYPED_RPPS, USER))

    assert practitioner_identifiers(known) == [
        {"system": "https://rpps.esante.gouv.fr", "value": "10101748051"},
        PLAIN_USER,
    ]
    assert practitioner_identifiers(Practitioner((USER, MISTYPED_RPPS)))[0] == PLAIN_USER


def test_a_place_of_practice_is_not_a_person() -> None:
    known = Practitioner((), (AM, Identifier("https://example.org/am", "1"), Identifier("", "2")))

    assert role_identifiers(known) == [
        {"type": {"text": "Numéro AM"}, "system": AM.system, "value": "999000001"},
        {"system": "https://example.org/am", "value": "1"},
    ]
    assert practitioner(known) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([RPPS, MISTYPED_RPPS, USER, Identifier(" ", "x")]), max_size=4).map(tuple),
    st.lists(st.just(AM), max_size=1).map(tuple),
    st.none() | st.text(max_size=8),
)
def test_no_identifier_is_made_from_another(
    identifiers: tuple[Identifier, ...], roles: tuple[Identifier, ...], display: str | None
) -> None:
    known = Practitioner(identifiers, roles, display)

    emitted = [(each["system"], each["value"]) for each in practitioner_identifiers(known)]

    assert sorted(emitted) == sorted((each.system, each.value) for each in identifiers if each.system.strip())
    assert [each["value"] for each in role_identifiers(known)] == [each.value for each in roles]


def test_the_author_is_found_by_rpps(note: ScribeNote) -> None:
    known = replace(note, visit=replace(note.visit, practitioner=Practitioner((USER, RPPS), (AM,))))

    assert author(known, "https://example.org/fhir") == {"type": "Practitioner", "identifier": TYPED_RPPS}


@pytest.mark.parametrize(
    ("known", "name", "expected"),
    [
        (None, None, None),
        (Identifier("https://example.org/org", " "), " ", None),
        (None, "Clinique\u00a0Exemple ", {"type": "Organization", "display": "Clinique Exemple"}),
        (
            Identifier("https://example.org/org", "o-1"),
            None,
            {"type": "Organization", "identifier": {"system": "https://example.org/org", "value": "o-1"}},
        ),
    ],
)
def test_custodian(known: Identifier | None, name: str | None, expected: dict[str, object] | None) -> None:
    assert custodian(options(custodian=known, custodian_name=name)) == expected
