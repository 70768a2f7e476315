"""Signatures: what is signed is proved, anything else is not, whatever the bytes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from medscribe_pipeline.receiver.signatures import (
    HEADERS,
    MAX_SIGNATURES,
    Signed,
    parse_timestamp,
    sign,
    signed_by,
)
from tests.databases import NOW

STAMP = "2026-03-02T09:00:00Z"
BODY = b'{"id": "j-1"}'

secrets = st.text(min_size=1, max_size=40)
bodies = st.binary(max_size=300)
stamps = st.text(st.characters(max_codepoint=255, categories=["L", "N", "P"]), min_size=1, max_size=30)


def headers(*pairs: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in pairs])


def test_a_known_vector() -> None:
    """Computed with `printf '1700000000{}' | openssl dgst -sha256 -hmac secret`."""
    expected = "44ce8e0f7504556aeb153d9b759d97fc4cafca62b55071cd6609dcd5e1d77479"

    assert sign("secret", "1700000000", b"{}") == expected


@given(secrets, stamps, bodies)
@settings(max_examples=100, deadline=None)
def test_what_was_signed_is_proved(secret: str, stamp: str, body: bytes) -> None:
    assert Signed(stamp, (sign(secret, stamp, body),)).proves(secret, body)


@given(secrets, secrets, stamps, bodies, bodies)
@settings(max_examples=100, deadline=None)
def test_another_secret_or_body_is_not(secret: str, other: str, stamp: str, body: bytes, forged: bytes) -> None:
    # HMAC pads short keys with zeros, so a secret and the same with NULs behind it are one key.
    assume(secret.rstrip("\x00") != other.rstrip("\x00"))
    assume(body != forged)
    signed = Signed(stamp, (sign(secret, stamp, body),))

    assert not signed.proves(other, body)
    assert not signed.proves(secret, forged)


@given(bodies, st.integers(0, 63))
@settings(max_examples=50, deadline=None)
def test_a_signature_with_one_wrong_digit_is_not(body: bytes, place: int) -> None:
    right = sign("s", STAMP, body)
    wrong = right[:place] + ("0" if right[place] != "0" else "1") + right[place + 1 :]

    assert not Signed(STAMP, (wrong,)).proves("s", body)


def test_a_timestamp_cannot_be_exchanged() -> None:
    assert not Signed("2026-03-02T10:00:00Z", (sign("s", STAMP, BODY),)).proves("s", BODY)


@pytest.mark.parametrize("names", HEADERS)
def test_both_spellings_of_the_headers_are_read(names: tuple[str, str]) -> None:
    right = sign("s", STAMP, BODY)

    found = signed_by(headers((names[0], STAMP), (names[1], right.upper())))

    assert found == Signed(STAMP, (right,))
    assert found.proves("s", BODY)


def test_one_right_signature_of_several_is_enough() -> None:
    right, old = sign("new", STAMP, BODY), sign("old", STAMP, BODY)
    timestamp, signature = HEADERS[0]

    for values in ([f"{old}, {right}"], [f"{right},{old}"], [old, right]):
        found = signed_by(headers((timestamp, STAMP), *((signature, value) for value in values)))
        assert found is not None
        assert found.proves("new", BODY)


@pytest.mark.parametrize(
    "given_headers",
    [
        [],
        [("x-nabla-webhook-timestamp", STAMP)],
        [("x-nabla-webhook-signature", "0" * 64)],
        [("x-nabla-webhook-timestamp", STAMP), ("x-nabla-webhook-signature", "")],
        [("x-nabla-webhook-timestamp", STAMP), ("x-nabla-webhook-signature", " , ,")],
        [("x-nabla-webhook-timestamp", STAMP), ("x-nabla-connect-signature", "0" * 64)],
        [("x-nabla-webhook-timestamp", ""), ("x-nabla-webhook-signature", "0" * 64)],
        [("x-nabla-webhook-timestamp", "1" * 41), ("x-nabla-webhook-signature", "0" * 64)],
        [
            ("x-nabla-webhook-timestamp", STAMP),
            ("x-nabla-webhook-timestamp", "2026-03-02T10:00:00Z"),
            ("x-nabla-webhook-signature", "0" * 64),
        ],
    ],
)
def test_without_a_timestamp_and_a_signature_there_is_no_claim(given_headers: list[tuple[str, str]]) -> None:
    assert signed_by(headers(*given_headers)) is None


def test_a_header_of_a_thousand_signatures_costs_no_thousand_comparisons() -> None:
    many = ",".join(["0" * 64] * 1000)

    found = signed_by(headers(("x-nabla-webhook-timestamp", STAMP), ("x-nabla-webhook-signature", many)))

    assert found is not None
    assert len(found.signatures) == MAX_SIGNATURES


@given(st.text(max_size=80), bodies)
@settings(max_examples=100, deadline=None)
def test_no_text_is_a_signature_by_chance(text: str, body: bytes) -> None:
    assert not Signed(STAMP, (text,)).proves("s", body)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T09:00:00Z",
        "2026-03-02T09:00:00",
        "2026-03-02T10:00:00+01:00",
        "2026-03-02T09:00:00.000000000Z",
        "20260302T090000Z",
        "1772442000",
        "1772442000000",
        " 1772442000 ",
    ],
)
def test_timestamps_as_somebody_may_write_them(text: str) -> None:
    assert parse_timestamp(text) == NOW


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1990, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001  # hypothesis wants bounds without a zone
@settings(max_examples=50, deadline=None)
def test_any_spelling_of_an_instant_is_that_instant(moment: datetime) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert parse_timestamp(moment.isoformat()) == parse_timestamp(elsewhere.isoformat()) == moment
    assert parse_timestamp(str(int(moment.timestamp()))) == moment.replace(microsecond=0)


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_other_text_is_no_timestamp_and_no_error(text: str) -> None:
    found = parse_timestamp(text)

    assert found is None or found.tzinfo is not None


@pytest.mark.parametrize(
    ("age_s", "fresh"), [(0, True), (300, True), (301, False), (-300, True), (-301, False), (10**9, False)]
)
def test_the_clock_may_be_off_by_the_tolerance_either_way(age_s: int, fresh: bool) -> None:
    signed = Signed((NOW - timedelta(seconds=age_s)).isoformat(), ("0" * 64,))

    assert signed.is_fresh(NOW, 300) is fresh


def test_what_is_no_timestamp_is_never_fresh() -> None:
    assert not Signed("9" * 40, ("0" * 64,)).is_fresh(NOW, 10**9)
