"""What a server dropped or changed is told, as paths; what servers do to any resource is not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr.comparing import (
    differences,
    identifiers,
    is_newer,
    note_identifier_of,
    read_back,
    same_version,
    version_of,
)
from medscribe_pipeline.ehr.ledger import Copy
from medscribe_pipeline.notes import Identifier, NoteState, Practitioner
from tests.medscribe_pipeline.ehr.clinic import edited, note
from tests.medscribe_pipeline.ehr.shipping import (
    ALL_KINDS,
    CANARIES,
    COMPOSITION,
    DOCUMENT,
    PROVENANCE,
    TRANSCRIPT,
    abilities,
    amended,
    documents,
    spoken,
    withdrawn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.notes import ScribeNote
    from tests.medscribe_pipeline.ehr.odd_ehr import Resource
    from tests.medscribe_pipeline.ehr.shipping import Dock

DOCTOR = Practitioner((Identifier("https://rpps.esante.gouv.fr", "10101748050"),), display="Dr Nemo Example")


def full(source: ScribeNote) -> ScribeNote:
    """With all that a note may have."""
    visit = replace(
        source.visit,
        practitioner=DOCTOR,
        encounter=Identifier("urn:example:visits", "e-1"),
        started_at=datetime(2026, 3, 2, 9, tzinfo=UTC),
        ended_at=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    )
    return spoken(replace(source, visit=visit, validated_at=datetime(2026, 3, 2, 11, 30, tzinfo=UTC), language="en"))


V1, V2 = full(note(1)), full(amended(note(1)))


def sent(kind: str, source: ScribeNote = V1, **how: Any) -> Resource:
    return documents(source, ALL_KINDS, **how)[kind]


def stored(kind: str, change: Callable[[Resource], object] = lambda _: None, **how: Any) -> Resource:
    """As a server holds it, after a change."""
    resource: Resource = json.loads(json.dumps(sent(kind, **how)))
    resource |= {
        "id": "s1",
        "meta": {**resource.get("meta", {}), "versionId": "1", "lastUpdated": "2026-03-02T18:00:00Z"},
    }
    change(resource)
    return resource


def put(*path: str | int, to: Any) -> Callable[[Resource], object]:
    """Sets an element."""

    def change(resource: Any) -> None:
        for name in path[:-1]:
            resource = resource[name]
        resource[path[-1]] = to

    return change


def drop(*path: str | int) -> Callable[[Resource], object]:
    """Removes an element."""

    def change(resource: Any) -> None:
        for name in path[:-1]:
            resource = resource[name]
        del resource[path[-1]]

    return change


# What servers do to any resource


@pytest.mark.parametrize("release", ["R4", "R5"])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_is_stored_as_it_was_sent_is_no_difference(kind: str, release: str) -> None:
    assert differences(kind, sent(kind, release=release), stored(kind, release=release)) == []


def expand(resource: Resource) -> None:
    resource["type"]["coding"][0]["display"] = "Progress note"
    resource["text"] = {"status": "generated", "div": "<div>…</div>"}
    resource["extension"] = [{"url": "https://ehr.example/routed", "valueBoolean": True}]


def behind_urls(resource: Resource) -> None:
    for index, content in enumerate(resource["content"]):
        del content["attachment"]["data"]
        content["attachment"]["url"] = f"https://ehr.example/r4/Binary/{index}"


def resolve(resource: Resource) -> None:
    resource["subject"] = {"reference": "https://ehr.example/r4/Patient/1", "display": "P."}
    resource["author"][0] = {"reference": "Practitioner/1"}


def size_as_text(resource: Resource) -> None:
    for content in resource["content"]:
        content["attachment"]["size"] = str(content["attachment"]["size"])


def other_order(resource: Resource) -> None:
    resource["meta"]["security"] = [{"code": "R"}, *resource["meta"]["security"]]
    resource["type"]["coding"] = [*reversed(resource["type"]["coding"])]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (DOCUMENT, expand),
        (COMPOSITION, expand),
        (DOCUMENT, behind_urls),
        (TRANSCRIPT, behind_urls),
        (DOCUMENT, resolve),
        (COMPOSITION, resolve),
        (DOCUMENT, other_order),
        (DOCUMENT, put("date", to="2026-03-02T12:00:00.000+01:00")),
        (DOCUMENT, put("content", 0, "attachment", "contentType", to="text/plain;charset=UTF-8")),
        (DOCUMENT, size_as_text),
        (DOCUMENT, put("subject", "display", to="P.")),
        (DOCUMENT, put("meta", "source", to="#abc")),
        (PROVENANCE, put("target", 0, to={"reference": "DocumentReference/s1/_history/1"})),
    ],
)
def test_what_a_server_does_to_any_resource_is_no_difference(kind: str, change: Callable[[Resource], object]) -> None:
    assert differences(kind, sent(kind), stored(kind, change)) == []


def test_a_tidied_narrative_is_no_difference() -> None:
    ours = sent(COMPOSITION)["section"][0]["text"]["div"]
    tidied = ours.replace("<p>", "\n  <p class='x'>").replace("&amp;", "&#38;").replace(" xmlns=", "  xmlns=")

    assert tidied != ours
    assert (
        differences(COMPOSITION, sent(COMPOSITION), stored(COMPOSITION, put("section", 0, "text", "div", to=tidied)))
        == []
    )


def test_base64_in_lines_is_no_difference() -> None:
    data = sent(DOCUMENT)["content"][0]["attachment"]["data"]
    lines = "\r\n".join(data[at : at + 76] for at in range(0, len(data), 76))

    held = stored(DOCUMENT, put("content", 0, "attachment", "data", to=lines))

    assert differences(DOCUMENT, sent(DOCUMENT), held) == []


def test_a_literal_reference_may_be_spelled_in_full() -> None:
    ours = {**sent(DOCUMENT), "subject": {"reference": "Patient/1"}}
    same = {**stored(DOCUMENT), "subject": {"reference": "https://ehr.example/r4/Patient/1/_history/4"}}
    other = {**stored(DOCUMENT), "subject": {"reference": "Patient/2"}}
    of_another_type = {**stored(DOCUMENT), "subject": {"reference": "Group/1"}}

    assert differences(DOCUMENT, ours, same) == []
    assert differences(DOCUMENT, ours, other) == ["DocumentReference.subject"]
    assert differences(DOCUMENT, ours, of_another_type) == ["DocumentReference.subject"]


def test_what_it_replaces_is_not_compared_and_is_said_anew_each_time() -> None:
    held = stored(DOCUMENT, lambda resource: resource.pop("relatesTo", None), source=V2)

    assert sent(DOCUMENT, V2)["relatesTo"]
    assert differences(DOCUMENT, sent(DOCUMENT, V2), held) == []


# What is told


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        (DOCUMENT, drop("masterIdentifier"), ["DocumentReference.masterIdentifier"]),
        (DOCUMENT, drop("identifier"), ["DocumentReference.identifier"]),
        (DOCUMENT, drop("docStatus"), ["DocumentReference.docStatus"]),
        (DOCUMENT, drop("meta", "security"), ["DocumentReference.meta.security"]),
        (DOCUMENT, drop("meta"), ["DocumentReference.meta"]),
        (DOCUMENT, put("docStatus", to="preliminary"), ["DocumentReference.docStatus"]),
        (DOCUMENT, put("date", to="2026-03-02"), ["DocumentReference.date"]),
        (DOCUMENT, put("date", to="2026-03-02T11:00:01Z"), ["DocumentReference.date"]),
        (DOCUMENT, put("content", to=[]), ["DocumentReference.content.0"]),
        (DOCUMENT, drop("content", 0, "attachment", "data"), ["DocumentReference.content.0.attachment.data"]),
        (DOCUMENT, put("content", 0, "attachment", "data", to="YQ=="), ["DocumentReference.content.0.attachment.data"]),
        (DOCUMENT, drop("content", 0, "attachment", "hash"), ["DocumentReference.content.0.attachment.hash"]),
        (DOCUMENT, put("content", 0, "attachment", to="x"), ["DocumentReference.content.0.attachment"]),
        (
            DOCUMENT,
            put("content", 0, "attachment", "contentType", to="text/html"),
            ["DocumentReference.content.0.attachment.contentType"],
        ),
        (DOCUMENT, drop("subject"), ["DocumentReference.subject"]),
        (
            DOCUMENT,
            put("subject", to={"identifier": {"system": "urn:example:patients", "value": "q"}}),
            ["DocumentReference.subject"],
        ),
        (DOCUMENT, put("subject", to={"display": "P."}), ["DocumentReference.subject"]),
        (DOCUMENT, drop("context", "encounter"), ["DocumentReference.context.encounter"]),
        (COMPOSITION, drop("identifier"), ["Composition.identifier"]),
        (COMPOSITION, put("identifier", "value", to="another"), ["Composition.identifier.value"]),
        (COMPOSITION, drop("attester"), ["Composition.attester"]),
        (COMPOSITION, drop("section", 0, "text"), ["Composition.section.0.text"]),
        (COMPOSITION, put("section", 0, "text", "div", to="<div>No.</div>"), ["Composition.section.0.text.div"]),
        (COMPOSITION, put("section", to=[]), ["Composition.section.0"]),
        (COMPOSITION, put("title", to="progress note"), ["Composition.title"]),
        (PROVENANCE, drop("agent", 0), ["Provenance.agent.0.type.coding.0.code"]),
        (TRANSCRIPT, drop("securityLabel"), ["Transcript.securityLabel"]),
    ],
)
def test_what_was_dropped_or_changed_is_told_by_its_path(
    kind: str, change: Callable[[Resource], object], expected: list[str]
) -> None:
    assert differences(kind, sent(kind), stored(kind, change))[: len(expected)] == expected


def test_the_second_of_two_attachments_is_missed() -> None:
    forms: dict[str, Any] = {"renderings": ("text", "xhtml")}

    held = stored(DOCUMENT, drop("content", 1), **forms)

    assert differences(DOCUMENT, sent(DOCUMENT, **forms), held) == ["DocumentReference.content.1"]


def parts(node: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Where the elements of a resource are that mean something by themselves: a reference is one as a whole."""
    is_reference = isinstance(node, dict) and {"identifier", "type"} <= node.keys() and "resourceType" not in node
    inside: Any = list(node.items()) if isinstance(node, dict) and not is_reference else []
    for name, below in enumerate(node) if isinstance(node, list) else inside:
        if (*path, name) not in (("id",), ("resourceType",), ("relatesTo",)):
            yield (*path, name)
            yield from parts(below, *path, name)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), kind=st.sampled_from(ALL_KINDS), release=st.sampled_from(["R4", "R5"]))
