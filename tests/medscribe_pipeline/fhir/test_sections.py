from __future__ import annotations

import re

import pytest

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir import default_mapping
from medscribe_pipeline.fhir.sections import DATA, one_line, parse_mapping

# The section keys Nabla documents for its first API versions.
DOCUMENTED = """
ALLERGIES APPOINTMENTS ASSESSMENT ASSESSMENT_AND_PLAN CARDIOVASCULAR_RISKS CHIEF_COMPLAINT CURRENT_MEDICATIONS
DIET_APPOINTMENTS DIET_CHIEF_COMPLAINT DIET_HABITS DIET_LIFESTYLE DIET_MEDICAL_HISTORY DIET_OBJECTIVES DIET_VITALS
FAMILY_HISTORY HISTORY_OF_PRESENT_ILLNESS IMAGING_RESULTS IMMUNIZATIONS LAB_RESULTS MENTAL_HEALTH_EXAM
MENTAL_HEALTH_HISTORY PAST_MEDICAL_HISTORY PAST_OBSTETRIC_HISTORY PAST_SURGICAL_HISTORY PHYSICAL_EXAM PLAN
PRESCRIPTION PSYCHOLOGY_HISTORY_OF_COMPLAINT SOAP_ASSESSMENT SOAP_OBJECTIVE SOAP_PLAN SOAP_SUBJECTIVE SOCIAL_HISTORY
VITALS WELL_CHILD_CARE
"""
RENAMED = (
    "CARDIOVASCULAR_RISK_FACTORS FOOD_HABITS LIFESTYLE OBJECTIVES_AND_ADVICE HISTORY_OF_PRESENT_COMPLAINT SUBJECTIVE"
)

MAPPING = default_mapping()


def codes(concept: dict[str, object]) -> list[tuple[str, str]]:
    coding = concept.get("coding", [])
    assert isinstance(coding, list)
    return [(each["system"], each["code"]) for each in coding]


@pytest.mark.parametrize("key", [*DOCUMENTED.split(), *RENAMED.split(), "OBJECTIVE", "REVIEW_OF_SYSTEMS"])
def test_every_documented_key_has_loinc_then_its_own_code(key: str, base_uri: str) -> None:
    first, second = codes(MAPPING.section_coding(key, None, "en", base_uri))

    assert first[0] == "http://loinc.org"
    assert second == (f"{base_uri}/CodeSystem/scribe-section", key)


@pytest.mark.parametrize(
    ("key", "loinc"),
    [
        ("CHIEF_COMPLAINT", "10154-3"),
        ("HISTORY_OF_PRESENT_ILLNESS", "10164-2"),
        ("PAST_MEDICAL_HISTORY", "11348-0"),
        ("ALLERGIES", "48765-2"),
        ("CURRENT_MEDICATIONS", "10160-0"),
        ("VITALS", "8716-3"),
        ("PHYSICAL_EXAM", "29545-1"),
        ("ASSESSMENT", "51848-0"),
        ("PLAN", "18776-5"),
        ("ASSESSMENT_AND_PLAN", "51847-2"),
        ("SOAP_SUBJECTIVE", "61150-9"),
        ("SOAP_OBJECTIVE", "61149-1"),
    ],
)
def test_loinc_of_common_sections(key: str, loinc: str, base_uri: str) -> None:
    assert codes(MAPPING.section_coding(key, None, None, base_uri))[0] == ("http://loinc.org", loinc)


def test_deprecated_code_is_nowhere() -> None:
    assert b'"10165-9"' not in DATA


def test_no_display_without_a_loinc_version(base_uri: str) -> None:
    for key in MAPPING.known_keys():
        for coding in MAPPING.section_coding(key, None, None, base_uri)["coding"]:
            assert ("display" in coding) == ("version" in coding)


def test_known_key_in_another_case_is_the_same_key(base_uri: str) -> None:
    assert MAPPING.section_coding("plan", None, "en", base_uri) == MAPPING.section_coding("PLAN", None, "en", base_uri)


def test_unknown_key_is_kept_as_it_came_and_gets_no_loinc(base_uri: str) -> None:
    concept = MAPPING.section_coding("Vendor_news", None, "fr", base_uri)

    assert codes(concept) == [(f"{base_uri}/CodeSystem/scribe-section", "Vendor_news")]
    assert concept["text"] == "Vendor_news"


def test_no_key_is_text_only_and_nothing_is_empty(base_uri: str) -> None:
    assert MAPPING.section_coding(None, " Divers\n", "fr", base_uri) == {"text": "Divers"}
    assert MAPPING.section_coding("  ", "", "fr", base_uri) == {}


