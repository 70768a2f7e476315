from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from pydantic import ValidationError

from medscribe_pipeline.ehr.fitting import Unfit, fit, most_that_fits, wanted_references
from medscribe_pipeline.ehr.targets import Capabilities, load
from medscribe_pipeline.fhir import check
from medscribe_pipeline.settings import EhrSettings
from tests.fhir_corpus import BUILDS, PEOPLE, STATES, VISITS
from tests.fhir_samples import REMOVE, mutated, sample
from tests.medscribe_pipeline.ehr.fitted_notes import (
    ALL_KINDS,
    ENCOUNTER,
    KNOWN,
    TEXT,
    XHTML,
    documents,
    fitted,
    release_of,
    target,
    types,
    without,
)

if TYPE_CHECKING:
    Resource = dict[str, Any]

PROFILES = ("generic", "hapi", "medplum", "epic", "oracle", "azure", "google", "healthlake", "us-core-9")


# A target that takes everything


@pytest.mark.parametrize("state", ["validated", "amended", "retracted"])
@pytest.mark.parametrize("build", list(BUILDS))
def test_a_target_that_takes_everything_gets_the_very_objects(state: str, build: str) -> None:
    resources = documents(state, build=build)
    release = release_of(build)

    result = fitted(resources, target(release=release), {})

    assert list(result) == [kind for kind in ALL_KINDS if kind in resources]
    assert all(result[kind] is resources[kind] for kind in result)


def test_documents_come_in_the_order_of_the_target_and_no_others() -> None:
    result = fitted(documents(), target(kinds=("Transcript", "DocumentReference")))

    assert list(result) == ["Transcript", "DocumentReference"]


TARGETS = st.fixed_dictionaries(
    {},
    optional={
        "kinds": st.sampled_from([("Composition",), ("DocumentReference", "Provenance"), ALL_KINDS]),
        "strategy": st.sampled_from(["transaction", "batch", "single"]),
        "max_bundle_bytes": st.integers(1_000, 40_000),
        "max_attachment_bytes": st.integers(1_000, 20_000),
        "content_types": st.sampled_from([(), (TEXT,), ("application/pdf",)]),
        "attachments": st.sampled_from(["all", "first"]),
        "plain_content_type": st.booleans(),
        "doc_status": st.sampled_from([("final",), ("entered-in-error", "amended", "final", "preliminary")]),
        "references": st.sampled_from(["logical", "literal"]),
        "author": st.sampled_from(["optional", "required", "omit"]),
        "encounter": st.sampled_from(["optional", "required"]),
        "period_end_required": st.booleans(),
        "drop": st.sampled_from([(), ("author", "context"), ("relatesTo",)]),
    },
)


@bounded(max_examples=300, deadline=None)
@given(
    changes=TARGETS,
    state=st.sampled_from(sorted(STATES)),
    where=st.sampled_from(sorted(VISITS)),
    who=st.sampled_from(sorted(PEOPLE)),
    build=st.sampled_from(sorted(BUILDS)),
)
def test_what_a_target_takes_unseen_it_takes_when_it_is_looked_at(
    changes: dict[str, Any], state: str, where: str, who: str, build: str
) -> None:
    resources = documents(state, where=where, who=who, build=build)
    capabilities = target(release=release_of(build), **changes)
    stored = sum(len(orjson.dumps(each)) for kind, each in resources.items() if kind in capabilities.kinds)

    unseen = stored <= most_that_fits(capabilities)

    assert not (unseen and isinstance(fit(resources, capabilities, {}), Unfit))


def test_a_target_that_minds_nothing_but_size_takes_the_smaller_of_its_limits_unseen() -> None:
    assert most_that_fits(target(max_bundle_bytes=50_000, max_attachment_bytes=20_000)) == 20_000
    assert most_that_fits(target(max_bundle_bytes=50_000, max_attachment_bytes=90_000)) == 50_000 - 4 * 1_000 - 100
    assert most_that_fits(target(max_bundle_bytes=2_000, max_attachment_bytes=2_000)) == 0