def test_whatever_is_dropped_is_told_and_no_value_is(data: st.DataObject, kind: str, release: str) -> None:
    ours = sent(kind, release=release)
    path = data.draw(st.sampled_from(list(parts(ours))))

    told = differences(kind, ours, stored(kind, drop(*path), release=release))

    assert told
    assert all(each.startswith(f"{kind}.{path[0]}") for each in told)
    assert not any(canary in each for each in told for canary in CANARIES)


# Which version it is


def test_the_identifier_of_the_version_decides() -> None:
    ours = sent(DOCUMENT)

    assert same_version(ours, stored(DOCUMENT, put("content", to=[]))) is True
    assert same_version(ours, stored(DOCUMENT, drop("masterIdentifier"))) is False
    assert same_version(ours, sent(DOCUMENT, V2)) is False


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_versions_of_both_releases_are_told_apart(release: str) -> None:
    for kind in (COMPOSITION, DOCUMENT, TRANSCRIPT):
        assert same_version(sent(kind, release=release), stored(kind, release=release)) is True
    for kind in (COMPOSITION, DOCUMENT):
        assert same_version(sent(kind, V2, release=release), stored(kind, release=release)) is False


def without_ids(resource: Resource) -> Resource:
    return {name: part for name, part in resource.items() if name not in ("masterIdentifier", "identifier", "meta")}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, True),
        (resolve, True),
        (put("date", to="2026-03-02T12:00:00+01:00"), True),
        (drop("docStatus"), True),
        (drop("date"), True),
        (drop("author"), True),
        (put("docStatus", to="preliminary"), False),
        (put("status", to="superseded"), False),
        (put("date", to="2026-03-02T11:00:01Z"), False),
        (put("content", 0, "attachment", "data", to="YQ=="), False),
        (behind_urls, True),
        (put("content", to=[{"attachment": {"url": "Binary/1"}}]), None),
        (put("content", to=[{"attachment": {"data": "a"}}]), None),
        (put("content", to=["x", {"attachment": "x"}]), None),
        (put("content", to=[]), None),
        (drop("content"), None),
    ],
)
def test_without_an_identifier_what_a_clinician_reads_decides(
    change: Callable[[Resource], object], expected: bool | None
) -> None:
    assert same_version(without_ids(sent(DOCUMENT)), without_ids(stored(DOCUMENT, change))) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, True),
        (put("section", 0, "text", "div", to="<div>  <b>Cough</b> for three\n days.</div>"), True),
        (put("section", 0, "text", "div", to="<div>Cough for four days.</div>"), False),
        (put("section", 0, "title", to="Past"), False),
        (put("section", to=[]), False),
        (drop("section"), None),
        (put("title", to="Another"), False),
        (put("status", to="entered-in-error"), False),
        (drop("attester"), True),
    ],
)
def test_a_composition_is_told_by_its_words(change: Callable[[Resource], object], expected: bool | None) -> None:
    assert same_version(sent(COMPOSITION), stored(COMPOSITION, change)) is expected


