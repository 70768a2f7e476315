"""Free note text into sections: which lines are headings (`headings.toml`), and what lies under them.

A heading that the data file knows is recognised in any of these shapes, in any case, with or without an
enumerator (`1.`, `II)`, `3 -`) before it:

```
Plan:            Plan: rest       # Plan ... ###### Plan      **Plan**    __Plan__    **Plan:** rest
PLAN (capitals, alone)            Plan (alone, after a blank line)        Plan / ==== (underlined)
```

A heading it does not know opens a section without key only where the shape alone says so: Markdown `#`, or a
short line of its own after a blank one that is bold, underlined or ends with a colon. Where its mark is weaker
than that of the known heading above it (`### Knee` under `## Plan`), it is nested there.

Nothing is lost. The words of the text are the words of titles and texts, in order and depth first. What goes:
line ends become `\\n`; blank lines around a text; of a heading its marks (`#`, `*`, `_`, `:`, an underline of `=` or
`-`); and of a known heading its enumerator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from medscribe_pipeline.notes import NoteSection
from medscribe_pipeline.providers.headings_file import MAX_MARKDOWN_TITLE, MAX_TITLE, fold, shipped_headings
from medscribe_pipeline.providers.markdown_text import format_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.notes import TextFormat

__all__ = ["split_sections"]

MAX_UNKNOWN_WORDS = 6
"""Words of an unknown heading that only a colon marks as one."""

MAX_LINE = MAX_MARKDOWN_TITLE + 40
"""Characters of a line, marks and enumerator included, that are looked at: no line costs more than that."""

LONGEST_ACRONYM = 4
"""Letters in capitals that may be an acronym on a line of their own (`CAT`, `ATCD`)."""

SENTENCE = frozenset(".,;!?…")
MARKS = "#*_:"

_MAY_BEGIN = frozenset(MARKS + "(0123456789IVX")
"""What the mark or the enumerator of a heading begins with; any other heading begins with its title."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_HASHES = re.compile(r"(#{1,6})(?!#)(\s*)")
_UNDERLINE = re.compile(r"={3,}|-{3,}")
_LIGHTEST_HASHES = 6
_EMPHASISED = re.compile(r"(\*{1,3}|_{1,3})(?=[^\s*_])(?P<inner>.*)\1\s*:?")
_BULLET = re.compile(r"[*_]\s")
_ENUMERATOR = re.compile(
    r"\(?(?:[0-9]{1,2}(?:\.[0-9]{1,2}){0,3}|[IVX]{1,4})(?:[.)/°]+(?:\s+|(?=\*\*|__))|\s*-\s*|\s+–\s+)"
)

# One round in either order, or several rounds (one a problem). "SOSOSO" is a conversation of two initials.
_SOAP_ROUNDS = re.compile(r"[AP]*SO[AP]*|(?:SO[AP]+)+")
_SOAP_ROLES = {
    "SOAP_SUBJECTIVE": "S",
    "SOAP_OBJECTIVE": "O",
    "SOAP_ASSESSMENT": "A",
    "SOAP_PLAN": "P",
    "ASSESSMENT": "A",
    "PLAN": "P",
}


def split_sections(text: str) -> tuple[NoteSection, ...]:
    """Splits the free text of a note, plain or Markdown, English or French, at its headings.

    In a note with a subjective and an objective part, its assessment and plan become `SOAP_ASSESSMENT` and
    `SOAP_PLAN`, and the letters `S`, `O`, `A`, `P` are headings.

    Returns:
        The sections in order; none for a text without a word. Text before the first heading, or without any, is
        a section whose key and title are `None`. A known heading with nothing below has the text `""`; any other is
        text itself. The texts are Markdown where that is beyond doubt (`format_of`).

    >>> [(s.key, s.title, s.text) for s in split_sections("Motif : toux\\n\\n## Conduite à tenir\\nRepos")]
    [('CHIEF_COMPLAINT', 'Motif', 'toux'), ('PLAN', 'Conduite à tenir', 'Repos')]
    """
    lines = _LINE_END.split(text) if "\r" in text else text.split("\n")
    headings = shipped_headings()
    found = _find(lines, in_soap=True)
    with_letters = any(heading.folded in headings.only_in_soap for heading in found)
    if with_letters and not (_is_soap(found) and _SOAP_ROUNDS.fullmatch(_roles(found))):
        found = _find(lines, in_soap=False)
    return _assemble(lines, found, headings.replaced_in_soap if _is_soap(found) else {}, format_of(text))


@dataclass(slots=True)
class _Heading:
    """Lines `start` to `end` (excluded) hold it; `rest` is what follows it on its own line.

    `folded` is the spelling it was recognised by, `None` if by its shape alone. `rank` is the weight of its mark,
    1 the heaviest.
    """

    title: str
    key: str | None
    folded: str | None
    rank: int
    rest: str
    start: int
    end: int


@dataclass(slots=True)
class _Line:
    """A stripped line with what its surroundings and marks say about it."""

    text: str
    previous: str
    following: str

    @property
    def hashes(self) -> re.Match[str] | None:
        return _HASHES.match(self.text)

    @property
    def is_underlined(self) -> bool:
        return _is_underline(self.following)

    def rank(self, by_mark: int) -> int:
        """The weight of an underlined heading whose own mark has this one."""
        if by_mark <= _LIGHTEST_HASHES:
            return by_mark
        return 1 if self.following.startswith("=") else 2


def _rank_of_mark(written: str) -> int:
    if hashes := _HASHES.match(written):
        return len(hashes[1])
    return 7 if written.startswith(("*", "_")) else 8


def _find(lines: Sequence[str], *, in_soap: bool) -> list[_Heading]:
    stripped = [*map(str.strip, lines), ""]
    found: list[_Heading] = []
    index, previous = 0, ""
    while index < len(lines):
        text, following = stripped[index], stripped[index + 1]
        end = index + 1
        if text and _may_be_heading(text, previous, following):
            line = _Line(text, previous, following)
            heading = _known_heading(line, index, in_soap=in_soap) or _unknown_heading(line, index)
            if heading:
                found.append(heading)
                end = heading.end
                text = stripped[end - 1]
        index, previous = end, text
    return found


def _may_be_heading(text: str, previous: str, following: str) -> bool:
    """Whether a stripped line is worth a look: most are not, by what is seen at once."""
    if text[0] in _MAY_BEGIN:
        # A bullet's star is no emphasis; and what is long and has no early colon cannot be a heading.
        return not _BULLET.match(text) and (len(text) <= MAX_LINE or ":" in text[:MAX_LINE])
    # From here on no mark and no enumerator is before the title: it begins with the line.
    if not text[0].isalnum():
        return False
    if ":" in text[:MAX_LINE]:
        return True
    if len(text) > MAX_TITLE and text[-1] not in MARKS:
        return False
    # Below a line of text only capitals or an underline make a heading of words without a mark.
    return len(text) <= MAX_LINE and (not previous or text.isupper() or _is_underline(following))


def _is_underline(text: str) -> bool:
    return text.startswith(("=", "-")) and _UNDERLINE.fullmatch(text) is not None


def _known_heading(line: _Line, index: int, *, in_soap: bool) -> _Heading | None:
    """A heading the data file knows: before the first colon, else the whole line if its shape allows."""
    text, rest = line.text, ""
    before, colon, _ = text[:MAX_LINE].partition(":")
    known = _recognised(before, in_soap) if colon else None
    if known is not None and known.folded is not None:
        rest = text[len(before) + 1 :].strip()
        if known.mark and not before.rstrip().endswith(known.mark):
            rest = (
                rest.removeprefix(known.mark) if rest.startswith(known.mark) else rest.removesuffix(known.mark)
            ).strip()
    elif len(text) <= MAX_LINE:
        known = _recognised(text, in_soap)
        if known.folded is None or not _stands_alone(line, known.title):
            return None
    if known is None or known.folded is None:
        return None
    is_underlined = line.is_underlined
    rank = line.rank(known.rank) if is_underlined else known.rank
    end = index + (2 if is_underlined and not rest else 1)
    return _Heading(known.title, known.key, known.folded, rank, rest, index, end)


class _Recognised(NamedTuple):
    """What may be a heading, looked at by itself.

    Attributes:
        title: Its words.
        folded: The spelling it is known by, if it is.
        key: What that stands for.
        rank: As `_Heading.rank`, by its own mark.
        mark: The emphasis that a colon after it stands in: in `**Plan:** rest` and `**Plan: rest**`. In
            `**Plan**: rest` it is closed.
    """

    title: str
    folded: str | None
    key: str | None
    rank: int
    mark: str


def _recognised(written: str, in_soap: bool) -> _Recognised:
    # What is longer hardly comes again.
    return (_recognise if len(written) <= MAX_TITLE else _recognise.__wrapped__)(written, in_soap)


@lru_cache(maxsize=2048)  # The same headings come in note after note, written in the same way.
def _recognise(written: str, in_soap: bool) -> _Recognised:
    spellings = shipped_headings().in_soap if in_soap else shipped_headings().known
    title = _title(written)
    folded = _spelling(title, spellings)
    key = spellings[folded] if folded is not None else None
    mark = "".join(character for character in written[: written.find(title)] if character in "*_")
    return _Recognised(title, folded, key, _rank_of_mark(written), mark)


def _title(written: str) -> str:
    """A heading without its marks and enumerator."""
    bare = _bare(written)
    enumerator = _ENUMERATOR.match(bare)
    return _bare(bare[enumerator.end() :]) if enumerator else bare


def _bare(written: str) -> str:
    """Without marks and white space around it."""
    while (shorter := written.strip().strip(MARKS)) != written:
        written = shorter
    return written


def _spelling(title: str, spellings: Mapping[str, str | None]) -> str | None:
    """The spelling a title is known by, a final `(...)` of it ignored if need be."""
    if len(title) > MAX_TITLE or not title[:1].isalnum():
        return None
    folded = fold(title)
    if folded not in spellings and title.endswith(")"):
        folded = fold(title.rpartition("(")[0])
    return folded if folded in spellings else None


def _stands_alone(line: _Line, title: str) -> bool:
    """Whether a known heading without a colon is marked as one, or stands on its line as only a heading does."""
    enumerator = _ENUMERATOR.match(line.text)
    unnumbered = line.text[enumerator.end() :] if enumerator else line.text
    if line.hashes or line.is_underlined or _EMPHASISED.fullmatch(unnumbered):
        return True
    if title[-1] in SENTENCE or (enumerator and _ENUMERATOR.match(line.following)):
        return False  # the end of a sentence; the first item of a list
    # Capitals need no blank line, unless everything around them is dictated in capitals, or they may be an acronym.
    in_capitals = title.isupper() and len(title) > LONGEST_ACRONYM and not line.previous.isupper()
    return not line.previous or in_capitals


def _unknown_heading(line: _Line, index: int) -> _Heading | None:
    """A heading by its shape alone; its enumerator is part of its title."""
    if len(line.text) > MAX_LINE:
        return None
    title = _bare(line.text)
    if line.hashes:
        is_heading = bool(line.hashes[2]) and any(map(str.isalnum, title)) and len(title) <= MAX_MARKDOWN_TITLE
    else:
        is_heading = not line.previous and _is_plain_title(title) and _has_mark(line, title)
    if not is_heading:
        return None
    is_underlined, rank = line.is_underlined, _rank_of_mark(line.text)
    end = index + (2 if is_underlined else 1)
    return _Heading(title, None, None, line.rank(rank) if is_underlined else rank, "", index, end)


def _is_plain_title(title: str) -> bool:
    return (
        len(title) <= MAX_TITLE and title[:1].isalnum() and SENTENCE.isdisjoint(title) and not _ENUMERATOR.match(title)
    )


def _has_mark(line: _Line, title: str) -> bool:
    """Whether an unknown title is bold, underlined, or a few words before a colon that introduce no list."""
    emphasised = _EMPHASISED.fullmatch(line.text)
    if emphasised and len(emphasised[1]) > 1 and emphasised[1] not in emphasised["inner"]:
        return True
    if ":" in title:
        return False
    words = fold(title).split()
    by_colon = (
        line.text.endswith(":") and 0 < len(words) <= MAX_UNKNOWN_WORDS and words[-1] not in shipped_headings().lead_ins
    )
    return line.is_underlined or (by_colon and not title[0].islower())


def _is_soap(found: Sequence[_Heading]) -> bool:
    return {"SOAP_SUBJECTIVE", "SOAP_OBJECTIVE"} <= {heading.key for heading in found}


def _roles(found: Sequence[_Heading]) -> str:
    return "".join(_SOAP_ROLES.get(heading.key or "", "") for heading in found)


def _assemble(
    lines: Sequence[str], found: Sequence[_Heading], replaced: Mapping[str, str], text_format: TextFormat
) -> tuple[NoteSection, ...]:
    starts = [*(heading.start for heading in found), len(lines)]
    preamble = _text(lines, 0, starts[0])
    # Each top-level section with those nested in it.
    tops: list[tuple[NoteSection, list[NoteSection]]] = []
    if preamble:
        tops.append((NoteSection(None, None, preamble, (), text_format), []))
    parent_rank: int | None = None
    for heading, end in zip(found, starts[1:], strict=True):
        title: str | None = heading.title
        text = _text(lines, heading.end, end, heading.rest)
        if not text and fold(heading.title) != heading.folded:
            # It says more than a heading we know (`**Off work for 3 days**`, `Plan (see again in May)`) and nothing
            # lies below: as a title without text it would not reach a document.
            title, text = None, _number(lines[heading.start], heading) + heading.title
        section = NoteSection(replaced.get(heading.key or "", heading.key), title, text, (), text_format)
        if heading.folded is None and parent_rank is not None and heading.rank > parent_rank:
            tops[-1][1].append(section)
        else:
            tops.append((section, []))
            parent_rank = heading.rank if heading.folded is not None else None
    return tuple(replace(section, sections=tuple(nested)) if nested else section for section, nested in tops)


def _number(line: str, heading: _Heading) -> str:
    """The enumerator of a known heading, which is not in its title, with what is between them."""
    number = _ENUMERATOR.match(_bare(line)) if heading.folded is not None else None
    if number is None:
        return ""
    # Of `1.**Plan` the marks that stood between are gone, and two words are not to become one.
    return f"{number[0]} " if number[0][-1] in ".)/°" else number[0]


def _text(lines: Sequence[str], start: int, end: int, first: str = "") -> str:
    """What `first` and the lines from `start` to `end` say, without the blank lines at either end."""
    while end > start and not lines[end - 1].strip():
        end -= 1
    if first:
        return "\n".join([first, *lines[start:end]])
    while start < end and not lines[start].strip():
        start += 1
    return "\n".join(lines[start:end])
