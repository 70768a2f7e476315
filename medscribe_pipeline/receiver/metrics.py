"""Counters of the receiver in Prometheus' text format. Labels come from fixed lists, never from a request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

from medscribe_pipeline.watching import telemetry

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """What the receiver counts. Used by its event loop only, so nothing is locked."""

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str, str]] = Counter()
        self.in_flight = 0
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._sum_s = 0.0

    def count(self, provider: str, kind: str, outcome: str) -> None:
        """Counts an event. `kind` is empty where it was refused before anybody looked at it."""
        self.events[provider, kind, outcome] += 1
        telemetry.add("medscribe.events", 1, provider=provider, outcome=outcome)

    def observe(self, seconds: float) -> None:
        """Notes how long a post took until it was answered."""
        self._buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self._sum_s += seconds

    def render(self, *, held_bytes: int) -> str:
        """All of it as text.

        Args:
            held_bytes: Bytes of bodies held now.
        """
        lines = [
            "# HELP medscribe_receiver_events_total Events and posts, by what became of them.",
            "# TYPE medscribe_receiver_events_total counter",
        ]
        for (provider, kind, outcome), value in sorted(self.events.items()):
            labels = f'provider="{provider}",kind="{kind}",outcome="{outcome}"'
            lines.append(f"medscribe_receiver_events_total{{{labels}}} {value}")
        lines += [
            "# HELP medscribe_receiver_answer_seconds Time from the head of a post to its answer.",
            "# TYPE medscribe_receiver_answer_seconds histogram",
        ]
        totals = list(accumulate(self._buckets))
        names = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
        lines += [
            f'medscribe_receiver_answer_seconds_bucket{{le="{name}"}} {total}'
            for name, total in zip(names, totals, strict=True)
        ]
        lines += [
            f"medscribe_receiver_answer_seconds_sum {self._sum_s:.6f}",
            f"medscribe_receiver_answer_seconds_count {totals[-1]}",
            "# HELP medscribe_receiver_posts_in_flight Posts being answered now.",
            "# TYPE medscribe_receiver_posts_in_flight gauge",
            f"medscribe_receiver_posts_in_flight {self.in_flight}",
            "# HELP medscribe_receiver_held_bytes Bytes reserved for bodies now.",
            "# TYPE medscribe_receiver_held_bytes gauge",
            f"medscribe_receiver_held_bytes {held_bytes}",
        ]
        return "\n".join(lines) + "\n"
