from __future__ import annotations

import re
import tomllib
from typing import get_args

import pytest

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir import default_mapping
from medscribe_pipeline.fhir.mapping_rows import Kind, normal
from medscribe_pipeline.fhir.sections import DATA, one_line
from medscribe_pipeline.providers.headings_file import shipped_headings
from medscribe_pipeline.providers.intron import KINDS
from medscribe_pipeline.providers.nabla_words import GENERATIONS, template_name

# LOINC code and fit of every section key, in the words of this project: a change of the data is a change of this table.
CODES = """
ALLERGIES                        48765-2  exact
APPOINTMENTS                     56446-8  good
ASSESSMENT                       51848-0  exact
ASSESSMENT_AND_PLAN              51847-2  exact
CARDIOVASCULAR_RISKS             51898-5  broad
CHIEF_COMPLAINT                  10154-3  exact
CURRENT_MEDICATIONS              10160-0  exact
DIET_APPOINTMENTS                56446-8  good
DIET_CHIEF_COMPLAINT             10154-3  good
DIET_HABITS                      61144-2  good
DIET_LIFESTYLE                   29762-2  broad
DIET_MEDICAL_HISTORY             11348-0  good
DIET_OBJECTIVES                  61146-7  good
DIET_VITALS                      8716-3   good
FAMILY_HISTORY                   10157-6  exact
HISTORY_OF_PRESENT_ILLNESS       10164-2  exact
IMAGING_RESULTS                  18748-4  good
IMMUNIZATIONS                    11369-6  exact
LAB_RESULTS                      30954-2  good
MENTAL_HEALTH_EXAM               10190-7  exact
MENTAL_HEALTH_HISTORY            11348-0  broad
PAST_MEDICAL_HISTORY             11348-0  exact
PAST_OBSTETRIC_HISTORY           10162-6  exact
PAST_SURGICAL_HISTORY            10167-5  exact
PHYSICAL_EXAM                    29545-1  exact
PLAN                             18776-5  exact
PRESCRIPTION                     57828-6  good
PSYCHOLOGY_HISTORY_OF_COMPLAINT  10164-2  good
SOAP_ASSESSMENT                  51848-0  exact
SOAP_OBJECTIVE                   61149-1  exact
SOAP_PLAN                        18776-5  exact
SOAP_SUBJECTIVE                  61150-9  exact
SOCIAL_HISTORY                   29762-2  exact
VITALS                           8716-3   exact
WELL_CHILD_CARE                  59283-2  broad
"""
# Keys of later versions of the same API, of the coarser categories of another one, and of headings in free text.
LATER_CODES = """
CARDIOVASCULAR_RISK_FACTORS      51898-5  broad
DIAGNOSTIC_TESTS_ORDERED         18776-5  broad
EXAMINATION                      29545-1  good
FOOD_HABITS                      61144-2  good
GOALS                            61146-7  exact
HISTORY_OF_PRESENT_COMPLAINT     10164-2  good
LIFESTYLE                        29762-2  broad
OBJECTIVE                        61149-1  exact
OBJECTIVES_AND_ADVICE            61146-7  good
PAST_HISTORY                     11348-0  good
PATIENT_INSTRUCTIONS             69730-0  exact
PRESCRIPTIONS                    57828-6  good
PROBLEM_LIST                     11450-4  exact
RESULTS                          30954-2  exact
REVIEW_OF_SYSTEMS                10187-3  exact
SUBJECTIVE                       61150-9  exact
"""
RENAMED = {
    "CARDIOVASCULAR_RISKS": "CARDIOVASCULAR_RISK_FACTORS",
    "DIET_APPOINTMENTS": "APPOINTMENTS",
    "DIET_CHIEF_COMPLAINT": "CHIEF_COMPLAINT",
    "DIET_HABITS": "FOOD_HABITS",
    "DIET_LIFESTYLE": "LIFESTYLE",
    "DIET_MEDICAL_HISTORY": "PAST_MEDICAL_HISTORY",
    "DIET_OBJECTIVES": "OBJECTIVES_AND_ADVICE",
    "DIET_VITALS": "VITALS",
    "PSYCHOLOGY_HISTORY_OF_COMPLAINT": "HISTORY_OF_PRESENT_COMPLAINT",
    "SOAP_SUBJECTIVE": "SUBJECTIVE",
    "SOAP_OBJECTIVE": "OBJECTIVE",
    "SOAP_ASSESSMENT": "ASSESSMENT",
    "SOAP_PLAN": "PLAN",
}
LANGUAGES = {"en", "fr", "de", "es", "it", "pt"}
TEMPLATES = [
    *("GENERAL_MEDICINE", "GENERAL_MEDICINE_AP_MERGED", "CARDIOLOGY", "PSYCHIATRY", "DIET", "PSYCHOLOGY", "SOAP"),
    *("GENERAL_MEDICINE_WCC", "SOAP_WCC", "GENERAL_MEDICINE_EMERGENCY", "SOAP_EMERGENCY"),
]