@pytest.mark.parametrize("other", [edited(V1, "Other words."), V2, withdrawn(V1), replace(V1, state=NoteState.DRAFT)])
def test_another_version_of_a_composition_is_another(other: ScribeNote) -> None:
    assert same_version(sent(COMPOSITION, other), sent(COMPOSITION)) is False
    assert same_version(sent(COMPOSITION), sent(COMPOSITION, other)) is False


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ("2026-03-02T11:00:01Z", True),
        ("2026-03-02T12:00:01+01:00", True),
        ("2026-03-02T11:00:00Z", False),
        ("2026-03-02T11:30:00+01:00", False),
        ("2026-03-03", False),
        ("2026-03-02T12:00:00", False),
        ("2026-99-99T12:00:00Z", False),
        (None, False),
        (7, False),
    ],
)
def test_only_a_time_that_is_surely_later_is_newer(theirs: Any, expected: bool) -> None:
    assert is_newer({"date": theirs}, sent(COMPOSITION)) is expected


def test_a_version_and_a_note_have_identifiers_of_their_own() -> None:
    for release in ("R4", "R5"):
        document, composition = sent(DOCUMENT, release=release), sent(COMPOSITION, release=release)
        assert version_of(document) is not None
        assert version_of(composition) is None
        assert note_identifier_of(document) == note_identifier_of(composition) == identifiers(composition)[0]
    assert identifiers({"identifier": ["x", {"system": "s"}, {"system": "s", "value": "v"}]}) == [("s", "v")]
    assert identifiers({}) == []