# What the built-in profiles make of a note

REFUSED = {
    ("epic", "amended"): "doc_status_not_accepted",
    ("epic", "retracted"): "doc_status_not_accepted",
    ("oracle", "retracted"): "doc_status_not_accepted",
}


@pytest.mark.parametrize("state", ["validated", "amended", "retracted"])
@pytest.mark.parametrize("kind", PROFILES)
def test_every_profile_takes_a_note_or_says_why_not(kind: str, state: str) -> None:
    capabilities = load(EhrSettings.model_validate({"kind": kind, "base_url": "http://127.0.0.1:1/fhir"}))
    resources = documents(state)

    result = fit(resources, capabilities, KNOWN)

    if reason := REFUSED.get((kind, state)):
        assert result == Unfit(reason)
        return
    assert not isinstance(result, Unfit)
    assert tuple(result) == capabilities.kinds
    for resource in result.values():
        check(resource)
    if capabilities.references == "logical":
        assert all(result[each] is resources[each] for each in result if each != "Provenance")


def test_epic_gets_plain_text_of_a_known_patient_at_a_known_encounter_and_nothing_it_would_choke_on() -> None:
    capabilities = load(EhrSettings.model_validate({"kind": "epic", "base_url": "http://127.0.0.1:1/fhir"}))
    resources = documents()

    document = fitted(resources, capabilities)["DocumentReference"]

    assert types(document) == ["text/plain"]
    assert (
        document["content"][0]["attachment"]["data"]
        == resources["DocumentReference"]["content"][1]["attachment"]["data"]
    )
    assert document["subject"] == {"reference": "Patient/p1"}
    assert document["context"]["encounter"] == [{"reference": "Encounter/e1"}]
    assert not document.keys() & {"author", "meta", "masterIdentifier", "identifier", "custodian"}
    assert fit(resources, capabilities, without(ENCOUNTER)) == Unfit("encounter_required")


def test_oracle_gets_text_with_its_charset_and_the_end_of_the_visit() -> None:
    capabilities = load(EhrSettings.model_validate({"kind": "oracle", "base_url": "http://127.0.0.1:1/fhir"}))

    document = fitted(documents(), capabilities)["DocumentReference"]

    assert types(document) == ["text/plain; charset=utf-8"]
    assert document["author"] == [{"reference": "Practitioner/c1", "display": "Dr Exemple Synthétique"}]
    assert "end" in document["context"]["period"]
    assert fit(documents("draft"), capabilities, KNOWN) == Unfit("doc_status_not_accepted")
    assert fit(documents(where="backwards"), capabilities, KNOWN) == Unfit("period_end_required")
    assert fit(documents(where="no times"), capabilities, KNOWN) == Unfit("period_end_required")


# Status


@pytest.mark.parametrize("kinds", [("Composition",), ("DocumentReference",)])
@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("draft", "preliminary"),
        ("reviewed", "final"),
        ("amended", "amended"),
        ("retracted", "entered-in-error"),
        ("gone", "entered-in-error"),
    ],
)
def test_a_status_is_taken_or_the_note_is_held(kinds: tuple[str, ...], state: str, status: str) -> None:
    others = [each for each in ("preliminary", "final", "amended", "entered-in-error") if each != status]

    assert fitted(documents(state), target(kinds=kinds, doc_status=[status]))
    assert fit(documents(state), target(kinds=kinds, doc_status=others), {}) == Unfit("doc_status_not_accepted")


def test_a_status_that_is_not_sent_still_decides() -> None:
    finals = target(kinds=("DocumentReference",), doc_status=["final"], drop=["docStatus"])

    assert "docStatus" not in fitted(documents(), finals)["DocumentReference"]
    assert fit(documents("draft"), finals, {}) == Unfit("doc_status_not_accepted")


