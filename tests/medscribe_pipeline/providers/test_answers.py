from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.providers.answers import (
    DEEPEST,
    LONGEST_DELAY_S,
    Answer,
    parse_http_date,
    parse_json,
    rate_limit_delay_s,
    retry_after_s,
)

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", None),
        (b" \r\n ", None),
        (b"[]", []),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": "x\\ud83dy", "b": 1}', {"a": "x\ufffdy", "b": 1}),
        (b'{"\\udc00": 1}', {"\ufffd": 1}),
        (b'["\\ude00\\ud83d", "\\ud83d\\ude00"]', ["\ufffd\ufffd", "\U0001f600"]),
        (b'["\\\\ud800", "\\ud800"]', ["\\ud800", "\ufffd"]),
        (b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": 0.5}', {"a": None, "b": None, "c": None, "d": 0.5}),
        (b'{"a": "two\nlines"}', {"a": "two\nlines"}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "caf\xe9"}', {"a": "caf\ufffd"}),
    ],
)
def test_a_readable_body_is_read(raw: bytes, expected: Any) -> None:
    assert parse_json(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [b'[{"id": 1}, {"id"', b"<html>Sign in, Testa</html>", b"[" * 5000 + b"]" * 4999, b"{} {}", b"9" * 5000 + b"NaN"],
)
def test_what_is_no_json_is_refused_without_quoting_it(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not JSON$") as caught:
        parse_json(raw)

    assert type(caught.value) is ValueError
    assert caught.value.__context__ is None


def test_what_is_nested_beyond_reading_is_kept_as_text_and_hurts_nobody_else() -> None:
    deep = b'{"a":' * 3000 + b'"one \\" \\\\"' + b"}" * 3000

    first, second, third = parse_json(b'[{"id": 1}, ' + deep + b', {"id": "[{"}]')

    assert (first, third) == ({"id": 1}, {"id": "[{"})
    levels = 1
    while isinstance(second, dict):
        second, levels = second["a"], levels + 1
    assert levels == DEEPEST
    assert second.encode() == deep[5 * (DEEPEST - 1) : 1 - DEEPEST]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_whatever_is_read_can_be_written_and_read_again(value: Any) -> None:
    parsed = parse_json(json.dumps(value).encode())

    assert parse_json(orjson.dumps(parsed)) == parsed


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_can_break_the_reader(raw: bytes) -> None:
    try:
        parsed = parse_json(raw)
    except ValueError as error:
        assert str(error) == "not JSON"  # noqa: PT017 - either outcome is right, this one in these words
    else:
        orjson.dumps(parsed)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-5", None),
        ("NaN", None),
        ("inf", None),
        ("1e3", None),
        ("soon", None),
        ("", None),
        ("\u0663", None),
        ("99999999999999999999", LONGEST_DELAY_S),
        ("9" * 500, None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=9), usegmt=True), 0.0),
        ("Mon, 02-Mar-26 09:01:00 GMT", 60.0),
        ("Mon Mar  2 09:01:00 2026", 60.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_DELAY_S),
        ("Fri, 31 Dec 9999 23:59:59 -2300", None),
        ("Mon, 99 Mar 2026 09:01:00 GMT", None),
        ("Mon, 02 Mar 99999999999 09:01:00 GMT", None),
        ("30\x1f", 30.0),
    ],
)
def test_retry_after_in_both_forms_and_none(value: str | None, expected: float | None) -> None:
    assert retry_after_s(value, NOW) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_no_header_value_can_break_the_wait(value: str) -> None:
    delay = retry_after_s(value, NOW)

    assert delay is None or 0 <= delay <= LONGEST_DELAY_S
    parse_http_date(value)


@pytest.mark.parametrize(
    ("remaining", "reset", "expected"),
    [
        ("0", str(EPOCH + 30), 30.0),
        ("00", str(EPOCH + 30), 30.0),
        ("1", str(EPOCH + 30), None),
        ("-1", str(EPOCH + 30), None),
        ("0", str(EPOCH - 30), None),
        ("0", "30", None),
        ("0", str((EPOCH + 30) * 1000), None),
        ("0", "NaN", None),
        ("0", "", None),
        ("", str(EPOCH + 30), None),
        ("many", str(EPOCH + 30), None),
    ],
)
def test_a_spent_budget_is_believed_when_its_reset_makes_sense(
    remaining: str, reset: str, expected: float | None
) -> None:
    headers = {"x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset}

    assert rate_limit_delay_s(headers, NOW) == expected


def test_an_answer_shows_neither_headers_nor_body() -> None:
    answer = Answer(200, {"x": "CANARY"}, {"name": "CANARY"}, NOW)

    assert "CANARY" not in repr(answer)
    assert "200" in repr(answer)