@pytest.mark.parametrize(
    ("language", "title"), [("fr", "Conduite à tenir"), ("fr-CA", "Conduite à tenir"), ("de", "Plan"), (None, "Plan")]
)
def test_default_title_follows_the_language(language: str | None, title: str) -> None:
    assert MAPPING.default_title("PLAN", language) == title


def test_default_title_of_an_unknown_key_is_unknown() -> None:
    assert MAPPING.default_title("VENDOR_NEWS", "en") is None
    assert MAPPING.default_title(None, "en") is None


def test_title_of_the_provider_wins(base_uri: str) -> None:
    assert MAPPING.section_coding("PLAN", "Suites", "fr", base_uri)["text"] == "Suites"


@pytest.mark.parametrize(
    ("template", "kind", "provider", "us", "fr", "international"),
    [
        ("SOAP", "note", "nabla", "11506-3", "11488-4", "11506-3"),
        ("generic_soap", "note", "nabla", "11506-3", "11488-4", "11506-3"),
        ("GENERAL_MEDICINE_EMERGENCY", "note", "nabla", "34111-5", "15507-7", "34111-5"),
        ("SOAP_WCC", "note", "nabla", "59283-2", "59283-2", "59283-2"),
        ("DIET", "note", "nabla", "11488-4", "11506-3", "11488-4"),
        (None, "note", "askara", "11506-3", "11488-4", "11506-3"),
        (None, "note", "audioscribe", "34109-9", "11488-4", "34109-9"),
        ("UNHEARD_OF", "note", "next", "34109-9", "11488-4", "34109-9"),
        ("SOAP", "summary", "nabla", "34109-9", "11488-4", "34109-9"),
        (None, "operation_note", "intron", "11504-8", "34874-8", "11504-8"),
    ],
)
def test_document_type_by_profile(
    template: str | None, kind: str, provider: str, us: str, fr: str, international: str
) -> None:
    found = {
        profile: codes(MAPPING.document_type(template, kind, provider, profile))
        for profile in ("us", "fr", "international")
    }

    assert found == {
        "us": [("http://loinc.org", us)],
        "fr": [("http://loinc.org", fr)],
        "international": [("http://loinc.org", international)],
    }


def test_document_type_text_is_in_the_language_of_the_profile() -> None:
    assert MAPPING.document_type("SOAP", "note", "nabla", "fr")["text"] == "Compte rendu de consultation"
    assert MAPPING.document_type("SOAP", "note", "nabla", "us")["text"] == "Progress note"
    assert MAPPING.document_title("SOAP", "note", "nabla", "fr") == "Compte rendu de consultation"


def test_unknown_profile_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError) as caught:
        MAPPING.document_type(None, "note", "askara", "atlantis")

    assert caught.value.code == "fhir_profile"
    assert "atlantis" not in str(caught.value)


def test_mapping_version_names_code_and_data() -> None:
    assert re.fullmatch(r"[0-9]+-[0-9a-f]{12}", MAPPING.version)


def test_one_line_is_fit_for_a_heading() -> None:
    assert one_line("a\x00b\r\n \u2028c") == "ab c"
    assert one_line(None) is None


SECTION = '[sections.{key}]\nloinc = "{loinc}"\nfit = "{fit}"\ntitle = {{ en = "T", fr = "T" }}\nsource = "s"\n'
DOCUMENT = (
    '[[documents]]\nkinds = {kinds}\nloinc = {{ us = "11506-3", fr = "11488-4", international = "11506-3" }}\n'
    'title = {{ en = "T", fr = "T" }}\nsource = "s"\n'
)


def mapping(
    *, key: str = "PLAN", loinc: str = "18776-5", fit: str = "exact", kinds: str = "[]", more: str = ""
) -> bytes:
    return (SECTION.format(key=key, loinc=loinc, fit=fit) + more + DOCUMENT.format(kinds=kinds)).encode()


def test_a_small_mapping_is_accepted() -> None:
    parse_mapping(mapping(more='display = "Plan of care note"\nloinc_version = "2.82"\n'))


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (mapping(loinc="18776-6"), "sections.PLAN.loinc"),
        (mapping(loinc="plan"), "sections.PLAN.loinc"),
        (mapping(fit="perfect"), "sections.PLAN.fit"),
        (mapping(fit="none"), "sections.PLAN"),
        (mapping(key="plan"), "sections.plan.[key]"),
        (mapping(more='colour = "red"\n'), "sections.PLAN.colour"),
        (mapping(more='display = "Plan"\n'), "sections.PLAN"),
        (mapping(kinds='["note"]'), ""),
        (b"", "sections"),
        (b"sections = [", ""),
        (b"\xff", ""),
    ],
)
def test_wrong_mapping_is_refused_with_its_place(data: bytes, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mapping(data)

    assert caught.value.code == "fhir_mapping"
    assert path in (caught.value.field_paths or ("",))
