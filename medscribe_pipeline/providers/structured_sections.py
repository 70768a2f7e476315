"""Values that may be Markdown or, where a provider structured them, JSON: as text, and as sections."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from medscribe_pipeline.notes import NoteSection, canonical_json
from medscribe_pipeline.providers.headings_file import fold, shipped_headings
from medscribe_pipeline.providers.markdown_headings import FINDINGS
from medscribe_pipeline.providers.markdown_sections import split_markdown
from medscribe_pipeline.providers.markdown_text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["has_words", "sections_of", "text_of", "titled"]

MAX_DEPTH = 16
"""Levels of a structured value that are shown as lists; what is deeper is shown as JSON."""

_LINE_END = re.compile(r"\r\n|\r|\n")


def has_words(value: Any) -> bool:
    """Whether a value, Markdown or structured, says anything at all."""
    if isinstance(value, dict):
        return any(map(has_words, value.values()))
    if isinstance(value, list):
        return any(map(has_words, value))
    return value is not None and bool(str(value).strip())


def text_of(value: Any) -> str:
    """A value as plain text: a structured one as a list."""
    return value if isinstance(value, str) else "" if value is None else "\n".join(_as_list(value, 0, _as_it_is))


def titled(sections: tuple[NoteSection, ...]) -> tuple[str | None, tuple[NoteSection, ...]]:
    """Parts the title of the whole from its sections: the first ones that are a title and nothing else.

    Documents show no section without text, but they show their title.
    """
    count = 0
    while count < len(sections) - 1 and _is_bare(sections[count]):
        count += 1
    return " - ".join(section.title or "" for section in sections[:count]) or None, sections[count:]


def _is_bare(section: NoteSection) -> bool:
    return section.key is None and not section.text and not section.sections


def sections_of(value: Any, *, soap: bool = False) -> tuple[NoteSection, ...]:
    """Sections of a document that is Markdown or, where the provider structured it, JSON.

    Every field of an object is a section, its name the title. A text in it is plain text; what is structured becomes
    a Markdown list, its texts escaped. An object with a single text is taken for its wrapping: that text is Markdown.

    >>> [(s.key, s.title, s.text) for s in sections_of({"chief_complaint": "cough", "plan": ["rest", {"dose": 2}]})]
    [('CHIEF_COMPLAINT', 'chief complaint', 'cough'), ('PLAN', 'plan', '- rest\\n- dose: 2')]
    """
    if not isinstance(value, dict):
        return split_markdown(value if isinstance(value, str) else _markdown_of(value), soap=soap)
    table = shipped_headings()
    spellings = {**table.known, **(table.only_in_soap if soap else {})}
    fields = [(" ".join(str(name).replace("_", " ").split()), content) for name, content in value.items()]
    if len(fields) == 1 and isinstance(fields[0][1], str) and fold(fields[0][0]) not in spellings:
        return split_markdown(fields[0][1], soap=soap)
    keys = [spellings.get(fold(title)) for title, _ in fields]
    if soap or set(keys) >= FINDINGS:
        keys = [table.replaced_in_soap.get(key or "", key) for key in keys]
    return tuple(
        NoteSection(key=key, title=title or None, text=_markdown_of(content), format="markdown")
        if isinstance(content, dict | list)
        else NoteSection(key=key, title=title or None, text=text_of(content).strip())
        for key, (title, content) in zip(keys, fields, strict=True)
    )


def _markdown_of(value: Any) -> str:
    """A structured value as a Markdown list that shows its texts as they are."""
    return "\n".join(_as_list(value, 0, escaped)).strip()


class _Write(Protocol):
    """Writes a line of a text into a list; `begins`: nothing but the mark of the list stands before it."""

    def __call__(self, line: str, *, begins: bool = True) -> str: ...


def _as_it_is(line: str, *, begins: bool = True) -> str:  # noqa: ARG001  # the shape of `escaped`
    return line


def _as_list(value: Any, depth: int, write: _Write) -> Iterator[str]:
    """A structured value as lines of a list."""
    indent = "  " * depth
    if depth >= MAX_DEPTH:
        yield f"{indent}- {write(canonical_json(value).decode())}"
    elif isinstance(value, dict):
        for name, content in value.items():
            yield from _entry(f"{indent}- {write(name)}:", content, depth, write, begins=False)
    elif isinstance(value, list):
        for content in value:
            # An object in a list is shown on the level of its list: its names tell it apart.
            yield from (
                _as_list(content, depth, write)
                if isinstance(content, dict)
                else _entry(f"{indent}-", content, depth, write, begins=True)
            )
    else:
        yield from (
            _entry(f"{indent}-", value, depth, write, begins=True) if depth else map(write, _scalar(value).split("\n"))
        )


def _entry(label: str, content: Any, depth: int, write: _Write, *, begins: bool) -> Iterator[str]:
    if isinstance(content, dict | list):
        yield label
        yield from _as_list(content, depth + 1, write)
        return
    first, *more = _LINE_END.split(_scalar(content))
    yield f"{label} {write(first, begins=begins)}".rstrip()
    yield from ("  " * (depth + 1) + write(line) for line in more)


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else canonical_json(value).decode()
