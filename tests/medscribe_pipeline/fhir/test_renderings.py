"""The same words in every form: text, XHTML, PDF."""

from __future__ import annotations

import io
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir import renderings as room
from medscribe_pipeline.fhir.document_reference import document_reference
from medscribe_pipeline.fhir.options import BuildOptions
from medscribe_pipeline.fhir.renderings import missing_forms, rendering, renderings
from medscribe_pipeline.fhir.synthetic import synthetic_note
from medscribe_pipeline.fhir.text import text_rendering
from medscribe_pipeline.notes import NoteSection, Visit
from medscribe_pipeline.settings import FhirSettings
from tests.fhir_options import options

if TYPE_CHECKING:
    from medscribe_pipeline.notes import ScribeNote

HTML = "{http://www.w3.org/1999/xhtml}"
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
# Letters, signs and accents of the languages scribes are used in that are read from left to right.
LETTERS = "abzAZ09éèçñßøœẹ́ṣŋğışțőřž αβγΩ жЙщі .,;:!?-–()[]<>&%+/'\"°µ±≤≥→²½€"


NOTE = synthetic_note()


def with_text(note: ScribeNote, text: str) -> ScribeNote:
    return replace(note, sections=(NoteSection("PLAN", "Suites", text),))


def pdf_of(note: ScribeNote, opts: BuildOptions | None = None) -> bytes:
    made = rendering(note, opts or options(), "pdf")
    assert made is not None
    assert made[0] == "application/pdf"
    return made[1]


def pages_of(data: bytes) -> list[list[str]]:
    """Lines of each page, and the foot of the page as the last."""
    pages = pypdf.PdfReader(io.BytesIO(data), strict=True).pages
    return [unicodedata.normalize("NFC", page.extract_text()).splitlines() for page in pages]


def words_of(data: bytes) -> list[str]:
    return " ".join(" ".join(lines[:-1]) for lines in pages_of(data)).split()


def words_of_text(note: ScribeNote) -> list[str]:
    return unicodedata.normalize("NFC", text_rendering(note, options().mapping)).split()


def xhtml_of(note: ScribeNote) -> ET.Element:
    made = rendering(note, options(), "xhtml")
    assert made is not None
    assert made[0] == "application/xhtml+xml; charset=utf-8"
    return ET.fromstring(made[1])  # noqa: S314 - it is our own


def test_forms_come_in_the_order_of_the_setting(note: ScribeNote) -> None:
    forms = renderings(note, options(renderings=("pdf", "text", "xhtml")))

    assert [content_type for content_type, _ in forms] == [
        "application/pdf",
        "text/plain; charset=utf-8",
        "application/xhtml+xml; charset=utf-8",
    ]


def test_a_document_reference_holds_each_form_with_its_size(note: ScribeNote) -> None:
    opts = options(renderings=("text", "xhtml", "pdf"))

    built = document_reference(note, opts)

    assert [content["attachment"]["size"] for content in built["content"]] == [
        len(data) for _, data in renderings(note, opts)
    ]
    assert missing_forms(built, opts) == ()


def test_xhtml_is_one_document_with_headings_in_order(note: ScribeNote) -> None:
    root = xhtml_of(note)

    headings = [(part.tag.removeprefix(HTML), part.text) for part in root.iter() if part.tag[len(HTML) :][:1] == "h"]
    assert [(tag, text) for tag, text in headings if tag not in ("html", "head")] == [
        ("h1", "Consultation de synthèse"),
        ("h2", "Motif de consultation"),
        ("h2", "Suites"),
        ("h3", "Problème 1"),
        ("h2", "VENDOR_NEWS"),
    ]
    assert root.findtext(f"{HTML}head/{HTML}title") == "Consultation de synthèse"
    last = root.find(f"{HTML}body")
    assert last is not None
    assert "Askara" in "".join(last[-1].itertext())


def test_xhtml_says_its_language_and_direction(note: ScribeNote) -> None:
    french, persian, unknown = (xhtml_of(replace(note, language=tag)) for tag in ("fr-FR", "fa", "Klingon!"))

    assert french.attrib == {"lang": "fr-FR", XML_LANG: "fr-FR"}
    assert persian.attrib == {"lang": "fa", XML_LANG: "fa", "dir": "rtl"}
    assert unknown.attrib == {}


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200))
def test_xhtml_of_any_text_is_well_formed_and_has_no_entities_to_declare(text: str) -> None:
    made = rendering(with_text(NOTE, text), options(), "xhtml")

    assert made is not None
    ET.fromstring(made[1])  # noqa: S314 - it is our own
    assert b"<!" not in made[1]


def test_markdown_reads_the_same_in_every_form(note: ScribeNote) -> None:
    markdown = "**Repos** <b>\n\n1. eau\n   - *tiède*\n\n| A | B |\n|---|---|\n| 1 | 2 |"
    note = replace(note, sections=(NoteSection("PLAN", "Suites", markdown, format="markdown"),))

    assert words_of(pdf_of(note)) == words_of_text(note)
    assert "**" not in "".join(xhtml_of(note).itertext())


def test_pdf_has_every_word_in_order(note: ScribeNote) -> None:
    assert words_of(pdf_of(note)) == words_of_text(note)


def test_pdf_goes_over_pages_that_say_their_number_and_patient(note: ScribeNote) -> None:
    long = with_text(note, "\n".join(f"ligne {number} du compte rendu" for number in range(150)))

    pages = pages_of(pdf_of(long))

    assert len(pages) == 4
    assert [lines[-1].split() for lines in pages] == [
        ["synthetic-patient-1", str(number), "/", "4"] for number in (1, 2, 3, 4)
    ]
    assert words_of(pdf_of(long)) == words_of_text(long)


