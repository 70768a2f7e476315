"""A mapping file of the user's own: what it changes, and how it is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir import BuildOptions, Mapping, default_mapping, load_mapping
from medscribe_pipeline.fhir.mapping_file import MAX_BYTES, own_rows
from medscribe_pipeline.settings import FhirSettings

if TYPE_CHECKING:
    from collections.abc import Callable

BASE_URI = "https://example.org/fhir"
SECTIONS = """
[sections.plan]
title.fr = "Suites"

[sections.HOUSE_SECTION]
loinc = "18776-5"
title.en = "House rules"
"""
DOCUMENTS = """
[[documents]]
templates = ["soap"]
specialties = ["cardiology"]
loinc = "34099-2"
title.en = "Cardiology consult note"
"""


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes a mapping file."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "own.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def section(mapping: Mapping, key: str, language: str = "en") -> tuple[list[str], str]:
    concept = mapping.section_coding(key, None, language, BASE_URI)
    return [coding["code"] for coding in concept["coding"]], concept["text"]


def type_of(mapping: Mapping, profile: str = "us", specialty: str | None = None, template: str | None = "SOAP") -> str:
    code: str = mapping.document_type(template, "note", "nabla", profile, specialty)["coding"][0]["code"]
    return code


def test_without_a_file_the_mapping_is_ours() -> None:
    assert load_mapping(None) is default_mapping()


def test_sections_are_changed_field_by_field_and_added(own: Callable[..., Path]) -> None:
    mapping = load_mapping(own(SECTIONS))

    assert section(mapping, "PLAN", "fr") == (["18776-5", "PLAN"], "Suites")
    assert section(mapping, "PLAN", "en") == (["18776-5", "PLAN"], "Plan")
    assert section(mapping, "house_section", "fr") == (["18776-5", "HOUSE_SECTION"], "House rules")
    assert mapping.is_known("House_Section")
    assert section(mapping, "ALLERGIES") == section(default_mapping(), "ALLERGIES")


def test_what_was_said_of_our_code_is_not_said_of_another(own: Callable[..., Path]) -> None:
    rows = load_mapping(own('[sections.RESULTS]\nloinc = "11502-2"\n[sections.VITALS]\nfit = "none"\n')).rows.sections

    results, vitals = rows["RESULTS"], rows["VITALS"]
    assert (results.loinc, results.fit, results.source) == ("11502-2", "good", "own mapping file")
    assert (vitals.loinc, vitals.fit, vitals.source) == (None, "none", "own mapping file")
    assert results.title == default_mapping().rows.sections["RESULTS"].title


def test_a_display_with_its_version_is_sent(own: Callable[..., Path]) -> None:
    path = own('[sections.PLAN]\ndisplay = "Plan of care note"\nloinc_version = "2.82"\n')

    coding = load_mapping(path).section_coding("PLAN", None, "en", BASE_URI)["coding"][0]

    assert coding == {
        "system": "http://loinc.org",
        "version": "2.82",
        "code": "18776-5",
        "display": "Plan of care note",
    }


def test_own_documents_come_first(own: Callable[..., Path]) -> None:
    mapping = load_mapping(own(DOCUMENTS))

    assert [type_of(mapping, profile, "CARDIOLOGY") for profile in ("us", "fr", "international")] == ["34099-2"] * 3
    assert (type_of(mapping, "us"), type_of(mapping, "fr")) == ("11506-3", "11488-4")


def test_codes_of_single_profiles(own: Callable[..., Path]) -> None:
    mapping = load_mapping(
        own('[[documents]]\nkinds = []\nloinc = { international = "34109-9", fr = "11488-4" }\ntitle.en = "T"\n')
    )

    assert [type_of(mapping, profile) for profile in ("us", "fr", "international")] == ["34109-9", "11488-4", "34109-9"]


def test_specialties_are_added_with_codes_of_any_system(own: Callable[..., Path]) -> None:
    mapping = load_mapping(
        own(
            '[specialties.angiologie]\nsystem = "https://hospital.example/units"\ncode = "A 1"\n'
            'title = { en = "Angiology", fr = "Angiologie" }\ntemplates = ["house_vessels"]\n'
            '[specialties.Cardiology]\ntemplates = ["HOUSE_HEART"]\n'
        )
    )

    vessels = {"coding": [{"system": "https://hospital.example/units", "code": "A 1"}], "text": "Angiologie"}
    assert mapping.practice_setting(None, "Angiologie", "fr") == vessels
    assert mapping.practice_setting("House_Vessels", None, "fr") == vessels
    assert mapping.practice_setting("HOUSE_HEART", None) == mapping.practice_setting(None, "CARDIOLOGY")


def test_a_mark_before_utf8_is_no_obstacle(own: Callable[..., Path]) -> None:
    assert section(load_mapping(own(b"\xef\xbb\xbf" + SECTIONS.encode())), "PLAN", "fr")[1] == "Suites"


# Versions


def test_the_version_follows_what_the_file_says(own: Callable[..., Path]) -> None:
    first = load_mapping(own(SECTIONS)).version
    with_comment = load_mapping(own("# why\n" + SECTIONS)).version
    other = load_mapping(own(SECTIONS.replace("Suites", "Après"))).version

    assert first.startswith(default_mapping().version)
    assert first == with_comment
    assert len({first, other, default_mapping().version}) == 3
    assert len(first) <= 40


def test_a_change_of_the_file_counts_from_the_next_build_on(own: Callable[..., Path]) -> None:
    configured = FhirSettings(mapping=own(SECTIONS))
    before = BuildOptions.of(configured)
    again = BuildOptions.of(configured)
    own(DOCUMENTS)

    after = BuildOptions.of(configured)

    assert again.mapping is before.mapping
    assert after.version != before.version
    assert len(after.version) <= 64
    assert type_of(after.mapping, specialty="CARDIOLOGY") == "34099-2"


# Refusals


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ('[sections.PLAN]\nloinc = "18776-6"\n', "sections.PLAN.loinc", "its check digit is wrong"),
        ('[sections.PLAN]\nloinc = "plan"\n', "sections.PLAN.loinc", "is no LOINC code such as 18776-5"),
        ("[sections.PLAN]\nloinc = 187765\n", "sections.PLAN.loinc", "valid string"),
        ('[sections.PLAN]\nfit = "perfect"\n', "sections.PLAN.fit", "'exact', 'good', 'broad' or 'none'"),
        ('[sections.PLAN]\nfit = "none"\nloinc = "18776-5"\n', "sections.PLAN", "fit is none exactly when"),
        ('[sections.PLAN]\ndisplay = "Plan"\n', "sections.PLAN", "display and loinc_version go together"),
        ('[sections.PLAN]\ncolour = "red"\n', "sections.PLAN.colour", "is not known here; known: loinc, display"),
        ('[sections.PLAN]\ntitle = "Plan"\n', "sections.PLAN.title", "must be a table"),
        ('[sections.PLAN]\ntitle.French = "Plan"\n', "sections.PLAN.title.French", "is no language such as fr"),
        ('[sections.PLAN]\ntitle.fr = " "\n', "sections.PLAN.title.fr", "match pattern"),
        ('[sections.NEWS]\nloinc = "18776-5"\n', "sections.NEWS", "title.en is missing"),
        ('[sections.plan]\ntitle.fr="a"\n[sections.PLAN]\ntitle.fr="b"\n', "sections.PLAN", "is there twice"),
        ('[sections." x"]\ntitle.en="a"\n', "sections. x", "is no key"),
        ("sections = 1\n", "sections", "must be a table"),
        ('[PLAN]\ntitle.en = "a"\n', "PLAN", "known: sections, specialties, documents"),
        ('[specialties.HEART]\ncode = "394579003"\ntitle.en="T"\n', "specialties.HEART", "its check digit is wrong"),
        ('[specialties.HEART]\ncode = "12"\ntitle.en="T"\n', "specialties.HEART", "is no SNOMED CT code"),
        ('[specialties.HEART]\ntitle.en="T"\n', "specialties.HEART.code", "is missing"),
        ('[specialties.CARDIOLOGY]\nsystem="urn:x"\n', "specialties.CARDIOLOGY.code", "is missing"),
        ('[specialties."heart unit"]\ncode="394579002"\n', "specialties.heart unit", "is no key"),
        ('[[documents]]\nloinc = "11506-3"\n', "documents.1.title", "is missing"),
        ('[[documents]]\ntitle.fr = "T"\nloinc = "11506-3"\n', "documents.1", "title.en is missing"),
        ('[[documents]]\ntitle.en = "T"\n', "documents.1.loinc", "is missing"),
        (
            '[[documents]]\ntitle.en = "T"\nloinc = { fr = "11488-4" }\n',
            "documents.1.loinc.international",
            "is missing",
        ),
        (
            '[[documents]]\ntitle.en = "T"\nloinc = { international = "11506-4" }\n',
            "documents.1.loinc.international",
            "check digit",
        ),
        (
            '[[documents]]\ntitle.en="T"\nloinc.uk="1"\nloinc.international="11506-3"\n',
            "documents.1.loinc.uk",
            "known: us",
        ),
        (DOCUMENTS + DOCUMENTS + 'providers = ["nabela"]\n', "documents.2.providers.1", "there are: askara"),
        (DOCUMENTS + 'kinds = ["letter"]\n', "documents.1.kinds.1", "'note', 'summary'"),
        (DOCUMENTS + 'template = ["SOAP"]\n', "documents.1.template", "is not known here; known: title, source, kinds"),
    ],
)
def test_a_wrong_row_is_refused_with_its_place(own: Callable[..., Path], content: str, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping(own(content))

    error = caught.value
    assert (error.code, error.exit_code, error.context["file"]) == ("fhir_mapping", 2, "own.toml")
    assert place in error.field_paths
    (line,) = [line for line in error.message.splitlines() if line.startswith(f"  {place}: ")][:1]
    assert words in line
    assert "MEDSCRIBE_FHIR_MAPPING" in error.message


def test_values_are_not_repeated(own: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping(own('[sections.PLAN]\nloinc = "canary-1"\nfit = "canary-2"\ntitle.en = 3\n[x]\ny = "canary-3"\n'))

    assert "canary" not in f"{caught.value!s}{caught.value!r}"
    assert caught.value.context["problems"] == 4
    assert caught.value.__cause__ is None


def test_many_problems_are_counted(own: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping(own("".join(f"[sections.K{number}]\n" for number in range(25))))

    assert caught.value.context["problems"] == 25
    assert "and 5 more" in caught.value.message
    assert len(caught.value.field_paths) == 20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "says nothing"),
        (b"# nothing yet\n[sections]\n", "says nothing"),
        (b"\xff", "is not UTF-8 text"),
        (b"\n\nsections = [canary", "is not valid TOML at line 3, column 13"),
        (b"[sections.PLAN]\n[sections.PLAN]\n", "is not valid TOML at line 2"),
        (b"a = " + b"[" * 5000, "is"),
        (b"#" * (MAX_BYTES + 1), "is larger than a megabyte"),
    ],
)
def test_what_is_no_mapping_is_refused(own: Callable[..., Path], content: bytes, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping(own(content))

    assert caught.value.code == "fhir_mapping"
    assert words in caught.value.message
    assert "canary" not in str(caught.value)


def test_no_file_a_folder_and_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path, words in ((tmp_path / "none", "does not exist"), (tmp_path, "not a file"), (tmp_path / "pipe", "device")):
        with pytest.raises(ConfigError, match=words) as caught:
            load_mapping(path)
        assert caught.value.context["file"] == path.name


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.symlink_to(path)  # a circle: not even root gets through

    with pytest.raises(ConfigError, match=r"cannot be read|does not exist"):
        load_mapping(path)


def test_home_is_understood(own: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(own(SECTIONS).parent))

    assert section(load_mapping(Path("~/own.toml")), "PLAN", "fr")[1] == "Suites"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text("[]=.\"'{}sectionsPLA\n #1", max_size=80).map(str.encode))
def test_any_content_is_a_mapping_or_refused(content: bytes) -> None:
    assert outcome(content) in ("mapping", "fhir_mapping")


def outcome(content: bytes) -> str:
    try:
        rows = own_rows("own.toml", content, default_mapping().rows)
    except ConfigError as error:
        return error.code
    return "mapping" if rows.documents[-1].matches_all else "no row for every note"