@pytest.mark.parametrize("changes", [{"doc_status": ["final"]}, {"author": "required"}])
def test_a_transcript_that_a_target_can_never_take_is_told_by_its_own_reason(changes: dict[str, Any]) -> None:
    assert fit(documents(), target(**changes), {}) == Unfit("transcript_not_accepted")
    assert fitted(documents(), target(kinds=ALL_KINDS[:3], **changes))


# Attachments


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [XHTML, TEXT]),
        ({"content_types": [TEXT]}, [TEXT]),
        ({"content_types": [TEXT, XHTML]}, [TEXT, XHTML]),
        ({"content_types": ["application/pdf", XHTML, TEXT, TEXT]}, [XHTML, TEXT]),
        ({"attachments": "first"}, [XHTML]),
        ({"attachments": "first", "content_types": ["application/pdf", TEXT, XHTML]}, [TEXT]),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("build", ["forms", "R5 forms"])
def test_attachments_are_those_the_target_takes(
    build: str, changes: dict[str, Any], expected: list[str], plain: bool
) -> None:
    resources = documents(build=build)
    release = release_of(build)
    # Of R5 the text comes first.
    order = expected if changes.get("content_types") or release == "R4" else [TEXT, XHTML][: len(expected)]

    capabilities = target(kinds=("DocumentReference",), release=release, plain_content_type=plain, **changes)
    document = fitted(resources, capabilities)["DocumentReference"]

    assert types(document) == [each if plain else f"{each}; charset=utf-8" for each in order]


def test_a_content_type_is_known_however_it_is_spelt() -> None:
    resources = {"DocumentReference": sample("DocumentReference")}
    resources["DocumentReference"]["content"][0]["attachment"]["contentType"] = "Text/Plain ;charset=UTF-8"

    document = fitted(resources, target(content_types=[TEXT], plain_content_type=True), {})["DocumentReference"]

    assert types(document) == [TEXT]
    assert types(resources["DocumentReference"]) == ["Text/Plain ;charset=UTF-8"]


def test_a_target_that_takes_none_of_the_forms_gets_nothing() -> None:
    assert fit(documents(), target(content_types=["application/pdf"]), {}) == Unfit("attachment_type")


@pytest.mark.parametrize("build", ["forms", "R5 forms"])
@pytest.mark.parametrize("with_size", [True, False])
def test_a_form_that_is_too_large_is_left_out_and_the_note_held_if_all_are(build: str, with_size: bool) -> None:
    resources = documents(build=build)
    release = release_of(build)
    document = resources["DocumentReference"]
    text, xhtml = sorted(document["content"], key=lambda item: "xhtml" in item["attachment"]["contentType"])
    text["attachment"]["data"] = base64.b64encode(b"x" * 4_001).decode()
    for item in (text, xhtml):
        del item["attachment"]["hash"], item["attachment"]["size"]
        if with_size:
            count = len(base64.b64decode(item["attachment"]["data"]))
            item["attachment"]["size"] = str(count) if release == "R5" else count

    def limited(most: int, **changes: Any) -> dict[str, Resource] | Unfit:
        capabilities = target(kinds=("DocumentReference",), release=release, max_attachment_bytes=most, **changes)
        return fit(resources, capabilities, {})

    narrow = limited(4_000)
    assert not isinstance(narrow, Unfit)
    assert types(narrow["DocumentReference"]) == [f"{XHTML}; charset=utf-8"]
    # The rounding of base64 counts against it where nobody says how long it is.
    wide = limited(4_002)
    assert not isinstance(wide, Unfit)
    assert len(types(wide["DocumentReference"])) == 2
    assert limited(4_000, content_types=[TEXT]) == Unfit("too_large")


# Size of a request


