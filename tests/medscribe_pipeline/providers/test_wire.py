"""Times and ids as the providers write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medscribe_pipeline.providers.wire import SourceId, Text, WireModel, WireTime, aware, parse_time, source_id_of

PARIS = ZoneInfo("Europe/Paris")


class Sample(WireModel):
    id: SourceId = "x"
    at: WireTime | None = None
    text: Text = ""


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-01-02T10:00:00Z", "2026-01-02T10:00:00+00:00"),
        ("2026-01-02T10:00:00+00:00", "2026-01-02T10:00:00+00:00"),
        ("2026-01-02T10:00:00.123456-05:00", "2026-01-02T15:00:00.123456+00:00"),
        ("2026-01-02T10:00:00.1234567891Z", "2026-01-02T10:00:00.123456+00:00"),
        ("  2026-01-02 10:00:00+0530 ", "2026-01-02T04:30:00+00:00"),
        # No offset: local. Winter, summer, the hour that comes twice (the first), the hour that never was.
        ("2026-01-02T10:00:00", "2026-01-02T09:00:00+00:00"),
        ("2026-07-02T10:00:00", "2026-07-02T08:00:00+00:00"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00+00:00"),
        ("2026-10-25T03:00:00", "2026-10-25T02:00:00+00:00"),
        ("2026-03-29T02:30:00", "2026-03-29T01:30:00+00:00"),
        ("2026-03-29T03:00:00", "2026-03-29T01:00:00+00:00"),
    ],
)
def test_times_are_understood_with_and_without_offset(written: str, instant: str) -> None:
    found = aware(parse_time(written), PARIS)

    assert found.isoformat() == instant
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "yesterday",
        "10:00",
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        None,
        7,
        [],
        {},
        True,
    ],
)
def test_what_is_no_time_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"^not a"):
        parse_time(written)


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(datetime(1901, 1, 1), datetime(2199, 1, 1)),  # noqa: DTZ001  # bounds are naive by API
    st.integers(-14 * 60, 14 * 60),
)
def test_any_offset_names_the_same_instant(moment: datetime, minutes: int) -> None:
    instant = moment.replace(tzinfo=UTC)
    written = instant.astimezone(timezone(timedelta(minutes=minutes))).isoformat()

    assert aware(parse_time(written), PARIS) == instant


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a-1", "a-1"),
        (12, "12"),
        (0, "0"),
        ("é" * 255, "é" * 255),
        ("a" * 256, None),
        ("", None),
        (None, None),
        (True, None),
        (1.5, None),
        (["a"], None),
        ("line\nbreak", None),
        ("nul\x00", None),
    ],
)
def test_ids_are_short_printable_text(value: Any, expected: str | None) -> None:
    assert source_id_of({"id": value}, "id") == expected
    if expected is None:
        with pytest.raises(ValidationError):
            Sample.model_validate({"id": value})
    else:
        assert Sample.model_validate({"id": value}).id == expected


@pytest.mark.parametrize("item", [None, [], "x", 3, {}, {"other": "a"}])
def test_what_is_no_record_has_no_id(item: Any) -> None:
    assert source_id_of(item, "id") is None


def test_unknown_fields_pass_and_text_may_be_null() -> None:
    found = Sample.model_validate({"id": 1, "text": None, "someday": {"a": 1}})

    assert (found.id, found.text) == ("1", "")


def test_a_refusal_shows_nothing_of_what_was_received() -> None:
    with pytest.raises(ValidationError) as raised:
        Sample.model_validate({"id": ["canary"], "at": "canary-time", "text": {"x": "canary"}})

    assert "canary" not in str(raised.value)
    assert "canary" not in repr(raised.value)