# Reading back


def test_a_note_is_read_back_as_it_stands_on_the_server(dock: Dock) -> None:
    able = abilities("transaction", kinds=ALL_KINDS)
    delivered = dock.send(able, V1)
    leaving = delivered.shipment

    assert read_back(dock.client, leaving.resources, delivered.verdict.copies) == []


def test_what_the_server_lost_is_told_kind_by_kind(dock: Dock) -> None:
    able = abilities("transaction", kinds=(COMPOSITION, DOCUMENT, PROVENANCE))
    dock.server.does.dropped = ("docStatus", "custodian", "attester")
    delivered = dock.send(able, V1)
    leaving, copies = delivered.shipment, dict(delivered.verdict.copies)
    del dock.server.store[PROVENANCE, copies[PROVENANCE].server_id or ""]

    told = read_back(dock.client, leaving.resources, copies)

    assert told == ["Composition.attester", "DocumentReference.docStatus", "Provenance"]


def test_what_has_no_copy_is_not_read(dock: Dock) -> None:
    leaving = dock.send(abilities("transaction"), V1).shipment
    before = len(dock.server.seen)

    assert read_back(dock.client, leaving.resources, {DOCUMENT: Copy(None, None)}) == []
    assert len(dock.server.seen) == before


def test_an_update_in_place_is_read_back_without_a_difference(dock: Dock) -> None:
    able = abilities("single", kinds=ALL_KINDS)
    delivered = dock.send(able, V2, dock.send(able, V1))
    leaving = delivered.shipment

    assert read_back(dock.client, leaving.resources, delivered.verdict.copies) == []
