"""Each mutation of a valid resource breaks one rule: `check` names that rule and that place, and nothing else."""

from __future__ import annotations

import pytest

from medscribe_pipeline.fhir import check
from medscribe_pipeline.fhir.rules_resources import RESOURCE_RULES
from tests.fhir_samples import CANARY, REMOVE, SAMPLES, broken, div, mutated, sample

URN = "urn:uuid:b9d1b2f8-7303-5b80-a887-65bb27f36b59"

COMPOSITION = [
    # What has to be there.
    ("status", REMOVE, "required", "status"),
    ("type", REMOVE, "required", "type"),
    ("date", REMOVE, "required", "date"),
    ("author", REMOVE, "required", "author"),
    ("title", REMOVE, "required", "title"),
    ("attester.0.mode", REMOVE, "required", "attester.0.mode"),
    ("section.0.text.div", REMOVE, "required", "section.0.text.div"),
    ("section.0.text.status", REMOVE, "required", "section.0.text.status"),
    ("relatesTo.0.code", REMOVE, "required", "relatesTo.0.code"),
    ("relatesTo.0.targetIdentifier", REMOVE, "required", "relatesTo.0.targetIdentifier"),
    # Required bindings.
    ("status", CANARY, "code", "status"),
    ("confidentiality", "X", "code", "confidentiality"),
    ("attester.0.mode", CANARY, "code", "attester.0.mode"),
    ("relatesTo.0.code", "supersedes", "code", "relatesTo.0.code"),
    ("identifier.use", CANARY, "code", "identifier.use"),
    ("section.1.mode", CANARY, "code", "section.1.mode"),
    ("section.0.text.status", CANARY, "code", "section.0.text.status"),
    ("section.1.section.0.text.status", CANARY, "code", "section.1.section.0.text.status"),
    ("language", f"en {CANARY}", "code", "language"),
    # Nothing empty, nothing null, nothing of another kind.
    ("author", [], "ele-1", "author"),
    ("author", None, "ele-1", "author"),
    ("author", {"display": CANARY}, "json", "author"),
    ("author.0", CANARY, "json", "author.0"),
    ("subject", [{"display": CANARY}], "json", "subject"),
    ("identifier", {}, "ele-1", "identifier"),
    ("category.0.coding.0", {}, "ele-1", "category.0.coding.0"),
    ("category.0.coding.0", None, "ele-1", "category.0.coding.0"),
    ("title", "", "ele-1", "title"),
    ("title", " \n", "ele-1", "title"),
    ("title", None, "ele-1", "title"),
    ("title", {CANARY}, "json", "title"),
    ("title", 5, "json", "title"),
    ("date", 1741077060, "json", "date"),
    # Names.
    ("colour", CANARY, "element", "colour"),
    ("author.0.display__ext", {"id": "x"}, "element", "author.0.?"),
    ("fhir_comments", CANARY, "element", "?"),
    ("section.0.resourceType", "Composition", "element", "section.0.resourceType"),
    # Texts, ids, times.
    ("title", f"{CANARY}\x00", "string", "title"),
    ("title", f"{CANARY}\ud800", "string", "title"),
    ("title", f"{CANARY}\x0b", "string", "title"),
    ("title", "x" * 1_048_577, "string", "title"),
    ("id", "x" * 65, "id", "id"),
    ("id", f"{CANARY} id", "id", "id"),
    ("section.0.id", "plan", "element-id", "section.1.id"),
    ("date", "2025-03-04T09:30:00", "dateTime", "date"),
    ("date", "2025-13-04", "dateTime", "date"),
    ("date", CANARY, "dateTime", "date"),
    ("attester.0.time", "2025-03-04 09:30", "dateTime", "attester.0.time"),
    ("meta.lastUpdated", "2025-03-04", "instant", "meta.lastUpdated"),
    ("date", "2025-02-30", "model", "date"),
    # Systems and codes.
    ("type.coding.0.system", "loinc", "absolute-uri", "type.coding.0.system"),
    ("type.coding.0.system", f"urn:oid:{CANARY}", "uri", "type.coding.0.system"),
    ("type.coding.0.code", f" {CANARY}", "code", "type.coding.0.code"),
    ("type.coding.0.code", "a  b", "code", "type.coding.0.code"),
    ("type.coding.0.userSelected", "true", "json", "type.coding.0.userSelected"),
    ("implicitRules", f"http://x y/{CANARY}", "uri", "implicitRules"),
    ("meta.profile", [f"a {CANARY}"], "uri", "meta.profile.0"),
    ("identifier", {"system": "urn:ietf:rfc:3986", "value": CANARY}, "identifier-uri", "identifier.value"),
    ("identifier", {"system": "urn:ietf:rfc:3986", "value": URN.upper()}, "identifier-uri", "identifier.value"),
    # References.
    ("encounter.type", "Patient", "reference-target", "encounter"),
    ("author.0.type", "Observation", "reference-target", "author.0"),
    ("author.0", {"reference": "Encounter/1"}, "reference-target", "author.0"),
    ("custodian.reference", "https://example.org/fhir/Patient/1", "reference-target", "custodian"),
    ("subject.reference", "Group/1", "reference-target", "subject"),
    ("subject.reference", f"{CANARY} 1", "reference-format", "subject.reference"),
    ("author.0", {"type": "Practitioner"}, "ref-2", "author.0"),
    ("author.0.reference", "#missing", "ref-1", "author.0.reference"),
    ("author.0.reference", "#", "ref-1", "author.0.reference"),
    # Sections.
    ("section.0", {"title": CANARY}, "cmp-1", "section.0"),
    ("section.1.section.0", {"title": CANARY}, "cmp-1", "section.1.section.0"),
    ("section.0", {"entry": [{"display": CANARY}], "emptyReason": {"text": CANARY}}, "cmp-2", "section.0"),
    # Extensions.
    ("extension", [{"url": "https://example.org/x"}], "ext-1", "extension.0"),
    ("extension", [{"valueCode": "x"}], "required", "extension.0.url"),
    ("extension", [{"url": "urn:x:y", "valueCode": "a\n"}], "code", "extension.0.valueCode"),
    ("extension", [{"url": "urn:x:y", "valueOid": "urn:oid:1.2x"}], "oid", "extension.0.valueOid"),
    ("extension", [{"url": "urn:x:y", "valueUuid": "urn:uuid:1"}], "uuid", "extension.0.valueUuid"),
    ("extension", [{"url": "urn:x:y", "valueTime": "9:30"}], "time", "extension.0.valueTime"),
    ("extension", [{"url": "urn:x:y", "valueDecimal": "1"}], "json", "extension.0.valueDecimal"),
    ("extension", [{"url": "urn:x:y", "valueDecimal": float("nan")}], "decimal", "extension.0.valueDecimal"),
    ("extension", [{"url": "urn:x:y", "valueInteger": 2**31}], "integer", "extension.0.valueInteger"),
    ("extension", [{"url": "urn:x:y", "valueBase64Binary": "a"}], "base64", "extension.0.valueBase64Binary"),
    ("extension", [{"url": "urn:x:y", "valueQuantity": {"value": 1, "code": "g"}}], "qty-3",
     "extension.0.valueQuantity"),
    ("extension", [{"url": "urn:x:y", "valueCode": "x", "valueString": "y"}], "model", "extension.0"),
]  # fmt: skip