def test_a_transaction_has_room_for_all_documents_and_other_requests_for_each() -> None:
    resources = documents()
    sizes = [len(orjson.dumps(resource)) for resource in resources.values()]
    roomy, tight = sum(sizes) + 5_000, sum(sizes)

    assert fitted(resources, target(max_bundle_bytes=roomy))
    assert fit(resources, target(max_bundle_bytes=tight), {}) == Unfit("too_large")
    for strategy in ("batch", "single"):
        assert fitted(resources, target(max_bundle_bytes=tight, strategy=strategy))
        assert fit(resources, target(max_bundle_bytes=max(sizes), strategy=strategy), {}) == Unfit("too_large")


def test_only_what_is_sent_counts() -> None:
    resources = documents()
    size = len(orjson.dumps(resources["Composition"])) + 2_000

    assert fitted(resources, target(kinds=("Composition",), max_bundle_bytes=size))


# What is left out


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("meta", ["meta"]),
        ("meta.security", ["meta"]),
        ("content.format", ["content.0.format", "content.1.format"]),
        ("content.attachment.creation", ["content.0.attachment.creation", "content.1.attachment.creation"]),
        ("context.practiceSetting", []),
        ("context.period.end", ["context.period.end"]),
        ("type.coding.display", []),
        ("category.coding", ["category"]),
        ("no.such.element", []),
        ("language.no", []),
    ],
)
def test_a_path_goes_through_lists_and_leaves_nothing_empty(path: str, gone: list[str]) -> None:
    resources = documents()
    expected = resources["DocumentReference"]
    for each in gone:
        expected = mutated(expected, each, REMOVE)

    document = fitted(resources, target(kinds=("DocumentReference",), drop=[path]))["DocumentReference"]

    assert document == expected
    assert (document is resources["DocumentReference"]) == (not gone)


def test_an_item_of_which_nothing_is_left_goes_and_the_others_stay() -> None:
    resources = {"DocumentReference": sample("DocumentReference")}
    resources["DocumentReference"]["category"].append({"text": "Synthetic"})

    document = fitted(resources, target(drop=["category.text"]), {})["DocumentReference"]

    assert document["category"] == resources["DocumentReference"]["category"][:1]


# Provenance


@pytest.mark.parametrize("references", ["logical", "literal"])
@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("Composition", "DocumentReference", "Provenance"), ["DocumentReference", "Composition"]),
        (("Provenance", "Composition"), ["Composition"]),
        (("DocumentReference", "Provenance"), ["DocumentReference"]),
    ],
)
def test_a_provenance_is_about_what_is_sent(references: str, kinds: tuple[str, ...], expected: list[str]) -> None:
    resources = documents()

    result = fitted(resources, target(kinds=kinds, references=references))

    assert tuple(result) == kinds
    targets = result["Provenance"]["target"]
    assert [each["type"] for each in targets] == expected
    assert all(each in resources["Provenance"]["target"] for each in targets)


def test_a_provenance_keeps_targets_by_address_and_loses_what_the_target_refuses() -> None:
    resources = documents()
    targets = resources["Provenance"]["target"]
    targets[0] = {"reference": "DocumentReference/7", **targets[0], "identifier": {"system": "urn:x", "value": "7"}}
    targets[1] = {"display": "Synthetic"}

    result = fitted(resources, target(drop=["agent.onBehalfOf"]))

    assert result["Provenance"]["target"] is targets
    assert all("onBehalfOf" in agent for agent in resources["Provenance"]["agent"])
    assert not any("onBehalfOf" in agent for agent in result["Provenance"]["agent"])


def test_a_provenance_of_nothing_that_is_sent_is_not_sent() -> None:
    resources = documents()
    del resources["DocumentReference"], resources["Composition"]

    assert list(fitted(resources, target())) == ["Transcript"]


def test_a_provenance_names_a_document_by_what_the_document_keeps() -> None:
    resources = documents()
    note = resources["DocumentReference"]["identifier"][0]

    without_version = fitted(resources, target(drop=["masterIdentifier"]))
    unsearchable = {"strategy": "unconditional", "conditional_create": False, "search": False}
    nameless = fitted(resources, target(drop=["masterIdentifier", "identifier"], **unsearchable))
    without_note = fitted(resources, target(drop=["identifier"], **unsearchable))

    assert [each["identifier"] for each in without_version["Provenance"]["target"]] == [note, note]
    assert "Provenance" not in nameless
    assert [each["type"] for each in without_note["Provenance"]["target"]] == ["DocumentReference"]


