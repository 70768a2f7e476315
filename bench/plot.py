"""A plot of results as SVG: bars of notes a second, from the page to FHIR, by database and size."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from bench.cases import LOAD, MEDSCRIBE, PEER, WHOLE

if TYPE_CHECKING:
    from bench.results import Key, Results

__all__ = ["plot"]

WIDTH, LABEL, BAR, GAP, HEAD = 860, 250, 20, 6, 34
LONGEST = WIDTH - LABEL - 190
COLOURS = {MEDSCRIBE: "#1f6f8b", PEER: "#c06c3e"}
OTHERS = "#8a8f98"
NAMES = {"postgres": "PostgreSQL", "sqlite": "SQLite (dlt: DuckDB)"}


def plot(results: Results) -> str:
    """The picture; without bars if the cases it shows were not measured."""
    shown = [key for key in results.keys if key[0] == WHOLE or (key[0] == LOAD and key[3] == PEER)]
    fastest = max((_speed(results, key) for key in shown), default=1.0)
    parts: list[str] = []
    height = GAP
    for engine, notes in sorted({key[1:3] for key in shown}):
        height += HEAD
        title = f"{NAMES[engine]}, {notes:_} notes".replace("_", "\u202f")
        parts.append(f'<text x="{GAP}" y="{height - 10}" font-weight="bold">{escape(title)}</text>')
        for key in sorted((key for key in shown if key[1:3] == (engine, notes)), key=_by_name):
            parts.append(_bar(results, key, height, fastest))
            height += BAR + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height + GAP}" '
        f'viewBox="0 0 {WIDTH} {height + GAP}" font-family="sans-serif" font-size="13">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _by_name(key: Key) -> tuple[bool, str]:
    return key[3] != PEER, key[3]


def _speed(results: Results, key: Key) -> float:
    return key[2] / (results.median(key, "wall_s") or 1.0)


def _bar(results: Results, key: Key, top: int, fastest: float) -> str:
    name = key[3]
    colour = next((found for who, found in COLOURS.items() if name.startswith(who)), OTHERS)
    length = max(1, round(_speed(results, key) / fastest * LONGEST))
    told = f"{_speed(results, key):.0f} notes/s, {results.median(key, 'peak_mb') or 0:.0f} MB"
    label = f"{name} (no FHIR)" if name == PEER else name
    middle = top + BAR - 5
    return (
        f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{LABEL}" y="{top}" width="{length}" height="{BAR}" fill="{colour}"/>'
        f'<text x="{LABEL + length + 8}" y="{middle}">{escape(told)}</text>'
    )
