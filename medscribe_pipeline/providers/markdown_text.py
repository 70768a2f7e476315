r"""Whether a text is Markdown, and text that stays what it is in Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medscribe_pipeline.notes import TextFormat

__all__ = ["escaped", "format_of"]

_HEADING = re.compile(r"^#{1,6} +\*{0,2}[^\W\d_]", re.MULTILINE)  # `#1` and `# 5` are numbers
# Either begins with a mark itself, not with a look at what is before it: the search leaps from mark to mark.
_STRONG = re.compile(r"\*\*\w[^*\n]*\*\*|_(?<!\w_)_\w[^_\n]*__(?!\w)")
_TABLE = re.compile(r"^ *+\|? *+:?-{2,}:? *\|[-:| ]*$", re.MULTILINE)  # the line below its header
_SURELY_STRONG = 3

# Marks that need something after them, or an end, to be marks; the rest of the text stays readable where it is stored.
_INLINE = re.compile(
    r"""\\(?=[!-/:-@\[-`{-~\n]|$)   # an escape, a hard break
    | [*`]                          # emphasis, code
    | (?<![^\W_])_ | _(?![^\W_])    # emphasis, but in snake_case
    | \](?=\()                     # a link or an image
    | <(?=[A-Za-z/!?])              # an address, a tag
    | &(?=\#|[A-Za-z]\w{1,31};)    # an entity
    """,
    re.VERBOSE,
)
_BLOCK = re.compile(
    r"""^(?P<before>\s*)(?:
      (?P<mark> \#{1,6}(?=\s|$) | [-+](?=\s|$) | >        # a heading, a list, a quote
        | ~~~ | =(?=[=\ ]*$) | [-|:](?=[-:|\ ]*$)         # a fence, an underline, below a table's header
      )
      | [0-9]{1,9}(?P<end>[.)])(?=\s|$)                   # a numbered list
    )""",
    re.VERBOSE,
)


def format_of(text: str) -> TextFormat:
    """Whether a text of which nothing is known is Markdown. It is only where two different signs of it are there.

    The signs are headings with `#`, strong words, strong words again and again, and tables. A clinician's plain text
    may look like Markdown in places (`2 * 3 * 4`, `- a`, `1. b`, `#1`) and would lose what was meant; one that is
    Markdown and is taken for plain text is still readable.

    >>> format_of("## Plan\\n**rest**, *fluids*"), format_of("# 1: 5 * 4 * 2\\n- rest\\n1. **fluids**")
    ('markdown', 'text')
    """
    # One character is found, or not found, in a tenth of the time that two take, and most notes have none of these.
    marked = ("*" in text and "**" in text) or ("_" in text and "__" in text)
    strong = len(_STRONG.findall(text)) if marked else 0
    if strong >= _SURELY_STRONG:
        return "markdown"
    heading = "#" in text and _HEADING.search(text)
    table = "|" in text and "--" in text and _TABLE.search(text)
    return "markdown" if sum(map(bool, (heading, table, strong))) > 1 else "text"


def escaped(line: str, *, begins: bool = True) -> str:
    r"""One line of plain text as Markdown that shows it as it is.

    Args:
        line: Without a line end.
        begins: Nothing stands before it, so that it could begin a heading or a list.

    >>> escaped("# HLA-B*27, Hb <10, snake_case"), escaped("1. a", begins=False)
    ('\\# HLA-B\\*27, Hb <10, snake_case', '1. a')
    """
    line = _INLINE.sub(r"\\\g<0>", line)
    if not begins or (block := _BLOCK.match(line)) is None:
        return line
    at = block.start("end") if block["mark"] is None else block.start("mark")
    return f"{line[:at]}\\{line[at:]}"
