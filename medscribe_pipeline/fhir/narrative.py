"""The text of a section, plain or Markdown, as FHIR narrative and as plain text.

A note's text comes from a speech model and a language model. To this module it is text: `<`, `&` and whole
tags in it are characters a clinician dictated ("Hb <10", "A&P") and are shown as such, never as markup.

What it makes is understood by the strictest readers known: only `div p br ul li` and for Markdown a few more
(`markdown`), no attribute but the namespace, no entity but `&amp; &lt; &gt;` (HTML's own entities break XML
parsers), one root `div`. Both forms of a text show the same words, in order, once.
FHIR R4: https://hl7.org/fhir/R4/narrative.html. Element list: a subset of what the Microsoft FHIR server accepts.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medscribe_pipeline.fhir.markdown import Rendered
    from medscribe_pipeline.notes import TextFormat

__all__ = ["XHTML", "both_forms", "clean_text", "is_blank", "plain_text", "to_xhtml"]

XHTML = "http://www.w3.org/1999/xhtml"
"""Namespace of every narrative."""

LONGEST_MARKDOWN = 50_000
"""Characters of a text that is read as Markdown; a longer one, which no section of a note is, shows as it stands.
Some texts made to be slow cost the parser more than their length."""

# Everything Python, Unicode or an old printer calls a line or page end. Left alone, some of them are illegal
# in XML and the others glue two lines into one on screens that do not know them.
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
# What XML 1.0 does not allow and no reader can see (https://www.w3.org/TR/xml/#charsets).
_ILLEGAL = re.compile("[\x00-\x08\x0e-\x1b\ufffe\uffff]")
# White space that is not printable to Python and is fine all the same; French has no text without it.
_FINE = "\n\t\u00a0\u202f"
# What would be seen: anything but white space and what is dropped.
_VISIBLE = re.compile("[^\\s\x00-\x08\x0e-\x1b\ufffe\uffff]")
_BULLETS = frozenset("-•")
_LINES = "<br/>\n"
_TEXT_ENDS, _LIST_ENDS, _NEXT_ITEM = "</p>", "</li>\n</ul>", "</li>\n<li>"


def clean_text(text: str) -> str:
    r"""Text that is legal in XML and in a FHIR string, with line ends as `\n` and every visible character kept.

    Control characters are dropped, lone surrogates become U+FFFD: something stood there, and a reader should see
    that. Emoji, accents, joiners and direction marks are not touched.

    >>> clean_text("Hb <10\r\nT 38\u00b0\x00")
    'Hb <10\nT 38°'
    """
    if _is_clean(text):
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # Through UTF-16, so that two halves of one emoji, sent as two escapes, find each other again.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _ILLEGAL.sub("", _LINE_ENDS.sub("\n", text))


def _is_clean(text: str) -> bool:
    """Whether there is surely nothing to clean, as in nearly all texts: nothing that is replaced is printable."""
    if text.isprintable():
        return True
    for fine in _FINE:
        text = text.replace(fine, "")
    return text.isprintable()


def is_blank(text: str, text_format: TextFormat = "text") -> bool:
    """Whether nothing of a text would be seen: such a narrative is forbidden (txt-2).

    Of Markdown that is more than white space: a lone `---` or a link without text shows nothing.
    """
    if text_format == "markdown":
        return not plain_text(text, text_format)
    return _VISIBLE.search(text) is None


def plain_text(text: str, text_format: TextFormat = "text") -> str:
    r"""A text as plain text, without blank lines at either end: as it stands, or Markdown without its marks.

    Lists keep `- ` and numbers, cells are parted by ` | `.

    >>> plain_text("**Plan**\n1. rest\n2. *water*", "markdown")
    'Plan\n1. rest\n2. water'
    """
    text = clean_text(text)
    if _is_markdown(text, text_format):
        # Again, for what was written as an entity.
        text = clean_text(_render(text).plain)
    return text.strip("\n").rstrip()


def to_xhtml(text: str, text_format: TextFormat = "text") -> str:
    r"""The narrative `div` of a text.

    Of plain text: paragraphs, line breaks and flat bullet lists (`- ` or `• `). A blank line ends a paragraph or a
    list; an indented line after a bullet belongs to it. Of Markdown: see `markdown`. Tags are followed by line feeds,
    so that words stay apart for readers that strip the tags. A text that `is_blank` gives an empty `div`, which FHIR
    forbids (txt-2): leave the narrative out instead.

    >>> to_xhtml("Hb <10\n- rest")
    '<div xmlns="http://www.w3.org/1999/xhtml"><p>Hb &lt;10</p>\n<ul>\n<li>rest</li>\n</ul></div>'
    """
    text = clean_text(text)
    inner = clean_text(_render(text).xhtml) if _is_markdown(text, text_format) else _of_plain(text)
    return f'<div xmlns="{XHTML}">{inner}</div>'


def both_forms(text: str, text_format: TextFormat = "text") -> tuple[str, str]:
    r"""What `plain_text` and `to_xhtml` make of a text, read once; both are empty for one that `is_blank`.

    >>> both_forms("Hb <10\n")
    ('Hb <10', '<div xmlns="http://www.w3.org/1999/xhtml"><p>Hb &lt;10</p></div>')
    >>> both_forms(" \t")
    ('', '')
    """
    text = clean_text(text)
    rendered = _render(text) if _is_markdown(text, text_format) else None
    plain = (text if rendered is None else clean_text(rendered.plain)).strip("\n").rstrip()
    if not plain:
        return "", ""
    inner = _of_plain(text) if rendered is None else clean_text(rendered.xhtml)
    return plain, f'<div xmlns="{XHTML}">{inner}</div>'


def _is_markdown(text: str, text_format: TextFormat) -> bool:
    return text_format == "markdown" and len(text) <= LONGEST_MARKDOWN


def _render(text: str) -> Rendered:
    from medscribe_pipeline.fhir.markdown import render  # noqa: PLC0415  # the parser costs 0.1 s; not all notes need it

    return render(text)


def _of_plain(text: str) -> str:
    written: list[str] = []
    end = ""  # of the block that is open
    # Escaped as a whole: that neither adds nor takes lines, white space or bullets.
    for line in html.escape(text, quote=False).split("\n"):
        words = line.strip()
        if not words:
            if end:
                written += end, "\n"
                end = ""
        # A bullet is a mark, white space and something after it: "-5" and a lone dash are text.
        elif words[0] in _BULLETS and words[1:2].isspace():
            begin = f"{end}\n<ul>\n<li>" if end else "<ul>\n<li>"
            written += _NEXT_ITEM if end == _LIST_ENDS else begin, words[1:].lstrip()
            end = _LIST_ENDS
        elif end == _TEXT_ENDS or (end and line[0].isspace()):
            written += _LINES, words
        else:
            written += f"{end}\n<p>" if end else "<p>", words
            end = _TEXT_ENDS
    return "".join(written).rstrip("\n") + end