MAPPING = default_mapping()


def codes(concept: dict[str, object]) -> list[tuple[str, str]]:
    coding = concept.get("coding", [])
    assert isinstance(coding, list)
    return [(each["system"], each["code"]) for each in coding]


def test_codes_are_those_of_the_table(base_uri: str) -> None:
    table = {key: (loinc, fit) for key, loinc, fit in filter(None, map(str.split, (CODES + LATER_CODES).split("\n")))}

    rows = MAPPING.rows.sections
    assert {key: (row.loinc, row.fit) for key, row in rows.items()} == table
    assert len(CODES.split()) == 3 * 35
    for key, (loinc, _) in table.items():
        assert codes(MAPPING.section_coding(key, None, "en", base_uri)) == [
            ("http://loinc.org", loinc),
            (f"{base_uri}/CodeSystem/scribe-section", key),
        ]


def test_a_renamed_key_and_its_successor_have_one_code() -> None:
    rows = MAPPING.rows.sections

    assert {key: row.renamed for key, row in rows.items() if row.renamed} == RENAMED
    assert all(rows[old].loinc == rows[new].loinc for old, new in RENAMED.items())


def test_every_key_a_heading_stands_for_has_a_row() -> None:
    headings = shipped_headings()
    keys = {*headings.known.values(), *headings.only_in_soap.values(), *headings.replaced_in_soap.values()} - {None}

    assert len(keys) > 30
    assert keys <= MAPPING.known_keys()


def test_every_row_has_a_title_in_every_language_and_a_source() -> None:
    rows = [*MAPPING.rows.sections.values(), *MAPPING.rows.specialties.values(), *MAPPING.rows.documents]

    assert [row.title["en"] for row in rows if set(row.title) != LANGUAGES] == []
    assert all(title == one_line(title) for row in rows for title in row.title.values())
    assert all(row.source for row in rows)


def test_every_translation_is_used() -> None:
    rows = [*MAPPING.rows.sections.values(), *MAPPING.rows.specialties.values(), *MAPPING.rows.documents]
    english = {row.title["en"] for row in rows}

    for language, titles in tomllib.loads(DATA[2].decode()).items():
        assert set(titles) - english == set(), language


def test_deprecated_code_is_nowhere() -> None:
    assert all(b'"10165-9"' not in data for data in DATA)


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
    ("language", "title"),
    [("fr", "Conduite à tenir"), ("fr-CA", "Conduite à tenir"), ("DE-at", "Procedere"), ("sw", "Plan"), (None, "Plan")],
)
def test_default_title_follows_the_language(language: str | None, title: str) -> None:
    assert MAPPING.default_title("PLAN", language) == title


def test_known_or_not() -> None:
    assert MAPPING.is_known("PLAN")
    assert MAPPING.is_known(" plan\n")
    assert not MAPPING.is_known("VENDOR_NEWS")
    assert not MAPPING.is_known(None)


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


@pytest.mark.parametrize(
    ("template", "specialty", "us", "fr"),
    [
        (None, "EMERGENCY_MEDICINE", "34111-5", "15507-7"),
        ("SOAP", "emergency-medicine", "34111-5", "15507-7"),
        ("GENERAL_MEDICINE", "CARDIOLOGY", "11488-4", "11488-4"),
        ("GENERAL_MEDICINE", "DIETETICS", "11488-4", "11506-3"),
        ("SOAP", "PSYCHIATRY", "11506-3", "11488-4"),
        ("SOAP", "NEUROLOGY", "11506-3", "11488-4"),
        ("SOAP", "unheard_of", "11506-3", "11488-4"),
        # The template says more: a well child visit is one whoever holds it.
        ("SOAP_WCC", "CARDIOLOGY", "59283-2", "59283-2"),
    ],
)
def test_document_type_by_specialty(template: str | None, specialty: str, us: str, fr: str) -> None:
    found = [
        codes(MAPPING.document_type(template, "note", "audioscribe", profile, specialty))[0][1]
        for profile in ("us", "fr", "international")
    ]

    assert found == [us, fr, us]


