"""What is sealed opens with its key, in its row, and in no other way."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from medscribe_pipeline.errors import ConfigError, MedscribeError
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.sealing import SEALED_AWAY, Sealing

if TYPE_CHECKING:
    from collections.abc import Callable

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
PAYLOAD = {"uuid": "n-1", "content": "Zzmark-Testpatient coughs"}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@hypothesis_settings(max_examples=100, deadline=None)
@given(payload=JSON)
def test_what_was_sealed_opens_again(payload: Any) -> None:
    sealing = Sealing(KEY)

    stored, sealed_with = sealing.seal("row-1", payload)

    assert sealing.open("row-1", stored, sealed_with) == payload
    assert sealed_with == (sealing.key_id if payload is not None else None)


def test_nothing_of_it_can_be_read_and_no_two_are_alike() -> None:
    sealing = Sealing(KEY)

    one, other = (sealing.seal("row-1", PAYLOAD)[0] for _ in range(2))

    assert one != other
    assert b"Zzmark" not in base64.b64decode(one)


def test_without_a_key_it_is_kept_as_it_came() -> None:
    assert Sealing().seal("row-1", PAYLOAD) == (PAYLOAD, None)
    assert Sealing(KEY).open("row-1", PAYLOAD, None) == PAYLOAD


def test_the_old_key_opens_and_only_the_new_one_seals() -> None:
    stored, sealed_with = Sealing(OTHER).seal("row-1", PAYLOAD)
    sealing = Sealing(KEY, OTHER)

    assert sealing.open("row-1", stored, sealed_with) == PAYLOAD
    assert sealing.seal("row-1", PAYLOAD)[1] == Sealing(KEY).key_id != sealed_with
    assert set(sealing.key_ids) == {Sealing(KEY).key_id, sealed_with}


def _other_row(stored: str, key_id: str) -> tuple[str, Any, str]:
    return "row-2", stored, key_id


def _changed(stored: str, key_id: str) -> tuple[str, Any, str]:
    raw = bytearray(base64.b64decode(stored))
    raw[-1] ^= 1
    return "row-1", base64.b64encode(raw).decode(), key_id


def _gone(stored: str, _: str) -> tuple[str, Any, str]:
    return "row-1", stored, "0123456789abcdef"


def _no_text(_: str, key_id: str) -> tuple[str, Any, str]:
    return "row-1", {"sealed": 1}, key_id


def _short(_: str, key_id: str) -> tuple[str, Any, str]:
    return "row-1", "AAAA", key_id


@pytest.mark.parametrize("damage", [_other_row, _changed, _gone, _no_text, _short])
def test_what_cannot_be_opened_is_said_without_a_word_of_it(damage: Callable[[str, str], tuple[str, Any, str]]) -> None:
    sealing = Sealing(KEY)
    stored, key_id = sealing.seal("row-1", PAYLOAD)
    assert key_id is not None

    with pytest.raises(MedscribeError) as caught:
        sealing.open(*damage(stored, key_id))

    assert caught.value.code == SEALED_AWAY
    assert caught.value.__context__ is None
    assert "Zzmark" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(KEY),
        base64.urlsafe_b64encode(b"\xfb\xff" * 16),
        b" " + base64.b64encode(b"\xfb\xff" * 16) + b"\n",
    ],
)
def test_a_key_is_read_in_either_alphabet(make_settings: Callable[..., Settings], text: bytes) -> None:
    settings = make_settings(encryption_key=SecretStr(text.decode()))

    sealing = Sealing.of(settings)

    assert sealing.open("r", *sealing.seal("r", PAYLOAD)) == PAYLOAD
    assert text.decode().strip() not in repr(settings)


@pytest.mark.parametrize("text", ["secret", "A" * 43, base64.b64encode(bytes(16)).decode(), "é" * 44])
def test_what_is_no_key_is_refused_and_not_repeated(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MEDSCRIBE_ENCRYPTION_KEY", text)

    with pytest.raises(ConfigError, match="MEDSCRIBE_ENCRYPTION_KEY: must be 32 random bytes") as caught:
        Settings.load()

    assert text not in str(caught.value)
    with pytest.raises(ValidationError):
        make_settings(encryption_old_key=SecretStr(text))
