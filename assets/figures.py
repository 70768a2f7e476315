"""Figures of a run as the UI shows them: counts by code, and bars made of text."""

from collections.abc import Mapping, Sequence

WIDTH = 40
"""Characters of the longest bar."""


def codes(counts: Mapping[str, int]) -> str:
    """`not_validated 3, patient_unknown 1`, most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {count}" for code, count in ranked) or "-"


def bars(rows: Sequence[tuple[str, int]]) -> str:
    """A block of code with a bar for each row: text shows the same in the UI, in a terminal and in a log.

    >>> print(bars([("delivered", 80), ("held", 1), ("rejected", 0)]))
    ```text
    delivered  ████████████████████████████████████████ 80
    held       █ 1
    rejected   0
    ```
    """
    longest = max((count for _, count in rows), default=0)
    wide = max((len(name) for name, _ in rows), default=0)
    lines = []
    for name, count in rows:
        # Whatever there is of is seen, however little beside the rest.
        filled = max(1, round(WIDTH * count / longest)) if count else 0
        lines.append(f"{name:<{wide}}  {'█' * filled} {count}" if filled else f"{name:<{wide}}  {count}")
    return "\n".join(["```text", *lines, "```"])
