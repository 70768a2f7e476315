"""Which notes were changed after a clinician had validated them.

A note row remembers the last validated text there was, whatever state the note is in now: its version, the hash of
its words, and what it amended in its turn. A validated note with other words amends that version; with the same
words it says nothing new. Rows written before this was recorded know of no validated text, so nothing is said to
amend them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.notes import NoteState, content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import sqlalchemy as sa

    from medscribe_pipeline.notes import NoteSection, ScribeNote

__all__ = ["amendment", "words_hash"]

_MARKS = "#*_:"
# White space, and what marks a heading as one: whether a line is a heading or text depends on the mapping.
_BETWEEN_WORDS = re.compile(r"[\s#*_:]+|(?<!\S)(?:={3,}|-{3,})(?!\S)")


def words_hash(note: ScribeNote) -> str:
    """Hash of the words of a note, in order: its title, then title and text of each section, depth first.

    Section keys, nesting, formats, white space and the marks of headings are left out. They depend on how the text
    was split, so a better table of headings must not look like an edit. Signs and decimal points count as words do.
    """
    parts = [note.title or "", *_written(note.sections)]
    written = (" ".join(_words(unicodedata.normalize("NFC", part))) for part in parts)
    return content_hash(" ".join(words for words in written if words))


def _words(text: str) -> list[str]:
    if "===" in text or "---" in text:
        return [word for word in _BETWEEN_WORDS.split(text) if word]
    # Without an underline, words are parted by single characters: the same words in a fifth of the time.
    for mark in _MARKS:
        text = text.replace(mark, " ")
    return text.split()


def _written(sections: Iterable[NoteSection]) -> Iterator[str]:
    for section in sections:
        yield section.title or ""
        yield section.text
        yield from _written(section.sections)


def amendment(note: ScribeNote, source_seq: int, before: sa.Row[Any] | None) -> dict[str, str | None]:
    """The columns `validated_version`, `text_hash` and `amends` of a note about to be written.

    Args:
        note: The note as it is mapped now.
        source_seq: change_seq of the record it was mapped from.
        before: Its stored row, if there is one.
    """
    known = {
        "validated_version": before.validated_version if before else None,
        "text_hash": before.text_hash if before else None,
        "amends": before.amends if before else None,
    }
    # Without a word there is nothing a later text could amend.
    if note.state is not NoteState.VALIDATED or not note.has_text:
        return known
    own = {"validated_version": note.version, "text_hash": words_hash(note)}
    if before is None or before.validated_version is None:
        return {**own, "amends": None}
    same_words = (
        before.validated_version == note.version
        or before.text_hash == own["text_hash"]
        # The record has not changed since it was mapped to a validated note: what differs is the mapping.
        or (before.state == NoteState.VALIDATED and before.source_seq == source_seq)
    )
    return {**own, "amends": before.amends if same_words else before.validated_version}
