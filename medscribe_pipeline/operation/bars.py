"""Small drawings of distributions and shares, as SVG with classes for colours."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from medscribe_pipeline.operation.delays import STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.operation.delays import Delay

__all__ = ["duration", "histogram_svg", "shares_svg"]

WIDTH, HEIGHT, BASE, TOP = 420.0, 150.0, 122.0, 20.0
SHARES_WIDTH, SHARES_HEIGHT = 420.0, 16.0
MINUTE, HOUR, DAY = 60, 3600, 86_400


def duration(seconds: float) -> str:
    """A duration for people, to two units at most.

    >>> duration(42), duration(3700), duration(90_000)
    ('42 s', '1 h 2 min', '1 d 1 h')
    """
    whole = round(seconds)
    for size, name, smaller, smaller_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole // MINUTE} min" if whole >= MINUTE else f"{whole} s"


def histogram_svg(delay: Delay, title: str) -> str:
    """Bars over the steps of `delays.STEPS`, each with its count."""
    slot = WIDTH / len(STEPS)
    tallest = max(delay.histogram)
    parts = [
        f'<svg class="bars" role="img" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title>",
        f'<line class="axis" x1="0" y1="{BASE:g}" x2="{WIDTH:g}" y2="{BASE:g}"/>',
    ]
    for number, ((label, _), count) in enumerate(zip(STEPS, delay.histogram, strict=True)):
        left, middle = number * slot, (number + 0.5) * slot
        if count:
            # Whatever there is of is seen, however little beside the rest.
            high = max(2.0, (BASE - TOP) * count / tallest)
            parts.append(
                f'<rect class="bar" x="{left + 3:.1f}" y="{BASE - high:.1f}" width="{slot - 6:.1f}" '
                f'height="{high:.1f}" rx="2"/>'
                f'<text class="count" x="{middle:.1f}" y="{BASE - high - 4:.1f}">{count}</text>'
            )
        parts.append(f'<text class="step" x="{middle:.1f}" y="{BASE + 16:g}">{escape(label)}</text>')
    return "".join([*parts, "</svg>"])


def shares_svg(shares: Sequence[tuple[str, int]], title: str) -> str:
    """One bar of parts, as (class, count); empty without anything."""
    total = sum(count for _, count in shares)
    if not total:
        return ""
    box = f'viewBox="0 0 {SHARES_WIDTH:g} {SHARES_HEIGHT:g}" preserveAspectRatio="none"'
    parts = [
        f'<svg class="shares" role="img" {box} xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title>",
    ]
    left = 0.0
    for name, count in shares:
        wide = SHARES_WIDTH * count / total
        parts.append(f'<rect class="{name}" x="{left:.1f}" y="0" width="{wide:.1f}" height="{SHARES_HEIGHT:g}"/>')
        left += wide
    return "".join([*parts, "</svg>"])
