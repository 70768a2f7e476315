"""Where each character of a line stands when scripts of both directions meet: the Unicode Bidirectional Algorithm.

PDF draws glyphs where it is told to, so whoever writes a PDF decides the order. A reader who sees "CRP 12" of an
Arabic sentence in the wrong place reads another sentence, so this follows the rules and not a guess:
UAX #9, https://www.unicode.org/reports/tr9/, rules P2-P3, W1-W7, N0-N2, I1-I2, L1-L2. Explicit embeddings and
isolates (rules X1-X8) are left aside: no scribe writes them, and they count as the invisible characters they are.
A text here is one paragraph, without line ends and tabs.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MIRRORED", "base_level", "levels", "visual_order"]

_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_CLOSING = {closing: opening for opening, closing in _BRACKETS.items()}
MIRRORED = _BRACKETS | _CLOSING | {"<": ">", ">": "<", "«": "»", "»": "«", "≤": "≥", "≥": "≤"}
"""Characters whose picture turns round between right-to-left letters."""

_INVISIBLE = frozenset({"BN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_NEUTRAL = frozenset({"B", "S", "WS", "ON"})
_STRONG = {"L": "L", "R": "R", "EN": "R", "AN": "R"}  # what numbers count as beside neutrals (N1)
_MOST_OPEN_BRACKETS = 63  # rule BD16


def base_level(text: str, default: int = 0) -> int:
    """0 for a paragraph from left to right, 1 from right to left: its first letter decides (P2, P3).

    >>> base_level("120/80"), base_level("120/80", 1), base_level("CRP مرتفع"), base_level("- شلل")
    (0, 1, 0, 1)
    """
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in ("L", "R", "AL"):
            return int(kind != "L")
    return default


def levels(text: str, base: int) -> list[int]:
    """The embedding level of each character: even ones run to the right, odd ones to the left.

    >>> levels("a שב 1", 0)
    [0, 0, 1, 1, 1, 2]
    """
    # An unassigned character has no class in Python's data; most of them default to L.
    classes = [unicodedata.bidirectional(character) or "L" for character in text]
    if not base and not {"R", "AL", "AN"}.intersection(classes):
        return [0] * len(text)
    seen = [index for index, kind in enumerate(classes) if kind not in _INVISIBLE]
    kinds = [classes[index] for index in seen]
    direction = "R" if base else "L"
    _resolve_weak(kinds, direction)
    _resolve_brackets([text[index] for index in seen], [classes[index] for index in seen], kinds, direction)
    _resolve_neutral(kinds, direction)
    result = [base] * len(text)
    for index, kind in zip(seen, kinds, strict=True):
        result[index] = _level(kind, base)
    for index, kind in enumerate(classes):
        if kind in _INVISIBLE and index:
            result[index] = result[index - 1]
    return result


def visual_order(line: Sequence[int], spaces: Sequence[bool], base: int) -> list[int]:
    """Indexes of the parts of a line from left to right, given their levels in reading order (L1, L2).

    `spaces` says which parts are white space: at the end of a line it stays at the line's end.

    >>> visual_order([0, 0, 1, 1, 2], [False] * 5, 0)
    [0, 1, 4, 3, 2]
    """
    resolved = list(line)
    for index in range(len(resolved) - 1, -1, -1):
        if not spaces[index]:
            break
        resolved[index] = base
    order = list(range(len(resolved)))
    for level in range(max(resolved, default=0), 0, -1):
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and resolved[order[end]] >= level:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = end + 1
    return order


def _level(kind: str, base: int) -> int:
    if base:
        return 1 if kind == "R" else 2
    return {"L": 0, "R": 1}.get(kind, 2)


def _resolve_weak(kinds: list[str], direction: str) -> None:
    """Rules W1 to W7, in place: marks, numbers and what stands between numbers."""
    previous = direction
    for index, kind in enumerate(kinds):  # W1
        kinds[index] = previous = previous if kind == "NSM" else kind
    _numbers_follow(kinds, direction, "AL", "AN")  # W2
    kinds[:] = ["R" if kind == "AL" else kind for kind in kinds]  # W3
    for index in range(1, len(kinds) - 1):  # W4
        before, kind, after = kinds[index - 1 : index + 2]
        if before == after and ((kind == "CS" and before in ("EN", "AN")) or (kind == "ES" and before == "EN")):
            kinds[index] = before
    _numbers_take_signs(kinds)  # W5
    kinds[:] = ["ON" if kind in ("ES", "ET", "CS") else kind for kind in kinds]  # W6
    _numbers_follow(kinds, direction, "L", "L")  # W7


def _numbers_follow(kinds: list[str], direction: str, letters: str, become: str) -> None:
    """Digits whose last letters before them are of the kind `letters` turn into `become`."""
    strong = direction
    for index, kind in enumerate(kinds):
        if kind in ("L", "R", "AL"):
            strong = kind
        elif kind == "EN" and strong == letters:
            kinds[index] = become


def _numbers_take_signs(kinds: list[str]) -> None:
    """Rule W5: signs such as `%` beside a number belong to it."""
    start = 0
    while start < len(kinds):
        end = start
        while end < len(kinds) and kinds[end] == "ET":
            end += 1
        if end > start and "EN" in (kinds[start - 1] if start else "", kinds[end] if end < len(kinds) else ""):
            kinds[start:end] = ["EN"] * (end - start)
        start = end + 1


def _resolve_brackets(text: list[str], original: list[str], kinds: list[str], direction: str) -> None:
    """Rule N0: both brackets of a pair go with what they hold, or with what stands before them."""
    for opening, closing in _bracket_pairs(text, kinds):
        inside = {_STRONG.get(kind) for kind in kinds[opening + 1 : closing]} - {None}
        if not inside:
            continue
        found = direction
        if direction not in inside:
            before = (_STRONG[kind] for kind in reversed(kinds[:opening]) if kind in _STRONG)
            opposite = "L" if direction == "R" else "R"
            found = opposite if next(before, direction) == opposite else direction
        for index in (opening, closing):
            kinds[index] = found
            mark = index + 1
            while mark < len(kinds) and original[mark] == "NSM":
                kinds[mark] = found
                mark += 1


def _bracket_pairs(text: list[str], kinds: list[str]) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    opened: list[tuple[str, int]] = []
    for index, character in enumerate(text):
        if kinds[index] != "ON":
            continue
        if character in _BRACKETS:
            if len(opened) == _MOST_OPEN_BRACKETS:
                return []
            opened.append((character, index))
        elif character in _CLOSING:
            matches = [place for place, (opening, _) in enumerate(opened) if opening == _CLOSING[character]]
            if matches:
                pairs.append((opened[matches[-1]][1], index))
                del opened[matches[-1] :]
    return sorted(pairs)


def _resolve_neutral(kinds: list[str], direction: str) -> None:
    """Rules N1 and N2, in place: what has no direction goes with its neighbours, if they agree."""
    start = 0
    while start < len(kinds):
        end = start
        while end < len(kinds) and kinds[end] in _NEUTRAL:
            end += 1
        if end > start:
            before = _STRONG[kinds[start - 1]] if start else direction
            after = _STRONG[kinds[end]] if end < len(kinds) else direction
            kinds[start:end] = [before if before == after else direction] * (end - start)
        start = end + 1