DOCUMENT_REFERENCE = [
    ("status", REMOVE, "required", "status"),
    ("content", REMOVE, "required", "content"),
    ("content", [], "ele-1", "content"),
    ("content.0.attachment", REMOVE, "required", "content.0.attachment"),
    ("status", "final", "code", "status"),
    ("docStatus", "current", "code", "docStatus"),
    ("relatesTo.0.code", CANARY, "code", "relatesTo.0.code"),
    ("relatesTo.0.target", {"reference": "Composition/1"}, "reference-target", "relatesTo.0.target"),
    ("identifier", [{}], "ele-1", "identifier.0"),
    ("date", "2025-03-04", "instant", "date"),
    ("date", "2025-03-04T09:31:00", "instant", "date"),
    ("context.period.end", "2025-03-04T09:30:00+01:00", "per-1", "context.period"),
    ("context.period.end", "2025-03-03", "per-1", "context.period"),
    ("context.period.start", "2025-03-04T09:00:00", "dateTime", "context.period.start"),
    ("context.encounter.0", {"reference": "Patient/1"}, "reference-target", "context.encounter.0"),
    ("custodian.reference", "Practitioner/1", "reference-target", "custodian"),
    ("content.0.attachment.contentType", f"{CANARY} text", "code", "content.0.attachment.contentType"),
    ("content.0.attachment.language", "en_US", "code", "content.0.attachment.language"),
    ("content.0.attachment.language", "French", "code", "content.0.attachment.language"),
    ("content.0.attachment", {"contentType": "text/plain"}, "us-core-6", "content.0.attachment"),
    ("content.0.attachment.data", f"{CANARY}!", "base64", "content.0.attachment.data"),
    ("content.0.attachment.data", 5, "json", "content.0.attachment.data"),
    ("content.0.attachment.size", 1, "attachment-size", "content.0.attachment.size"),
    ("content.0.attachment.size", -1, "unsignedInt", "content.0.attachment.size"),
    ("content.0.attachment.size", "41", "json", "content.0.attachment.size"),
    ("content.0.attachment.hash", "eHh4", "attachment-hash", "content.0.attachment.hash"),
]  # fmt: skip

