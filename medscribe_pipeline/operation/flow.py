"""The way of a day's records as a drawing: bands from provider to note to documents to target, as wide as they are.

Counting (`day`) and drawing are apart: `flow_of` makes nodes and bands of the counts, `place` gives them coordinates,
`flow_svg` writes SVG. Colours are classes, so that the page decides them for light, dark and paper.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medscribe_pipeline.operation.day import DayReport, ProviderDay

__all__ = ["Band", "Flow", "Node", "Placed", "flow_of", "flow_svg", "place"]

WIDTH, NODE_WIDTH = 980.0, 12.0
COLUMN_X = (4.0, 276.0, 548.0, 792.0)
TALLEST, GAP, TOP = 250.0, 26.0, 34.0
THINNEST = 1.5
HEADINGS = ("Pulled", "Notes", "FHIR documents", "Target")

LANES = 6
"""Colours there are for providers; further ones share them."""

_RECORDS = (
    ("note", "notes", "ok"),
    ("part", "part of another note", "quiet"),
    ("held", "no note", "quiet"),
    ("waiting", "not mapped yet", "wait"),
    ("quarantined", "in quarantine", "bad"),
)
_DOCUMENTS = (
    ("documents", "documents", "ok"),
    ("waiting", "not built yet", "wait"),
    ("quarantined", "in quarantine", "bad"),
)
_STATES = (
    ("delivered", "delivered", "ok"),
    ("held", "held", "wait"),
    ("on_its_way", "on its way", "wait"),
    ("unknown", "in doubt", "doubt"),
    ("rejected", "refused", "bad"),
    ("discarded", "discarded", "quiet"),
)
_ON_ITS_WAY = ("planned", "claimed", "sent")


@dataclass(frozen=True, slots=True)
class Node:
    """A place records come to: `column` from the left, `tone` says what it means for the day."""

    column: int
    name: str
    label: str
    tone: str


@dataclass(frozen=True, slots=True)
class Band:
    """So many of one provider go from node to node; `lane` is the place of the provider among the others."""

    source: Node
    target: Node
    provider: str
    lane: int
    count: int


@dataclass(frozen=True, slots=True)
class Flow:
    """The nodes that anything comes to, in the order they are drawn, and the bands between them."""

    nodes: tuple[Node, ...]
    bands: tuple[Band, ...]

    def through(self, node: Node) -> int:
        """How many come to a node, or leave it, whichever is more: one record can become several notes."""
        into = sum(band.count for band in self.bands if band.target == node)
        out = sum(band.count for band in self.bands if band.source == node)
        return max(into, out)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a node is drawn, in units of the drawing."""

    node: Node
    count: int
    x: float
    y: float
    height: float


def flow_of(report: DayReport, target: str | None) -> Flow:
    """The flow of a day towards one target; without one it ends at the documents."""
    bands: list[Band] = []
    records = {name: Node(1, name, label, tone) for name, label, tone in _RECORDS}
    documents = {name: Node(2, name, label, tone) for name, label, tone in _DOCUMENTS}
    states = {name: Node(3, name, label, tone) for name, label, tone in _STATES}
    sources: list[Node] = []
    for lane, (name, day) in enumerate(sorted(report.providers.items())):
        source = Node(0, name, name, f"lane{lane % LANES}")
        sources.append(source)
        steps: list[tuple[Node, Node, int]] = [
            *((source, records[each], day.records[each]) for each in records),
            *((records["note"], documents[each], day.documents[each]) for each in documents),
        ]
        if target is not None:
            reached = _states(day, target)
            steps += [(documents["documents"], states[each], reached[each]) for each in states]
        bands += [Band(start, end, name, lane, count) for start, end, count in steps if count]
    drawn = {node for band in bands for node in (band.source, band.target)}
    ordered = [*sources, *records.values(), *documents.values(), *states.values()]
    return Flow(tuple(node for node in ordered if node in drawn), tuple(bands))


def _states(day: ProviderDay, target: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for state, count in day.deliveries.get(target, Counter()).items():
        found["on_its_way" if state in _ON_ITS_WAY else state] += count
    return found


def place(flow: Flow) -> tuple[list[Placed], float]:
    """Coordinates of all nodes, and units for one record. Each column is as tall as what comes through it."""
    totals: Counter[int] = Counter()
    for node in flow.nodes:
        totals[node.column] += flow.through(node)
    unit = TALLEST / max(totals.values(), default=1)
    placed: list[Placed] = []
    bottoms: dict[int, float] = {}
    for node in flow.nodes:
        count = flow.through(node)
        height = max(THINNEST, count * unit)
        y = bottoms.get(node.column, TOP)
        placed.append(Placed(node, count, COLUMN_X[node.column], y, height))
        # Labels stand beside their node's middle: thin nodes need room for a line of text.
        bottoms[node.column] = y + max(height + GAP * 0.5, GAP)
    return placed, unit


def flow_svg(flow: Flow, title: str) -> str:
    """The drawing, with a title for those who do not see it; empty without anything to draw."""
    if not flow.bands:
        return ""
    placed, unit = place(flow)
    where = {each.node: each for each in placed}
    height = max(each.y + max(each.height, GAP) for each in placed) + 6
    parts = [
        f'<svg class="flow" role="img" viewBox="0 0 {WIDTH:g} {height:.0f}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title>",
        *(
            f'<text class="head" x="{COLUMN_X[column]:g}" y="16">{escape(heading)}</text>'
            for column, heading in enumerate(HEADINGS)
            if any(node.column == column for node in flow.nodes)
        ),
    ]
    left: dict[Node, float] = {each.node: each.y for each in placed}
    right: dict[Node, float] = {each.node: each.y for each in placed}
    for band in _in_drawing_order(flow):
        wide = max(THINNEST, band.count * unit)
        start, end = where[band.source], where[band.target]
        parts.append(_ribbon(start.x + NODE_WIDTH, right[band.source], end.x, left[band.target], wide, band))
        right[band.source] += band.count * unit
        left[band.target] += band.count * unit
    for each in placed:
        middle = each.y + each.height / 2 + 4.5
        parts.append(
            f'<rect class="node {each.node.tone}" x="{each.x:g}" y="{each.y:.1f}" width="{NODE_WIDTH:g}" '
            f'height="{each.height:.1f}" rx="2"/>'
            f'<text x="{each.x + NODE_WIDTH + 6:g}" y="{middle:.1f}"><tspan class="count">{each.count}</tspan> '
            f"{escape(each.node.label)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _in_drawing_order(flow: Flow) -> Sequence[Band]:
    """By the order of the nodes at both ends and then by provider, so that bands cross as little as they can."""
    order = {node: number for number, node in enumerate(flow.nodes)}

    def rank(band: Band) -> tuple[int, int, int]:
        return order[band.source], order[band.target], band.lane

    return sorted(flow.bands, key=rank)


def _ribbon(x0: float, y0: float, x1: float, y1: float, wide: float, band: Band) -> str:
    middle = (x0 + x1) / 2
    told = f"{band.provider}: {band.count} {band.target.label}"
    outline = (
        f"M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        f"L{x1:.1f} {y1 + wide:.1f}C{middle:.1f} {y1 + wide:.1f} {middle:.1f} {y0 + wide:.1f} {x0:.1f} {y0 + wide:.1f}Z"
    )
    return f'<path class="band lane{band.lane % LANES}" d="{outline}"><title>{escape(told)}</title></path>'