# Whatever the target, whatever the note

_STATUSES = ("preliminary", "final", "amended", "entered-in-error")
_TARGETS = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["transaction", "batch", "single"]),
        "kinds": st.lists(st.sampled_from(ALL_KINDS), min_size=1, unique=True),
        "max_bundle_bytes": st.sampled_from([12_000, 50_000_000]),
        "max_attachment_bytes": st.sampled_from([1_000, 5_000_000]),
        "content_types": st.lists(st.sampled_from([TEXT, XHTML, "application/pdf"]), max_size=3),
        "attachments": st.sampled_from(["all", "first"]),
        "plain_content_type": st.booleans(),
        "doc_status": st.sampled_from([_STATUSES, _STATUSES, ("final", "amended")]),
        "references": st.sampled_from(["logical", "literal"]),
        "author": st.sampled_from(["optional", "required", "omit"]),
        "encounter": st.sampled_from(["optional", "required"]),
        "period_end_required": st.booleans(),
        "drop": st.lists(
            st.sampled_from(["meta", "meta.security", "masterIdentifier", "custodian", "context", "content.format"]),
            max_size=3,
        ),
    }
)
_NOTES = st.fixed_dictionaries(
    {
        "state": st.sampled_from(list(STATES)),
        "where": st.sampled_from(["full", "full", *VISITS]),
        "who": st.sampled_from(list(PEOPLE)),
        "build": st.sampled_from(list(BUILDS)),
    }
)


@bounded(max_examples=250, deadline=None)
@given(
    note=_NOTES,
    changes=_TARGETS,
    known=st.frozensets(st.sampled_from(["Patient", "Practitioner", "Encounter"])),
    encounter=st.sampled_from([None, "Encounter/9"]),
)
def test_whatever_the_target_documents_stay_valid_and_whole(
    note: dict[str, str], changes: dict[str, Any], known: frozenset[str], encounter: str | None
) -> None:
    resources = documents(note["state"], where=note["where"], who=note["who"], build=note["build"])
    before = orjson.dumps(resources)
    references = {
        name: f"{name[0]}/{number}"
        for number, name in enumerate(sorted(wanted_references(resources)))
        if name[0] in known | {"Patient"}
    }
    try:
        capabilities = Capabilities.model_validate({**changes, "release": release_of(note["build"])})
    except ValidationError:
        assume(False)

    result = fit(resources, capabilities, references, encounter)

    assert orjson.dumps(resources) == before
    if isinstance(result, Unfit):
        assert result.reason
        return
    assert list(result) == [kind for kind in capabilities.kinds if kind in result]
    assert set(capabilities.kinds) & resources.keys() - result.keys() <= {"Provenance"}
    for kind, resource in result.items():
        check(resource, capabilities.release)
        _assert_whole(resource, resources[kind])
        if capabilities.references == "literal" and kind != "Provenance":
            _assert_of_a_patient(resource)
    if "context" not in capabilities.drop:  # what is dropped cannot be insisted on a second time
        assert fit(result, capabilities, references) == result


def _assert_whole(resource: Resource, stored: Resource) -> None:
    """No word is missing: sections are untouched, and the first form is one of the stored ones, byte for byte."""
    assert resource.get("section") == stored.get("section")
    if "content" in stored:
        data = [item["attachment"]["data"] for item in stored["content"]]
        assert [item["attachment"]["data"] for item in resource["content"]]
        assert all(item["attachment"]["data"] in data for item in resource["content"])


def _assert_of_a_patient(resource: Resource) -> None:
    subject = resource["subject"]
    (patient,) = subject if isinstance(subject, list) else [subject]
    assert patient["reference"].startswith("Patient/")
    assert "identifier" not in patient