OTHERS = [
    ("Provenance", "target", REMOVE, "required", "target"),
    ("Provenance", "agent.0.who", REMOVE, "required", "agent.0.who"),
    ("Provenance", "recorded", "2025-03-04", "instant", "recorded"),
    ("Provenance", "policy.0", f"a {CANARY}", "uri", "policy.0"),
    ("Provenance", "policy", ["urn:x:y", None], "ele-1", "policy.1"),
    ("Provenance", "entity.0.role", "instantiates", "code", "entity.0.role"),
    ("Provenance", "agent.0.onBehalfOf", {"reference": "Encounter/1"}, "reference-target", "agent.0.onBehalfOf"),
    ("Provenance", "agent.0", {"who": {"reference": "Patient/1"}, "onBehalfOf": {"reference": "Patient/1"}},
     "prov-1", "agent.0"),
    ("Provenance", "occurredPeriod.start", "2025-03-05", "per-1", "occurredPeriod"),
    ("Provenance", "occurredDateTime", "2025-03-05", "model", ""),
    ("Device", "status", CANARY, "code", "status"),
    ("Device", "deviceName.0.type", "nickname", "code", "deviceName.0.type"),
    ("Device", "version.0", {"type": {"text": "x"}}, "required", "version.0.value"),
    ("Device", "udiCarrier", [{"entryType": CANARY}], "code", "udiCarrier.0.entryType"),
    ("Patient", "gender", CANARY, "code", "gender"),
    ("Patient", "birthDate", "1970-01-01T00:00:00Z", "date", "birthDate"),
    ("Patient", "name.0.use", CANARY, "code", "name.0.use"),
    ("Patient", "contact.0.telecom.0.system", REMOVE, "cpt-2", "contact.0.telecom.0"),
    ("Patient", "contact.0", {"gender": "female"}, "pat-1", "contact.0"),
    ("Patient", "multipleBirthInteger", True, "json", "multipleBirthInteger"),
    ("Practitioner", "active", "true", "json", "active"),
    ("Practitioner", "telecom.0.system", CANARY, "code", "telecom.0.system"),
    ("Practitioner", "telecom.0.rank", 0, "positiveInt", "telecom.0.rank"),
    ("PractitionerRole", "practitioner", {"reference": "Patient/1"}, "reference-target", "practitioner"),
    ("PractitionerRole", "availableTime", [{"daysOfWeek": ["mon", "Tue"]}], "code", "availableTime.0.daysOfWeek.1"),
    ("Encounter", "status", "completed", "code", "status"),
    ("Encounter", "class", REMOVE, "required", "class"),
    ("Encounter", "class_fhir", {"code": "AMB"}, "element", "?"),
    ("Encounter", "participant.0.individual", {"reference": "Patient/1"}, "reference-target",
     "participant.0.individual"),
    ("Organization", "name", REMOVE, "org-1", ""),
    ("Organization", "address.0.use", "home", "org-2", "address.0"),
    ("Organization", "telecom.0.use", "home", "org-3", "telecom.0"),
    ("Organization", "address.0.type", CANARY, "code", "address.0.type"),
]  # fmt: skip

