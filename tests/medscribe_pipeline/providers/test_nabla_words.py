"""Spellings of every generation of the API."""

from __future__ import annotations

import pytest

from medscribe_pipeline.fhir.sections import default_mapping
from medscribe_pipeline.providers import nabla_words as words
from medscribe_pipeline.settings import NablaSettings


def test_every_version_the_settings_allow_has_its_spelling() -> None:
    allowed = NablaSettings.model_fields["api_version"].annotation

    assert set(words.GENERATIONS) == set(getattr(allowed, "__args__", ()))


def test_every_language_survives_the_way_to_its_locale_and_back() -> None:
    assert len(words._LOCALES) == 35
    for tag, locale in words._LOCALES.items():
        assert words.language_tag(tag.lower()) == tag
        assert words.language_tag(locale.lower()) == tag
        assert words.speech_locale(tag) == locale


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("en", "en-US"),
        ("fr", "fr-FR"),
        ("EN-gb", "en-GB"),
        ("en-UK", "en-GB"),
        ("en_US", "en-US"),
        ("pt", "pt-PT"),
        ("sr-Latn-RS", "sr-RS"),
        ("cmn-Hans-CN", "zh-CN"),
        ("tl-PH", "fil-PH"),
        ("ar", None),
        ("es", None),
        ("fr-CA", None),
        ("tlh", None),
        ("", None),
    ],
)
def test_languages_are_understood_or_refused_never_guessed(text: str, tag: str | None) -> None:
    assert words.language_tag(text) == tag


def test_all_eleven_templates_have_two_names() -> None:
    assert len(words._TEMPLATES) == 11
    for old, new in words._TEMPLATES.items():
        for spelling in (old, new, old.lower(), f" {new.lower()} "):
            assert words.template_name(spelling, renamed=True) == new
            assert words.template_name(spelling, renamed=False) == old


def test_a_bespoke_template_is_taken_as_it_is() -> None:
    assert words.template_name("Clinic_7 intake", renamed=True) == "Clinic_7 intake"


def test_documented_templates_name_sections_that_have_a_code() -> None:
    for sections in words._TEMPLATE_SECTIONS.values():
        assert set(sections) <= default_mapping().known_keys()
        assert len(set(sections)) == len(sections)
    assert len(words._TEMPLATE_SECTIONS["GENERIC_MULTIPLE_SECTIONS"]) == 18


def test_sections_are_customised_only_where_something_is_to_be_said() -> None:
    assert words.section_customisation("GENERIC_SOAP", "auto", split=False) == []
    assert words.section_customisation("GENERIC_SOAP", "auto", split=True) == [
        {"section_key": "SUBJECTIVE", "split_by_problem": True}
    ]
    styled = words.section_customisation("GENERIC_SOAP", "paragraphs", split=True)
    assert styled[0] == {"section_key": "SUBJECTIVE", "style": "PARAGRAPH", "split_by_problem": True}
    assert styled[1:] == [{"section_key": key, "style": "PARAGRAPH"} for key in ("OBJECTIVE", "ASSESSMENT", "PLAN")]
    assert words.section_customisation("Clinic_7 intake", "bullet_points", split=True) == []