def test_a_specialty_changes_no_other_kind_of_document() -> None:
    for kind in set(KINDS.values()) - {"note"}:
        plain = MAPPING.document_type(None, kind, "intron", "fr")
        assert MAPPING.document_type(None, kind, "intron", "fr", "EMERGENCY_MEDICINE") == plain


def test_every_template_of_every_generation_has_a_row_of_its_own() -> None:
    renamed = [template_name(name, renamed=True) for name in TEMPLATES]
    assert set(renamed).isdisjoint(TEMPLATES)
    listed = {name for row in MAPPING.rows.documents for name in row.templates}

    assert {*TEMPLATES, *renamed} <= listed
    assert GENERATIONS


def test_kinds_are_those_there_are() -> None:
    assert set(get_args(Kind)) == {"note", *KINDS.values()}
    assert {kind for row in MAPPING.rows.documents for kind in row.kinds} == set(get_args(Kind))


def test_specialties_named_by_rows_are_known() -> None:
    named = {name for row in MAPPING.rows.documents for name in row.specialties}

    assert named <= set(MAPPING.rows.specialties)


@pytest.mark.parametrize(
    ("template", "specialty", "code", "text"),
    [
        ("CARDIOLOGY", None, "394579002", "Cardiologie"),
        ("cardiology_multiple_sections", None, "394579002", "Cardiologie"),
        ("PSYCHIATRY", None, "394587001", "Psychiatrie"),
        ("PSYCHOLOGY", None, "722162001", "Psychologie"),
        ("DIET", None, "722164000", "Diététique et nutrition"),
        ("SOAP_EMERGENCY", None, "773568002", "Médecine d'urgence"),
        ("SOAP", "internal-medicine", "419192003", "Médecine interne"),
        # What the visit says comes first.
        ("DIET", "PEDIATRICS", "394537008", "Pédiatrie"),
    ],
)
def test_practice_setting(template: str | None, specialty: str | None, code: str, text: str) -> None:
    assert MAPPING.practice_setting(template, specialty, "fr-FR") == {
        "coding": [{"system": "http://snomed.info/sct", "code": code}],
        "text": text,
    }


@pytest.mark.parametrize("template", [None, "GENERAL_MEDICINE", "SOAP", "SOAP_WCC", "HOUSE_TEMPLATE"])
def test_a_general_template_implies_no_practice_setting(template: str | None) -> None:
    assert MAPPING.practice_setting(template, None) is None
    assert MAPPING.practice_setting(template, " ") is None


def test_unknown_specialty_is_kept_as_it_was_written() -> None:
    assert MAPPING.practice_setting("DIET", "Angiologie") == {"text": "Angiologie"}


def test_a_template_implies_one_specialty() -> None:
    implied = [template for row in MAPPING.rows.specialties.values() for template in row.templates]

    assert len(implied) == len(set(implied))
    assert all(key == normal(key) for key in MAPPING.rows.specialties)


def test_document_type_text_is_in_the_language_of_the_profile() -> None:
    assert MAPPING.document_type("SOAP", "note", "nabla", "fr")["text"] == "Compte rendu de consultation"
    assert MAPPING.document_type("SOAP", "note", "nabla", "us")["text"] == "Progress note"


def test_document_title_is_in_the_language_of_the_note() -> None:
    assert MAPPING.document_title("SOAP", "note", "nabla", "fr") == "Compte rendu de consultation"
    assert MAPPING.document_title("SOAP", "note", "nabla", "it-CH") == "Nota di decorso"
    assert MAPPING.document_title("SOAP", "note", "nabla", "en", "CARDIOLOGY") == "Cardiology consultation note"


def test_unknown_profile_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError) as caught:
        MAPPING.document_type(None, "note", "askara", "atlantis")

    assert caught.value.code == "fhir_profile"
    assert "atlantis" not in str(caught.value)


def test_mapping_version_names_code_and_data() -> None:
    assert re.fullmatch(r"[0-9]+-[0-9a-f]{12}", MAPPING.version)


def test_one_line_is_fit_for_a_heading() -> None:
    assert one_line("a\x00b\r\n \u2028c") == "ab c"
    assert [one_line(text) for text in ("a b", " a", "a ", "a  b", "a\u00a0b")] == ["a b", "a", "a", "a b", "a b"]
    assert [one_line(text) for text in ("", " ", "\x00")] == [None] * 3
    assert one_line(None) is None
