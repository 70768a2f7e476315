"""A note as people see it: one HTML page made from the very resources that are stored and sent.

The page is self-contained: no script, no external resource, and a policy in its head that lets a browser load none.
It is XHTML in HTML syntax, so it can be parsed either way. All text is escaped; of a narrative only what passes the
project's own rule for narratives is shown as markup, the rest as its source.
"""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.fhir.coverage import Treatment, codes_of
from medscribe_pipeline.fhir.documents import build_documents
from medscribe_pipeline.fhir.narrative import clean_text
from medscribe_pipeline.fhir.rules_elements import narrative_rule
from medscribe_pipeline.fhir.sections import LOINC, section_system
from medscribe_pipeline.fhir.text import has_text, origin_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medscribe_pipeline.fhir.options import BuildOptions
    from medscribe_pipeline.notes import NoteSection, ScribeNote, TranscriptTurn

__all__ = ["preview_html"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
TRANSCRIPT = "Transcript"
DEEPEST_HEADING = 6

_STATUS = {
    "preliminary": ("draft", "Draft", "Text of a machine that no clinician has signed off."),
    "final": ("final", "Final", "A clinician has validated it."),
    "amended": ("amended", "Amended", "Its text changed after it had been validated; it replaces the version before."),
    "entered-in-error": ("error", "Entered in error", "Withdrawn at its source: nobody should act on it."),
}
"""CSS class, name and meaning of each status."""

_SIGNED = frozenset({"final", "amended"})
_BY_SETTING = "A setting of this pipeline counts it as reviewed; its source does not say that a clinician validated it."

_FIT = {
    "exact": "says exactly this",
    "good": "says this well",
    "broad": "LOINC is wider; the own code carries the meaning",
}

# Legal in JSON, but not in XML, or taken for a line end by some readers.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def preview_html(
    note: ScribeNote, options: BuildOptions, *, delivery: str | None = None, transcript: bool = False
) -> str:
    """The page of a note.

    Args:
        note: The note, in any state that has documents.
        options: How its documents are built.
        delivery: A sentence on whether it goes out, from who knows; this room does not.
        transcript: Whether to show what was said, and the resource of it where there is one.

    Raises:
        MedscribeError: The note has no documents, see `build_documents`.
    """
    built = build_documents(note, options).resources()
    composition = built["Composition"]
    title = _text(composition["title"])
    language = _text(composition.get("language", ""))
    style = (resources.files("medscribe_pipeline.fhir") / "preview.css").read_text(encoding="utf-8")
    spoken = f' lang="{language}" xml:lang="{language}"' if language else ""
    page = _Sections(options)
    parts = [
        '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en">\n<head>',
        '<meta charset="utf-8"/>',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        '<meta name="robots" content="noindex"/>',
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>",
        '<main class="sheet">\n<header>',
        f'<p class="kicker">Preview of a clinical note as FHIR {_text(options.release)} says it</p>',
        f'<h1 dir="auto"{spoken}>{title}</h1>',
        _banner(note, composition),
        "</header>",
        _facts(composition, delivery),
        f'<article aria-label="Note"{spoken}>',
        *page.sections(composition.get("section", []), "s", 2),
        "</article>",
        f'<p class="origin" dir="auto"{spoken}>{_text(origin_line(note))}</p>',
        *_left_out(note, options),
        *(_transcript(note.transcript) if transcript else []),
        '<section class="more" aria-labelledby="resources">\n<h2 id="resources">Resources</h2>',
        *_plain_text(built["DocumentReference"]),
        *(_json(kind, each) for kind, each in built.items() if transcript or kind != TRANSCRIPT),
        "</section>\n</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _banner(note: ScribeNote, composition: dict[str, Any]) -> str:
    look, name, meaning = _STATUS.get(composition["status"], ("plain", composition["status"], ""))
    if look in _SIGNED and not note.attested:
        meaning = f"{_BY_SETTING} {meaning}" if look == "amended" else _BY_SETTING
    return f'<p class="banner"><strong class="badge {look}">{_text(name)}</strong> <span>{_text(meaning)}</span></p>'


def _facts(composition: dict[str, Any], delivery: str | None) -> str:
    """Who, what and when, as the Composition says it."""
    attesters = [each["party"] for each in _each(composition.get("attester")) if "party" in each]
    signed_at = [each["time"] for each in _each(composition.get("attester")) if "time" in each]
    rows = [
        ("Delivery", [_text(delivery)] if delivery else []),
        ("Patient", _references(composition.get("subject"))),
        ("Encounter", _references(composition.get("encounter"))),
        ("Author", _references(composition.get("author"))),
        ("Signed off by", _references(attesters) + [_text(each) for each in signed_at]),
        ("Date", [_text(composition["date"])]),
        ("Type", _concepts(composition.get("type"))),
        ("Category", _concepts(composition.get("category"))),
        ("Language", [_text(each) for each in _each(composition.get("language"))]),
        ("Kept by", _references(composition.get("custodian"))),
        ("Labels", _concepts([{"coding": [each]} for each in composition.get("meta", {}).get("security", [])])),
        ("Note", [_identifier(each) for each in _each(composition.get("identifier"))]),
    ]
    always = {"Patient", "Encounter", "Author", "Signed off by"}
    lines = [
        f"<dt>{name}</dt>\n<dd>{'<br/>'.join(values) or 'not known'}</dd>"
        for name, values in rows
        if values or name in always
    ]
    return '<dl class="facts">\n' + "\n".join(lines) + "\n</dl>"


@dataclass(slots=True)
class _Sections:
    """Renders sections with their codes beside them."""

    options: BuildOptions
    own_system: str = field(init=False)

    def __post_init__(self) -> None:
        self.own_system = section_system(self.options.base_uri)

    def sections(self, listed: Sequence[dict[str, Any]], name: str, level: int) -> Iterator[str]:
        """Each section and what is nested in it; `name` is the start of its anchor, `level` that of its heading."""
        heading = f"h{min(level, DEEPEST_HEADING)}"
        for number, section in enumerate(listed, 1):
            anchor = f"{name}-{number}"
            title = _text(section.get("title", ""))
            labelled = f'aria-labelledby="{anchor}"' if title else f'aria-label="Section {number}"'
            yield f'<section class="section" {labelled}>\n<div class="row">\n<div class="narrative" dir="auto">'
            yield f'<{heading} id="{anchor}">{title}</{heading}>' if title else ""
            yield _narrative(section["text"]) if "text" in section else ""
            yield "</div>"
            yield '<ul class="codes" lang="en" xml:lang="en" aria-label="Codes">'
            yield from self._codes(section.get("code", {}))
            yield "</ul>\n</div>"
            yield from self.sections(section.get("section", []), anchor, level + 1)
            yield "</section>"

    def _codes(self, concept: dict[str, Any]) -> Iterator[str]:
        codings = concept.get("coding", [])
        key = next((each["code"] for each in codings if each.get("system") == self.own_system), None)
        known = codes_of(self.options.mapping, key)
        for each in codings:
            if each.get("system") == LOINC:
                yield f"<li>LOINC <code>{_text(each['code'])}</code>{_small(_FIT.get(known.fit or ''))}</li>"
            elif each.get("system") == self.own_system:
                yield f"<li>own <code>{_text(each['code'])}</code></li>"
            else:
                yield f"<li>{_coding(each)}</li>"
        if known.treatment is Treatment.UNKNOWN:
            yield '<li><span class="badge draft">unknown key</span> kept as it came; the mapping has no row for it</li>'
        elif known.treatment is Treatment.OWN_CODE:
            yield "<li>LOINC has no code for it</li>"
        elif known.treatment is Treatment.NO_KEY:
            yield "<li>no code: its source gave it no key</li>"


def _narrative(text: dict[str, Any]) -> str:
    """The narrative as markup if it keeps the rules, else its source."""
    div = str(text["div"])
    if narrative_rule(div) is not None:
        return f'<p><span class="badge error">not a narrative</span></p>\n<pre>{_text(div)}</pre>'
    return div


def _left_out(note: ScribeNote, options: BuildOptions) -> Iterator[str]:
    names = [
        _text(options.mapping.section_heading(section.key, section.title, note.language) or "without a heading")
        for section in _every(note.sections)
        if not has_text(section)
    ]
    if names:
        yield f'<p class="small">Left out, because they are empty: <span dir="auto">{", ".join(names)}</span>.</p>'


def _every(sections: Sequence[NoteSection]) -> Iterator[NoteSection]:
    for section in sections:
        yield section
        yield from _every(section.sections)


def _transcript(turns: Sequence[TranscriptTurn]) -> Iterator[str]:
    rows = [
        f"<tr><td>{_offset(turn.start_offset_ms)}</td><td>{_text(turn.speaker or '')}</td>"
        f'<td dir="auto">{_text(turn.text)}</td></tr>'
        for turn in turns
    ]
    yield '<section class="more" aria-labelledby="transcript">\n<h2 id="transcript">Transcript</h2>'
    if not rows:
        yield '<p class="small">There is none.</p>\n</section>'
        return
    yield f'<details>\n<summary>What was said: {len(rows)} turns</summary>\n<div><table class="turns">'
    yield '<thead><tr><th scope="col">at</th><th scope="col">who</th><th scope="col">said</th></tr></thead>\n<tbody>'
    yield from rows
    yield "</tbody>\n</table></div>\n</details>\n</section>"


def _offset(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    return f"{minutes}:{seconds:02}"


def _plain_text(document: dict[str, Any]) -> Iterator[str]:
    """The text rendering, as a reader of the DocumentReference gets it."""
    for each in document.get("content", []):
        attachment = each["attachment"]
        if str(attachment.get("contentType", "")).startswith("text/plain") and "data" in attachment:
            text = base64.b64decode(attachment["data"]).decode("utf-8", "replace")
            yield f'<details>\n<summary>As plain text</summary>\n<pre dir="auto">{_text(text)}</pre>\n</details>'


def _json(kind: str, resource: dict[str, Any]) -> str:
    source = json.dumps(resource, indent=2, ensure_ascii=False)
    # As an escape it is the same JSON; as itself it would break the page or be lost.
    fit = _UNFIT.sub(lambda found: f"\\u{ord(found.group()):04x}", source)
    return f"<details>\n<summary>{_text(kind)} as JSON</summary>\n<pre>{html.escape(fit)}</pre>\n</details>"


def _references(found: Any) -> list[str]:
    lines = []
    for each in _each(found):
        name = _text(each["display"]) if "display" in each else ""
        place = f"<code>{_text(each['reference'])}</code>" if "reference" in each else ""
        identifier = _identifier(each["identifier"]) if "identifier" in each else ""
        kind = f'<span class="id">({_text(each["type"])})</span>' if "type" in each else ""
        lines.append(" ".join(part for part in (name, place, identifier, kind) if part))
    return lines


def _identifier(known: dict[str, Any]) -> str:
    system = _small(known.get("system"), "in")
    return f"<code>{_text(known.get('value', ''))}</code>{system}"


def _concepts(found: Any) -> list[str]:
    lines = []
    for each in _each(found):
        codings = [_coding(coding) for coding in each.get("coding", [])]
        lines.append(" · ".join(([_text(each["text"])] if "text" in each else []) + codings))
    return lines


def _coding(coding: dict[str, Any]) -> str:
    name = f"{_text(coding['display'])} " if "display" in coding else ""
    code = f"<code>{_text(coding.get('code', ''))}</code>"
    if coding.get("system") == LOINC:
        return f"{name}LOINC {code}"
    return f"{name}{code}{_small(coding.get('system'), 'in')}"


def _small(text: str | None, before: str = "") -> str:
    words = " ".join(part for part in (before, _text(text or "")) if part)
    return f' <span class="id">{words}</span>' if text else ""


def _each(value: Any) -> list[Any]:
    """What R4 and R5 may have once or several times, as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _text(value: object) -> str:
    """Anything as text of the page: legal characters, escaped."""
    return html.escape(clean_text(str(value)))