def test_a_heading_is_never_the_last_line_of_a_page(note: ScribeNote) -> None:
    for lines in range(40, 60):
        sections = (NoteSection("PLAN", "Un", "ligne\n" * lines), NoteSection("PLAN", "Deux", "fin du texte"))
        for page in pages_of(pdf_of(replace(note, sections=sections))):
            assert page[-2].strip() != "Deux"


def test_a_note_without_patient_has_page_numbers_alone(note: ScribeNote) -> None:
    (page,) = pages_of(pdf_of(replace(note, visit=Visit())))

    assert page[-1].strip() == "1 / 1"


def test_the_same_note_gives_the_same_bytes_in_another_process(note: ScribeNote) -> None:
    program = (
        "import hashlib\n"
        "from medscribe_pipeline.fhir.synthetic import synthetic_note\n"
        "from tests.fhir_options import options\n"
        "from medscribe_pipeline.fhir.renderings import rendering\n"
        "made = rendering(synthetic_note(), options(), 'pdf')\n"
        "print(hashlib.sha256(made[1]).hexdigest())"
    )
    other = [
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            timeout=60,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        ).stdout
        for seed in ("1", "2")
    ]

    assert other[0] == other[1]
    assert b"Date" not in pdf_of(note)


@settings(max_examples=40, deadline=None)
@given(text=st.text(alphabet=LETTERS + "\n\t", min_size=1, max_size=400))
def test_pdf_of_european_text_reads_back(text: str) -> None:
    note = with_text(NOTE, text)

    # Without spaces: a word longer than a line is broken, and a reader cannot know.
    assert "".join(words_of(pdf_of(note))) == "".join(words_of_text(note))


@pytest.mark.parametrize(
    "text",
    [
        "ألم في الصدر منذ 3 أيام (CRP 12 mg/L)",
        "כאב בחזה מזה 3 ימים (CRP)",
        "የደረት ህመም",
        "सीने में दर्द",
        "เจ็บหน้าอก",
        "ẹ̀dọ̀ fóró",
        "Đau ngực",
        "ბრონქიტი",
        "նոր ցավ",
        "✔ 👩‍⚕️",
    ],
)
def test_scripts_of_the_world_are_drawn_letter_for_letter(note: ScribeNote, text: str) -> None:
    read = " ".join(words_of(pdf_of(with_text(note, text))))

    # Readers order letters of both directions, and vowels that stand before their consonant, in ways of their own.
    assert set(unicodedata.normalize("NFC", text)) - {"\u200d", "\ufe0f"} <= set(read)


@pytest.mark.parametrize("text", ["胸の痛み", "\U00012000", "\ue000", "a" * 200_001])
def test_what_cannot_be_drawn_leaves_the_pdf_out_and_nothing_else(note: ScribeNote, text: str) -> None:
    opts = options(renderings=("pdf", "text"))
    note = with_text(note, text)

    built = document_reference(note, opts)

    assert [content["attachment"]["contentType"] for content in built["content"]] == ["text/plain; charset=utf-8"]
    assert missing_forms(built, opts) == ("pdf",)


def test_text_stands_in_where_only_a_pdf_was_asked_for(note: ScribeNote) -> None:
    opts = options(renderings=("pdf",))

    built = document_reference(with_text(note, "胸の痛み"), opts)

    assert built["content"][0]["attachment"]["contentType"] == "text/plain; charset=utf-8"
    assert missing_forms(built, opts) == ("pdf",)


def test_invisible_characters_do_not_cost_a_note_its_pdf(note: ScribeNote) -> None:
    hidden = with_text(note, "re\u00adpos\u200b strict\u3000au\u2009lit\x7f\ufeff")

    read = " ".join(words_of(pdf_of(hidden)))
    assert " repos strict au lit " in "".join(sign for sign in read if unicodedata.category(sign) != "Cf")


def test_pages_are_letter_size_in_the_united_states(note: ScribeNote) -> None:
    sizes = {
        profile: pypdf.PdfReader(io.BytesIO(pdf_of(note, options(profile=profile)))).pages[0].mediabox.width
        for profile in ("us", "fr")
    }

    assert sizes == {"us": 612, "fr": pytest.approx(595.28)}


def test_a_missing_extra_is_said_when_the_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PDF_MODULES", ("pydyf", "no_such_module_of_pdf"))

    with pytest.raises(ConfigError, match=r"MEDSCRIBE_FHIR_RENDERINGS .* pip install medscribe-pipeline\[pdf\]"):
        BuildOptions.of(FhirSettings(renderings=("text", "pdf")))
    assert BuildOptions.of(FhirSettings(renderings=("text", "xhtml"))).renderings == ("text", "xhtml")


def test_nothing_of_the_extra_is_loaded_for_other_forms() -> None:
    program = (
        "import sys\n"
        "from medscribe_pipeline.fhir.synthetic import synthetic_note\n"
        "from tests.fhir_options import options\n"
        "from medscribe_pipeline.fhir.renderings import renderings\n"
        "renderings(synthetic_note(), options(renderings=('text', 'xhtml')))\n"
        "sys.exit(any(name in sys.modules for name in ('pydyf', 'uharfbuzz', 'manimgx_fonts', 'fontpkg')))"
    )

    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60, env={"PYTHONPATH": "."})
    assert done.returncode == 0
