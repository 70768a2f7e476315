"""The text format, line by line."""

from __future__ import annotations

from medscribe_pipeline.receiver.metrics import Metrics


def test_counters_and_histogram() -> None:
    metrics = Metrics()
    metrics.count("nabla", "callback", "stored")
    metrics.count("nabla", "callback", "stored")
    metrics.count("askara", "", "wrong_secret")
    for seconds in (0.001, 0.01, 0.3, 60.0):
        metrics.observe(seconds)

    lines = metrics.render(held_bytes=42).splitlines()

    assert 'medscribe_receiver_events_total{provider="nabla",kind="callback",outcome="stored"} 2' in lines
    assert 'medscribe_receiver_events_total{provider="askara",kind="",outcome="wrong_secret"} 1' in lines
    assert 'medscribe_receiver_answer_seconds_bucket{le="0.01"} 2' in lines
    assert 'medscribe_receiver_answer_seconds_bucket{le="0.25"} 2' in lines
    assert 'medscribe_receiver_answer_seconds_bucket{le="5.0"} 3' in lines
    assert 'medscribe_receiver_answer_seconds_bucket{le="+Inf"} 4' in lines
    assert "medscribe_receiver_answer_seconds_count 4" in lines
    assert "medscribe_receiver_answer_seconds_sum 60.311000" in lines
    assert "medscribe_receiver_held_bytes 42" in lines


def test_every_family_is_announced_before_its_samples() -> None:
    metrics = Metrics()
    metrics.count("nabla", "callback", "stored")
    announced: set[str] = set()
    for line in metrics.render(held_bytes=0).splitlines():
        if line.startswith("# TYPE "):
            announced.add(line.split()[2])
        elif not line.startswith("#"):
            name = line.split("{")[0].split(" ")[0]
            assert any(name.startswith(family) for family in announced), line