CASES = [
    *(("Composition", *case) for case in COMPOSITION),
    *(("DocumentReference", *case) for case in DOCUMENT_REFERENCE),
    *OTHERS,
]


@pytest.mark.parametrize(("name", "path", "value", "rule", "where"), CASES)
def test_a_mutation_breaks_its_rule_alone(name: str, path: str, value: object, rule: str, where: str) -> None:
    resource = mutated(sample(name), path, value)

    assert broken(resource) == {(rule, where)}


@pytest.mark.parametrize(
    ("inner", "rule"),
    [
        (div("<script>alert(1)</script>"), "txt-1"),
        (div(f'<p onclick="x">{CANARY}</p>'), "txt-1"),
        (div(f"<p>{CANARY}"), "txt-1"),
        (div(f"{CANARY}&nbsp;x"), "txt-1"),
        (div(f"<!-- {CANARY} -->x"), "txt-1"),
        (f'<!DOCTYPE div [<!ENTITY e "{CANARY}">]>' + div("&e;"), "txt-1"),
        (f"<div><p>{CANARY}</p></div>", "txt-1"),
        (f'<p xmlns="http://www.w3.org/1999/xhtml">{CANARY}</p>', "txt-1"),
        (div(f"{CANARY}\ud800"), "txt-1"),
        (CANARY, "txt-1"),
        ("", "txt-1"),
        (div("<p> \u00a0</p>"), "txt-2"),
        (div(""), "txt-2"),
    ],
)
@pytest.mark.parametrize("where", ["section.0.text.div", "section.1.section.0.text.div"])
def test_narrative(where: str, inner: object, rule: str) -> None:
    resource = mutated(sample("Composition"), where, inner)

    assert broken(resource) == {(rule, where)}


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("Composition", "date", "2025"),
        ("Composition", "date", "2016-12-31T23:59:60Z"),
        ("Composition", "author.0", {"extension": [{"url": "urn:x:y", "valueCode": "unknown"}]}),
        ("Composition", "_title", {"extension": [{"url": "urn:x:y", "valueString": "x"}]}),
        ("Composition", "subject.reference", "urn:uuid:00000000-0000-4000-8000-00000000000f"),
        ("DocumentReference", "context.period.end", "2025-03-04"),
        ("DocumentReference", "context.period.end", "2025"),
        ("DocumentReference", "content.0.attachment", {"contentType": "text/plain", "url": "Binary/1"}),
        ("Encounter", "status", "entered-in-error"),
        ("Device", "udiCarrier", [{"entryType": "self-reported"}]),
    ],
)
def test_what_fhir_allows_passes(name: str, path: str, value: object) -> None:
    check(mutated(sample(name), path, value))


def test_a_primitive_may_be_all_extension() -> None:
    absent = {"extension": [{"url": "urn:x:y", "valueCode": "unknown"}]}

    check(mutated(mutated(sample("Composition"), "title", REMOVE), "_title", absent))


def test_samples_are_of_every_checked_type() -> None:
    terminology = {"CodeSystem", "ConceptMap", "ValueSet"}

    assert {each["resourceType"] for each in SAMPLES.values()} == RESOURCE_RULES.keys() - terminology
